"""A real SLURM with two simulated nodes on this machine; controller, node daemons and munge share one folder.

Each node is a process with its own host name, process numbers and /etc/hosts; killing it kills everything on it, like
a power failure. Not realistic: all nodes share one network and disk, GPUs are empty files, there is no accounting.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ranger21.system.processes import die_with_the_parent
from support.ports import free_ports
from support.project import ROOT

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged", "unshare")
GPUS = 4  # per node
CONF = """ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
FirstJobId={first_job}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock,cred_expire=5
CommunicationParameters=NoAddrCache,NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=1,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
SlurmdTimeout=300
KillWait=10
GresTypes=gpu
NodeName=node[1-2] NodeAddr=127.0.0.1 Port=[{first}-{last}] CPUs=32 RealMemory=100000 Gres=gpu:a100:{gpus}
PartitionName=usual Nodes=ALL Default=YES
PartitionName=graceful Nodes=ALL GraceTime=15
PartitionName=urgent Nodes=ALL PriorityTier=10 PreemptMode=OFF
"""
# submitit calls sacct for the state of its jobs. SLURM's own sacct needs a database, so this script replaces it.
SACCT = r"""#!/bin/bash
echo 'JobID|State|NodeList'
while [ $# -gt 0 ]; do
    if [ "$1" = -j ]; then scontrol show job "$2" -o 2>/dev/null | sed -nE -e 's/ (JobState|NodeList)=/ \
\1=/g' -e 's/^JobId=[0-9]+ ArrayJobId=([0-9]+) ArrayTaskId=([0-9]+)/\1_\2/; s/^JobId=//
        s/^([0-9_]+) [^\n]*\nJobState=(\S+)[^\n]*\nNodeList=(\S*).*/\1|\2|\3/p'; fi
    shift
done
"""


class Cluster:
    """A running SLURM. Run its commands with `env`; submit runs from `project`, which looks like a checkout."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder, self.number = folder, number
        self.project = folder / "pro$ject"  # a shell would expand this name
        self.env = os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "PYTHONPATH": str(ROOT)}
        self.env = {name: value for name, value in self.env.items() if not name.startswith(("SBATCH_", "RANGER21_"))}
        self.env |= {"PYTHON": sys.executable, "LC_ALL": "C"}
        self._daemons: dict[str, subprocess.Popen] = {}

    def start(self) -> None:
        for name in ("state", "spool", "gpus", "pro$ject/outputs", "bin"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        for path in ("train.py", "configs", "scripts", "slurm"):
            (self.project / path).symlink_to(ROOT / path)
        (self.folder / "munge.key").write_bytes(os.urandom(1024))
        (self.folder / "munge.key").chmod(0o600)
        port, host = free_ports(3), socket.gethostname().partition(".")[0]
        values = {"host": host, "port": port, "first": port + 1, "last": port + 2, "gpus": GPUS, "folder": self.folder}
        # The ranks' ports depend on the job number, so parallel clusters must use different job numbers.
        (self.folder / "slurm.conf").write_text(CONF.format(first_job=100 * self.number + 1, **values))
        for gpu in range(GPUS):
            (self.folder / f"gpus/gpu{gpu}").touch()
        (self.folder / "gres.conf").write_text(f"Name=gpu Type=a100 File={self.folder}/gpus/gpu[0-{GPUS - 1}]\n")
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        for node in ("node1", "node2"):
            (self.folder / f"hosts.{node}").write_text(f"127.0.0.1 {node} localhost {host} node1 node2\n")
        (self.folder / "bin/sacct").write_text(SACCT)
        (self.folder / "bin/sacct").chmod(0o755)
        munge = [f"--{name}={self.folder}/munge.{name}" for name in ("socket", "log-file", "pid-file", "seed-file")]
        munge[0] = f"--socket={self.folder}/munge.sock"
        self._run("munged", "munged", "-F", "--force", f"--key-file={self.folder}/munge.key", *munge)
        until(lambda: (self.folder / "munge.sock").exists(), 20, "munged")
        self._run("slurmctld", "slurmctld", "-D", "-c", "-f", self.env["SLURM_CONF"])
        for node in ("node1", "node2"):
            self.start_node(node)
        until(lambda: self.idle() == 2, 60, lambda: self.logs())

    def _run(self, name: str, *command: str) -> None:
        null = subprocess.DEVNULL
        self._daemons[name] = subprocess.Popen(
            command, stdin=null, stdout=null, stderr=null, env=self.env, preexec_fn=die_with_the_parent
        )

    def start_node(self, name: str) -> None:
        inside = f"hostname {name} && mount --bind {self.folder}/hosts.{name} /etc/hosts && exec slurmd -D -N {name}"
        unshare = ("unshare", "--uts", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
        self._run(name, *unshare, "bash", "-c", f"{inside} -f {self.env['SLURM_CONF']}")

    def kill_node(self, name: str) -> None:
        """Kill everything on a node, like a power failure. SLURM notices after `SlurmdTimeout`, or after `give_up`."""
        self._daemons[name].kill()
        self._daemons.pop(name).wait()

    def give_up(self, name: str) -> None:
        """Declare a node lost, as an administrator does; SLURM then continues without it at once."""
        self.ask("scontrol", "update", f"NodeName={name}", "State=DOWN", "Reason=lost")

    def revive(self) -> None:
        """Start both nodes and cancel all jobs of earlier tests."""
        self.ask("scancel", "--user=root")
        for name in {"node1", "node2"} - self._daemons.keys():
            self.start_node(name)
            self.ask("scontrol", "update", f"NodeName={name}", "State=RESUME")
        until(lambda: self.idle() == 2, 90, lambda: self.logs())

    def stop(self) -> None:
        for daemon in reversed(self._daemons.values()):  # nodes first
            daemon.kill()
            daemon.wait()

    def idle(self) -> int:
        return self.ask("sinfo", "--noheader", "--partition=usual", "--Node", "--format=%T").split().count("idle")

    def ask(self, *command: str) -> str:
        return subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=120).stdout

    def logs(self) -> str:
        return "\n".join("\n".join(path.read_text().splitlines()[-40:]) for path in sorted(self.folder.glob("*.log")))

    def without_controller(self) -> dict[str, str]:
        """Return an environment in which no controller answers, and the commands give up at once."""
        conf = self.folder / "no-controller.conf"
        there = (self.folder / "slurm.conf").read_text()
        conf.write_text(re.sub(r"SlurmctldPort=.*", f"SlurmctldPort={free_ports(1)}\nMessageTimeout=1", there))
        return {"SLURM_CONF": str(conf)}

    def sbatch(self, *arguments: str, env: dict[str, str] | None = None) -> str:
        """Submit a job from the project; return its number."""
        command = ["sbatch", "--parsable", *arguments]
        env = self.env | (env or {})
        done = subprocess.run(command, cwd=self.project, env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def job(self, number: str, key: str = "JobState") -> str:
        found = re.search(rf"\b{key}=(\S*)", self.ask("scontrol", "show", "job", number))
        return found.group(1) if found else ""

    def wait(self, number: str, *states: str, seconds: float = 120) -> None:
        """Wait until the job is in one of the states."""
        told = lambda: f"{self.job(number)}: {self.output(number)}\n{self.logs()}"  # noqa: E731
        until(lambda: self.job(number) in states, seconds, told)

    def output(self, number: str) -> str:
        paths = [*self.project.glob(f"*-{number}.out")]
        return paths[0].read_text() if paths else ""


def until(true: Callable[[], object], seconds: float, told: str | Callable[[], str]) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds} s: {told if isinstance(told, str) else told()}"
        time.sleep(0.1)


def missing() -> str:
    """Return why no cluster can be started here, or an empty string."""
    absent = [name for name in PROGRAMS if not shutil.which(name)]
    if absent or os.geteuid() != 0:
        how = "apt-get install -y --no-install-recommends slurmctld slurmd slurm-client munge"
        return f"needs a SLURM of its own: as root, {how}"
    done = subprocess.run(["unshare", "--uts", "--mount", "--pid", "--fork", "--mount-proc", "true"])
    return "needs namespaces: run it where root may call unshare" if done.returncode else ""


@pytest.fixture(scope="session")
def running_cluster() -> Iterator[Cluster]:
    if reason := missing():
        pytest.skip(reason)
    number = int("0" + re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "")))
    with tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True) as folder:  # short: munge's socket
        cluster = Cluster(Path(folder), number)
        Path(folder).chmod(0o755)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()


@pytest.fixture
def cluster(running_cluster: Cluster) -> Cluster:
    """A cluster with two idle nodes and no jobs."""
    running_cluster.revive()
    return running_cluster
