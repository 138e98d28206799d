"""What paths are called."""

from __future__ import annotations

import pytest

from headstart.core.text import below, short_name


@pytest.mark.parametrize(
    ("path", "name"),
    [("/home/me/data/ants/1.jpg", "ants/1.jpg"), ("ants/1.jpg", "ants/1.jpg"), ("1.jpg", "1.jpg"), ("a//b/1", "b/1")],
)
def test_a_short_name_has_the_last_two_parts_of_a_path(path: str, name: str) -> None:
    assert short_name(path) == name


@pytest.mark.parametrize(
    ("path", "base", "name"),
    [
        ("/data/ants/1.jpg", "/data", "ants/1.jpg"),
        ("/data/ants/1.jpg", "/data/", "ants/1.jpg"),
        ("/data/ants/1.jpg", "/", "data/ants/1.jpg"),
        ("/data/ants/1.jpg", "/dat", "/data/ants/1.jpg"),
        ("/data/ants/1.jpg", "/other", "/data/ants/1.jpg"),
        ("/data", "/data", "/data"),
        ("/data/ants/1.jpg", "", "/data/ants/1.jpg"),
        ("ants/1.jpg", "ants", "1.jpg"),
    ],
)
def test_a_path_below_a_folder_goes_on_from_there_and_any_other_stays(path: str, base: str, name: str) -> None:
    assert below(path, base) == name
