"""How this process keeps memory and waits: for the command line; the library leaves its callers' processes alone."""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of mallopt, in glibc's malloc.h


def keep_freed_memory() -> bool:
    """Let the C library keep freed memory for what is allocated next; return whether it can.

    By default glibc gives every large block back at once, and each step of training asks for its gigabytes of
    activations anew: a third of the time goes to page faults. Costs some 10 % more memory at the peak.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or another system
        return False
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, 2**31 - 1))


def wait_asleep() -> None:
    """Let torch's threads sleep while they wait for one another, unless the user's environment says how they wait.

    By default they spin (OpenMP). Where another program wants a core too, a thread spins for one that cannot run, and
    training takes many times as long. To be called before torch is imported.
    """
    if not any(name in os.environ for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
