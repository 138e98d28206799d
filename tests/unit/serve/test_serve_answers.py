"""The server's answers over real connections: they are the predictor's, and described."""

from __future__ import annotations

import asyncio
import base64
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from odd_pictures import encoded, gradient, odd_pictures
from PIL import Image
from serving import PICTURE, files, serving
from tiny_models import CLASSES, write_model

from headstart.core import artifact
from headstart.core.predictor import Predictor
from headstart.core.runtime import Network
from headstart.use.serve.bodies import display_name
from headstart.use.serve.pool import Pool


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
            await asyncio.to_thread(pool.close, 30)

    first, second, third = asyncio.run(ask())
    assert isinstance(second, ZeroDivisionError)
    assert first["probabilities"].shape == third["probabilities"].shape == (3,)


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
