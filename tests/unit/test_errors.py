"""Errors that several places raise: their words, and what is proposed for names that do not exist."""

from __future__ import annotations

import pytest

from headstart.core.errors import CacheError, cache_unwritable, unknown_name


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(28, "No space left on device", "/cache/.part"), "No space left on device"),
        (OSError("the disk says nothing more"), "the disk says nothing more"),
        (RuntimeError("unexpected pos 64 vs 0"), "unexpected pos 64 vs 0"),
    ],
)
def test_what_the_cache_does_not_take_is_told_with_the_reason_and_what_to_do(error: Exception, reason: str) -> None:
    told = cache_unwritable("the checkpoint in /cache/runs", error)
    assert isinstance(told, CacheError)
    assert str(told) == (
        f"the checkpoint in /cache/runs cannot be written: {reason}. Free some space or set HEADSTART_CACHE."
    )


BACKBONES = (
    "efficientnet_lite0",
    "mobilenetv3_large_100",
    "resnet18",
    "resnet50",
    "vgg16",
    "vgg16.keras",
    "vit_dinov2",
)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet19", "did you mean 'resnet18'"),
        ("ResNet-50", "did you mean 'resnet50'"),
        ("VGG16", "did you mean 'vgg16' or 'vgg16.keras'?"),
        ("MobileNetV3Large", "did you mean 'mobilenetv3_large_100'"),
        ("dino", "did you mean 'vit_dinov2'"),
    ],
)
def test_names_that_are_near_are_proposed_whatever_their_case(name: str, words: str) -> None:
    assert words in str(unknown_name("backbone", name, BACKBONES, "`headstart models`"))


@pytest.mark.parametrize("name", ["wd", "x", "", "inception", "lr"])
def test_what_is_near_nothing_gets_no_proposal(name: str) -> None:
    told = str(unknown_name("backbone", name, BACKBONES, "`headstart models`"))
    assert told == f"unknown backbone {name!r}: `headstart models` lists all."


def test_of_a_few_names_all_are_told_where_none_is_near() -> None:
    told = str(unknown_name("logger", "wandb", ("tensorboard", "mlflow"), "`headstart fit --help`"))
    assert told == "unknown logger 'wandb': choose one of mlflow, tensorboard."
