"""Processes of the command line keep freed memory and spin briefly; those that call the library are left alone."""

from __future__ import annotations

import os
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


WAITING = """
import os, sys
from headstart.cli import main
sys.argv = ["headstart", *sys.argv[1:]]
try:
    main(None if sys.argv[1] != "library" else ["fit", "--help"])
except SystemExit:
    pass
import torch  # OpenMP says on standard error how its threads wait
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks GNU's OpenMP")
@pytest.mark.parametrize(
    ("arguments", "given", "spins"),
    [
        (["fit", "--help"], {}, "10000"),
        (["compare", "--help"], {}, "10000"),
        (["fit", "--help"], {"GOMP_SPINCOUNT": "77"}, "77"),
        (["library"], {}, None),
    ],
)
def test_threads_spin_briefly_in_commands_unless_the_user_says_otherwise(
    arguments: list[str], given: dict[str, str], spins: str | None
) -> None:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}
    environment = {**own, "OMP_DISPLAY_ENV": "verbose", **given}
    code = [sys.executable, "-c", WAITING, *arguments]
    done = subprocess.run(code, capture_output=True, text=True, timeout=120, check=True, env=environment)
    (line,) = (line for line in done.stderr.splitlines() if "GOMP_SPINCOUNT" in line)
    assert (line.split("'")[1] == spins) if spins else (line.split("'")[1] != "10000")
