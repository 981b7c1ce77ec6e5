-- Bearer tokens. The secret itself is nowhere: who has this file can't use it.

CREATE TABLE token (
    id           INTEGER PRIMARY KEY,
    -- SHA-256 of the secret's text.
    hash         BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32),
    name         TEXT    NOT NULL,
    admin        INTEGER NOT NULL CHECK (admin IN (0, 1)),
    submit       INTEGER NOT NULL CHECK (submit IN (0, 1)),
    work         INTEGER NOT NULL CHECK (work IN (0, 1)),
    read         INTEGER NOT NULL CHECK (read IN (0, 1)),
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER,
    revoked_at   INTEGER,
    last_used_at INTEGER,
    CHECK (admin + submit + work + read > 0)
) STRICT;
