"""What this process may have of the machine: processor cores and memory, by what is built in and what groups allow.

Linux keeps processes in control groups, of version 1 or 2 or both, one below the other; a container is one of them.
The least of a process's own group and those above is what holds for it.
"""

from __future__ import annotations

import functools
import math
import os
from pathlib import Path

ROOT = Path("/")
# In version 1 a group's `memory.stat` has what the group holds itself, and with `total_` also what groups below hold:
# its limit and its use are of all of them.
_CACHE_OF_FILES = ("total_inactive_file", "inactive_file")


def cores() -> int:
    """Return how many processor cores this process may use: by its affinity and by its container's quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _own_quota()
    return count if quota is None else max(1, min(count, math.ceil(quota)))


@functools.cache
def _own_quota() -> float | None:
    return cpu_quota()


def cpu_quota(root: Path = ROOT) -> float | None:
    """Return how many cores' worth of time control groups allow this process, or None where they allow all.

    Of version 2 (`cpu.max`) and 1 (`cpu.cfs_quota_us`).

    Args:
        root: Of the file system; another one than / is for tests.
    """
    quotas = [quota for folder in group_folders(root, "cpu") if (quota := _quota_of(folder)) is not None]
    return min(quotas, default=None)


def free_memory(root: Path = ROOT) -> int | None:
    """Return the bytes of memory that this process can still have, without swapping; None where nothing says it.

    Linux tells what is free or can be freed; elsewhere it is the memory that is built in. Of the control groups it is
    what the limit of each (version 2 `memory.max`, 1 `memory.limit_in_bytes`) leaves beside what all in it use.

    Args:
        root: Of the file system; another one than / is for tests.
    """
    left = [free for folder in group_folders(root, "memory") if (free := _free_in(folder)) is not None]
    there = _available(root)
    return min(left if there is None else [*left, there], default=None)


def group_folders(root: Path, controller: str) -> list[Path]:
    """Return the folders of the control groups that this process is in, its own and those above; not all need exist.

    Inside a container a group is often mounted without its path, so the roots of what is mounted are always among
    them. There are none on other systems than Linux.

    Args:
        root: Of the file system; another one than / is for tests.
        controller: `cpu` or `memory`: in version 1 each has its own groups.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except (OSError, UnicodeDecodeError):  # another system
        return []
    mounts, found = root / "sys/fs/cgroup", list[Path]()
    for line in lines:
        number, controllers, group = [*line.split(":", 2), "", ""][:3]
        if number == "0" and not controllers:
            homes = [mounts, mounts / "unified"]
        elif controller in controllers.split(","):
            homes = [mounts / controllers, mounts / controller]
        else:
            continue
        inner = Path(group.lstrip("/"))
        if ".." not in inner.parts:  # of a group that is not below what is mounted here
            found += [home / part for home in homes for part in (inner, *inner.parents)]
        else:
            found += homes
    return list(dict.fromkeys(found))


def _quota_of(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        return int(quota) / int(period) if int(quota) > 0 and int(period) > 0 else None
    except (OSError, ValueError):  # no such group, or "max"
        return None


def _free_in(folder: Path) -> int | None:
    """Return the bytes that a control group's limit leaves, or None where it has none.

    What a group uses counts the files that it has read, too, which the kernel lets go before it kills. Those that were
    not used again (`inactive_file`) are therefore free; where `memory.stat` does not tell them, nothing of it is.
    Kubernetes takes a container's use as this same difference (its "working set").
    """
    limit, used = _number(folder / "memory.max"), _number(folder / "memory.current")
    if limit is None or used is None:
        limit, used = _number(folder / "memory.limit_in_bytes"), _number(folder / "memory.usage_in_bytes")
    if limit is None or used is None:
        return None
    stat = _table(folder / "memory.stat")
    cache = next((stat[name] for name in _CACHE_OF_FILES if name in stat), 0)
    return max(0, limit - max(0, used - cache))


def _available(root: Path) -> int | None:
    """Return what Linux can give of the whole machine's memory, or all that is built in where another system runs."""
    available = _table(root / "proc/meminfo").get("MemAvailable:")
    if available is not None:
        return available * 1024
    if hasattr(os, "sysconf") and {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= set(os.sysconf_names):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # no such group, or "max"
        return None


def _table(file: Path) -> dict[str, int]:
    """Return the number behind each name in a file of lines such as `name 123` or `name: 123 kB`."""
    try:
        rows = [line.split() for line in file.read_text().splitlines()]
        return {row[0]: int(row[1]) for row in rows if len(row) > 1}
    except (OSError, ValueError):
        return {}
