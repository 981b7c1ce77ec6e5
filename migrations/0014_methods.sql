-- Methods are declared in files, and a job carries its own method's values only. So every job has another identity from here on: the
-- program brings recipes, identities and manifests to their new form in this very transaction (`store::identities`).

-- The methods that a worker can run, by the SHA-256 of their declarations.
ALTER TABLE worker ADD COLUMN methods TEXT NOT NULL DEFAULT '{}' CHECK (json_type(methods) = 'object');
