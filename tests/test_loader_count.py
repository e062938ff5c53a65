"""The default number of loader processes depends on how many cores cgroups, SLURM and CPU affinity allow."""

import os
import sys

import pytest

from ranger21.data.loader import available_workers
from ranger21.system import processes
from ranger21.system.processes import cgroup_cores, granted_cores

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs the signals and control groups of Linux")


@pytest.mark.parametrize(
    ("own", "quotas", "cores"),
    [
        ("0::/a/b", {"a/b": "250000 100000"}, 2),
        ("0::/a/b", {"a/b": "max 100000", "a": "400000 100000"}, 4),
        ("0::/a/b", {"a/b": "800000 100000", "a": "300000 100000", "": "max 100000"}, 3),
        ("0::/a/b", {"a/b": "50000 100000"}, 1),
        ("0::/", {"": "600000 100000"}, 6),
        ("0::/a/b", {"a/b": "max 100000"}, 2**31),
        ("0::/a/b", {"a/b": "nonsense"}, 2**31),
        ("0::/a/b", {"c": "100000 100000"}, 2**31),
        ("12:cpu:/a/b\n0::/a", {"a/b": "100000 100000", "a": "200000 100000"}, 2),
        ("12:cpu:/a/b\n", {"a/b": "100000 100000"}, 2**31),
        (None, {}, 2**31),
    ],
)
def test_the_smallest_quota_of_the_control_groups_limits_the_cores(own, quotas, cores, tmp_path, monkeypatch):
    mount = tmp_path / "cgroup"
    for group, quota in quotas.items():
        (mount / group).mkdir(parents=True, exist_ok=True)
        (mount / group / "cpu.max").write_text(quota + "\n")
    (tmp_path / "cpu.max").write_text("100000 100000\n")  # outside the mount, so it must be ignored
    if own is not None:
        (tmp_path / "own").write_text(own)
    assert cgroup_cores(tmp_path / "own", mount) == cores


def test_granted_cores_is_the_smallest_limit(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(12))
    monkeypatch.setattr(processes, "cgroup_cores", lambda own, mount: 9)
    for slurm, cores in ((None, 9), ("", 9), ("16", 9), ("5", 5), ("0", 1), ("many", 9)):
        monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
        if slurm is not None:
            monkeypatch.setenv("SLURM_CPUS_PER_TASK", slurm)
        assert granted_cores() == cores, slurm
    monkeypatch.setattr(processes, "cgroup_cores", lambda own, mount: 2**31)
    assert granted_cores() == 12


@pytest.mark.parametrize(
    ("cores", "machine", "ranks", "torchrun", "step", "expected"),
    [
        (16, 16, 1, False, "", 8),  # eight at most
        (6, 16, 1, False, "", 5),  # one core is left for training
        (16, 16, 4, True, "", 3),  # torchrun: all ranks share these cores
        (8, 16, 4, True, "", 1),
        (5, 16, 4, False, "20", 4),  # SLURM: each task has these cores
        (16, 16, 4, False, "", 3),  # SLURM without a grant: every task sees all cores
        (16, 64, 4, False, "16", 3),  # SLURM: every task sees all cores of the job step
        (1, 16, 1, False, "1", 1),
        (2, 2, 8, True, "", 1),
    ],
)
def test_the_number_of_loader_processes_depends_on_the_cores_per_rank(
    cores, machine, ranks, torchrun, step, expected, monkeypatch
):
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", step)
    monkeypatch.setattr("ranger21.data.loader.granted_cores", lambda: cores)
    monkeypatch.setattr(os, "cpu_count", lambda: machine)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if torchrun:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks))
    assert available_workers(ranks, "cuda") == expected
    assert available_workers(ranks, "cpu") == 0
