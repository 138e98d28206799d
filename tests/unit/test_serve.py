"""The server over real connections: its answers are the predictor's, and whoever asks too much is told so."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from odd_pictures import encoded, gradient, odd_pictures
from PIL import Image
from serving import CLASSES, serving, write_model

from headstart.core import artifact
from headstart.core.errors import ModelError, SettingError
from headstart.core.predictor import Predictor
from headstart.core.replacing import new_folder
from headstart.core.runtime import Network
from headstart.use.exporters import exporter
from headstart.use.exporters.contract import How
from headstart.use.serve import guards, heat
from headstart.use.serve.bodies import display_name
from headstart.use.serve.limits import Limits
from headstart.use.serve.models import Models
from headstart.use.serve.pool import Pool

PICTURE = encoded(Image.fromarray(gradient()), "JPEG")
KEY = "a-key-of-more-than-16"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "insects")


@pytest.fixture(scope="module")
def client(model: Path) -> Iterator[httpx.Client]:
    with serving(model) as client:
        yield client


def test_a_picture_that_fails_in_an_unforeseen_way_fails_alone(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = Predictor.run

    def run(self: Predictor, pictures: Sequence[bytes], network: Network) -> Any:
        if PICTURE in pictures:
            raise ZeroDivisionError("nobody thought of this")
        return genuine(self, pictures, network)

    monkeypatch.setattr(Predictor, "run", run)
    predictor = artifact.load(model)
    other = encoded(Image.fromarray(gradient()), "PNG")

    async def ask() -> list[Any]:
        pool = Pool(1, 8, 10**7)
        try:
            futures = pool.submit(predictor, [other, PICTURE, other])
            return await asyncio.gather(*futures, return_exceptions=True)
        finally:
            await asyncio.to_thread(pool.close)

    first, second, third = asyncio.run(ask())
    assert isinstance(second, ZeroDivisionError)
    assert first["probabilities"].shape == third["probabilities"].shape == (3,)


def test_words_that_clients_make_up_as_methods_do_not_fill_the_metrics(client: httpx.Client) -> None:
    for method in ("BREW", "WHEN"):
        assert client.request(method, "/predict").status_code == 405
    metrics = client.get("/metrics").text
    assert "BREW" not in metrics
    assert 'method="other",route="/predict",status="405"' in metrics


def test_a_new_model_that_fails_in_an_unforeseen_way_is_refused_and_the_next_one_is_picked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headstart.use.serve.app.RELOAD_SECONDS", 0.01)
    folder = write_model(tmp_path / "birds")
    genuine = artifact.load
    failures = iter([ZeroDivisionError("nobody thought of this")])

    def load(*arguments: Any, **options: Any) -> Predictor:
        for failure in failures:
            raise failure
        return genuine(*arguments, **options)

    def comes(outcome: str) -> bool:
        for _ in range(1000):
            if f'outcome="{outcome}"}} 1.0' in client.get("/metrics").text:
                return True
            time.sleep(0.01)
        return False

    with serving(folder, reload=True) as client:
        monkeypatch.setattr(artifact, "load", load)
        os.utime(folder / "model.json", ns=(1, 1))
        assert comes("refused")
        os.utime(folder / "model.json", ns=(2, 2))
        assert comes("picked up")


@pytest.mark.parametrize("form", ["onnx", "openvino", "bundle"])
def test_a_new_export_is_seen_and_picked_up_and_a_half_written_one_is_not(form: str, tmp_path: Path) -> None:
    folder = tmp_path / "birds"

    def export(classes: tuple[str, ...], seed: int) -> None:
        predictor = artifact.load(write_model(tmp_path / f"model-{seed}", classes=classes, seed=seed))
        with new_folder(folder) as made:
            exporter(form).export(predictor, made, How())

    export(CLASSES, 0)
    models = Models([str(folder)])
    assert models.changed() == []
    export(("crow", "wren"), 1)
    (old,) = models.changed()
    assert models.reload(old).predictor.classes == ("crow", "wren")
    assert models.changed() == []
    assert models.get("birds") is not old
    if sys.platform == "linux":  # whoever writes over a file that is mapped ends the process
        assert str(folder) not in Path("/proc/self/maps").read_text()
    for weights in folder.rglob("model.bin"):
        weights.write_bytes(weights.read_bytes()[:-1])
        (old,) = models.changed()
        with pytest.raises(ModelError, match="Export the model again"):
            models.reload(old)
    shutil.rmtree(folder)
    assert models.changed() == []


def files(*pictures: tuple[str, bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("files", one) for one in pictures]


def test_answers_are_those_of_the_predictor_on_every_odd_picture(client: httpx.Client, model: Path) -> None:
    pictures = odd_pictures()
    expected = artifact.load(model).predict_proba(list(pictures.values()))
    answer = client.post("/predict", files=files(*pictures.items()))
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [result["path"] for result in results] == list(pictures)
    for result, row in zip(results, expected, strict=True):
        assert result["label"] == CLASSES[int(row.argmax())]
        assert result["probabilities"] == pytest.approx(dict(zip(CLASSES, row.tolist(), strict=True)), abs=1e-5)


@pytest.mark.parametrize(
    "kind", ["image/jpeg", "application/octet-stream", "application/x-www-form-urlencoded", "text/html"]
)
def test_a_raw_body_is_a_picture_whatever_its_type_says(client: httpx.Client, kind: str) -> None:
    several = client.post("/predict", files=files(("a.jpg", PICTURE))).json()["results"][0]
    answer = client.post("/predict", content=PICTURE, headers={"content-type": kind})
    assert answer.status_code == 200
    (result,) = answer.json()["results"]
    assert result["probabilities"] == several["probabilities"]
    assert result["path"] == "picture 0"


def test_a_broken_picture_is_told_with_the_sentence_of_the_command_line(client: httpx.Client, model: Path) -> None:
    broken = {"text.jpg": b"no picture", "cut.jpg": PICTURE[: len(PICTURE) // 2], "empty.png": b""}
    sentences = [one.error for one in artifact.load(model).stream(broken.values())]
    for (name, data), sentence in zip(broken.items(), sentences, strict=True):
        answer = client.post("/predict", files=files((name, data)))
        assert answer.status_code == 422
        assert answer.json()["error"] == f"{name}: {sentence}"
        assert answer.json()["results"] == [{"path": name, "error": sentence}]
    mixed = client.post("/predict", files=files(*broken.items(), ("good.jpg", PICTURE)))
    assert mixed.status_code == 200
    assert [result.get("error") for result in mixed.json()["results"]] == [*sentences, None]


def test_top_and_model_are_chosen_by_the_query_and_what_is_wrong_there_is_told(model: Path, tmp_path: Path) -> None:
    other = write_model(tmp_path / "birds", classes=("crow", "wren"), seed=1)
    with serving(model, other) as client:
        first = client.post("/predict?top=1", content=PICTURE).json()
        assert first["model"] == "insects"
        assert len(first["results"][0]["probabilities"]) == 1
        second = client.post("/predict", params={"model": "birds"}, content=PICTURE).json()
        assert set(second["results"][0]["probabilities"]) == {"crow", "wren"}
        for query, status, word in (("model=fish", 404, "'birds'"), ("top=0", 422, "top"), ("tpo=1", 422, "tpo")):
            refused = client.post(f"/predict?{query}", content=PICTURE)
            assert refused.status_code == status
            assert word in refused.json()["error"]
        assert [one["name"] for one in client.get("/models").json()["models"]] == ["insects", "birds"]
        assert client.get("/model?model=birds").json()["classes"] == ["crow", "wren"]


def test_a_heat_map_is_the_picture_with_the_heat_that_explain_finds(client: httpx.Client, model: Path) -> None:
    from headstart.use.explain.explanation import explain_pictures

    answer = client.post("/predict?heat_map=true", files=files(("a.jpg", PICTURE), ("b.jpg", b"broken")))
    first, second = answer.json()["results"]
    png = base64.b64decode(first["heat_map"].removeprefix("data:image/png;base64,"))
    (expected,) = explain_pictures(artifact.load(model), [PICTURE], method="occlusion")
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), expected.overlay())
    assert "heat_map" not in second
    assert "heat_map" not in client.post("/predict", content=PICTURE).json()["results"][0]
    large = encoded(Image.fromarray(gradient(900, 1200)), "PNG")
    png = client.post("/predict?heat_map=true", content=large).json()["results"][0]["heat_map"].split(",")[1]
    assert Image.open(io.BytesIO(base64.b64decode(png))).size == (640, 480)
    assert client.post("/predict?heat_map=true", files=files(*[("a.jpg", PICTURE)] * 5)).status_code == 413


def test_heat_maps_beyond_their_queue_are_503(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = threading.Event()
    monkeypatch.setattr(heat, "heat_map", lambda predictor, picture: opened.wait(30) and "data:,")
    with serving(model) as client, ThreadPoolExecutor(2) as threads:
        four = files(*[("a.jpg", PICTURE)] * 4)
        sent = [threads.submit(client.post, "/predict?heat_map=true", files=four) for _ in range(2)]
        until(lambda: client.app.state.service.heat._waiting == 8)
        assert client.post("/predict?heat_map=true", content=PICTURE).status_code == 503
        assert client.post("/predict", content=PICTURE).status_code == 200
        opened.set()
        assert {one.result().status_code for one in sent} == {200}


def test_two_models_of_one_name_and_a_folder_without_a_model_are_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="called 'insects'"):
        Models([str(model), str(model)])
    assert [one.name for one in Models([str(model), f"more={model}"])] == ["insects", "more"]
    with pytest.raises(ModelError, match="no model folder"):
        Models([str(tmp_path)])


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("multipart", [False, True])
def test_a_body_above_the_limit_is_413_however_it_is_sent(model: Path, multipart: bool, chunked: bool) -> None:
    request = httpx.Request("POST", "http://any/", files=files(("a.bmp", bytes(150_000))))
    body, kind = (request.read(), request.headers["content-type"]) if multipart else (bytes(150_000), "image/bmp")

    def pieces() -> Iterator[bytes]:
        yield from (body[start : start + 10_000] for start in range(0, len(body), 10_000))

    with serving(model, limits={"body": 100_000}) as client:
        answer = client.post("/predict", content=pieces() if chunked else body, headers={"content-type": kind})
        assert answer.status_code == 413
        assert "100,000 bytes" in answer.json()["error"]
        assert client.post("/predict", content=PICTURE).status_code == 200
        assert client.app.state.service.bodies.held == 0


def test_a_body_that_is_too_large_is_refused_before_the_rest_of_it_is_sent(model: Path) -> None:
    with serving(model, limits={"body": 100_000}) as client:
        address = urlsplit(str(client.base_url))
        with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
            connection.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
            connection.sendall(b"%x\r\n%s\r\n" % (200_000, bytes(200_000)))  # and no end
            assert b" 413 " in connection.recv(4096)


def test_too_many_pictures_and_too_many_pixels_are_told(model: Path) -> None:
    with serving(model, limits={"files": 2, "pixels": 10_000}) as client:
        answer = client.post("/predict", files=files(*[("a.jpg", PICTURE)] * 3))
        assert answer.status_code == 413
        assert "more than 2 pictures" in answer.json()["error"]
        large = client.post("/predict", content=PICTURE)
        assert large.status_code == 422
        assert "160 x 120 pixels; at most 0.01 megapixels" in large.json()["error"]


@pytest.mark.parametrize(
    ("body", "kind", "status", "word"),
    [
        (b"", "image/jpeg", 400, "empty"),
        (b"--x\r\n", "multipart/form-data", 400, "boundary"),
        (b"nothing of the kind", "multipart/form-data; boundary=x", 400, "damaged"),
        (
            b'--x\r\nContent-Disposition: form-data; name="files"\r\n\r\nabc',
            "multipart/form-data; boundary=x",
            400,
            "cut off",
        ),
        (
            b'--x\r\nContent-Disposition: form-data; name="other"\r\n\r\nabc\r\n--x--\r\n',
            "multipart/form-data; boundary=x",
            400,
            "'files'",
        ),
        (b"--x--\r\n", "multipart/form-data; boundary=x", 400, "'files'"),
        (b"x", f"multipart/form-data; boundary={'b' * 5000}", 400, "damaged"),
    ],
)
def test_a_body_that_is_not_what_it_says_is_400(
    client: httpx.Client, body: bytes, kind: str, status: int, word: str
) -> None:
    answer = client.post("/predict", content=body, headers={"content-type": kind})
    assert answer.status_code == status
    assert word in answer.json()["error"]


def test_a_compressed_body_is_415(client: httpx.Client) -> None:
    assert client.post("/predict", content=PICTURE, headers={"content-encoding": "gzip"}).status_code == 415


def test_nothing_is_written_opened_or_connected_to_for_a_request(client: httpx.Client) -> None:
    client.post("/predict", content=PICTURE)  # what is imported late has been
    seen: list[str] = []
    watching = True

    def hook(event: str, arguments: tuple) -> None:
        if watching and event in ("open", "os.mkdir", "tempfile.mkstemp", "subprocess.Popen", "socket.getaddrinfo"):
            seen.append(f"{event} {arguments[:1]}")

    sys.addaudithook(hook)  # cannot be taken away again, hence the flag
    large = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (1200, 1500, 3), np.uint8)), "PNG")
    assert len(large) > 3_000_000
    lying = [("/etc/passwd", b"/etc/passwd"), ("http://localhost/a.jpg", b"http://localhost/a.jpg"), ("..", b"<svg/>")]
    try:
        assert client.post("/predict", files=files(("large.png", large), *lying)).status_code == 200
    finally:
        watching = False
    assert seen == []


def test_names_that_clients_send_are_shown_without_folders_and_control_letters() -> None:
    assert display_name(b"../../etc/passwd") == "passwd"
    assert display_name(b"C:\\pictures\\a.jpg") == "a.jpg"
    assert display_name("Katze süß.jpg".encode()) == "Katze süß.jpg"
    assert display_name(b"a\x1b[31m\n.jpg") == "a�[31m�.jpg"
    assert len(display_name(b"a" * 5000)) == 200


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """While it is closed, every network waits."""
    opened = threading.Event()
    real = Predictor.run

    def waiting(self: Predictor, *arguments: object) -> object:
        assert opened.wait(30)
        return real(self, *arguments)  # type: ignore[arg-type]

    opened.set()  # models are warmed up
    monkeypatch.setattr(Predictor, "run", waiting)
    yield opened
    opened.set()


def until(condition) -> None:
    """Wait for a condition; what is shown is that it comes, not when."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_full_queue_is_503_with_retry_after_and_what_waited_is_answered(model: Path, gate: threading.Event) -> None:
    with serving(model, limits={"queue": 4, "files": 4}) as client, ThreadPoolExecutor(60) as threads:
        gate.clear()
        pool = client.app.state.service.pool
        sent = []
        while not sent or pool.waiting < 4:
            sent.append(threads.submit(client.post, "/predict", content=PICTURE))
            time.sleep(0.02)
            assert len(sent) < 60
        refused = client.post("/predict", content=PICTURE)
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert "waiting" in refused.json()["error"]
        gate.set()
        statuses = [one.result().status_code for one in sent]
        assert set(statuses) <= {200, 503}
        assert statuses.count(200) >= 4
        assert client.post("/predict", content=PICTURE).status_code == 200


