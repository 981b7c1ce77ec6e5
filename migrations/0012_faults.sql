-- What machines were found unable to use; attempts that were broken off; and workers that are no longer listed.

CREATE TABLE machine_fault (
    host       TEXT    NOT NULL,
    -- Which of its workers, by a hash of their settings.
    places     TEXT    NOT NULL,
    kind       TEXT    NOT NULL CHECK (kind IN ('output_root', 'dataset', 'backbone', 'method', 'job')),
    -- A path, a key, a name or a job's number.
    name       TEXT    NOT NULL,
    class      TEXT    NOT NULL CHECK (class IN
                   ('worker_lost', 'trainer_died', 'out_of_memory', 'storage', 'missing', 'bad_data', 'bug', 'dependency')),
    reason     TEXT    NOT NULL,
    found_at   INTEGER NOT NULL,
    times      INTEGER NOT NULL CHECK (times > 0),
    next_trial INTEGER NOT NULL,
    -- The attempt that tries it.
    trial      INTEGER,
    PRIMARY KEY (host, places, kind, name)
) STRICT, WITHOUT ROWID;

-- Of open jobs only.
CREATE TABLE setback (
    job_id  INTEGER PRIMARY KEY REFERENCES job (id),
    -- The most epochs that an attempt had completed when its worker was lost.
    epochs  INTEGER NOT NULL CHECK (epochs >= 0),
    -- Whether the latest loss counted as a failure.
    counted INTEGER NOT NULL CHECK (counted IN (0, 1)),
    -- How often in a row somebody else had the job's folder, and who that was.
    waits   INTEGER NOT NULL CHECK (waits >= 0),
    holder  TEXT,
    host    TEXT
) STRICT;

ALTER TABLE worker ADD COLUMN output_root TEXT NOT NULL DEFAULT '';
ALTER TABLE worker ADD COLUMN places TEXT NOT NULL DEFAULT '';
ALTER TABLE worker ADD COLUMN forgotten INTEGER NOT NULL DEFAULT 0 CHECK (forgotten IN (0, 1));
