-- The log says when an experiment has come to its end: nothing will happen to its jobs by itself any more.

CREATE TABLE event_copy (
    sequence      INTEGER PRIMARY KEY,
    at            INTEGER NOT NULL,
    type          TEXT    NOT NULL CHECK (type IN
                      ('experiment_submitted', 'experiment_cancelled', 'experiment_finished', 'job_changed', 'worker_changed')),
    experiment_id INTEGER,
    job_id        INTEGER,
    worker_id     INTEGER,
    from_state    TEXT,
    to_state      TEXT,
    name          TEXT,
    jobs          INTEGER,
    -- How many of the jobs have a result.
    done          INTEGER,
    reason        TEXT
) STRICT;

INSERT INTO event_copy (sequence, at, type, experiment_id, job_id, worker_id, from_state, to_state, name, jobs, reason)
SELECT sequence, at, type, experiment_id, job_id, worker_id, from_state, to_state, name, jobs, reason
FROM event
ORDER BY sequence;

DROP TABLE event;

ALTER TABLE event_copy RENAME TO event;