def test_pictures_of_several_requests_run_in_one_batch(model: Path, gate: threading.Event) -> None:
    with serving(model) as client, ThreadPoolExecutor(16) as threads:
        gate.clear()
        service = client.app.state.service
        sent = [threads.submit(client.post, "/predict", content=PICTURE) for _ in range(16)]
        until(lambda: service.pool.waiting >= 8)
        gate.set()
        assert {one.result().status_code for one in sent} == {200}
        batches = service.metrics.registry.get_sample_value("headstart_batch_pictures_count")
        assert batches is not None
        assert batches < 16
        assert service.metrics.registry.get_sample_value("headstart_batch_pictures_sum") == 16


def test_a_late_answer_is_504_and_a_late_body_408(model: Path, gate: threading.Event) -> None:
    with serving(model, limits={"seconds": 0.3}) as client:
        gate.clear()
        late = client.post("/predict", content=PICTURE)
        gate.set()
        assert late.status_code == 504
        address = urlsplit(str(client.base_url))
        with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
            connection.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc")
            assert b" 408 " in connection.recv(4096)
        assert client.post("/predict", content=PICTURE).status_code == 200


def test_bodies_that_are_too_much_together_are_503(model: Path) -> None:
    with serving(model, limits={"body": 100_000, "bodies": 120_000}) as client:
        address = urlsplit(str(client.base_url))
        with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
            connection.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000\r\n\r\n")
            connection.sendall(bytes(80_000))
            until(lambda: client.app.state.service.bodies.held == 80_000)
            refused = client.post("/predict", content=bytes(50_000))
            assert refused.status_code == 503
            assert "retry-after" in refused.headers
        until(lambda: client.app.state.service.bodies.held == 0)
        assert client.post("/predict", content=PICTURE).status_code == 200


