"""Ray: tasks that do nothing, on two workers of this machine."""

import os

os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_DEDUP_LOGS="0")

import ray  # noqa: E402

from measure import Clock, jobs_and_folder, report  # noqa: E402

jobs, folder = jobs_and_folder()
ray.init(
    num_cpus=2,
    include_dashboard=False,
    log_to_driver=False,
    logging_level="ERROR",
    object_store_memory=200 << 20,
    _node_ip_address="127.0.0.1",
)
task = ray.remote(lambda number: number)
ray.get([task.remote(number) for number in range(4)])
with Clock() as clock:
    results = ray.get([task.remote(number) for number in range(jobs)])
assert len(results) == jobs
report(clock, ray.__version__, "nothing")
ray.shutdown()
