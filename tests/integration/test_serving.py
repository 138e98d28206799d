"""`headstart serve` as a process: without torch, stopped gently, handed a new model while requests come."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import httpx
import numpy as np
import pytest
from odd_pictures import encoded, gradient
from packaging.requirements import Requirement
from PIL import Image
from serving import serve_command
from tiny_models import write_model
from waiting import until

PICTURE = encoded(Image.fromarray(gradient()), "JPEG")
ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = [line for line in (ROOT / "requirements-serve.txt").read_text().splitlines() if "==" in line]


def not_installed_there() -> list[str]:
    """Return the modules that a machine with `requirements-serve.txt` and nothing else would not have."""
    normal = lambda name: re.sub(r"[-_.]+", "-", name).lower()  # noqa: E731
    wanted, there = [line.split("==")[0] for line in REQUIREMENTS], set()
    while wanted:
        name = normal(wanted.pop())
        if name not in there:
            there.add(name)
            try:
                lines = metadata.distribution(name).requires or []
            except metadata.PackageNotFoundError:  # of other systems, other versions of Python
                continue
            wanted += [re.split(r"[\s<>=!~;\[(]", line)[0] for line in lines if "extra ==" not in line]
    modules = metadata.packages_distributions()
    return sorted(
        module
        for module, brings in modules.items()
        if module not in ("headstart", "sitecustomize") and not {normal(name) for name in brings} & there
    )


WITHOUT = """
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = lambda name, path=None, target=None: (
    None if name.split(".")[0] in absent else find(name, path, target)
)
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "insects")


def test_it_serves_where_torch_and_all_that_is_for_training_cannot_be_imported(model: Path, tmp_path: Path) -> None:
    absent = not_installed_there()
    assert {"torch", "timm", "sklearn", "pandas", "matplotlib", "onnx", "rich", "safetensors", "lmdb"} <= set(absent)
    (tmp_path / "sitecustomize.py").write_text(f"absent = {absent!r}\n{WITHOUT}")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    proof = subprocess.run(
        [sys.executable, "-c", "import torch"], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert "No module named 'torch'" in proof.stderr
    with serve_command(model, "--reload-model", PYTHONPATH=path) as (_, address):
        answer = httpx.post(f"{address}/predict?heat_map=true", content=PICTURE, timeout=60)
        assert answer.status_code == 200, answer.text
        (result,) = answer.json()["results"]
        assert result["heat_map"].startswith("data:image/png;base64,")
        for path in ("/", "/page.css", "/page.js", "/metrics", "/openapi.json", "/models"):
            assert httpx.get(f"{address}{path}").status_code == 200, path


def test_the_serving_set_of_requirements_has_the_tested_versions_of_all_that_the_extra_asks_for() -> None:
    assert set(REQUIREMENTS) <= set((ROOT / "constraints.txt").read_text().splitlines())
    pinned = dict(line.split("==") for line in REQUIREMENTS)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for wanted in map(Requirement, project["optional-dependencies"]["serve"]):
        assert wanted.specifier.contains(pinned[wanted.name]), wanted


def test_sigterm_finishes_what_is_under_way_and_ends_with_0(model: Path) -> None:
    large = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), np.uint8)), "PNG")
    with serve_command(model) as (process, address), ThreadPoolExecutor(1) as threads:
        files = [("files", ("a.png", large))] * 4
        sent = threads.submit(httpx.post, f"{address}/predict", files=files, timeout=60)
        while "headstart_queue_pictures 0.0" in httpx.get(f"{address}/metrics").text and not sent.done():
            pass
        process.send_signal(signal.SIGTERM)
        assert sent.result().status_code == 200
        out, err = process.communicate(timeout=30)
        assert process.returncode == 0, err
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{address}/healthz")
        lines = [json.loads(line) for line in err.splitlines()]
        assert {line["event"] for line in lines} == {"request"}
        assert [line["pictures"] for line in lines if line["path"] == "/predict"] == [4]
        assert out == ""


def test_a_new_model_is_picked_up_without_losing_a_request_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "insects")
    stop, seen, failures = threading.Event(), [], []

    def ask(address: str) -> None:
        with httpx.Client(base_url=address) as client:
            while not stop.is_set():
                answer = client.post("/predict", content=PICTURE)
                if answer.status_code != 200:
                    failures.append(answer.text)
                seen.append(tuple(sorted(answer.json()["results"][0]["probabilities"])))

    def until_seen(classes: tuple[str, ...]) -> None:
        deadline = time.monotonic() + 60
        while seen[-1:] != [classes]:
            assert time.monotonic() < deadline, seen[-1:]
            time.sleep(0.02)

    with (
        serve_command(folder, "--reload-model", "--no-access-log") as (process, address),
        ThreadPoolExecutor(4) as threads,
    ):
        asking = [threads.submit(ask, address) for _ in range(4)]
        try:
            until_seen(("ant", "bee", "wasp"))
            write_model(folder, classes=("crow", "wren"), seed=1)
            until_seen(("crow", "wren"))
            network = folder / "model.onnx"
            network.write_bytes(network.read_bytes()[:-100] + bytes(100))
            while "model refused" not in (said := process.stderr.readline()):
                pass
            assert "damaged" in json.loads(said)["reason"]
            assert httpx.post(f"{address}/predict", content=PICTURE).status_code == 200
            shutil.rmtree(folder)  # gone is no new model either
            time.sleep(1.5)
            write_model(folder, classes=("ash", "elm", "oak"), seed=2)
            until_seen(("ash", "elm", "oak"))
        finally:
            stop.set()
        for one in asking:
            one.result()
        assert failures == []
        metrics = httpx.get(f"{address}/metrics").text
        assert 'headstart_model_reloads_total{model="insects",outcome="picked up"} 2.0' in metrics
        assert 'headstart_model_reloads_total{model="insects",outcome="refused"}' in metrics