def test_without_the_right_key_only_health_is_told(model: Path) -> None:
    with serving(model, keys=guards.Keys([KEY, "another-key-of-the-server"])) as client:
        for given in (None, "Bearer wrong", f"Bearer {KEY}x", f"Basic {KEY}", "Bearer \xfc"):
            headers = {} if given is None else {"authorization": given.encode("latin-1")}
            for method, path in (("POST", "/predict"), ("GET", "/model"), ("GET", "/models"), ("GET", "/metrics")):
                answer = client.request(method, path, headers=headers)
                assert answer.status_code == 401, (path, given)
                assert answer.headers["www-authenticate"] == "Bearer"
        assert client.get("/openapi.json").json()["paths"]["/predict"]["post"]["security"] == [{"HTTPBearer": []}]
        right = {"authorization": f"Bearer {KEY}"}
        assert client.post("/predict", content=PICTURE, headers=right).status_code == 200
        assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200


def test_keys_come_from_a_file_or_the_environment_and_short_ones_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not guards.read_keys(None)
    monkeypatch.setenv("HEADSTART_API_KEYS", f"{KEY}, second-key-of-many")
    assert guards.read_keys(None).accept("second-key-of-many")
    (tmp_path / "keys").write_text(f"# ours\n{KEY}\n")
    assert guards.read_keys(str(tmp_path / "keys")).accept(KEY)
    assert not guards.read_keys(str(tmp_path / "keys")).accept("second-key-of-many")
    for text, word in (("short\n", "fewer than 16"), ("# none\n", "no API key")):
        (tmp_path / "keys").write_text(text)
        with pytest.raises(SettingError, match=word):
            guards.read_keys(str(tmp_path / "keys"))
    with pytest.raises(SettingError, match="cannot be read"):
        guards.read_keys(str(tmp_path / "absent"))


