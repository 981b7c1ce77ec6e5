"""What the peers' scripts have in common.

A script is called as `NAME.py JOBS FOLDER [MORE]` and prints one line of JSON: what it measured, or `{"missing": REASON}`.
"""

import ctypes
import json
import os
import resource
import shutil
import sys
import time

TICKS = os.sysconf("SC_CLK_TCK")
PR_SET_CHILD_SUBREAPER = 36


def jobs_and_folder():
    """The arguments. From here on, whatever this process starts stays below it, daemons too."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    return int(sys.argv[1]), sys.argv[2]


def missing(reason):
    """Says why the peer can't be measured here, and ends."""
    print(json.dumps({"missing": reason}))
    sys.exit(0)


def need(program, package):
    """The peer needs a program."""
    if shutil.which(program) is None:
        missing(f"`{program}` is not installed ({package})")


def cpu_s():
    """CPU seconds of this process and of everything that was started below it."""
    own = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = sum(usage.ru_utime + usage.ru_stime for usage in own)
    parent, ticks = {}, {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        parent[int(name)] = int(fields[1])
        ticks[int(name)] = sum(map(int, fields[11:15]))
    for pid, used in ticks.items():
        above = parent.get(pid)
        while above is not None and above != os.getpid():
            above = parent.get(above)
        if above == os.getpid():
            seconds += used / TICKS
    return seconds


class Clock:
    """Wall-clock and CPU time of a `with` block."""

    def __enter__(self):
        self.cpu_s, self.wall_s = cpu_s(), time.perf_counter()
        return self

    def __exit__(self, *_):
        self.wall_s = time.perf_counter() - self.wall_s
        self.cpu_s = cpu_s() - self.cpu_s


def report(clock, version, durable):
    """Prints what was measured: `durable` says what an acknowledged job survives."""
    print(json.dumps({"wall_s": clock.wall_s, "cpu_s": clock.cpu_s, "version": version, "durable": durable}), flush=True)
