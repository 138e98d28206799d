from __future__ import annotations

import base64
import os
from io import BytesIO
from pathlib import Path

import jinja2
import numpy as np
import pytest
from conftest import draw
from PIL import Image

from headstart.core.errors import ImageError
from headstart.use.page import picture_uri, render, thumbnail_or_none, thumbnail_uri

TEMPLATE = """{% extends "base.html" %}{% from "parts.html" import card, tile %}
{% block title %}{{ name }}{% endblock %}
{% block content %}<h1 title="{{ name }}">{{ name }}</h1>
{% call card(address, name) %}<span>{{ name }}</span>{% endcall %}{{ tile(3, name) }}{% endblock %}"""


def page(folder: Path, name: str, address: str = "") -> str:
    (folder / "page.html").write_text(TEMPLATE)
    return render("page.html", folder, name=name, address=address)


def shown_picture(uri: str) -> Image.Image:
    kind, _, data = uri.partition(",")
    assert kind == "data:image/webp;base64"
    return Image.open(BytesIO(base64.b64decode(data, validate=True)))


def test_names_are_escaped_wherever_they_stand(tmp_path: Path) -> None:
    html = page(tmp_path, "<script>alert('1')</script> \" & cats")
    assert "<script>" not in html
    assert html.count("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt; &#34; &amp; cats") == 5


def test_a_name_that_is_not_utf8_or_turns_the_text_around_can_be_written(tmp_path: Path) -> None:
    html = page(tmp_path, os.fsdecode(b"caf\xe9") + "\u202egpj.exe")
    html.encode("utf-8")
    assert r"caf\xe9\u202egpj.exe" in html


def test_a_value_that_was_forgotten_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("{{ forgotten }}")
    with pytest.raises(jinja2.UndefinedError, match="forgotten"):
        render("page.html", tmp_path)


def test_the_page_forbids_every_request_and_names_no_address(tmp_path: Path) -> None:
    html = page(tmp_path, "cats")
    assert "default-src 'none'" in html
    assert "http:" not in html
    assert "https:" not in html
    assert "url(" not in html


@pytest.mark.parametrize(
    ("size", "expected"), [((600, 400), (128, 85)), ((40, 30), (40, 30)), ((3000, 1), (128, 1)), ((1, 1), (1, 1))]
)
def test_a_thumbnail_keeps_its_shape_and_is_never_enlarged(
    size: tuple[int, int], expected: tuple[int, int], tmp_path: Path
) -> None:
    Image.new("RGB", size, "red").save(tmp_path / "a.png")
    picture = shown_picture(thumbnail_uri(tmp_path / "a.png"))
    assert picture.size == expected
    assert np.abs(np.asarray(picture.convert("RGB"), int).mean(axis=(0, 1)) - [255, 0, 0]).max() < 6


def test_a_thumbnail_is_the_picture_turned_as_its_exif_says(tmp_path: Path) -> None:
    image = Image.fromarray(draw("dots", (120, 240), 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif, quality=95)
    small = shown_picture(thumbnail_uri(tmp_path / "a.jpg", side=60)).convert("RGB")
    assert small.size == (30, 60)
    turned = [image.rotate(angle, expand=True).resize((30, 60), Image.Resampling.BOX) for angle in (90, -90, 0, 180)]
    turned += [one.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for one in turned]
    distances = [np.abs(np.asarray(small, float) - np.asarray(one, float)).mean() for one in turned]
    assert np.argmin(distances) == 1  # 6 is a quarter turn clockwise
    assert distances[1] < 0.5 * sorted(distances)[1]


def test_a_broken_picture_is_an_image_error(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(ImageError, match="known format"):
        thumbnail_uri(tmp_path / "a.jpg")


def test_a_picture_that_may_be_broken_has_its_thumbnail_or_none(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    assert thumbnail_or_none(tmp_path / "a.jpg") is None
    assert thumbnail_or_none(tmp_path / "absent.jpg") is None
    Image.fromarray(draw("dots", (120, 240), 0)).save(tmp_path / "b.png")
    assert thumbnail_or_none(tmp_path / "b.png") == thumbnail_uri(tmp_path / "b.png")
    assert thumbnail_or_none(tmp_path / "b.png", 60) == thumbnail_uri(tmp_path / "b.png", 60)


def test_pixels_become_a_picture_of_the_same_size() -> None:
    pixels = draw("stripes", (50, 70), 1)
    assert shown_picture(picture_uri(pixels)).size == (70, 50)
