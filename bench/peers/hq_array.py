"""HyperQueue: an array of jobs that run /bin/true, on one worker of two CPUs, with a journal."""

import os
import subprocess

from measure import Clock, jobs_and_folder, need, report

jobs, folder = jobs_and_folder()
need("hq", "HyperQueue has no Debian package")
environment = {**os.environ, "HQ_SERVER_DIR": f"{folder}/hq", "RUST_LOG": "error"}
silent = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
no_output = ["--stdout", "none", "--stderr", "none"]


def hq(*arguments):
    return subprocess.run(["hq", *arguments], env=environment, check=True, capture_output=True, text=True).stdout


started = []
try:
    journal = ["--journal", f"{folder}/journal"]
    started.append(subprocess.Popen(["hq", "server", "start", "--host", "127.0.0.1", *journal], **silent))
    hq("server", "wait")
    started.append(subprocess.Popen(["hq", "worker", "start", "--cpus", "2"], **silent))
    hq("submit", *no_output, "true")
    hq("job", "wait", "all")
    with Clock() as clock:
        hq("submit", *no_output, "--array", f"1-{jobs}", "true")
        hq("job", "wait", "all")
    report(clock, hq("--version").split()[-1], "but for the last 30 s")
finally:
    for process in reversed(started):
        process.terminate()
        process.wait()
