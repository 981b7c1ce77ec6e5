-- What results rest on, beside them; what machines found last when they read the data sets; and results that were computed again.

-- SHA-256 each: the backbone's identity, the class names and lists, the class names and the test list. Absent where the manifest
-- doesn't say it, and without a manifest.
ALTER TABLE result ADD COLUMN backbone_sha256 BLOB CHECK (length(backbone_sha256) = 32);
ALTER TABLE result ADD COLUMN split_sha256 BLOB CHECK (length(split_sha256) = 32);
ALTER TABLE result ADD COLUMN test_sha256 BLOB CHECK (length(test_sha256) = 32);

-- The classes that were left out, for want of training images: a document, absent where there are none.
ALTER TABLE result ADD COLUMN left_out TEXT CHECK (json_valid(left_out));

CREATE INDEX result_left_out ON result (job_id) WHERE left_out IS NOT NULL;

-- Earlier manifests are of backbones of OpenAI's architecture, whose identity is the hash of their weights.
UPDATE result
SET backbone_sha256 = iif(length(manifest ->> 'weights_sha256') = 64, unhex(manifest ->> 'weights_sha256'), NULL),
    split_sha256 = iif(length(manifest ->> 'split_sha256') = 64, unhex(manifest ->> 'split_sha256'), NULL)
WHERE manifest IS NOT NULL;

-- Results that don't count any more: their jobs were computed again. Never deleted.
CREATE TABLE superseded_result (
    id                INTEGER PRIMARY KEY,
    job_id            INTEGER NOT NULL REFERENCES job (id),
    attempt_id        INTEGER NOT NULL REFERENCES attempt (id),
    total             INTEGER NOT NULL CHECK (total > 0),
    correct           INTEGER NOT NULL CHECK (correct BETWEEN 0 AND total),
    accuracy          REAL    NOT NULL,
    error             REAL    NOT NULL,
    macro_f1          REAL    NOT NULL,
    calibration_error REAL,
    manifest          TEXT    CHECK (json_valid(manifest)),
    evaluation        TEXT    CHECK (json_valid(evaluation)),
    superseded_at     INTEGER NOT NULL,
    reason            TEXT    NOT NULL
) STRICT;

CREATE INDEX superseded_of_job ON superseded_result (job_id);

-- What a machine found last of some of a data set's lists.
CREATE TABLE reading (
    dataset       TEXT    NOT NULL,
    classes       TEXT    NOT NULL CHECK (classes IN ('all', 'base', 'new')),
    shots         INTEGER NOT NULL,
    seed          INTEGER NOT NULL,
    split_sha256  BLOB    NOT NULL CHECK (length(split_sha256) = 32),
    test_sha256   BLOB    NOT NULL CHECK (length(test_sha256) = 32),
    -- Over the image files themselves, where somebody asked for it.
    images_sha256 BLOB    CHECK (length(images_sha256) = 32),
    read_at       INTEGER NOT NULL,
    PRIMARY KEY (dataset, classes, shots, seed)
) STRICT, WITHOUT ROWID;

-- The identity that a backbone's name stands for.
CREATE TABLE backbone_pin (
    name   TEXT PRIMARY KEY,
    sha256 BLOB NOT NULL CHECK (length(sha256) = 32)
) STRICT, WITHOUT ROWID;

-- The identities of the weights that a worker has, by backbone.
ALTER TABLE worker ADD COLUMN backbone_sha256 TEXT NOT NULL DEFAULT '{}' CHECK (json_type(backbone_sha256) = 'object');
