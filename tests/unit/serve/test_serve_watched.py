"""What is told of the server itself: figures, failures, health, log."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

import httpx
import pytest
from serving import PICTURE, assert_framed, files, serving

from headstart.core.predictor import Predictor
from headstart.use.serve import log


def test_words_that_clients_make_up_as_methods_do_not_fill_the_metrics(client: httpx.Client) -> None:
    for method in ("BREW", "WHEN"):
        assert client.request(method, "/predict").status_code == 405
    metrics = client.get("/metrics").text
    assert "BREW" not in metrics
    assert 'method="other",route="/predict",status="405"' in metrics


def test_figures_count_requests_pictures_and_batches(model: Path) -> None:
    with serving(model) as client:
        client.post("/predict", files=files(("a.jpg", PICTURE), ("b.jpg", b"broken")))
        client.get("/nobody/knows/this")
        text = client.get("/metrics").text
    assert 'headstart_requests_total{method="POST",route="/predict",status="200"} 1.0' in text
    assert 'headstart_requests_total{method="other",route="other",status="404"} 1.0' in text
    assert 'headstart_pictures_total{model="insects",outcome="answered"} 1.0' in text
    assert 'headstart_pictures_total{model="insects",outcome="unreadable"} 1.0' in text
    assert "headstart_queue_pictures 0.0" in text
    assert "process_resident_memory_bytes" in text


def test_a_failure_of_ours_is_500_without_details_and_the_server_goes_on(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = Predictor.run
    with serving(model) as client:
        monkeypatch.setattr(Predictor, "run", lambda *arguments: 1 / 0)
        answer = client.post("/predict", content=PICTURE)
        assert answer.status_code == 500
        assert answer.json() == {"error": "the server failed; its log says how."}
        assert_framed(answer)
        assert 'route="/predict",status="500"} 1.0' in client.get("/metrics").text
        (line,) = capsys.readouterr().err.splitlines()
        failure = json.loads(line)
        assert (failure["event"], failure["id"]) == ("failure", answer.headers["x-request-id"])
        assert "ZeroDivisionError" in failure["traceback"]
        monkeypatch.setattr(Predictor, "run", real)
        assert client.post("/predict", content=PICTURE).status_code == 200
        assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/metrics", "/nothing"])
def test_head_is_get_without_the_body(client: httpx.Client, path: str) -> None:
    full, head = client.get(path), client.head(path)
    assert head.status_code == full.status_code
    assert head.content == b""
    assert head.headers["content-type"] == full.headers["content-type"]
    assert_framed(head)
    assert client.head("/predict").status_code == 405
    assert 'method="HEAD",route="/healthz"' in (client.head("/healthz"), client.get("/metrics"))[1].text


def test_an_event_that_cannot_be_written_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)
    with open(write, "w", encoding="utf-8") as nobody_reads:
        monkeypatch.setattr(sys, "stderr", nobody_reads)
        log.event("request", path="/")
        with pytest.raises(BrokenPipeError):
            print("this is how it would fail", file=nobody_reads, flush=True)
        monkeypatch.undo()
        null = os.open(os.devnull, os.O_WRONLY)  # closing flushes what could not be written
        os.dup2(null, nobody_reads.fileno())
        os.close(null)


def test_long_lines_of_several_threads_to_a_pipe_stay_lines() -> None:
    read, write = os.pipe()
    standard, found = os.dup(2), []

    def reader() -> None:
        with open(read, "rb") as pipe:
            found.extend(pipe)

    threads = [threading.Thread(target=reader)]
    threads += [
        threading.Thread(target=lambda: [log.event("request", path="x" * 60_000) for _ in range(60)]) for _ in range(3)
    ]
    try:
        os.dup2(write, 2)
        os.close(write)
        with log.only_json():
            for thread in threads:
                thread.start()
            for thread in threads[1:]:
                thread.join(60)
    finally:
        os.dup2(standard, 2)  # the pipe's last writer goes
        os.close(standard)
    threads[0].join(60)
    assert [len(json.loads(line)["path"]) for line in found] == [60_000] * 180


def test_what_is_written_in_parts_is_written_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    parts: list[bytes] = []

    def write(descriptor: int, data: bytes) -> int:
        parts.append(bytes(data[:7]))
        return len(parts[-1])

    monkeypatch.setattr(log, "_own", [1])
    monkeypatch.setattr(log.os, "write", write)
    log.event("request", path="/predict")
    monkeypatch.undo()
    assert json.loads(b"".join(parts))["path"] == "/predict"


def test_a_long_path_is_cut_in_the_log(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(model, access_log=True) as client:
        assert client.get("/" + "x" * 30_000).status_code == 404
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["path"] == "/" + "x" * 1_999
