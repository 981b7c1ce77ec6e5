-- Which stages there are is the program's to say, and one may make files without any numbers.

PRAGMA defer_foreign_keys = ON;

-- The old tables are copied and dropped before the new ones are filled: only rows that come in make the references to them whole.
CREATE TEMPORARY TABLE job_copy AS SELECT * FROM job;

DROP TABLE job;

CREATE TABLE job (
    id        INTEGER PRIMARY KEY,
    hash      BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32),
    recipe_id INTEGER NOT NULL REFERENCES recipe (id),
    stage     TEXT    NOT NULL,
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
SELECT id, hash, recipe_id, stage, shots, seed, needs, priority, ready_at FROM job_copy ORDER BY id;

DROP TABLE job_copy;

CREATE TEMPORARY TABLE result_copy AS SELECT * FROM result;

DROP TABLE result;

CREATE TABLE result (
    job_id            INTEGER PRIMARY KEY REFERENCES job (id),
    attempt_id        INTEGER NOT NULL REFERENCES attempt (id),
    -- The numbers; all absent for a stage that evaluates nothing.
    total             INTEGER CHECK (total > 0),
    correct           INTEGER CHECK (correct BETWEEN 0 AND total),
    accuracy          REAL,
    error             REAL,
    macro_f1          REAL,
    calibration_error REAL,
    -- Absent when another tool completed the output folder.
    manifest          TEXT CHECK (json_valid(manifest)),
    -- The numbers by class.
    evaluation        TEXT CHECK (json_valid(evaluation)),
    -- What the numbers rest on, SHA-256 each: the backbone's identity, the class names and lists, the class names and the test list.
    backbone_sha256   BLOB CHECK (length(backbone_sha256) = 32),
    split_sha256      BLOB CHECK (length(split_sha256) = 32),
    test_sha256       BLOB CHECK (length(test_sha256) = 32),
    -- The classes that were left out, for want of training images.
    left_out          TEXT CHECK (json_valid(left_out)),
    CHECK ((total IS NULL) = (correct IS NULL) AND (total IS NULL) = (accuracy IS NULL) AND (total IS NULL) = (error IS NULL)
           AND (total IS NULL) = (macro_f1 IS NULL)),
    CHECK (total IS NOT NULL OR manifest IS NOT NULL)
) STRICT;

INSERT INTO result (job_id, attempt_id, total, correct, accuracy, error, macro_f1, calibration_error, manifest, evaluation,
                    backbone_sha256, split_sha256, test_sha256, left_out)
SELECT job_id, attempt_id, total, correct, accuracy, error, macro_f1, calibration_error, manifest, evaluation,
       backbone_sha256, split_sha256, test_sha256, left_out
FROM result_copy
ORDER BY job_id;

DROP TABLE result_copy;

CREATE INDEX result_left_out ON result (job_id) WHERE left_out IS NOT NULL;

CREATE TEMPORARY TABLE superseded_copy AS SELECT * FROM superseded_result;

DROP TABLE superseded_result;

CREATE TABLE superseded_result (
    id                INTEGER PRIMARY KEY,
    job_id            INTEGER NOT NULL REFERENCES job (id),
    attempt_id        INTEGER NOT NULL REFERENCES attempt (id),
    total             INTEGER CHECK (total > 0),
    correct           INTEGER CHECK (correct BETWEEN 0 AND total),
    accuracy          REAL,
    error             REAL,
    macro_f1          REAL,
    calibration_error REAL,
    manifest          TEXT    CHECK (json_valid(manifest)),
    evaluation        TEXT    CHECK (json_valid(evaluation)),
    superseded_at     INTEGER NOT NULL,
    reason            TEXT    NOT NULL
) STRICT;

INSERT INTO superseded_result (id, job_id, attempt_id, total, correct, accuracy, error, macro_f1, calibration_error, manifest,
                               evaluation, superseded_at, reason)
SELECT id, job_id, attempt_id, total, correct, accuracy, error, macro_f1, calibration_error, manifest, evaluation, superseded_at,
       reason
FROM superseded_copy
ORDER BY id;

DROP TABLE superseded_copy;

CREATE INDEX superseded_of_job ON superseded_result (job_id);
