-- What a job is never changes and has a row of its own, which a submission writes; where it stands has another one, as soon as
-- something has happened to it. So the rows that are written over and over are short. No log has references: old events are
-- removed, and what they name stays. A job may have two open attempts, one beside another that is slow.

PRAGMA defer_foreign_keys = ON;

CREATE TABLE job_state (
    job_id         INTEGER PRIMARY KEY REFERENCES job (id),
    state          TEXT    NOT NULL CHECK (state IN
                       ('blocked', 'queued', 'leased', 'running', 'completed', 'skipped', 'failed', 'cancelled')),
    priority       INTEGER NOT NULL,
    failures       INTEGER NOT NULL CHECK (failures >= 0),
    -- How many of the failures took the worker along.
    losses         INTEGER NOT NULL CHECK (losses >= 0),
    -- A queued job waits until then.
    not_before     INTEGER,
    -- The latest attempt.
    lease          INTEGER,
    -- An earlier attempt that goes on, and is slow.
    beside         INTEGER,
    failure_class  TEXT    CHECK (failure_class IN
                       ('worker_lost', 'trainer_died', 'out_of_memory', 'storage', 'missing', 'bad_data', 'bug', 'dependency')),
    failure_reason TEXT,
    CHECK ((state = 'queued') = (not_before IS NOT NULL)),
    CHECK ((state = 'failed') = (failure_class IS NOT NULL)),
    CHECK ((state = 'failed') = (failure_reason IS NOT NULL)),
    CHECK (state NOT IN ('leased', 'running') OR lease IS NOT NULL),
    CHECK (state IN ('leased', 'running') OR beside IS NULL)
) STRICT;

INSERT INTO job_state (job_id, state, priority, failures, losses, not_before, lease, failure_class, failure_reason)
SELECT id, state, priority, failures, losses, not_before, lease, failure_class, failure_reason
FROM job
WHERE state NOT IN ('blocked', 'queued') OR failures > 0 OR lease IS NOT NULL
ORDER BY id;

-- The old table is copied and dropped before the new one is filled: only rows that come in make the references to them whole.
CREATE TEMPORARY TABLE job_copy AS SELECT * FROM job;

DROP TABLE job;

CREATE TABLE job (
    id        INTEGER PRIMARY KEY,
    hash      BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32),
    recipe_id INTEGER NOT NULL REFERENCES recipe (id),
    stage     TEXT    NOT NULL CHECK (stage IN ('train', 'test')),
    shots     INTEGER NOT NULL,
    seed      INTEGER NOT NULL,
    -- The training job whose checkpoint this one tests.
    needs     INTEGER REFERENCES job (id),
    -- Its priority when it came.
    priority  INTEGER NOT NULL,
    -- When it could run at first; absent when it had to wait for the job that it needs.
    ready_at  INTEGER
) STRICT;

INSERT INTO job (id, hash, recipe_id, stage, shots, seed, needs, priority, ready_at)
SELECT id, hash, recipe_id, stage, shots, seed, needs, priority, iif(state = 'blocked', NULL, coalesce(not_before, 0))
FROM job_copy
ORDER BY id;

DROP TABLE job_copy;

-- For whoever looks at the file with a tool of their own.
CREATE VIEW job_now AS
SELECT job.id, recipe.method, recipe.dataset, job.stage, job.shots, job.seed, job.needs,
       coalesce(job_state.state, iif(job.ready_at IS NULL, 'blocked', 'queued')) AS state,
       coalesce(job_state.priority, job.priority) AS priority, coalesce(job_state.failures, 0) AS failures,
       job_state.failure_class, job_state.failure_reason, job_state.lease
FROM job
JOIN recipe ON recipe.id = job.recipe_id
LEFT JOIN job_state ON job_state.job_id = job.id;

DROP INDEX attempt_open;

CREATE TABLE event_copy (
    sequence      INTEGER PRIMARY KEY,
    at            INTEGER NOT NULL,
    type          TEXT    NOT NULL CHECK (type IN
                      ('experiment_submitted', 'experiment_cancelled', 'job_changed', 'worker_changed')),
    experiment_id INTEGER,
    job_id        INTEGER,
    worker_id     INTEGER,
    from_state    TEXT,
    to_state      TEXT,
    name          TEXT,
    jobs          INTEGER,
    reason        TEXT
) STRICT;

INSERT INTO event_copy SELECT * FROM event ORDER BY sequence;

DROP TABLE event;

ALTER TABLE event_copy RENAME TO event;
