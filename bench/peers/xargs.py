"""xargs -P2 of /bin/true."""

import subprocess

from measure import Clock, jobs_and_folder, need, report

jobs, _ = jobs_and_folder()
need("xargs", "Debian: findutils")
version = subprocess.run(["xargs", "--version"], capture_output=True, text=True).stdout.splitlines()[0]
numbers = "\n".join(map(str, range(jobs)))
with Clock() as clock:
    subprocess.run(["xargs", "-P2", "-n1", "/bin/true"], input=numbers, text=True, check=True)
report(clock, version.rpartition(" ")[2], "nothing")
