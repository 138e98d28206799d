"""Which of the frozen start and the fine-tuned network is kept."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss
from tiny_backbones import tiny_backbone
from torch import nn

from headstart.core.outcomes import Outcomes
from headstart.core.progress import Progress
from headstart.learn.features.extract import FeatureSettings
from headstart.learn.finetune.settings import TrainingSettings
from headstart.learn.finetune.task import Task, make_course
from headstart.learn.heads import ClassWeight, LinearHead
from headstart.learn.methods.choice import Tuned, choose, is_better, score
from headstart.learn.setup import Setup
from headstart.learn.trained import Trained
from headstart.networks.export import Classifier

# Sixteen ants and four bees.
TARGETS = np.array([0] * 16 + [1] * 4)


def said(right: int, of_bees: int, sure: float = 0.9) -> Outcomes:
    """What names so many of the ants right and so many of the bees, all as surely."""
    named = TARGETS.copy()
    named[right:16], named[16 + of_bees :] = 1, 0
    probabilities = np.where(named[:, None] == np.arange(2), sure, 1 - sure).astype(np.float32)
    paths = tuple(f"{row}.jpg" for row in range(len(TARGETS)))
    return Outcomes(("ant", "bee"), paths, TARGETS, probabilities, units=np.arange(len(TARGETS)))


COMMON, RARE = said(16, 0), said(12, 3)


@pytest.mark.parametrize(
    ("class_weight", "bee", "figure", "kept", "test"),
    [
        (None, 1.0, "accuracy", False, "McNemar"),
        ("balanced", 4.0, "balanced_accuracy", True, "permutation"),
        ({1: 10.0}, 10.0, "weighted_accuracy", True, "permutation"),
        ({1: 1.2}, 1.2, "weighted_accuracy", False, "permutation"),
    ],
)
def test_classes_weigh_in_the_choice_what_they_weigh_in_training(
    class_weight: ClassWeight, bee: float, figure: str, kept: bool, test: str, tmp_path: Path
) -> None:
    backbone, progress = tiny_backbone("test_resnet", tmp_path), Progress()
    start = Trained(
        network=Classifier(backbone.network, nn.Linear(backbone.num_features, 2)),
        chosen={},
        validation=COMMON.evaluate(),
        cross_validation=None,
        history=(),
        features={},
        held_out=COMMON,
        crossed=None,
        start=nn.Linear(backbone.num_features, 2),
    )
    setup = Setup(None, backbone, LinearHead(), FeatureSettings(), class_weight)
    task = Task(setup, start, make_course(backbone, TrainingSettings(), FeatureSettings(), 100))
    head, settings = nn.Linear(backbone.num_features, 2), replace(task.course.settings, precision="float32")
    tuned = Tuned(head, RARE, settings, ({"epoch": 1}, {"epoch": 2}), 2, 3, "abc")
    trained = choose(task, copy.deepcopy(backbone.network), tuned, progress)
    assert trained.tuned is trained.gain.kept is kept
    assert trained.network is start.network if not kept else trained.network.head is head
    assert (trained.gain.figure, trained.gain.test) == (figure, test)
    weights = np.where(TARGETS == 1, bee, 1.0)
    for found, network in ((trained.gain.frozen, COMMON), (trained.gain.finetuned, RARE)):
        assert found == pytest.approx(accuracy_score(TARGETS, network.named, sample_weight=weights))
    (note,) = progress.notes
    name = figure.replace("_", " ")
    assert f"validation {name} {trained.gain.frozen:.3f} -> {trained.gain.finetuned:.3f} on 20 pictures ({test}" in note


def test_the_balanced_figure_is_that_of_scikit_learn_though_a_class_has_no_picture_there() -> None:
    three = replace(RARE, classes=("ant", "bee", "cat"), probabilities=np.pad(RARE.probabilities, ((0, 0), (0, 1))))
    for network in (COMMON, RARE, three):
        found = score(network, network.evaluate(), "balanced")
        assert found.value == pytest.approx(balanced_accuracy_score(TARGETS, network.named))
        assert found.value == pytest.approx(network.evaluate().figures["balanced_accuracy"].value)


def test_of_equal_figures_the_surer_one_is_better_and_its_loss_is_weighted_too() -> None:
    weights = np.where(TARGETS == 1, 5.0, 1.0)
    sure, unsure = said(12, 3, 0.8), said(12, 3, 0.6)
    one, two = (score(network, network.evaluate(), {1: 5.0}) for network in (sure, unsure))
    assert one.value == two.value
    for found, network in ((one, sure), (two, unsure)):
        assert found.log_loss == pytest.approx(log_loss(TARGETS, network.probabilities, sample_weight=weights))
    assert is_better(one, two) is (one.log_loss < two.log_loss)
    assert not is_better(one, one)


def test_without_weights_every_picture_counts_alike() -> None:
    found = score(RARE, RARE.evaluate(), None)
    assert found.value == accuracy_score(TARGETS, RARE.named)
    assert found.log_loss == pytest.approx(log_loss(TARGETS, RARE.probabilities))
