-- What many jobs share is stored once: a job's row holds only its stage and its draw. A job carries its latest attempt, so that a
-- start needn't read the attempts. An experiment's jobs are runs of consecutive identifiers. A million jobs are read in seconds.

PRAGMA defer_foreign_keys = ON;

CREATE TABLE recipe (
    id       INTEGER PRIMARY KEY,
    document TEXT    NOT NULL CHECK (json_valid(document)),
    -- Not stored: for whoever looks at the file with a tool of their own.
    method   TEXT    NOT NULL GENERATED ALWAYS AS (document ->> 'method') VIRTUAL,
    dataset  TEXT    NOT NULL GENERATED ALWAYS AS (document ->> 'dataset') VIRTUAL
) STRICT;

INSERT INTO recipe (document)
SELECT document
FROM (SELECT json_remove(spec, '$.stage', '$.shots', '$.seed', '$.trained_by') AS document, min(id) AS first FROM job GROUP BY 1)
ORDER BY first;

-- The old table is copied and dropped before the new one is filled: only rows that come in make the references to them whole.
CREATE TEMPORARY TABLE job_copy AS
SELECT job.id, job.hash, recipe.id AS recipe_id, job.spec ->> 'stage' AS stage, job.spec ->> 'shots' AS shots,
       job.spec ->> 'seed' AS seed, job.needs, job.priority, job.state, job.failures, job.not_before, job.failure_class,
       job.failure_reason, attempt.id AS lease, attempt.token, attempt.worker_id
FROM job
JOIN recipe ON recipe.document = json_remove(job.spec, '$.stage', '$.shots', '$.seed', '$.trained_by')
LEFT JOIN attempt ON attempt.id = (SELECT max(id) FROM attempt WHERE job_id = job.id);

DROP TABLE job;

CREATE TABLE job (
    id             INTEGER PRIMARY KEY,
    hash           BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32),
    recipe_id      INTEGER NOT NULL REFERENCES recipe (id),
    stage          TEXT    NOT NULL CHECK (stage IN ('train', 'test')),
    shots          INTEGER NOT NULL,
    seed           INTEGER NOT NULL,
    -- The training job whose checkpoint this one tests.
    needs          INTEGER REFERENCES job (id),
    priority       INTEGER NOT NULL,
    state          TEXT    NOT NULL CHECK (state IN
                       ('blocked', 'queued', 'leased', 'running', 'completed', 'skipped', 'failed', 'cancelled')),
    failures       INTEGER NOT NULL CHECK (failures >= 0),
    -- How many of the failures took the worker along.
    losses         INTEGER NOT NULL CHECK (losses >= 0),
    -- A queued job waits until then.
    not_before     INTEGER,
    failure_class  TEXT    CHECK (failure_class IN
                       ('worker_lost', 'trainer_died', 'out_of_memory', 'storage', 'missing', 'bad_data', 'bug', 'dependency')),
    failure_reason TEXT,
    -- The latest attempt.
    lease          INTEGER,
    token          INTEGER,
    worker_id      INTEGER,
    CHECK ((state = 'queued') = (not_before IS NOT NULL)),
    CHECK ((state = 'failed') = (failure_class IS NOT NULL)),
    CHECK ((state = 'failed') = (failure_reason IS NOT NULL)),
    CHECK ((lease IS NULL) = (token IS NULL) AND (lease IS NULL) = (worker_id IS NULL)),
    CHECK (state NOT IN ('leased', 'running') OR lease IS NOT NULL)
) STRICT;

INSERT INTO job (id, hash, recipe_id, stage, shots, seed, needs, priority, state, failures, losses, not_before, failure_class,
                 failure_reason, lease, token, worker_id)
SELECT id, hash, recipe_id, stage, shots, seed, needs, priority, state, failures, 0, not_before, failure_class, failure_reason,
       lease, token, worker_id
FROM job_copy
ORDER BY id;

DROP TABLE job_copy;

-- `count` jobs from `first_job` on follow each other in the matrix; `id` keeps the order of the runs.
CREATE TABLE experiment_jobs (
    id            INTEGER PRIMARY KEY,
    experiment_id INTEGER NOT NULL REFERENCES experiment (id),
    first_job     INTEGER NOT NULL REFERENCES job (id),
    count         INTEGER NOT NULL CHECK (count > 0),
    variant       TEXT    NOT NULL
) STRICT;

INSERT INTO experiment_jobs (experiment_id, first_job, count, variant)
SELECT experiment_id, job_id, 1, variant FROM experiment_job ORDER BY id;

DROP TABLE experiment_job;

-- Who asked for it, where people are told apart.
ALTER TABLE experiment ADD COLUMN submitted_by TEXT;

ALTER TABLE worker ADD COLUMN labels TEXT NOT NULL DEFAULT '[]' CHECK (json_type(labels) = 'array');
ALTER TABLE worker ADD COLUMN memory_mib INTEGER;
