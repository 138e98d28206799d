"""Run the benchmarks: `python benchmarks/run.py [NAME …]`, of which `make bench` and `make bench-peers` are two.

Prints a table and writes `benchmarks/results.json`. Needs the pictures of `../shared/data`. What cannot be measured
is a row that says why. `--quick` tries the code on a few pictures and writes nothing; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import os
import platform
import sys
import tempfile
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from harness import Effort, NotMeasured, small_copy
from rows import Row, not_measured, save, show

BENCHMARKS = (
    "throughput",
    "accuracy",
    "whole",
    "startup",
    "memory",
    "vgg16",
    "prefix_cache",
    "far_data",
    "comparison",
    "doctor",
    "confidence",
    "engines",
    "serving",
    "serving_abuse",
)
PEERS = ("keras_frozen", "keras_last4", "pytorch_tutorial", "fastai_finetune")
DATA = Path(os.environ.get("HEADSTART_SHARED") or Path(__file__).resolve().parents[2] / "shared" / "data")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the named benchmarks, or all of one kind; return 1 when one failed unexpectedly."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join((*BENCHMARKS, *PEERS))}")
    parser.add_argument("--peers", action="store_true", help="those against other libraries (more than an hour)")
    parser.add_argument("--runs", type=int, default=3, help="how often each is measured")
    parser.add_argument("--quick", action="store_true", help="only try the code")
    given = parser.parse_args(arguments)
    unknown = set(given.names) - {*BENCHMARKS, *PEERS}
    if unknown:
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; see --help")
    if not DATA.is_dir():
        sys.exit(f"{DATA} is not there: the benchmarks need its pictures (HEADSTART_SHARED names another folder).")
    os.environ["HEADSTART_OFFLINE"] = os.environ["HF_HUB_OFFLINE"] = "1"
    names = given.names or (PEERS if given.peers else BENCHMARKS)
    effort = Effort(runs=given.runs, quick=given.quick)
    with tempfile.TemporaryDirectory() as folder:
        data = small_copy(DATA, Path(folder)) if given.quick else DATA
        fine = [run(name, data, effort) for name in names]
    return 0 if all(fine) else 1


def run(name: str, data: Path, effort: Effort) -> bool:
    """Run one benchmark, show and save its rows; return whether nothing unexpected happened."""
    print(f"\n{name}", flush=True)
    module, fine, rows, where = importlib.import_module(name), True, [], machine()
    try:
        for one in module.measure(data, effort):
            rows.append(replace(one, benchmark=name, machine=where))
            show(rows[-1:])
    except Exception as error:  # what was measured stays, and the other benchmarks go on
        fine = isinstance(error, NotMeasured)
        if not fine:
            traceback.print_exc()
        reason = str(error) if fine else f"{type(error).__name__}: {error}"
        measured = {one.name for one in rows}
        missing = [one for one in unmeasured(module, reason) if one.name not in measured]
        rows += [replace(one, benchmark=name, machine=where) for one in missing]
        show(missing)
    finally:  # also of a run that is interrupted
        if not effort.quick:
            save(rows)
    return fine


def unmeasured(module: ModuleType, reason: str) -> list[Row]:
    """Return the rows with a target of a benchmark that could not run: `BOUNDS` are at least, `LIMITS` at most."""
    limits = getattr(module, "LIMITS", {})
    bounds = getattr(module, "BOUNDS", {} if limits else {f"{module.__name__}": None})
    lower = [not_measured(name, reason, at_least=bound) for name, bound in bounds.items()]
    return lower + [not_measured(name, reason, at_most=bound) for name, bound in limits.items()]


def machine() -> str:
    """Return processor, cores and day."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    flags = next((line.split(":")[1].split() for line in lines if line.startswith("flags")), [])
    kinds = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    from headstart.core.machine import cores

    return f"{model} ({', '.join([f'{cores()} cores', *kinds])}), {datetime.date.today()}"


if __name__ == "__main__":
    sys.exit(main())
