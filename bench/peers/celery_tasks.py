"""Celery on Redis: tasks that do nothing, on two worker processes of this machine."""

import socket
import subprocess
import sys
import time

import celery
import redis

from measure import Clock, jobs_and_folder, need, report

TASKS = """\
from celery import Celery

app = Celery("noop", broker="redis://127.0.0.1:{port}/0", backend="redis://127.0.0.1:{port}/1")
app.conf.task_acks_late = True


@app.task(name="nothing")
def nothing(number):
    return number
"""

jobs, folder = jobs_and_folder()
need("redis-server", "Debian: redis-server")
with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
started = []
try:
    keep = ["--dir", folder, "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
    server = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), *keep]
    started.append(subprocess.Popen(server, stdout=subprocess.DEVNULL))
    results = redis.Redis(port=port, db=1)
    for _ in range(500):
        try:
            results.ping()
            break
        except redis.ConnectionError:
            time.sleep(0.02)
    with open(f"{folder}/noop.py", "w") as file:
        file.write(TASKS.format(port=port))
    worker = [sys.executable, "-m", "celery", "-A", "noop", "worker", "-c", "2", "-l", "ERROR"]
    quiet = ["--without-gossip", "--without-mingle"]
    started.append(subprocess.Popen([*worker, *quiet], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    sys.path.insert(0, folder)
    import noop

    noop.nothing.delay(0).get(timeout=60)
    before = results.dbsize()
    with Clock() as clock:
        for number in range(jobs):
            noop.nothing.delay(number)
        while results.dbsize() - before < jobs:
            time.sleep(0.02)
    report(clock, celery.__version__, "but for the last second")
finally:
    for process in reversed(started):
        process.terminate()
        process.wait()
