"""How this process keeps memory: for commands that train; the library leaves its callers' processes alone."""

from __future__ import annotations

import ctypes

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
