-- How much memory jobs take, learned while they ran. One row for each shape: all of a job that decides it, in words.

CREATE TABLE need (
    shape      TEXT    PRIMARY KEY,
    -- The most that a job of this shape was seen to take.
    memory_mib INTEGER CHECK (memory_mib > 0),
    -- So many jobs at once are the most for a worker that has one of this shape among them.
    together   INTEGER CHECK (together > 0),
    CHECK (memory_mib IS NOT NULL OR together IS NOT NULL)
) STRICT, WITHOUT ROWID;

-- The jobs of which an out-of-memory error was overlooked, since others ran beside them.
CREATE TABLE spared (
    job_id INTEGER PRIMARY KEY REFERENCES job (id)
) STRICT;
