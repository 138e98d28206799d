"""What fine-tuning in a comparison costs, and which of it a budget allows."""

from __future__ import annotations

import math

from headstart.core.progress import Progress
from headstart.learn.compare.comparison import Choice
from headstart.learn.compare.ground import Extracted
from headstart.learn.compare.score import FINETUNE_REPEATS, prepared_fold
from headstart.learn.finetune.estimate import seconds_needed
from headstart.learn.finetune.settings import TrainingSettings
from headstart.learn.finetune.task import make_course
from headstart.learn.heads import make_head


def afford(
    seen: Extracted, choices: list[Choice], allowed: float | None, progress: Progress
) -> tuple[list[Choice], list[tuple[Choice, str]]]:
    """Say what fine-tuning will cost, and return what the budget allows and what it does not, with the reason.

    Args:
        seen: The pictures as the backbones see them.
        choices: Those that are fine-tuned, in the order in which the budget is spent.
        allowed: Seconds for all of them; None is no limit.
        progress: Is shown the step, and told what each takes.
    """
    affordable: list[Choice] = []
    left_out: list[tuple[Choice, str]] = []
    costs: dict[str, float] = {}
    spent, fits = 0.0, FINETUNE_REPEATS * seen.ground.folds
    for choice in choices:
        with progress.step("estimate fine-tuning"):
            if choice.backbone not in costs:  # a head costs next to nothing
                left = math.inf if allowed is None else max(0.0, allowed - spent)
                costs[choice.backbone] = fits * _seconds(seen, choice, left / fits)
        needed = costs[choice.backbone]
        if allowed is not None and spent + needed > allowed:
            left_out.append((choice, f"it would take about {needed:.0f} s, more than is left of the budget"))
            progress.note(f"{choice.name} is left out: {left_out[-1][1]} of {allowed:.0f} s.")
            continue
        spent += needed
        affordable.append(choice)
        progress.note(f"{choice.name} takes about {needed:.0f} s of training ({fits} fits); a budget sets a limit.")
    return affordable, left_out


def _seconds(seen: Extracted, choice: Choice, allowed: float) -> float:
    """Return about how long one fold of fine-tuning takes, of which so many seconds are there for it."""
    ground, backbone, x = seen.ground, seen.backbones[choice.backbone], seen.features[choice.backbone]
    (inside, outside), classes = ground.parts[0], len(ground.prepared.dataset.classes)
    fitted = make_head(choice.head).fit(
        x[inside], ground.targets[inside], classes, groups=ground.units[inside], seed=ground.seed
    )
    prepared = prepared_fold(ground, inside, outside, 0)
    train, validation = prepared.pictures(prepared.split.train), len(prepared.split.validation)
    course = make_course(backbone, TrainingSettings(), seen.how, len(train))
    return seconds_needed(backbone, fitted.module, course, train, validation, allowed)
