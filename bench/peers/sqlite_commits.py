"""SQLite alone: three durable transitions a job (submitted, leased, done), so many of them in one commit.

`sqlite_commits.py JOBS FOLDER BATCH`
"""

import os
import sqlite3
import sys

from measure import Clock, jobs_and_folder, report

jobs, folder = jobs_and_folder()
batch = int(sys.argv[3])
database = sqlite3.connect(os.path.join(folder, "jobs.db"), isolation_level=None)
database.execute("PRAGMA journal_mode = WAL")
database.execute("PRAGMA synchronous = FULL")
database.execute("CREATE TABLE jobs (id INTEGER PRIMARY KEY, state TEXT NOT NULL, worker TEXT, result REAL) STRICT")
database.execute("CREATE INDEX jobs_by_state ON jobs (state)")
TRANSITIONS = (
    "INSERT INTO jobs (id, state) VALUES (?, 'queued')",
    "UPDATE jobs SET state = 'leased', worker = 'bench' WHERE id = ?",
    "UPDATE jobs SET state = 'completed', result = 50.0 WHERE id = ?",
)
with Clock() as clock:
    for transition in TRANSITIONS:
        for first in range(0, jobs, batch):
            database.execute("BEGIN IMMEDIATE")
            for job in range(first, min(first + batch, jobs)):
                database.execute(transition, (job,))
            database.execute("COMMIT")
report(clock, sqlite3.sqlite_version, "each commit, by fsync")
