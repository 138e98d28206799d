"""Confidence that means something: temperature, prediction sets and novelty, fitted on pictures that were held out."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from headstart.core.calibration import (
    alarm_threshold,
    at_temperature,
    calibration_error,
    fit_temperature,
    prediction_sets,
    set_threshold,
)
from headstart.core.intervals import proportion
from headstart.core.labels import choose_thresholds
from headstart.core.metrics import mean_evaluation
from headstart.core.outcomes import Outcomes
from headstart.core.progress import Progress
from headstart.learn.features.engines import choose_device
from headstart.learn.features.extract import backbone_graph, extract
from headstart.learn.setup import Setup
from headstart.learn.trained import Trained
from headstart.networks import tensor_hash
from headstart.networks.export import Classifier
from headstart.networks.novelty import NEIGHBOURS, Novelty, bank_size, choose_bank, held_out_scores

# Of the training pictures so many are looked at; more do not make the bank better, and their features need memory.
MAX_LOOKED_AT = 20_000
# So many numbers of them at most (400 MB); and a tuned network has to compute them first.
MAX_NUMBERS_LOOKED_AT, MAX_COMPUTED = 100_000_000, 4000
# With fewer held-out pictures a temperature would be noise.
MIN_FOR_TEMPERATURE = 10


@dataclass(frozen=True, eq=False)
class Confident:
    """A trained network that knows how sure it is.

    Attributes:
        trained: As before, its network calibrated and with a bank, its figures on validation those of this network.
        temperature: What the logits are divided by.
        told: What `model.json` holds under `confidence`; see `describe_test` for what the test adds.
    """

    trained: Trained
    temperature: float
    told: dict[str, Any]


def make_confident(
    setup: Setup, trained: Trained, *, coverage: float, false_alarm_rate: float, progress: Progress
) -> Confident:
    """Return the network with its temperature folded in and a bank of training pictures, and the thresholds.

    Args:
        setup: What was learned from and built on; the backbone is as trained, and its features of the training pictures
            make the bank.
        trained: What was learned.
        coverage: Share of new pictures whose true class shall be in their prediction set.
        false_alarm_rate: Share of new pictures of the known classes that may be called unknown.
        progress: Is shown the features that are computed.
    """
    told: dict[str, Any] = {"temperature": 1.0}
    backbone, seed = setup.backbone, setup.seed
    temperature, judged_by = 1.0, trained.crossed or trained.held_out
    if setup.prepared.dataset.several_labels:
        trained, told = _with_thresholds(trained, judged_by, seed)
    elif judged_by is not None and len(judged_by.targets) >= MIN_FOR_TEMPERATURE:
        temperature = fit_temperature(judged_by.targets, judged_by.probabilities)
        calm = at_temperature(judged_by.probabilities, temperature)
        threshold = set_threshold(judged_by.targets, calm, coverage)
        told |= {"temperature": temperature, "n": len(calm)}
        told["conformal"] = {"coverage": coverage, "threshold": threshold, "n": len(calm)}
        cool = _at(trained, temperature, seed)
        if trained.repeats:
            told["cross_validation"] = {"before": _over(trained.repeats, seed), "after": _over(cool.repeats, seed)}
        trained = cool
    head = cooled(trained.network.head, temperature)
    if trained.tuned:  # other weights, so other features: they have a space of their own in the cache
        backbone = replace(backbone, weights=replace(backbone.weights, identity=tensor_hash(backbone.network)))
        if choose_device(setup.features.device) == "cpu":
            trained = replace(trained, graph=backbone_graph(backbone))
    with progress.step("novelty"):
        bank, scores = _familiar(replace(setup, backbone=backbone), trained, progress)
    told["novelty"] = {
        "neighbours": min(NEIGHBOURS, len(bank)),
        "bank": len(bank),
        "false_alarm_rate": false_alarm_rate,
        "threshold": alarm_threshold(scores, false_alarm_rate),
        "n": len(scores),
        "weights": backbone.weights.identity,  # names the space of these features in the cache
    }
    bank_of = Novelty(torch.from_numpy(bank))
    network = Classifier(trained.network.backbone, head, bank_of, trained.network.activation)
    return Confident(replace(trained, network=network), temperature, told)


def looked_at(width: int, *, tuned: bool) -> int:
    """Return how many training pictures, and how many validation pictures, the bank and its threshold are made from."""
    return max(NEIGHBOURS, min(MAX_COMPUTED if tuned else MAX_LOOKED_AT, MAX_NUMBERS_LOOKED_AT // width))


def _some(rows: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return at most so many of the rows, chosen by the seed, in order."""
    return rows if len(rows) <= count else np.sort(np.random.default_rng(seed).choice(rows, count, replace=False))


def cooled(head: nn.Module, temperature: float) -> nn.Module:
    """Return a copy of a head whose logits are divided by the temperature: its last linear layer is."""
    made = copy.deepcopy(head)
    if temperature != 1.0:
        last = [module for module in made.modules() if isinstance(module, nn.Linear)][-1]
        with torch.no_grad():
            last.weight.div_(temperature)
            last.bias.div_(temperature)
    return made


