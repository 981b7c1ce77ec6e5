-- How far each webhook has been told of the events, so that none is left out when the coordinator was away. Its address may hold a
-- secret: only the hash is kept.

CREATE TABLE webhook (
    address_sha256 BLOB    PRIMARY KEY CHECK (length(address_sha256) = 32),
    sequence       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
