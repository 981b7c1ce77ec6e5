"""posix_spawn and wait of /bin/true, one at a time: what a runner that starts a process for each job can't go below."""

import os
import platform

from measure import Clock, jobs_and_folder, report

jobs, _ = jobs_and_folder()
with Clock() as clock:
    for _ in range(jobs):
        os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
report(clock, f"Linux {platform.release()}", "nothing")