def test_other_hosts_and_pages_of_other_sites_are_refused_unless_allowed(model: Path, client: httpx.Client) -> None:
    for headers in ({"host": "evil.example"}, {"origin": "http://evil.example"}, {"origin": "null"}, {"host": "[::1"}):
        assert client.post("/predict", content=PICTURE, headers=headers).status_code == 403, headers
    own = {"origin": str(client.base_url).rstrip("/")}
    answer = client.post("/predict", content=PICTURE, headers=own)
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers
    site = "https://pictures.example"
    with serving(model, origins=[site], hosts=guards.LOOPBACK | {"models.example"}) as open_client:
        allowed = open_client.post("/predict", content=PICTURE, headers={"origin": site, "host": "models.example"})
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == site
        assert (
            open_client.post("/predict", content=PICTURE, headers={"origin": "https://evil.example"}).status_code == 403
        )


def test_a_page_of_an_allowed_site_can_read_every_answer_and_no_other_page_can(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, other = {"origin": "https://pictures.example"}, {"origin": "https://evil.example"}
    ask = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    with serving(model, origins=[site["origin"]], keys=guards.Keys([KEY])) as client:
        key = {"authorization": f"Bearer {KEY}"}
        monkeypatch.setattr(Predictor, "run", lambda *arguments: 1 / 0)
        for status, headers in (
            (500, key),
            (403, {**key, "host": "evil.example"}),
            (401, {}),
        ):
            answer = client.post("/predict", content=PICTURE, headers={**site, **headers})
            assert answer.status_code == status
            assert answer.headers.get_list("access-control-allow-origin") == [site["origin"]], status
            assert answer.headers["access-control-expose-headers"] == "Retry-After, X-Request-Id"
            assert_framed(answer)
            refused = client.post("/predict", content=PICTURE, headers={**other, **headers})
            assert refused.status_code == 403
            assert "access-control-allow-origin" not in refused.headers
        first = client.options("/predict", headers={**site, **ask})
        assert (first.status_code, first.headers["access-control-allow-origin"]) == (200, site["origin"])
        assert "authorization" in first.headers["access-control-allow-headers"]
        assert client.options("/predict", headers={**other, **ask}).status_code == 403


@pytest.mark.parametrize("origin", ["https://pictures.example", "http://localhost:3000", "http://[::1]:8080"])
def test_an_origin_as_browsers_send_it_may_be_allowed(origin: str) -> None:
    assert guards.check_origins([origin]) == {origin}


@pytest.mark.parametrize(
    "origin",
    ["*", "null", "pictures.example", "https://pictures.example/", "https://Pictures.example", "https://a.example:443"],
)
def test_an_origin_that_no_browser_would_send_is_refused(origin: str) -> None:
    with pytest.raises(SettingError, match="is no origin: give scheme, host"):
        guards.check_origins(["http://localhost:3000", origin])


def assert_framed(answer: httpx.Response) -> None:
    """The headers that every answer has, whatever its status."""
    for name, value in guards.HEADERS.items():
        assert answer.headers.get_list(name) == [value]
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    assert len(answer.headers["x-request-id"]) == 32
    assert "server" not in answer.headers


def test_every_answer_has_the_headers_that_browsers_obey(client: httpx.Client) -> None:
    answers = [
        *(client.get(path) for path in ("/", "/healthz", "/metrics", "/openapi.json", "/nothing")),
        *(client.post(path) for path in ("/predict", "/predict?top=0", "/predict?model=fish")),
        client.put("/predict"),
        client.get("/healthz", headers={"host": "evil.example"}),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 404, 400, 422, 404, 405, 403]
    for answer in answers:
        assert_framed(answer)
    assert client.get("/docs").status_code == client.get("/redoc").status_code == 404


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


def test_the_api_describes_itself_and_its_example_has_the_form_of_an_answer(client: httpx.Client) -> None:
    described = client.get("/openapi.json").json()
    assert {"/predict", "/model", "/models", "/healthz", "/readyz", "/metrics"} <= set(described["paths"])
    post = described["paths"]["/predict"]["post"]
    assert {"multipart/form-data", "application/octet-stream"} <= set(post["requestBody"]["content"])
    assert {"200", "400", "403", "404", "408", "413", "415", "422", "503", "504"} <= set(post["responses"])
    assert "security" not in post  # this server has no keys
    example = post["responses"]["200"]["content"]["application/json"]["example"]
    real = client.post("/predict", files=files(("cat.jpg", PICTURE), ("notes.txt", b"text"))).json()
    assert set(example) == set(real)
    assert [set(one) for one in example["results"]] == [set(one) for one in real["results"]]


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


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"queue": 0}, "queue"),
        ({"files": 65}, "never be answered"),
        ({"pixels": 10**9}, "100,000,000"),
        ({"body": 2**30}, "together"),
    ],
)
def test_limits_that_cannot_work_are_refused(values: dict[str, int], word: str) -> None:
    with pytest.raises(SettingError, match=word):
        Limits(**values)