STUCK = """
import threading
import headstart.core.preprocessing as preprocessing
genuine = preprocessing.images.decode
preprocessing.images.decode = lambda data, min_size=None: (
    threading.Event().wait() if data.endswith(b"STUCK") else genuine(data, min_size)
)
"""


def test_a_stop_does_not_wait_for_a_decoder_that_never_ends_and_says_so(model: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(STUCK)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    with serve_command(model, "--timeout", "1", PYTHONPATH=path) as (process, address):
        assert httpx.post(f"{address}/predict", content=PICTURE).status_code == 200
        assert httpx.post(f"{address}/predict", content=PICTURE + b"STUCK", timeout=60).status_code == 504
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        stopped = json.loads(err.splitlines()[-1])
        assert (stopped["event"], stopped["threads_left"]) == ("stopped", 1)


def test_the_log_is_one_json_object_a_line_whatever_libraries_say_of_hostile_pictures(model: Path) -> None:
    with serve_command(model) as (process, address):
        for data in (jpeg_with_damaged_exif(), tiff_that_libtiff_complains_of()):
            httpx.post(f"{address}/predict", content=data, timeout=60)
        process.terminate()
        _, err = process.communicate(timeout=60)
    events = [json.loads(line) for line in err.splitlines()]
    assert [one["message"] for one in events if one["event"] == "warning" and "Skipping tag" in one["message"]]
    assert [one["message"] for one in events if one["event"] == "stderr" and "maximum scans" in one["message"]]


def jpeg_with_damaged_exif() -> bytes:
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHLL", 1, 0x0113, 2, 60_000, 8) + bytes(4)
    return encoded(Image.new("RGB", (64, 64)), "JPEG", exif=exif)


def tiff_that_libtiff_complains_of() -> bytes:
    """A TIFF that holds a JPEG of too many scans."""
    data = encoded(Image.new("L", (64, 64), 128), "JPEG", progressive=True)
    data = data[:-2] + data[data.rindex(b"\xff\xda") : -2] * 200 + data[-2:]
    values = [(256, 64), (257, 64), (258, 8), (259, 7), (262, 1), (273, 122), (277, 1), (278, 64), (279, len(data))]
    tags = b"".join(struct.pack("<HHLL", tag, 4, 1, value) for tag, value in values)
    return b"II*\0" + struct.pack("<LH", 8, 9) + tags + bytes(4) + data


def test_a_log_that_nobody_reads_any_more_stops_nothing(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "insects")
    with serve_command(folder, "--reload-model") as (process, address):
        process.stderr.close()
        for _ in range(3):
            assert httpx.post(f"{address}/predict", content=PICTURE).status_code == 200
        for seed, classes in ((1, ["crow", "wren"]), (2, ["ash", "elm"])):
            write_model(folder, classes=tuple(classes), seed=seed)
            until(lambda classes=classes: httpx.get(f"{address}/model").json()["classes"] == classes)
        process.terminate()
        assert process.wait(60) == 0


def test_wrong_settings_are_one_line_and_exit_code_2(model: Path, tmp_path: Path) -> None:
    with serve_command(model) as (_, address):
        port = address.rsplit(":", 1)[1]
        for arguments, words in (
            ([tmp_path], "no model folder"),
            ([model, "--port", port], "cannot be had"),
            ([model, "--host", "no.such.host.invalid"], "cannot be had"),
            ([model, "--max-body", "lots"], "not a size"),
            ([model, "--queue", "3"], "queue"),
            ([model, "--timeout", "inf"], "seconds"),
            ([model, "--api-keys", tmp_path / "absent"], "cannot be read"),
        ):
            command = [sys.executable, "-m", "headstart", "serve", *map(str, arguments)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
            assert done.returncode == 2, arguments
            assert done.stderr.startswith("headstart: ")
            assert done.stderr.count("\n") == 1
            assert words in done.stderr


def test_listening_elsewhere_than_on_loopback_is_warned_of(model: Path) -> None:
    with serve_command(model, "--host", "0.0.0.0") as (process, address):
        port = address.rsplit(":", 1)[1]
        assert httpx.get(f"http://127.0.0.1:{port}/healthz", headers={"host": "any.example"}).status_code == 200
        process.terminate()
        assert "other machines can reach it, and no API key is needed" in process.communicate(timeout=30)[1]


def test_the_dockerfile_copies_what_exists_installs_the_serving_set_and_is_not_root() -> None:
    root = ROOT
    lines = [line.strip() for line in (root / "Dockerfile").read_text().splitlines()]
    copied = [name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]]
    let_in = {line[1:] for line in (root / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied
    assert all((root / name).exists() and name in let_in for name in copied)
    assert any("-r requirements-serve.txt" in line for line in lines)
    assert any("--no-deps ." in line for line in lines)
    assert any(line.startswith("USER ") and line != "USER root" for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("keys", [False, True])
def test_requests_made_out_of_its_own_description_find_no_fault(model: Path, tmp_path: Path, keys: bool) -> None:
    (tmp_path / "keys").write_text("a-key-of-more-than-16\n")
    options = ["--api-keys", tmp_path / "keys"] if keys else []
    with serve_command(model, "--no-access-log", *options) as (_, address):
        # Random bytes are valid by the description and no picture, so that 422 is right: hence the excluded check.
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{address}/openapi.json", "--checks", "all"]
        command += ["--exclude-checks", "positive_data_acceptance", "--max-examples", "60", "--seed", "1"]
        command += ["-H", "Authorization: Bearer a-key-of-more-than-16"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=tmp_path)
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
        assert "No issues found" in done.stdout
        assert httpx.get(f"{address}/readyz").status_code == 200
