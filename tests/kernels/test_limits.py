"""The CPUs that a process may use, by affinity and by the quotas of cgroups, read from files laid out as Linux does."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from quantstats import _core

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="affinity masks and cgroups are those of Linux")

Files = Mapping[str, str]

V1 = "sys/fs/cgroup/cpu"
V2 = "sys/fs/cgroup"


def quota_v1(directory: str, quota: object, period: object = 100_000) -> Files:
    return {f"{V1}/{directory}cpu.cfs_quota_us": f"{quota}\n", f"{V1}/{directory}cpu.cfs_period_us": f"{period}\n"}


def quota_v2(directory: str, quota: object, period: object = 100_000) -> Files:
    return {f"{V2}/{directory}cpu.max": f"{quota} {period}\n"}


def lay_out(root: Path, groups: str, *files: Files) -> str:
    """Write /proc/self/cgroup and the files of the hierarchies below `root`."""
    for name, text in {"proc/self/cgroup": groups, **{k: v for some in files for k, v in some.items()}}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


GROUPS_V1 = "12:pids:/job\n5:cpu,cpuacct:/user/job\n3:cpuset:/\n1:name=systemd:/user/job\n0::/user/job\n"

CASES = {
    "no cgroup file": (None, (), 0.0),
    "v2, quota of the group": ("0::/user/job\n", (quota_v2("user/job/", 150_000),), 1.5),
    "v2, no limit": ("0::/user/job\n", (quota_v2("user/job/", "max"), quota_v2("user/", "max")), 0.0),
    "v2, tighter above": (
        "0::/user/job\n",
        (quota_v2("user/job/", 400_000), quota_v2("user/", 50_000), quota_v2("", "max")),
        0.5,
    ),
    "v2, tighter below": ("0::/a/b/c\n", (quota_v2("a/b/c/", 25_000), quota_v2("a/", 200_000)), 0.25),
    "v2, another period": ("0::/job\n", (quota_v2("job/", 30_000, 10_000),), 3.0),
    "v2, root of a container": ("0::/\n", (quota_v2("", 200_000),), 2.0),
    "v2, path of the host": ("0::/kubepods/pod1/host\n", (quota_v2("", 120_000),), 1.2),
    "v2, file of one word": ("0::/job\n", ({f"{V2}/job/cpu.max": "100000\n"},), 0.0),
    "v2, period of zero": ("0::/job\n", (quota_v2("job/", 100_000, 0),), 0.0),
    "v1, quota of the group": (GROUPS_V1, (quota_v1("user/job/", 250_000),), 2.5),
    "v1, no limit": (GROUPS_V1, (quota_v1("user/job/", -1), quota_v1("", -1)), 0.0),
    "v1, tighter above": (GROUPS_V1, (quota_v1("user/job/", 300_000), quota_v1("user/", 100_000)), 1.0),
    "v1, path of the host": (GROUPS_V1, (quota_v1("", 70_000),), 0.7),
    "v1, another controller's quota": ("4:cpuset:/job\n2:cpuacct:/job\n", (quota_v1("job/", 100_000),), 0.0),
    "v1, quota without a period": (GROUPS_V1, ({f"{V1}/user/job/cpu.cfs_quota_us": "100000\n"},), 0.0),
    "both, v1 tighter": (GROUPS_V1, (quota_v1("user/job/", 100_000), quota_v2("user/job/", 300_000)), 1.0),
    "both, v2 tighter": (GROUPS_V1, (quota_v1("user/job/", 300_000), quota_v2("user/job/", 200_000)), 2.0),
    "lines that are none": ("\nnonsense\n0:\n0::/job\n", (quota_v2("job/", 100_000),), 1.0),
}


@pytest.mark.parametrize("case", CASES)
def test_quota(tmp_path: Path, case: str) -> None:
    groups, files, expected = CASES[case]
    root = str(tmp_path) if groups is None else lay_out(tmp_path, groups, *files)
    assert _core._cgroup_cpus(root) == pytest.approx(expected)
    granted = len(os.sched_getaffinity(0))
    assert _core._usable_cpus(root) == (min(granted, math.ceil(expected)) if expected else granted)


@pytest.mark.parametrize("version", [quota_v1, quota_v2])
def test_quota_is_rounded_up_to_whole_cpus(tmp_path: Path, version: object) -> None:
    assert callable(version)
    granted = len(os.sched_getaffinity(0))
    for hundredths in (1, 99, 100, 101, 199, 200, 201, 100 * granted, 100 * granted + 1, 10_000):
        groups = "0::/job\n" if version is quota_v2 else "3:cpu,cpuacct:/job\n"
        root = lay_out(tmp_path, groups, version("job/", 1000 * hundredths))
        assert _core._usable_cpus(root) == min(granted, -(-hundredths // 100))


def test_affinity_beside_a_quota(tmp_path: Path) -> None:
    root = lay_out(tmp_path, "0::/\n", quota_v2("", 1_000_000))
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert _core._usable_cpus(root) == 1
    finally:
        os.sched_setaffinity(0, before)
    assert _core._usable_cpus(root) == min(10, len(before))


def test_files_of_this_machine() -> None:
    quota = _core._cgroup_cpus("")
    granted = len(os.sched_getaffinity(0))
    assert _core._usable_cpus("") == (min(granted, math.ceil(quota)) if quota else granted)
