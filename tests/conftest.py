"""A run of the whole suite has a process for each core (pytest-xdist); chosen files run in one, which starts sooner."""

import os

from pytest import Config

MOST_PROCESSES = 4  # each takes more than a gigabyte
# Files that take longest go first, so that no process is left with one at the end. The very first makes the finished
# run that the tests of the workflow share, while the other processes are busy with other tests.
FIRST = ("test_rebuilds.py", "test_slurm.py", "test_finetuned_ablations.py", "test_adapted_encoders.py")

# Tests that compute do so on little data, and the processes share the cores.
for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ.setdefault(name, "1")


def pytest_xdist_auto_num_workers(config: Config) -> int:
    if config.args_source is not Config.ArgsSource.TESTPATHS:
        return 0
    return min(len(os.sched_getaffinity(0)), MOST_PROCESSES)


def pytest_collection_modifyitems(items: list) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: FIRST.index(item.path.name) if item.path.name in FIRST else len(FIRST))
