"""The model card: what the hub's own library reads of it, and what it says to people."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard
from huggingface_hub.repocard import metadata_load

from headstart import ImageClassifier
from headstart.core.card import base_model, licence_identifier, write_card
from headstart.core.metrics import Evaluation, evaluate
from headstart.core.sentences import width_sentence


def figures_of(right: int, n: int, classes: tuple[str, ...] = ("ant", "bee")) -> Evaluation:
    targets = np.arange(n) % len(classes)
    named = np.where(np.arange(n) < right, targets, (targets + 1) % len(classes))
    return evaluate(targets, np.eye(len(classes))[named] * 0.8 + 0.2 / len(classes), classes)


def described(classes: tuple[str, ...] = ("ant", "bee"), **changes: object) -> dict:
    return {
        "classes": list(classes),
        "preprocessing": {"image_size": [224, 224]},
        "backbone": {"name": "resnet18", "source": "hub timm/resnet18.tv_in1k", "licence": "BSD-3-Clause"},
        "method": "frozen",
        "head": {"name": "linear"},
        "versions": {"headstart": "0.1.0"},
        "evaluated_by": "test pictures",
        "data": {
            "name": "insects",
            "fingerprint": "f" * 64,
            "counts": {"train": 60, "validation": 10, "test": 30},
            "kept_together": {"identical": 2, "near-identical": 0},
        },
    } | changes


def card_of(folder: Path, description: dict, figures: Evaluation) -> str:
    write_card(folder, description, figures)
    return (folder / "README.md").read_text(encoding="utf-8")


def test_the_hubs_own_library_reads_every_figure_back(tmp_path) -> None:
    figures = figures_of(27, 30)
    card = ModelCard(card_of(tmp_path, described(), figures))
    assert card.data.license == "bsd-3-clause"
    assert card.data.library_name == "headstart"
    assert card.data.pipeline_tag == "image-classification"
    assert card.data.base_model == "timm/resnet18.tv_in1k"
    assert "resnet18" in card.data.tags
    results = {result.metric_type: result for result in card.data.eval_results}
    assert set(results) == {"accuracy", "balanced_accuracy", "f1", "log_loss"}
    assert results["accuracy"].metric_value == pytest.approx(0.9)
    assert results["f1"].metric_value == pytest.approx(figures.figures["macro_f1"].value, abs=1e-6)
    assert results["accuracy"].dataset_args == {"pictures": 30, "fingerprint": "f" * 16}
    assert {result.dataset_split for result in results.values()} == {"test"}


NASTY = ("- x: [1, 2]", "a|b\n# c", "caf\udce9", "*stars* <b>", "\"quoted\": 'yes'", "true", "1e3")


def test_names_that_mean_something_in_yaml_or_markdown_stay_names(tmp_path) -> None:
    description = described(NASTY)
    description["data"]["name"] = NASTY[0]
    description["backbone"] |= {"licence": "Model: Terms [2] (read #them)", "name": NASTY[1], "source": "file x.pth"}
    text = card_of(tmp_path, description, figures_of(60, 70, NASTY))
    found = metadata_load(tmp_path / "README.md")
    assert found["model-index"][0]["name"] == NASTY[0]
    assert (found["license"], found["license_name"]) == ("other", "model-terms-2")
    assert "base_model" not in found
    assert "\n# c" not in text
    assert all(line.count("|") - line.count("\\|") in (0, 4, 5) for line in text.splitlines())
    assert "<b>" not in re.sub(r"\\.", "", text)


@pytest.mark.parametrize(
    ("licence", "identifier"),
    [
        ("Apache-2.0", "apache-2.0"),
        ("CC BY 4.0 (Visual Geometry Group, Oxford)", "cc-by-4.0"),
        ("DINOv3 License (Meta's own terms)", "other"),
        ("that of the file given", "other"),
    ],
)
def test_a_licence_the_hub_does_not_know_is_never_taken_for_one_it_does(licence: str, identifier: str) -> None:
    assert licence_identifier(licence) == identifier


def test_a_base_model_is_named_only_where_the_weights_came_from_the_hub() -> None:
    assert base_model("hub timm/resnet18.tv_in1k") == "timm/resnet18.tv_in1k"
    assert [base_model(source) for source in ("package efficientnet-lite0", "file a/b.pth", "nowhere: zeros")] == [
        None
    ] * 3


def test_with_six_pictures_the_card_says_that_the_interval_is_wide(tmp_path) -> None:
    # Wilson's interval of 6 of 6 runs from 6 / (6 + 1.96²) = 0.61 to 1.
    few = card_of(tmp_path, described(), figures_of(6, 6))
    assert few.count("The interval is wide, because 6 pictures say no more") == 2  # with the figures and the limits
    assert "as low as 61.0 % or as high as 100.0 %" in few
    assert "ant (3), bee (3)" in few
    many = card_of(tmp_path, described(), figures_of(1990, 2000))
    assert "wide" not in many
    assert "say little" not in many
    assert "because 1 picture says no more" in width_sentence(figures_of(1, 1))


def test_the_card_says_how_many_groups_the_pictures_make(tmp_path) -> None:
    targets = np.repeat([0, 1], 48)
    figures = evaluate(targets, np.eye(2)[targets], ("ant", "bee"), units=np.repeat(np.arange(12), 8))
    card = card_of(tmp_path, described(), figures)
    assert "on the saved model itself and 96 pictures in 12 groups that neither taught nor chose it" in card
    assert "of one group count together, as one group" in card
    assert "because 96 pictures in 12 groups say no more" in card
    assert "| Accuracy | 1.000 | 0.758 to 1.000 |" in card  # Wilson's interval of 12 of 12
    assert "group" not in card_of(tmp_path, described(), figures_of(90, 96))


def test_the_card_promises_no_sets_where_the_pictures_are_too_few_for_them(tmp_path) -> None:
    told = {"temperature": 1.0, "n": 12, "conformal": {"coverage": 0.95, "threshold": 0.0, "n": 12}}
    card = card_of(tmp_path, described(confidence=told), figures_of(27, 30))
    assert "12 held-out pictures are too few for sets of classes" in card
    assert "every answer is the set of all classes" in card
    assert "An answer is a set of classes that holds the true one" not in card


def test_the_card_of_cross_validation_says_what_is_a_mean_and_how_calibrated_it_is(tmp_path) -> None:
    both = {"before": {"ece": 0.123, "log_loss": 0.3}, "after": {"ece": 0.045, "log_loss": 0.2}}
    told = {"temperature": 1.3, "n": 24, "cross_validation": both}
    changed = {"evaluated_by": "repeated cross-validation", "repeats": 5, "confidence": told}
    card = card_of(tmp_path, described(**changed), figures_of(22, 24))
    assert (
        "means of 5 repeats; the confusion matrix, the figures of the classes and the pictures are of the first" in card
    )
    assert "calibration error on the same pictures is 0.123 without and 0.045 with it" in card


def test_the_card_tells_what_confidence_is_worth_only_where_it_was_measured(tmp_path) -> None:
    figures = figures_of(27, 30)
    without = card_of(tmp_path, described(), figures)
    assert "confidence" not in without
    assert "a picture of anything else gets one of them all the same" in without
    confidence = {
        "temperature": 1.37,
        "test": {"before": {"ece": 0.081, "log_loss": 0.3}, "after": {"ece": 0.034, "log_loss": 0.2}},
        "n": 37,
        "conformal": {
            "coverage": 0.95,
            "threshold": 0.8,
            "n": 37,
            "test_coverage": {"value": 0.961, "low": 0.917, "high": 0.982},
            "mean_size": 1.21,
        },
        "novelty": {
            "neighbours": 5,
            "bank": 200,
            "threshold": 0.4,
            "false_alarm_rate": 0.05,
            "n": 37,
            "test_alarms": {"value": 0.046, "low": 0.022, "high": 0.091},
        },
    }
    told = card_of(tmp_path, described(confidence=confidence), figures)
    for words in (
        "temperature 1.37 (Guo et al. 2017), fitted on 37 held-out pictures",
        "is 0.081 without and 0.034 with it",
        "0.961 (0.917 to 0.982), 1.21 classes",
        "happen to 5 % of the pictures that are like them; it did to 0.046 of the test pictures (0.022 to 0.091)",
    ):
        assert words in told
    assert "a picture of anything else gets one of them" not in told
    confidence["novelty"]["threshold"] = None  # too few pictures to set one
    untold = card_of(tmp_path, described(confidence={"temperature": 1.0, "novelty": confidence["novelty"]}), figures)
    assert "temperature" not in untold
    assert "a picture of anything else gets one of them" in untold


def test_cross_validated_figures_are_not_called_a_test(tmp_path) -> None:
    description = described(evaluated_by="repeated cross-validation")
    text = card_of(tmp_path, description, figures_of(27, 30))
    assert "measured by repeated cross-validation over 30 pictures" in text
    assert {r["dataset"]["split"] for r in metadata_load(tmp_path / "README.md")["model-index"][0]["results"]} == {
        "cross-validation"
    }


def test_what_the_card_of_a_real_model_tells_to_run_runs_in_its_folder(class_folders, make_picture, tmp_path) -> None:
    model = tmp_path / "model"
    ImageClassifier(method="frozen", image_size=64).fit(class_folders(per_class=30), out=model)
    make_picture(model / "picture.jpg", "stripes", seed=99)
    text = (model / "README.md").read_text(encoding="utf-8")
    ModelCard(text)
    python = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(python) == 2
    answers = [
        subprocess.run([sys.executable, "-c", code], cwd=model, capture_output=True, text=True, check=True).stdout
        for code in python
    ]
    assert answers[0].startswith("['stripes']")
    assert answers[1] == "stripes\n"
    (command,) = re.findall(r"```bash\nheadstart (.*?)\n```", text)
    said = subprocess.run(
        [sys.executable, "-m", "headstart", *command.split()], cwd=model, capture_output=True, text=True, check=True
    )
    assert "stripes" in said.stdout
