"""What the environment may say: sizes, and errors that name the variable."""

import pytest

from headstart.core import settings
from headstart.core.errors import SettingError


@pytest.mark.parametrize(
    ("text", "number"),
    [("20G", 20_000_000_000), ("1.5 MB", 1_500_000), ("4KiB", 4096), ("1000", 1000), ("2t", 2 * 10**12)],
)
def test_sizes_are_read_as_they_are_shown(text: str, number: int) -> None:
    assert settings.parse_size(text) == number


def test_the_default_limit_is_shown_as_a_round_number() -> None:
    from headstart.cli.console import size

    assert size(settings.DEFAULT_CACHE_LIMIT) == "20.0 GB"


def test_a_limit_that_is_no_size_names_its_variable(monkeypatch) -> None:
    monkeypatch.setenv("HEADSTART_CACHE_LIMIT", "plenty")
    with pytest.raises(SettingError, match="HEADSTART_CACHE_LIMIT.*plenty"):
        settings.cache_limit()
