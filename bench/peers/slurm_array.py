"""A Slurm of two nodes on loopback: an array of jobs that run /bin/true.

It's brought up by the recipe `shared/slurm/up.sh` beside the checkout.
"""

import os
import pathlib
import subprocess
import time

from measure import Clock, jobs_and_folder, missing, need, report

jobs, folder = jobs_and_folder()
need("slurmctld", "Debian: slurm-wlm")
need("munged", "Debian: munge")
recipe = pathlib.Path(__file__).resolve().parents[3] / "shared" / "slurm"
if not (recipe / "up.sh").is_file():
    missing("there is no recipe `shared/slurm/up.sh` beside the checkout")
if os.geteuid() != 0:
    missing("the recipe needs root")
environment = {**os.environ, "SLURM_SANDBOX": f"{folder}/slurm", "SLURM_CONF": f"{folder}/slurm/slurm.conf", "SLURM_CPUS": "1"}


def ask(*command):
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return done.stdout.strip()


try:
    ask("bash", str(recipe / "up.sh"))
    version = ask("sinfo", "--version").removeprefix("slurm ")
    batch = ["sbatch", "--parsable", "-c1", "-o", "/dev/null", "--wrap", "true"]
    with Clock() as clock:
        array = ask(*batch, f"--array=1-{jobs}")
        while ask("squeue", "-h", "-j", array, "-o", "%i"):
            time.sleep(0.1)
    report(clock, version, "but for the last seconds")
finally:
    subprocess.run(["bash", str(recipe / "down.sh"), "--purge"], env=environment, capture_output=True)
