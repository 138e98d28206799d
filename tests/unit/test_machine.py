"""What a process may have of the machine: cores and memory, on planted trees of control groups of both versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from headstart.core import machine


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
    assert machine.cpu_quota(written(tmp_path, files)) == quota


@pytest.mark.parametrize(("quota", "expected"), [(None, 8), (0.1, 1), (1.5, 2), (3.0, 3), (100.0, 8)])
def test_no_more_cores_are_used_than_affinity_and_quota_allow(
    quota: float | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(machine, "_own_quota", lambda: quota)
    assert machine.cores() == expected


HAS = 8_000_000 * 1024  # what the planted machine says is available


def group(folder: str, limit: object, used: int, stat: str = "", version: int = 2) -> dict[str, str]:
    """The files of one control group; without `stat` it has none."""
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    found = dict(zip((f"sys/fs/cgroup/{folder}/{name}" for name in names), (f"{limit}\n", f"{used}\n"), strict=True))
    return found | ({f"sys/fs/cgroup/{folder}/memory.stat": stat} if stat else {})


@pytest.mark.parametrize(
    ("cgroup", "files", "free"),
    [
        pytest.param(None, {}, HAS, id="no control groups"),
        pytest.param("0::/\n", {}, HAS, id="2: no limit"),
        pytest.param("0::/\n", group("", "max", 700_000), HAS, id="2: no limit, and it says so"),
        pytest.param("0::/\n", group("", 1_000_000, 700_000), 300_000, id="2: a container"),
        pytest.param("0::/\n", group("", 10**12, 700_000), HAS, id="2: a limit above the machine"),
        pytest.param("0::/\n", group("", 1_000_000, 1_200_000), 0, id="2: more in use than allowed"),
        pytest.param(
            "0::/a/b\n",
            group("a/b", 1_000_000, 100_000) | group("a", 2_000_000, 1_500_000),
            500_000,
            id="2: nested, the outer one leaves less",
        ),
        pytest.param(
            "0::/a/b\n",
            group("a/b", 1_000_000, 900_000) | group("a", 2_000_000, 1_500_000),
            100_000,
            id="2: nested, the inner one leaves less",
        ),
        pytest.param("0::/a/b\n", group("a", 1_000_000, 100_000), 900_000, id="2: nested, the outer one alone limits"),
        pytest.param("0::/../beside\n", group("", 1_000_000, 100_000), 900_000, id="2: not below what is mounted"),
        pytest.param(
            "0::/\n",
            group("", 1_000_000, 980_000, "anon 80000\nfile 900000\ninactive_file 600000\nactive_file 300000\n"),
            620_000,
            id="2: most of it files that were read",
        ),
        pytest.param(
            "0::/\n",
            group("", 1_000_000, 100_000, "inactive_file 150000\n"),
            1_000_000,
            id="2: numbers of two moments never leave more than the limit",
        ),
        pytest.param(
            "0::/\n",
            group("", 1_000_000, 980_000, "anon 80000\nfile 900000\n"),
            20_000,
            id="2: files that are not told as inactive count",
        ),
        pytest.param(V1, group("memory/docker/ab", 1_000_000, 700_000, version=1), 300_000, id="1: a group"),
        pytest.param(V1, group("memory", 1_000_000, 700_000, version=1), 300_000, id="1: mounted without its path"),
        pytest.param(V1, group("memory", 9223372036854771712, 700_000, version=1), HAS, id="1: no limit"),
        pytest.param(
            V1,
            group("memory/docker/ab", 9223372036854771712, 10, version=1)
            | group("memory/docker", 1_000_000, 700_000, version=1),
            300_000,
            id="1: nested",
        ),
        pytest.param(
            V1,
            group("memory/docker", 1_000_000, 980_000, "inactive_file 0\ntotal_inactive_file 600000\n", version=1),
            620_000,
            id="1: files that groups below have read",
        ),
        pytest.param(V1 + "0::/\n", group("unified", 1_000_000, 700_000), 300_000, id="both: the limit is in 2"),
        pytest.param(
            V1 + "0::/\n", group("memory/docker/ab", 1_000_000, 700_000, version=1), 300_000, id="both: it is in 1"
        ),
        pytest.param("0::/\n", group("cpu", 1_000_000, 700_000), HAS, id="another controller's folder"),
        pytest.param("0::/\n", group("", "nonsense", 700_000), HAS, id="nonsense"),
    ],
)
def test_memory_is_what_the_system_and_every_group_leave(
    cgroup: str | None, files: dict[str, str], free: int, tmp_path: Path
) -> None:
    system = {"proc/meminfo": f"MemTotal: 16000000 kB\nMemFree: 1000 kB\nMemAvailable: {HAS // 1024} kB\n"}
    own = {} if cgroup is None else {"proc/self/cgroup": cgroup}
    assert machine.free_memory(written(tmp_path, system | own | files)) == free


def test_where_the_system_does_not_say_what_is_free_it_is_what_is_built_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.os, "sysconf_names", {"SC_PHYS_PAGES": 1, "SC_PAGE_SIZE": 2}, raising=False)
    monkeypatch.setattr(machine.os, "sysconf", {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}.get, raising=False)
    assert machine.free_memory(tmp_path) == 4_096_000
    monkeypatch.setattr(machine.os, "sysconf_names", {}, raising=False)
    assert machine.free_memory(tmp_path) is None
    limited = written(tmp_path, {"proc/self/cgroup": "0::/\n"} | group("", 1_000_000, 700_000))
    assert machine.free_memory(limited) == 300_000


def test_this_machine_has_memory_and_cores() -> None:
    free = machine.free_memory()
    assert free is None or 2**20 < free < 2**50
    assert 1 <= machine.cores() <= (machine.os.cpu_count() or 1)


def test_the_folders_of_a_group_are_its_own_and_those_above_in_every_mount(tmp_path: Path) -> None:
    written(tmp_path, {"proc/self/cgroup": V1 + "0::/a/b\n"})
    mounts = tmp_path / "sys/fs/cgroup"
    named = {folder.relative_to(mounts).as_posix() for folder in machine.group_folders(tmp_path, "memory")}
    assert named == {
        *("memory/docker/ab", "memory/docker", "memory"),
        *("a/b", "a", ".", "unified/a/b", "unified/a", "unified"),
    }
    assert machine.group_folders(tmp_path / "elsewhere", "memory") == []