def describe_test(told: dict[str, Any], outcomes: Outcomes | None, temperature: float, seed: int) -> dict[str, Any]:
    """Return what `model.json` holds under `confidence`, with what the test pictures show of it.

    Args:
        told: Of `Confident`.
        outcomes: What the saved model said of the test pictures; None where there is no test.
        temperature: Folded into the saved model.
        seed: Of the bootstrap.
    """
    if outcomes is None:
        return told
    targets, after = outcomes.targets, outcomes.probabilities
    found = dict(told)
    if not outcomes.several_labels:
        before = at_temperature(after, 1 / temperature)
        found["test"] = {
            when: _over([replace(outcomes, probabilities=named)], seed)
            for when, named in (("before", before), ("after", after))
        }
    if "conformal" in told:
        inside = prediction_sets(after, told["conformal"]["threshold"])
        covered, low, high = proportion(inside[np.arange(len(targets)), targets], outcomes.units)
        found["conformal"] = {
            **told["conformal"],
            "test_coverage": {"value": covered, "low": low, "high": high},
            "mean_size": float(inside.sum(axis=1).mean()),
        }
    threshold = told["novelty"]["threshold"]
    if outcomes.novelty is not None and threshold is not None:
        alarms, low, high = proportion(outcomes.novelty > threshold, outcomes.units)
        found["novelty"] = {**told["novelty"], "test_alarms": {"value": alarms, "low": low, "high": high}}
    return found


def _with_thresholds(trained: Trained, judged_by: Outcomes | None, seed: int) -> tuple[Trained, dict[str, Any]]:
    """Return the same with a threshold for each label, chosen on pictures that were held out, and what is told of them.

    Their probabilities stay as the head gives them: a logistic regression against the rest is fitted to be calibrated.
    """
    told: dict[str, Any] = {"temperature": 1.0}
    if judged_by is None or trained.held_out is None:
        return trained, told
    cuts = choose_thresholds(judged_by.targets, judged_by.probabilities)
    by_name = dict(zip(judged_by.classes, cuts.tolist(), strict=True))
    told["labels"] = {"thresholds": by_name, "chosen_by": "F1", "n": len(judged_by.targets)}
    return _judged_anew(trained, lambda said: replace(said, thresholds=cuts), seed), told


def _at(trained: Trained, temperature: float, seed: int) -> Trained:
    """Return the same with all that was said of held-out pictures, and the figures, as they are at this temperature."""

    def cool(said: Outcomes) -> Outcomes:
        return replace(said, probabilities=at_temperature(said.probabilities, temperature).astype(np.float32))

    return _judged_anew(trained, cool, seed)


def _judged_anew(trained: Trained, change: Callable[[Outcomes], Outcomes], seed: int) -> Trained:
    """Return the same with what was said of held-out pictures changed, and the figures made from it again."""
    if trained.held_out is None:
        return trained
    said, repeats = change(trained.held_out), tuple(map(change, trained.repeats))
    return replace(
        trained,
        held_out=said,
        repeats=repeats,
        validation=trained.validation and said.evaluate(seed),
        cross_validation=trained.cross_validation and mean_evaluation([one.evaluate(seed) for one in repeats]),
    )


def _over(repeats: Sequence[Outcomes], seed: int) -> dict[str, float]:
    """Return calibration error and log loss, the means over the repeats."""
    return {
        "ece": float(np.mean([calibration_error(one.targets, one.probabilities) for one in repeats])),
        "log_loss": float(np.mean([one.evaluate(seed).figures["log_loss"].value for one in repeats])),
    }


def _familiar(setup: Setup, trained: Trained, progress: Progress) -> tuple[np.ndarray, np.ndarray]:
    """Return the bank, float32 `(m, d)`, and the novelty of pictures of the known classes that are not in it.

    A frozen backbone has not learned from any picture: where the bank holds all training pictures, each of them is
    judged by the others (without its duplicates and its group) beside the validation pictures. A tuned one knows its
    training pictures better than new ones, so only the validation pictures count.
    """
    prepared, tuned, seed = setup.prepared, trained.tuned, setup.seed
    split = prepared.split
    learned = np.arange(len(prepared.records)) if prepared.cross_validate else split.train
    most = looked_at(setup.backbone.num_features, tuned=tuned)
    learned = _some(learned, most, seed)
    held_out = np.zeros(0, np.int64) if prepared.cross_validate else _some(split.validation, most, seed)
    pictures = prepared.pictures(np.concatenate([learned, held_out]))
    # What was refused for the head is not tried, and told, again.
    precision = setup.features.precision if tuned else trained.features["precision"]
    how = replace(setup.features, views=1, precision=precision)
    features = extract(pictures, setup.backbone, how, progress=progress).read()[:, 0]
    known, new = features[: len(learned)], features[len(learned) :]
    kept = choose_bank(known, bank_size(known.shape[1]), seed)
    bank = known[kept]
    scores = [held_out_scores(new, bank)] if len(new) else []
    if not tuned and len(kept) == len(known) > 1:
        units = split.units[learned]
        scores.append(held_out_scores(known, bank, units[:, None] == units[None, :]))
    return bank, np.concatenate(scores) if scores else np.zeros(0, np.float32)
