-- The coordinator's whole state. The scheduler decides in memory; what it changes is written here before anyone is answered,
-- and it is rebuilt from here when the coordinator starts.
--
-- House style: STRICT tables, integer keys, states as checked text, times as milliseconds since 1970-01-01T00:00:00Z. A
-- document that is only ever read whole (an experiment, a specification, a manifest) is JSON text; everything that is asked
-- for by itself has a column. An index exists because a statement in server/src/store uses it, or because it forbids
-- something.

CREATE TABLE experiment (
    id           INTEGER PRIMARY KEY,
    hash         BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32),
    name         TEXT    NOT NULL,
    document     TEXT    NOT NULL CHECK (json_valid(document)),
    submitted_at INTEGER NOT NULL,
    cancelled    INTEGER NOT NULL CHECK (cancelled IN (0, 1))
) STRICT;

CREATE TABLE job (
    id             INTEGER PRIMARY KEY,
    hash           BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32),
    spec           TEXT    NOT NULL CHECK (json_valid(spec)),
    -- Not stored, so that they can't differ from the specification: for whoever looks at the file with a tool of their own.
    method         TEXT    NOT NULL GENERATED ALWAYS AS (spec ->> 'method') VIRTUAL,
    stage          TEXT    NOT NULL GENERATED ALWAYS AS (spec ->> 'stage') VIRTUAL,
    dataset        TEXT    NOT NULL GENERATED ALWAYS AS (spec ->> 'dataset') VIRTUAL,
    -- The training job whose checkpoint this one tests.
    needs          INTEGER REFERENCES job (id),
    priority       INTEGER NOT NULL,
    state          TEXT    NOT NULL CHECK (state IN
                       ('blocked', 'queued', 'leased', 'running', 'completed', 'skipped', 'failed', 'cancelled')),
    failures       INTEGER NOT NULL CHECK (failures >= 0),
    -- A queued job waits until then.
    not_before     INTEGER,
    failure_class  TEXT    CHECK (failure_class IN
                       ('worker_lost', 'trainer_died', 'out_of_memory', 'storage', 'missing', 'bad_data', 'bug', 'dependency')),
    failure_reason TEXT,
    CHECK ((state = 'queued') = (not_before IS NOT NULL)),
    CHECK ((state = 'failed') = (failure_class IS NOT NULL)),
    CHECK ((state = 'failed') = (failure_reason IS NOT NULL))
) STRICT;

-- An experiment's jobs; `id` keeps the order of its matrix. One job may stand for several values of a sweep.
CREATE TABLE experiment_job (
    id            INTEGER PRIMARY KEY,
    experiment_id INTEGER NOT NULL REFERENCES experiment (id),
    job_id        INTEGER NOT NULL REFERENCES job (id),
    variant       TEXT    NOT NULL,
    UNIQUE (experiment_id, job_id, variant)
) STRICT;

CREATE TABLE worker (
    id            INTEGER PRIMARY KEY,
    name          TEXT    NOT NULL,
    host          TEXT    NOT NULL,
    slots         INTEGER NOT NULL,
    devices       TEXT    NOT NULL CHECK (json_type(devices) = 'array'),
    backbones     TEXT    NOT NULL CHECK (json_type(backbones) = 'array'),
    version       TEXT    NOT NULL,
    state         TEXT    NOT NULL CHECK (state IN ('active', 'draining', 'gone', 'lost')),
    registered_at INTEGER NOT NULL
) STRICT;

-- Of the workers of one name, only the latest is here.
CREATE UNIQUE INDEX worker_here ON worker (name) WHERE state IN ('active', 'draining');

-- One try of a job; `id` is the lease's number.
CREATE TABLE attempt (
    id             INTEGER PRIMARY KEY,
    job_id         INTEGER NOT NULL REFERENCES job (id),
    worker_id      INTEGER NOT NULL REFERENCES worker (id),
    token          INTEGER NOT NULL,
    started_at     INTEGER NOT NULL,
    ended_at       INTEGER,
    ending         TEXT    CHECK (ending IN ('completed', 'failed', 'released', 'expired', 'cancelled')),
    failure_class  TEXT    CHECK (failure_class IN
                       ('worker_lost', 'trainer_died', 'out_of_memory', 'storage', 'missing', 'bad_data', 'bug', 'dependency')),
    failure_reason TEXT,
    CHECK ((ended_at IS NULL) = (ending IS NULL)),
    CHECK ((failure_class IS NULL) = (failure_reason IS NULL))
) STRICT;

CREATE INDEX attempt_of_job ON attempt (job_id);
-- No job has two open attempts.
CREATE UNIQUE INDEX attempt_open ON attempt (job_id) WHERE ended_at IS NULL;

-- One row for each job that has its numbers, ever.
CREATE TABLE result (
    job_id     INTEGER PRIMARY KEY REFERENCES job (id),
    attempt_id INTEGER NOT NULL REFERENCES attempt (id),
    total      INTEGER NOT NULL CHECK (total > 0),
    correct    INTEGER NOT NULL CHECK (correct BETWEEN 0 AND total),
    accuracy   REAL    NOT NULL,
    error      REAL    NOT NULL,
    macro_f1   REAL    NOT NULL,
    -- Absent when another tool completed the output folder.
    manifest   TEXT    CHECK (json_valid(manifest))
) STRICT;

-- The event log: every transition, without gaps. Which of the columns are filled follows from `type`.
CREATE TABLE event (
    sequence      INTEGER PRIMARY KEY,
    at            INTEGER NOT NULL,
    type          TEXT    NOT NULL CHECK (type IN
                      ('experiment_submitted', 'experiment_cancelled', 'job_changed', 'worker_changed')),
    experiment_id INTEGER REFERENCES experiment (id),
    job_id        INTEGER REFERENCES job (id),
    worker_id     INTEGER REFERENCES worker (id),
    from_state    TEXT,
    to_state      TEXT,
    name          TEXT,
    jobs          INTEGER,
    reason        TEXT
) STRICT;

-- What a running job reports. A power failure may take the last moments of these two tables, and nothing else.
CREATE TABLE metric_point (
    attempt_id INTEGER NOT NULL REFERENCES attempt (id),
    step       INTEGER NOT NULL,
    name       TEXT    NOT NULL,
    value      REAL    NOT NULL,
    PRIMARY KEY (attempt_id, step, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE log_line (
    attempt_id INTEGER NOT NULL REFERENCES attempt (id),
    line       INTEGER NOT NULL,
    text       TEXT    NOT NULL,
    PRIMARY KEY (attempt_id, line)
) STRICT, WITHOUT ROWID;

-- A row that is rewritten to learn whether the database can be written.
CREATE TABLE readiness (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    checked_at INTEGER NOT NULL
) STRICT;
