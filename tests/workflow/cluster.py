"""A SLURM of three nodes on this machine's loopback, of this user's own, for as long as it is used.

    python tests/workflow/cluster.py [COMMAND ...]

runs a command on it (without one, the demo in a temporary folder through profiles/slurm), then takes all down again.
Needs Debian's packages slurmctld, slurmd, slurm-client and munge, and envs/requirements-slurm.txt.
"""

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")
NODES = ("node1", "node2", "node3")  # of 2 CPUs, as the smallest that there are; node1 has a GPU, or says so
USER_OPTIONS = ["--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "2"]
USER_OPTIONS += ["--max-status-checks-per-second", "1", "--latency-wait", "20"]

CONFIG = """
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock,cred_expire=10
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
SchedulerParameters=sched_interval=2,bf_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=0
SlurmdTimeout=5
KillWait=2
ReturnToService=2
GresTypes=gpu
SlurmdParameters=config_overrides
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=30000 Gres=gpu:1
NodeName=node2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 RealMemory=30000
NodeName=node3 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[3]} CPUs=2 RealMemory=30000
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=INFINITE PriorityTier=9
"""


def find_missing() -> str:
    """Why SLURM cannot be run here; empty if it can."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    missing = [name for name in PROGRAMS if not shutil.which(name, path=path)]
    if missing:
        return f"{', '.join(missing)} not installed (Debian: slurmctld slurmd slurm-client munge)"
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        return "snakemake-executor-plugin-slurm not installed (envs/requirements-slurm.txt)"
    return ""


def wait_for(condition: Callable, what: str, seconds: float = 60):
    """Wait until a condition holds, and return what it returned."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.2)
    return found


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}


class Cluster:
    """The daemons, each in the foreground of a process of ours."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.daemons: dict[str, subprocess.Popen] = {}
        os.environ["PATH"] = f"{folder / 'bin'}:{os.environ['PATH']}:/usr/sbin:/sbin"
        os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
        # The plugin hides all of SLURM's variables from `srun`, that of a configuration elsewhere than in /etc too.
        config = f"SLURM_CONF={folder}/slurm.conf exec"
        self._write_program("srun", f'{config} {shutil.which("srun")} "$@"')
        # Stands for a database of accounting, which SLURM needs MariaDB for.
        self._write_program(
            "sacct", f'case "$*" in *--name*) {config} squeue -h -t all -o "%i|%T" --name "${{@: -1}}"; esac'
        )
        sockets = [socket.socket() for _ in range(4)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        ports = [each.getsockname()[1] for each in sockets]
        for each in sockets:
            each.close()
        host = socket.gethostname().split(".")[0]
        user = psutil.Process().username()
        (folder / "slurm.conf").write_text(CONFIG.format(folder=folder, host=host, ports=ports, user=user))
        (folder / "gres.conf").write_text("NodeName=node1 Name=gpu File=/dev/null\n")
        (folder / "state").mkdir()
        key = folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)

    def _write_program(self, name: str, script: str) -> None:
        path = self.folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(0o755)

    def start(self) -> None:
        names = {"key-file": "munge.key", "socket": "munge.sock", "pid-file": "munged.pid", "log-file": "munged.log"}
        names |= {"seed-file": "munge.seed"}
        options = [f"--{option}={self.folder / name}" for option, name in names.items()]
        self._spawn("munged", "munged", "--foreground", "--force", *options)
        wait_for((self.folder / "munge.sock").exists, "munged")
        self.start_controller()
        for node in NODES:
            self.start_node(node)
        wait_for(lambda: self.ask("sinfo", "-h", "-o", "%t %D") == f"idle {len(NODES)}", "the nodes")

    def start_controller(self) -> None:
        self._spawn("slurmctld", "slurmctld", "-D")

    def stop_controller(self) -> None:
        """Orderly, so that it knows its jobs when it is back."""
        daemon = self.daemons.pop("slurmctld")
        daemon.terminate()
        daemon.wait(30)

    def start_node(self, node: str) -> None:
        self._spawn(node, "slurmd", "-D", "-N", node)

    def _spawn(self, name: str, *command: str) -> None:
        output = open(self.folder / f"{name}.out", "ab")  # noqa: SIM115 - the daemon's
        self.daemons[name] = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)

    def kill(self, name: str) -> None:
        """End a daemon as a power cut does."""
        self.daemons[name].kill()
        self.daemons.pop(name).wait()

    def kill_node(self, node: str) -> None:
        """A node goes down with all that runs on it: at first what could still tell the controller."""
        self.kill(node)
        ours = {"SLURM_CONF": os.environ["SLURM_CONF"], "SLURMD_NODENAME": node}
        running = [process for process in psutil.process_iter() if ours.items() <= _environment(process).items()]
        steps = set()
        for process in running:
            with contextlib.suppress(psutil.Error):
                steps |= {parent for parent in process.parents() if parent.name().startswith("slurmstepd")}
        for process in [*steps, *running]:
            with contextlib.suppress(psutil.Error):
                process.kill()

    @staticmethod
    def ask(*command: str) -> str:
        """The output of a SLURM command; empty where the controller does not answer."""
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()

    def jobs(self, state: str) -> list[tuple[str, str, str]]:
        """Jobs in a state: `(id, node, comment)`; the comment is the rule with its wildcards."""
        lines = self.ask("squeue", "-h", "-t", state, "-o", "%i|%N|%k").splitlines()
        return [tuple(line.split("|")) for line in lines]

    def has_restarted(self, job: str) -> bool:
        """Whether SLURM has put a job that ran back into the queue."""
        return "Restarts=1" in self.ask("scontrol", "show", "job", job)

    def stop(self) -> None:
        if "slurmctld" in self.daemons:
            self.ask("scancel", "--user", psutil.Process().username())
            with contextlib.suppress(TimeoutError):
                wait_for(lambda: not self.jobs("PD,R,CG"), "the end of all jobs", 20)
        for daemon in reversed(self.daemons.values()):
            daemon.terminate()
        for daemon in self.daemons.values():
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()


@contextlib.contextmanager
def run_cluster() -> Iterator[Cluster]:
    """A running cluster; SLURM's commands in this process and its children use it."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:  # a short name: a socket's path has 107 characters
        cluster = Cluster(Path(folder))
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
            os.environ.clear()
            os.environ.update(before)


def main() -> int:
    if missing := find_missing():
        sys.exit(missing)
    with run_cluster(), tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for name in ("config.yaml", "demo"):
            (work / name).symlink_to(ROOT / name)
        command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", work]
        command += ["--profile", ROOT / "profiles" / "slurm", *USER_OPTIONS, "results/ablation_table.csv"]
        return subprocess.run(sys.argv[1:] or list(map(str, command))).returncode


if __name__ == "__main__":
    sys.exit(main())
