"""The C library keeps freed memory in processes that are the command line's own, and in no others."""

from __future__ import annotations

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import numpy as np
from headstart.cli import main
sys.argv = ["headstart", *sys.argv[1:]]
try:
    main(None if sys.argv[1] != "library" else ["fit", "--help"])
except SystemExit:
    pass
np.ones(50_000_000, np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(50_000_000, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts the page faults of glibc's malloc")
@pytest.mark.parametrize(
    ("arguments", "kept"), [(["fit", "--help"], True), (["cache", "--help"], False), (["library"], False)]
)
def test_training_by_command_reuses_memory_instead_of_asking_for_it_again(arguments: list[str], kept: bool) -> None:
    code = [sys.executable, "-c", FAULTS, *arguments]
    done = subprocess.run(code, capture_output=True, text=True, timeout=60, check=True)
    assert (int(done.stdout.split()[-1]) < 2000) == kept
