"""fdatasync alone: 256 bytes for each job."""

import os
import platform

from measure import Clock, jobs_and_folder, report

LENGTH = 1 << 20

jobs, folder = jobs_and_folder()
file = os.open(os.path.join(folder, "log"), os.O_WRONLY | os.O_CREAT)
os.write(file, bytes(LENGTH))
os.fsync(file)
with Clock() as clock:
    for job in range(jobs):
        os.pwrite(file, b"x" * 256, job * 256 % LENGTH)
        os.fdatasync(file)
report(clock, f"Linux {platform.release()}", "each write")
