-- Workers that are started on demand: pools of pilots.

CREATE TABLE pool (
    name               TEXT    PRIMARY KEY,
    -- What its pilots are like: a document, which only this program's current version needs to understand.
    settings           TEXT    NOT NULL CHECK (json_valid(settings)),
    from_file          INTEGER NOT NULL CHECK (from_file IN (0, 1)),
    state              TEXT    NOT NULL CHECK (state IN ('active', 'paused', 'ending', 'off')),
    reason             TEXT,
    failed_submissions INTEGER NOT NULL CHECK (failed_submissions >= 0),
    crashes            INTEGER NOT NULL CHECK (crashes >= 0),
    not_before         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE pilot (
    id           INTEGER PRIMARY KEY,
    pool         TEXT    NOT NULL REFERENCES pool (name),
    batch        TEXT    NOT NULL CHECK (length(batch) = 32),
    place        INTEGER NOT NULL CHECK (place >= 0),
    launcher_id  TEXT,
    state        TEXT    NOT NULL CHECK (state IN
                     ('submitting', 'waiting', 'running', 'suspended', 'stopping', 'ended', 'failed')),
    detail       TEXT,
    node         TEXT,
    submitted_at INTEGER NOT NULL,
    ended_at     INTEGER,
    worker_id    INTEGER REFERENCES worker (id),
    UNIQUE (batch, place),
    CHECK ((state IN ('ended', 'failed')) = (ended_at IS NOT NULL))
) STRICT;

CREATE INDEX pilot_there ON pilot (id) WHERE state NOT IN ('ended', 'failed');

-- Which pilot a worker is, and how long it had when it registered.
ALTER TABLE worker ADD COLUMN pilot TEXT;
ALTER TABLE worker ADD COLUMN time_left_ms INTEGER;

-- By what this coordinator's pilots are told from another's.
CREATE TABLE instance (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    name TEXT    NOT NULL CHECK (length(name) = 8)
) STRICT;

INSERT INTO instance (id, name) VALUES (1, lower(hex(randomblob(4))));

CREATE TABLE event_copy (
    sequence      INTEGER PRIMARY KEY,
    at            INTEGER NOT NULL,
    type          TEXT    NOT NULL CHECK (type IN
                      ('experiment_submitted', 'experiment_cancelled', 'experiment_finished', 'job_changed', 'worker_changed',
                       'pool_changed', 'pilot_changed')),
    experiment_id INTEGER,
    job_id        INTEGER,
    worker_id     INTEGER,
    pilot_id      INTEGER,
    from_state    TEXT,
    to_state      TEXT,
    name          TEXT,
    jobs          INTEGER,
    -- How many of the jobs have a result.
    done          INTEGER,
    reason        TEXT
) STRICT;

INSERT INTO event_copy (sequence, at, type, experiment_id, job_id, worker_id, from_state, to_state, name, jobs, done, reason)
SELECT sequence, at, type, experiment_id, job_id, worker_id, from_state, to_state, name, jobs, done, reason
FROM event
ORDER BY sequence;

DROP TABLE event;

ALTER TABLE event_copy RENAME TO event;

-- What a worker that gave a job back had of it: the artefact from which another goes on.
CREATE TABLE unfinished (
    job_id INTEGER PRIMARY KEY REFERENCES job (id),
    sha256 TEXT    NOT NULL CHECK (length(sha256) = 64)
) STRICT;
