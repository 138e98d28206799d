"""How this process keeps memory and waits: for the command line; the library leaves its callers' processes alone."""

from __future__ import annotations

import ctypes
import os

SPIN_COUNT = "10000"  # of 300,000; fewer cost small steps time on an idle machine (docs/experiments.md)
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


def spin_briefly() -> None:
    """Let torch's threads spin only briefly while they wait for one another, unless the environment says how they wait.

    GNU's OpenMP has them spin for milliseconds before they sleep. Where another program wants a core too, a thread
    spins for one that cannot run, and training takes many times as long. To be called before torch is imported.
    """
    if not any(name in os.environ for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")):
        os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT
