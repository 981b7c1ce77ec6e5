"""Dask distributed: tasks that do nothing, on two worker processes of this machine."""

import distributed

from measure import Clock, jobs_and_folder, report


def nothing(number):
    return number


def main():
    jobs, folder = jobs_and_folder()
    cluster = distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address=None,
        local_directory=folder,
    )
    with cluster, distributed.Client(cluster) as client:
        client.gather(client.map(nothing, range(2), pure=False))
        with Clock() as clock:
            results = client.gather(client.map(nothing, range(jobs), pure=False))
        assert len(results) == jobs
        report(clock, distributed.__version__, "nothing")


if __name__ == "__main__":
    main()
