"""How many threads a head is fitted with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

SMALL = 10_000_000


@contextmanager
def few_threads(features: np.ndarray) -> Iterator[None]:
    """One thread for small matrices: more of them wait for each other longer than they compute.

    On a busy machine with two cores a linear head of 196 pictures took 0.04 s with one thread and 4 s with two.
    """
    threads = torch.get_num_threads()
    if features.size <= SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
