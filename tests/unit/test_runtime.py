"""How many cores a process may use: by its affinity, and by the quota of its container."""

from __future__ import annotations

from pathlib import Path

import pytest

from headstart.core import runtime


def written(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


V1 = "3:cpuset:/\n2:cpuacct,cpu:/docker/ab\n1:memory:/docker/ab\n"


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/\n"}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/cpu.max": "100000 100000\n",
                "sys/fs/cgroup/a/b/cpu.max": "400000 100000\n",
            },
            1.0,
        ),
        ({"proc/self/cgroup": "0::/../outside\n", "sys/fs/cgroup/cpu.max": "50000 100000"}, 0.5),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpuacct,cpu/docker/ab/cpu.cfs_quota_us": "300000\n",
                "sys/fs/cgroup/cpuacct,cpu/docker/ab/cpu.cfs_period_us": "100000\n",
            },
            3.0,
        ),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            2.0,
        ),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "nonsense"}, None),
    ],
)
def test_the_quota_of_a_container_is_the_least_of_its_groups(
    files: dict[str, str], quota: float | None, tmp_path: Path
) -> None:
    assert runtime.cpu_quota(written(tmp_path, files)) == quota


@pytest.mark.parametrize(("quota", "expected"), [(None, 8), (0.1, 1), (1.5, 2), (3.0, 3), (100.0, 8)])
def test_no_more_cores_are_used_than_affinity_and_quota_allow(
    quota: float | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime.os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(runtime, "_own_quota", lambda: quota)
    assert runtime.cores() == expected
