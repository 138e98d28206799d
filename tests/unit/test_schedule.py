"""Learning rates over time, against torch's own schedulers and closed forms."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from headstart.learn.finetune.schedule import average_decay, factor
from headstart.learn.finetune.settings import TrainingSettings

STEPS, PER_EPOCH = 100, 10


def factors(settings: TrainingSettings, plateau: float = 1.0) -> list[float]:
    return [factor(settings, step, STEPS, PER_EPOCH, plateau) for step in range(STEPS)]


def rates_of(scheduler: type, **arguments: object) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = scheduler(optimizer, **arguments)
    rates = []
    for _ in range(STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def test_cosine_is_that_of_torch() -> None:
    expected = rates_of(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=STEPS)
    assert factors(TrainingSettings(warmup=0)) == pytest.approx(expected, abs=1e-9)


def test_steps_are_those_of_torch_counted_in_epochs() -> None:
    settings = TrainingSettings(schedule="step", warmup=0, step_epochs=3, step_factor=0.1)
    expected = rates_of(torch.optim.lr_scheduler.StepLR, step_size=3 * PER_EPOCH, gamma=0.1)
    assert factors(settings) == pytest.approx(expected)


def test_the_warm_up_rises_in_equal_parts_to_the_peak_and_never_starts_at_nothing() -> None:
    found = factors(TrainingSettings(schedule="constant", warmup=0.2))
    rises = [b - a for a, b in itertools.pairwise(found[:21])]
    assert found[0] == pytest.approx(1 / 21)
    assert rises == pytest.approx([1 / 21] * 20)
    assert set(found[20:]) == {1.0}


def test_cosine_begins_at_the_peak_after_the_warm_up_and_ends_near_nothing() -> None:
    found = factors(TrainingSettings(warmup=0.1))
    assert max(found) == found[10] == 1.0
    assert found[-1] == pytest.approx(0.5 * (1 + math.cos(math.pi * 89 / 90)))
    assert found[10:] == sorted(found[10:], reverse=True)


def test_plateau_has_the_factor_it_has_come_to_and_constant_has_none() -> None:
    assert set(factors(TrainingSettings(schedule="plateau", warmup=0), plateau=0.01)) == {0.01}
    assert set(factors(TrainingSettings(schedule="constant", warmup=0), plateau=0.01)) == {1.0}


def test_a_run_of_one_step_has_a_rate() -> None:
    for schedule in ("cosine", "step", "plateau", "constant"):
        assert factor(TrainingSettings(schedule=schedule), 0, 1, 1) == 1.0


def test_the_decay_of_averaged_weights_rises_to_what_is_asked_for_and_stays_there() -> None:
    # What TensorFlow's documentation of ExponentialMovingAverage says of `num_updates`.
    decays = [average_decay(0.9, step) for step in range(200)]
    assert decays[:3] == pytest.approx([1 / 10, 2 / 11, 3 / 12])
    assert decays[79] < 0.9
    assert set(decays[80:]) == {0.9}


@pytest.mark.parametrize("ema", [0.9, 0.99, 0.999])
def test_averaged_weights_leave_their_start_behind_within_the_steps_of_a_small_data_set(ema: float) -> None:
    left = math.prod(average_decay(ema, step) for step in range(75))
    assert left < 1e-3
