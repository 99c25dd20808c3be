# A Python under a path with a space, as a .venv in "My projects": Snakemake starts it without quotation marks (its issue
# 2645), and every job would fail with "No such file or directory". They are put in here.
#
# Needs   nothing
# Makes   nothing

import shlex
import sys

from snakemake.script import PythonScript
from snakemake_interface_executor_plugins.executors.real import RealExecutor


def quote_in_scripts(
    execute,
):
    """Snakemake's way to run a script, with quotation marks around Python's path."""
    return lambda self, command, **more: execute(
        self, command.replace("{py_exec}", "{py_exec:q}"), **more
    )


def quote_in_jobs(
    compose,
):
    """The same of its command for a job on a node of a cluster, or of a group."""
    plain, quoted = f"{sys.executable} -m", f"{shlex.quote(sys.executable)} -m"
    return lambda self, job: compose(self, job).replace(plain, quoted)


if shlex.quote(sys.executable) != sys.executable:
    PythonScript._execute_cmd = quote_in_scripts(PythonScript._execute_cmd)
    RealExecutor.format_job_exec = quote_in_jobs(RealExecutor.format_job_exec)
