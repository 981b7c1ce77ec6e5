-- What clients called their submissions, so that the same call twice gets the same answer. Rows older than a day go with the
-- next one that comes.

CREATE TABLE idempotency_key (
    key    TEXT    PRIMARY KEY,
    -- SHA-256 of what was submitted.
    body   BLOB    NOT NULL CHECK (length(body) = 32),
    -- Only ever read whole.
    answer TEXT    NOT NULL CHECK (json_valid(answer)),
    at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_key_age ON idempotency_key (at);
