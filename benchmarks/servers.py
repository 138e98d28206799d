"""Servers on loopback for the benchmarks, stopped by their own process, and wrk as their client."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness import HERE, NotMeasured

LUA = HERE / "peers" / "post_pictures.lua"


@dataclass(frozen=True)
class Server:
    """A running server: its address, its process, and the folder that it works in and may write temporary files to."""

    url: str
    process: subprocess.Popen[str]
    folder: Path

    def memory(self) -> float:
        """Return its resident memory in MB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def written(self) -> float:
        """Return the bytes that it had the disk write so far."""
        lines = Path(f"/proc/{self.process.pid}/io").read_text().splitlines()
        return float(dict(line.split(": ") for line in lines)["write_bytes"])

    def files(self) -> list[str]:
        """Return what lies in its folder."""
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*"))


def fit_model(data: Path, folder: Path) -> Path:
    """Fit cats and dogs by the command line, as this process must not import torch, and return the model folder."""
    out = folder / "cats-dogs"
    command = [sys.executable, "-m", "headstart", "fit", data / "catdog", "--method", "frozen", "--out", out, "--quiet"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotMeasured(f"the model could not be fitted: {done.stderr.strip()[-200:]}")
    return out


@contextmanager
def headstart_server(model: Path, folder: Path, *options: str) -> Iterator[Server]:
    """Run `headstart serve` in an empty folder, which is that of its temporary files as well."""
    place = folder / f"server-{time.monotonic_ns()}"
    place.mkdir()
    command = [sys.executable, "-m", "headstart", "serve", str(model), "--port", "0", "--no-access-log", *options]
    environment = {**os.environ, "TMPDIR": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=place, env=environment)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if " at " not in line:
            raise NotMeasured("headstart serve did not start")
        yield Server(line.split(" at ")[1].split()[0], process, place)
    finally:
        stop(process)


@contextmanager
def naive_server(weights: Path) -> Iterator[Server]:
    """Run the naive peer on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, str(HERE / "peers" / "naive_server.py"), str(weights), str(port)]
    # Threads that wait by spinning would cost it dearly whenever something else runs.
    process = subprocess.Popen(command, text=True, env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"})
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{url}/readyz", timeout=1)
                break
            except OSError:
                if process.poll() is not None:
                    raise NotMeasured("the naive server did not start") from None
                time.sleep(0.1)
        yield Server(url, process, weights.parent)
    finally:
        stop(process)


def stop(process: subprocess.Popen[str]) -> None:
    """End one process, gently first."""
    process.terminate()
    try:
        process.wait(40)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def wrk(server: Server, pictures: Path, *, connections: int, seconds: int, threads: int = 1) -> dict[str, float]:
    """Return what a closed load measured: `status 200` and others, `seconds`, `p50` and `p99` in ms, `errors`.

    Raises:
        NotMeasured: wrk is not installed, or nothing was answered.
    """
    if shutil.which("wrk") is None:
        raise NotMeasured("wrk is not installed (apt install wrk)")
    command = [
        "wrk",
        "-t",
        str(threads),
        "-c",
        str(connections),
        "-d",
        f"{seconds}s",
        "--timeout",
        "30s",
        "-s",
        str(LUA),
    ]
    command += [f"{server.url}/predict", "--", str(pictures)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=True)
    known = ("status", "seconds", "p50", "p99", "errors")
    lines = [line.rsplit(" ", 1) for line in done.stdout.splitlines() if line.split(" ")[0] in known]
    measured = {name: float(value) for name, value in lines}
    if not measured.get("status 200"):
        raise NotMeasured(f"{server.url} answered nothing in {seconds} s: {measured}")
    return measured
