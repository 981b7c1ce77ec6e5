-- Methods are declared in files, and a job carries its own method's values only. So every job has another identity from here on: the
-- program brings recipes, identities and manifests to their new form in this very transaction (`store::identities`).

-- The methods that a worker can run, by the SHA-256 of their declarations.
ALTER TABLE worker ADD COLUMN methods TEXT NOT NULL DEFAULT '{}' CHECK (json_type(methods) = 'object');

-- A job has one attempt at a time. Of two, the later goes on.
UPDATE attempt SET ended_at = started_at, ending = 'cancelled'
WHERE ended_at IS NULL AND id IN (SELECT beside FROM job_state);

CREATE TEMPORARY TABLE state_copy AS SELECT * FROM job_state;

DROP TABLE job_state;

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
    failure_class  TEXT    CHECK (failure_class IN
                       ('worker_lost', 'trainer_died', 'out_of_memory', 'storage', 'missing', 'bad_data', 'bug', 'dependency')),
    failure_reason TEXT,
    CHECK ((state = 'queued') = (not_before IS NOT NULL)),
    CHECK ((state = 'failed') = (failure_class IS NOT NULL)),
    CHECK ((state = 'failed') = (failure_reason IS NOT NULL)),
    CHECK (state NOT IN ('leased', 'running') OR lease IS NOT NULL)
) STRICT;

INSERT INTO job_state (job_id, state, priority, failures, losses, not_before, lease, failure_class, failure_reason)
SELECT job_id, state, priority, failures, losses, not_before, lease, failure_class, failure_reason FROM state_copy ORDER BY job_id;

DROP TABLE state_copy;
