"""`compare` on generated pictures and real weights: untouched test pictures, the figures of an own computation."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from headstart.cli import main
from headstart.core.errors import SettingError
from headstart.core.progress import Progress
from headstart.learn.compare import compare
from headstart.learn.compare import run as steps
from headstart.learn.compare import score as scoring
from headstart.learn.features import memory
from headstart.learn.features.extract import extract
from headstart.learn.heads import make_head
from headstart.learn.methods.frozen import probabilities
from headstart.learn.prepare import prepare
from headstart.learn.split import cross_validation_folds
from headstart.networks import load_backbone


@pytest.fixture(scope="module")
def pictures(make_picture, tmp_path_factory) -> Path:
    """Two kinds in three groups of photographers each, listed in a manifest, with near-duplicates by group."""
    folder = tmp_path_factory.mktemp("compare")
    lines = ["path,label,group"]
    for kind in ("dots", "stripes"):
        for index in range(40):
            make_picture(folder / kind / f"{index:03}.jpg", kind, seed=index)
            lines.append(f"{kind}/{index:03}.jpg,{kind},{kind}-{index // 2}")
    (folder / "pictures.csv").write_text("\n".join(lines) + "\n")
    return folder / "pictures.csv"


@pytest.fixture(scope="module")
def found(pictures):
    return compare(pictures, heads=("linear", "prototype"), folds=3, repeats=2, seed=3)


def test_test_pictures_stay_untouched_and_no_group_is_divided(pictures, monkeypatch) -> None:
    seen: list = []
    original = scoring._score

    def spy(ground, choice, parts, run, progress):
        seen.append((ground, parts))
        return original(ground, choice, parts, run, progress)

    monkeypatch.setattr(scoring, "_score", spy)
    compare(pictures, heads=("prototype",), folds=3, repeats=2, seed=3)
    ((ground, parts),) = seen
    test = set(prepare(pictures, seed=3).split.test.tolist())
    assert len(test) >= 10
    assert not test & set(ground.rows.tolist())
    groups = ground.prepared.dataset.groups[ground.rows]
    for inside, outside in parts:
        assert not set(groups[inside]) & set(groups[outside])
    for repeat in range(2):
        held_out = np.concatenate([outside for _, outside in parts[3 * repeat : 3 * repeat + 3]])
        assert sorted(held_out.tolist()) == list(range(len(ground.rows)))


def test_a_class_with_one_picture_besides_the_test_pictures_is_learned_and_not_judged(
    class_folders, monkeypatch
) -> None:
    for kind, number in (("dots", 100), ("stripes", 100), ("checks", 2)):
        folder = class_folders(per_class=number, kinds=(kind,), size=(48, 64))
    seen: list = []
    original = scoring._score
    monkeypatch.setattr(scoring, "_score", lambda *given: seen.append(given[0]) or original(*given))
    progress = Progress()
    found = compare(folder, heads=("linear", "prototype"), folds=2, repeats=2, progress=progress)
    assert any("besides the test pictures, which is not judged: checks." in note for note in progress.notes)
    ground = seen[0]
    (alone,) = np.flatnonzero(ground.targets == 0)
    assert all(alone in inside and alone not in outside for inside, outside in ground.parts)
    assert ground.judged.tolist() == [row for row in range(len(ground.rows)) if row != alone]
    for one in found.scored:
        assert one.right.shape == (2, len(ground.rows) - 1)
        assert one.right.mean() == pytest.approx(np.average(one.folds, weights=[len(b) for _, b in ground.parts]))
        assert one.right.mean() > 0.9


def test_the_figures_are_those_of_an_own_cross_validation(pictures, found) -> None:
    prepared = prepare(pictures, seed=3)
    rows = np.array(sorted(prepared.training_rows()))
    backbone = load_backbone("efficientnet_lite0")
    x = extract([prepared.dataset.paths[row] for row in rows], backbone)
    features, y, units = x.read(), prepared.dataset.targets[rows], prepared.split.units[rows]
    place = {row: index for index, row in enumerate(rows.tolist())}
    for head in ("linear", "prototype"):
        shares = []
        parts = cross_validation_folds(prepared.dataset, prepared.records, rows, folds=3, repeats=2, seed=3)
        for number, (a, b) in enumerate(parts):
            inside, outside = ([place[row] for row in part.tolist()] for part in (a, b))
            fitted = make_head(head).fit(features[inside], y[inside], 2, groups=units[inside], seed=3 + number // 3)
            shares.append((probabilities(fitted.module, features[outside, 0]).argmax(1) == y[outside]).mean())
        scored = next(one for one in found.scored if one.choice.head == head)
        assert scored.folds.tolist() == pytest.approx(shares)
    assert found.pictures == len(rows)
    assert found.untouched == len(prepared.split.test)


def test_the_same_seed_gives_the_same_comparison_and_the_cache_still_has_its_speed(pictures, found) -> None:
    threads = torch.get_num_threads()
    again = compare(pictures, heads=("linear", "prototype"), folds=3, repeats=2, seed=3)
    assert torch.get_num_threads() == threads
    for one, other in zip(found.scored, again.scored, strict=True):
        assert one.choice == other.choice
        assert one.folds.tolist() == other.folds.tolist()
    assert "extract" not in again.seconds  # all features were in the cache
    assert again.backbones["efficientnet_lite0"].speed.pictures_per_second > 0
    assert again.backbones["efficientnet_lite0"].licence == "Apache-2.0"
    # Lite0 without its classifier has 3.37 million parameters of 4 bytes.
    assert found.scored[0].megabytes == pytest.approx(13.7, abs=0.3)


def test_fine_tuning_beyond_the_budget_is_left_out_and_its_cost_is_said(pictures) -> None:
    progress = Progress()
    found = compare(pictures, methods=("frozen", "finetune"), folds=2, repeats=1, budget=0.001, progress=progress)
    assert [one.choice.method for one in found.scored] == ["frozen"]
    ((choice, reason),) = found.left_out
    assert choice.method == "finetune"
    assert "more than is left of the budget" in reason
    assert any("is left out" in note for note in progress.notes)


def test_features_that_memory_cannot_hold_together_are_refused_before_any_is_computed(pictures, monkeypatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: 0)
    monkeypatch.setattr(steps, "extract", lambda *arguments, **named: pytest.fail("features were computed"))
    with pytest.raises(SettingError, match="1 view x 2,560 features take"):
        compare(pictures, backbones=("efficientnet_lite0", "efficientnet_lite1"), folds=2, repeats=1)


@pytest.mark.slow
def test_a_budget_that_leaves_nothing_is_an_error(pictures) -> None:
    with pytest.raises(SettingError, match="nothing is left to compare"):
        compare(pictures, methods=("finetune",), folds=2, repeats=1, budget=0.001)


@pytest.mark.slow
def test_fine_tuning_is_compared_on_the_same_folds_and_says_its_cost_first(pictures) -> None:
    progress = Progress()
    found = compare(pictures, methods=("frozen", "finetune"), folds=2, repeats=2, progress=progress)
    tuned = next(one for one in found.scored if one.choice.method == "finetune")
    frozen = next(one for one in found.scored if one.choice.method == "frozen")
    assert (len(tuned.folds), len(frozen.folds)) == (2, 4)
    assert tuned.tuned_folds is not None
    assert 0 <= tuned.tuned_folds <= 2
    assert tuned.score.value > 0.7
    assert any("takes about" in note for note in progress.notes)


def test_every_wrong_name_is_told_at_once_before_any_work(tmp_path) -> None:
    with pytest.raises(SettingError) as error:
        compare(tmp_path / "nowhere", backbones=("efficientnet_lit0",), heads=("linaer",), methods=("froze",))
    for words in ("efficientnet_lite0", "'linear'", "'frozen'"):
        assert words in str(error.value)
    with pytest.raises(SettingError, match="each once"):
        compare(tmp_path / "nowhere", heads=("linear", "linear"))
    with pytest.raises(SettingError, match="at least 2 folds"):
        compare(tmp_path / "nowhere", folds=1)


def test_the_command_prints_a_table_a_picture_and_what_comes_next(pictures, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    main(["compare", str(pictures), "--heads", "linear,prototype", "--folds", "3", "--repeats", "1", "--quiet"])
    said = capsys.readouterr().out
    for words in ("test pictures were not looked at", "Apache-2.0", "Nadeau and Bengio", "Next: headstart fit"):
        assert words in said
    assert "…" not in said  # no figure is cut
    assert (tmp_path / "pictures-compare.png").stat().st_size > 10_000
    main(["compare", str(pictures), "--heads", "prototype", "--folds", "3", "--json", "--picture", "b.png"])
    whole = json.loads(capsys.readouterr().out)
    assert whole["picture"] == "b.png"
    assert whole["choices"][0]["pictures_per_second"] > 0
    assert len(whole["choices"][0]["accuracy_by_fold"]) == 15
    with pytest.raises(SystemExit) as stop:
        main(["compare", str(pictures), "--picture", str(tmp_path / "no" / "b.png")])
    assert stop.value.code == 2
    assert "a folder that exists" in capsys.readouterr().err
