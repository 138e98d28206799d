"""Novelty: the bank, the score, and the temperature that is folded into a head."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import nn

from headstart.learn.confidence import cooled, looked_at
from headstart.networks.layers import AgainstZero, UnitNorm
from headstart.networks.novelty import MAX_NUMBERS, Novelty, bank_size, choose_bank, held_out_scores


def features(n: int, seed: int, width: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).normal(1, 1, (n, width)).astype(np.float32)


def test_novelty_is_one_minus_the_mean_cosine_with_five_neighbours_as_scikit_learn_finds_them() -> None:
    bank, new = features(50, 1), features(20, 2)
    distances, _ = NearestNeighbors(n_neighbors=5, metric="cosine").fit(bank).kneighbors(new)
    expected = distances.mean(axis=1)
    assert Novelty(torch.from_numpy(bank))(torch.from_numpy(new)).numpy() == pytest.approx(expected, abs=1e-6)
    assert held_out_scores(new, bank) == pytest.approx(expected, abs=1e-6)


def test_a_bank_smaller_than_the_neighbours_uses_all_it_has() -> None:
    bank = features(2, 3)
    assert Novelty(torch.from_numpy(bank))(torch.from_numpy(bank)).shape == (2,)


def test_pictures_of_the_same_unit_do_not_vouch_for_each_other() -> None:
    bank = features(30, 4)
    twice = np.concatenate([bank, bank])  # every picture has an exact copy
    units = np.tile(np.arange(30), 2)
    apart = held_out_scores(twice, twice, units[:, None] == units[None, :])
    copies_count = held_out_scores(twice, twice)
    assert (apart > copies_count).all()
    alone = held_out_scores(bank, bank, np.eye(30, dtype=bool))
    assert apart.min() > 0
    assert apart.mean() <= alone.mean()  # of two copies of each other picture both are neighbours


def test_the_coreset_keeps_something_near_every_row() -> None:
    rows = np.concatenate([features(500, 5), 20 * np.eye(16, dtype=np.float32)])  # 16 rare directions
    kept = choose_bank(rows, 60, seed=0)
    assert len(np.unique(kept)) == 60
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    farthest = (unit @ unit[kept].T).max(axis=1).min()
    random = np.random.default_rng(0).choice(len(rows), 60, replace=False)
    assert farthest > (unit @ unit[random].T).max(axis=1).min()


def test_the_coreset_of_wide_features_keeps_something_near_every_row() -> None:
    rng = np.random.default_rng(4)
    centres = rng.normal(size=(40, 3000)).astype(np.float32)
    # Half of the rows are around one centre: a random choice of 60 leaves some of the others out.
    which = np.concatenate([np.zeros(300, int), np.arange(300) % 40])
    rows = centres[which] + 0.3 * rng.normal(size=(600, 3000)).astype(np.float32)
    kept = choose_bank(rows, 60, seed=0)
    assert set(which[kept]) == set(range(40))
    assert kept.tolist() == choose_bank(rows, 60, seed=0).tolist()


def test_rows_that_are_all_the_same_are_kept_once_each() -> None:
    rows = np.repeat(features(4, 7), 30, axis=0)
    kept = choose_bank(rows, 10, seed=0)
    assert len(np.unique(kept)) == len(kept)
    assert {tuple(row) for row in rows[kept]} == {tuple(row) for row in rows}


def test_the_features_that_the_bank_is_made_from_are_bounded_whatever_their_width() -> None:
    assert looked_at(1280, tuned=False) == 20_000
    assert looked_at(25_088, tuned=False) * 25_088 * 4 <= 400_000_000
    assert looked_at(1280, tuned=True) == 4000  # each of them is a run of the network


def test_the_bank_is_bounded_whatever_the_width() -> None:
    assert bank_size(1280) == 1953
    assert bank_size(512) == 2000
    assert bank_size(25_088) * 25_088 <= MAX_NUMBERS
    assert bank_size(10**7) == 5
    assert choose_bank(features(7, 6), 10, seed=0).tolist() == list(range(7))


@pytest.mark.parametrize(
    "head",
    [
        nn.Linear(6, 3),
        nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3)),
        nn.Sequential(UnitNorm(), nn.Linear(6, 3)),
        nn.Sequential(nn.Linear(6, 1), AgainstZero()),
    ],
    ids=["linear", "mlp", "prototype", "single output"],
)
def test_a_cooled_head_gives_its_logits_divided_by_the_temperature(head: nn.Module) -> None:
    head, x = head.eval(), torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = head(x) / 1.7
        assert torch.allclose(cooled(head, 1.7)(x), expected, atol=1e-6)
        assert torch.allclose(head(x) / 1.7, expected)  # the head itself is as it was
