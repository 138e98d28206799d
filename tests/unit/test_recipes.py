"""Recipes are what they say, and `fit` puts recipe, file and options together in that order."""

from __future__ import annotations

import inspect
import json
import re
import tomllib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from headstart.cli import fit, meanings, preview, recipes, summary
from headstart.core.errors import HeadstartError, SettingError
from headstart.core.progress import Progress
from headstart.learn import other_names
from headstart.learn.augment import POLICIES, Augmentation, make_augmentation
from headstart.learn.classifier import ImageClassifier
from headstart.learn.finetune.settings import TrainingSettings
from headstart.learn.finetune.source import DEFAULT_VIEWS, choose_views
from headstart.learn.other_names import called_here
from headstart.learn.parameters import check, feature_settings, training_settings
from headstart.learn.recipes import LABELS, load_recipe, recipe_names

CONSTRUCTOR = inspect.signature(ImageClassifier).parameters
PROMISED = {
    "resnet18-finetune",
    "resnet18-frozen",
    "vgg16-augmented",
    "vgg16-binary",
    "vgg16-block5",
    "vgg16-custom-head",
    "vgg16-extractor",
    "vgg16-frozen",
}


def needs_its_parameters(name: str) -> None:
    missing = set(load_recipe(name).parameters) - set(CONSTRUCTOR)
    if missing == {"output"}:
        pytest.skip("ImageClassifier has no parameter `output` yet")


def given(*arguments: str) -> dict[str, Any]:
    """Return the constructor's parameters that a command line gives."""
    return fit.parameters(fit.command.make_context("fit", ["data", *arguments]))


def test_the_recipes_are_those_that_were_promised() -> None:
    assert set(recipe_names()) == PROMISED


@pytest.mark.parametrize("name", sorted(PROMISED))
def test_a_recipe_says_what_it_is_and_how_to_run_it(name: str) -> None:
    recipe = load_recipe(name)
    assert set(recipe.about) == set(LABELS)
    assert all(recipe.about.values())
    assert recipe.about["Command"] == f"headstart fit DATA --recipe {name}"
    assert recipe.title.endswith(".")
    assert tomllib.loads(recipe.text) == recipe.parameters


@pytest.mark.parametrize("name", sorted(PROMISED))
def test_a_recipe_is_a_classifier_whose_parameters_can_work(name: str) -> None:
    needs_its_parameters(name)
    classifier = ImageClassifier(**given("--recipe", name))
    check(classifier)
    for parameter, value in load_recipe(name).parameters.items():
        held = getattr(classifier, parameter)
        assert (list(held) if isinstance(held, tuple) else held) == value


@pytest.mark.parametrize("name", sorted(PROMISED))
def test_the_stages_that_a_recipe_unfreezes_exist(name: str) -> None:
    from headstart.learn.finetune.unfreezing import plan
    from headstart.networks import load_backbone

    recipe = load_recipe(name).parameters
    backbone = load_backbone(recipe["backbone"], image_size=64, pooling=recipe.get("pooling"), blank=True)
    assert (recipe["method"] == "finetune") == ("unfreeze" in recipe)
    plan(backbone, recipe.get("unfreeze", "all"))


def test_resnet18_sees_the_centre_224_of_256() -> None:
    from headstart.networks import load_backbone

    assert load_backbone("resnet18", image_size=224, blank=True).preprocessing.crop_fraction == 224 / 256


def test_the_numbers_are_those_of_the_tutorials() -> None:
    frozen, binary, tuned = (
        load_recipe(name).parameters for name in ("vgg16-frozen", "vgg16-binary", "resnet18-finetune")
    )
    wanted = {"image_size": 150, "pooling": "flatten", "hidden": [256], "dropout": 0.5, "batch_size": 32, "epochs": 10}
    assert {name: frozen[name] for name in wanted} == wanted
    assert frozen["augmentation"] == {"rotation": 15, "shift": 0.1, "zoom": 0.1, "horizontal_flip": 0.5}
    assert (binary["image_size"], binary["hidden"], binary["output"], binary["epochs"]) == (224, [128], "sigmoid", 10)
    assert binary["augmentation"] == {"rotation": 20, "zoom": 0.2, "horizontal_flip": 0.5}
    assert binary["training"]["epochs"] == 5
    sgd = {"optimizer": "sgd", "learning_rate": 0.001, "momentum": 0.9, "epochs": 25}
    steps = {"schedule": "step", "step_epochs": 7, "step_factor": 0.1}
    assert {name: tuned["training"][name] for name in {**sgd, **steps}} == {**sgd, **steps}
    assert tuned["unfreeze"] == "all"
    assert load_recipe("vgg16-extractor").parameters["hidden"] == [1024]
    assert load_recipe("vgg16-block5").parameters["unfreeze"] == "block5"
    custom = load_recipe("vgg16-custom-head").parameters
    assert (custom["hidden"], custom["dropout"]) == ([256], 0.5)
    turned = make_augmentation(load_recipe("vgg16-augmented").parameters["augmentation"])
    assert (turned.rotation, turned.shift, turned.horizontal_flip) == (30, 0.1, 0.5)


def test_an_unknown_recipe_has_near_matches() -> None:
    with pytest.raises(SettingError, match="'vgg16-frozen'"):
        load_recipe("vgg-frozen")


def test_recipes_are_listed_and_printed() -> None:
    listed = CliRunner().invoke(recipes.command, [], catch_exceptions=False).stdout
    assert all(name in listed for name in PROMISED)
    rows = json.loads(CliRunner().invoke(recipes.command, ["--json"], catch_exceptions=False).stdout)
    assert {row["name"] for row in rows} == PROMISED
    printed = CliRunner().invoke(recipes.command, ["vgg16-frozen"], catch_exceptions=False).stdout
    assert printed == load_recipe("vgg16-frozen").text


def test_every_parameter_of_the_constructor_is_an_option_with_the_same_default() -> None:
    context = fit.command.make_context("fit", ["data"])
    options = {name: value for name, value in context.params.items() if name not in fit.OWN}
    if "output" not in CONSTRUCTOR:
        del options["output"]
    assert options == {name: parameter.default for name, parameter in CONSTRUCTOR.items()}


def test_what_is_given_nowhere_is_left_to_the_constructor() -> None:
    assert given() == {}
    assert given("--backbone", "efficientnet_lite0") == {"backbone": "efficientnet_lite0"}


def test_options_win_over_the_file_and_the_file_over_the_recipe(tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text('dropout = 0.2\nseed = 3\naugmentation = "flip"\n')
    made = given("--recipe", "vgg16-frozen", "--config", str(config), "--seed", "4")
    assert (made["dropout"], made["seed"], made["augmentation"], made["hidden"]) == (0.2, 4, "flip", (256,))
    assert made["backbone"] == "vgg16.keras"


@pytest.mark.parametrize(
    "arguments",
    [
        ("views", "resnet18-frozen", "--augmentation", "none"),
        ("augmentation", "resnet18-frozen", "--views", "1"),
        ("epochs", "resnet18-finetune", "--unfreeze", "head=2,layer4=3"),
        ("augmentation", "resnet18-finetune", "--views", "1", "--epochs", "3"),
    ],
)
def test_what_an_option_makes_useless_in_a_recipe_falls_away(arguments: tuple[str, ...]) -> None:
    useless, recipe, *_ = arguments
    needs_its_parameters(recipe)
    own, made = load_recipe(recipe).parameters, given("--recipe", *arguments[1:])
    assert useless in {**own, **own.get("training", {})}
    assert useless not in {**made, **made.get("training", {})}
    check(ImageClassifier(**made))


def test_the_recipe_that_trains_everything_leaves_the_views_to_the_epochs() -> None:
    needs_its_parameters("resnet18-finetune")
    how = feature_settings(ImageClassifier(**load_recipe("resnet18-finetune").parameters))
    assert how.views == DEFAULT_VIEWS  # of the frozen start
    assert choose_views(replace(how, views=1), 25, pixels=True, progress=Progress()).views == 25


def test_a_single_setting_of_the_training_table_can_be_changed() -> None:
    table = load_recipe("resnet18-finetune").parameters["training"]
    made = given("--recipe", "resnet18-finetune", "--training", "epochs=2,optimizer=adamw")
    assert made["training"] == {**table, "epochs": 2, "optimizer": "adamw"}


@pytest.mark.parametrize("option", [("--unfreeze", "layer4"), ("--training", "unfreeze=layer4")])
def test_what_an_option_unfreezes_wins_over_the_recipe_however_it_is_given(option: tuple[str, str]) -> None:
    classifier = ImageClassifier(**given("--recipe", "resnet18-finetune", *option))
    check(classifier)
    assert training_settings(classifier).unfreeze == "layer4"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4", 4),
        ("all", "all"),
        ("blocks.6", "blocks.6"),
        ("blocks.6=3,blocks.5=7", [["blocks.6", 3], ["blocks.5", 7]]),
        ("head=1,all=1,head=2", [["head", 1], ["all", 1], ["head", 2]]),
    ],
)
def test_what_to_unfreeze_is_a_number_a_name_or_pairs(text: str, value: object) -> None:
    assert given("--unfreeze", text) == {"unfreeze": value}


def test_tables_and_lists_of_a_file_are_passed_as_they_are(tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text(
        'hidden = [64, 32]\nimage_size = [96, 64]\nunfreeze = [["block5", 3]]\nclass_weight = {cat = 2}\n'
        'augmentation = {policy = "flip", rotation = 9}\n[training]\nschedule = "step"\nepochs = 3\n'
    )
    assert given("--config", str(config)) == {
        "hidden": (64, 32),
        "image_size": (96, 64),
        "unfreeze": [["block5", 3]],
        "class_weight": {"cat": 2},
        "augmentation": {"policy": "flip", "rotation": 9},
        "training": {"schedule": "step", "epochs": 3},
    }


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("hiden = [1]", SettingError, "'hidden'"),
        ("lr = 0.1", SettingError, "lr is called learning_rate here: write learning_rate"),
        ("quiet = true", SettingError, "unknown setting"),
        ("seed = ", SettingError, "cannot be used as a config"),
        ('dropout = "much"', click.BadParameter, "not a valid float"),
        ("dropout = [1]", click.BadParameter, "is a list"),
        ("hidden = {a = 1}", click.BadParameter, "is a table"),
        ('hidden = ["a"]', click.BadParameter, "whole numbers"),
    ],
)
def test_a_file_that_cannot_work_says_why(text: str, error: type[Exception], words: str, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(text)
    with pytest.raises(error, match=words):
        given("--config", str(tmp_path / "run.toml"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--training", "epochs"], "has no '='"),
        (["--class-weight", "trivial=yes"], "'yes' is not a number; write trivial=NUMBER"),
        (["--class-weight", "cat=2,dog=1,cat=3"], "cat is given twice, 2 and 3: leave one out"),
        (["--training", "epochs=2,epochs=5"], "epochs is given twice, 2 and 5: leave one out"),
        (["--augmentation", "rotation=5,rotation=9"], "rotation is given twice, 5 and 9: leave one out"),
        (["--augmentation", "flip,light,rotation=9"], "policy is given twice, 'flip' and 'light': leave one out"),
        (["--hidden", "many"], "whole numbers"),
    ],
)
def test_an_option_that_cannot_be_read_says_how_to_write_it(arguments: list[str], words: str) -> None:
    with pytest.raises(click.BadParameter, match=words):
        given(*arguments)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rotation=much", "rotation is 'much': give a number from 0 to 180"),
        ("fill_mode=nearest", "fill_mode is not to be chosen"),
        ("zoom_range=[0.8,1.2]", "zoom_range is called zoom here"),
        ("flip,zoom=[0.8, 1.2]", "zoom is '.0.8, 1.2.': give a number from 0 to 0.9; 0.2 draws a factor from 0.8"),
        ("zoom=(0.8,1.2),rotation=9", "zoom is '.0.8,1.2.': give a number"),
    ],
)
def test_an_augmentation_that_cannot_work_is_one_clear_error(text: str, words: str) -> None:
    with pytest.raises(SettingError, match=words):
        check(ImageClassifier(**given("--augmentation", text)))


@pytest.mark.parametrize("values", ["epochs=many", "epochs=2.5", "optimiser=sgd", "optimizer=sdg", "warmup=yes"])
def test_an_impossible_training_setting_is_one_clear_error(values: str) -> None:
    with pytest.raises(HeadstartError, match="training"):
        check(ImageClassifier(**given("--training", values)))


def test_an_unknown_training_setting_is_told_with_the_nearest_and_the_help_lists_all() -> None:
    with pytest.raises(SettingError, match="'epochz': did you mean 'epochs'.*`headstart fit --help` lists all"):
        check(ImageClassifier(**given("--training", "epochz=3")))


def test_the_help_lists_every_setting_with_its_meaning_and_its_default() -> None:
    told = CliRunner().invoke(fit.command, ["--help"]).stdout
    policies, looks, trains = (" ".join(part.split()) for part in re.split("(?:Policies|Settings) of --", told)[1:])
    assert set(meanings.POLICIES) == set(POLICIES)
    assert all(f" {name} {meaning}" in policies for name, meaning in meanings.POLICIES.items())
    assert set(meanings.TRAINING) == {field.name for field in fields(TrainingSettings)}
    assert set(meanings.AUGMENTATION) == {field.name for field in fields(Augmentation)}
    assert all(f" {name} {meaning}" in trains for name, meaning in meanings.TRAINING.items())
    assert all(f" {name} {meaning}" in looks for name, meaning in meanings.AUGMENTATION.items())
    assert (
        "layer_decay its factor from each stage to the one below [default: 1; 0.8 above five learning stages]" in trains
    )
    assert "epochs passes over the training pictures [default: by size]" in trains
    assert "None" not in trains
    shown = " ".join(CliRunner().invoke(preview.command, ["--help"]).stdout.split())
    assert policies.strip() in shown
    assert looks.strip() in shown


def test_the_help_of_fit_tells_which_augmentation_it_has_where_none_is_given() -> None:
    told = " ".join(CliRunner().invoke(fit.command, ["--help"]).stdout.split())
    default = re.search(r"--augmentation TEXT [^\[]*\[default: (\w+)\]", told)
    assert default is not None
    assert feature_settings(ImageClassifier()).augmentation == POLICIES[default[1]]


def test_the_page_of_fine_tuning_has_every_setting_and_its_default() -> None:
    page = (Path(__file__).parents[2] / "docs" / "fine-tuning.md").read_text(encoding="utf-8")
    rows = page.split("| setting | default | meaning |")[1].split("\n\n")[0].splitlines()[2:]
    told = {name.strip(" `"): default.strip(" `") for _, name, default, *_ in (row.split("|") for row in rows)}
    defaults = {field.name: field.default for field in fields(TrainingSettings)} | meanings.DEFAULTS
    assert {name: text.replace("`", "") for name, text in told.items()} == {
        name: str(default) for name, default in defaults.items()
    }


def page_of_augmentation() -> str:
    return (Path(__file__).parents[2] / "docs" / "augmentation.md").read_text(encoding="utf-8")


def rows_of(page: str, first: str) -> list[list[str]]:
    """Return the cells of the table whose header begins with a column."""
    table = page.split(f"| {first} |")[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_the_page_of_augmentation_has_every_policy_as_it_is() -> None:
    told = {
        name.strip("`"): re.findall(r"(\w+)=([\w.]+)", settings)
        for name, settings, *_ in rows_of(page_of_augmentation(), "policy")
    }
    assert list(told) == list(POLICIES)
    for name, settings in told.items():
        values = {key: value == "true" if key == "trivial" else float(value) for key, value in settings}
        assert Augmentation(**values) == POLICIES[name]


def test_the_page_of_augmentation_has_every_setting_and_names_that_lead_to_it() -> None:
    page = page_of_augmentation()
    known = {field.name for field in fields(Augmentation)}
    assert {name.strip("`") for name, *_ in rows_of(page, "setting")} == known
    for ours, *theirs in rows_of(page, "here"):
        names = [name for cell in theirs for name in re.findall(r"`(\w+)`", cell)]
        assert names
        for name in names:
            told = called_here(name, other_names.AUGMENTATION)
            assert name == ours.strip("`") or (told and ours.strip("`") in told), name


def outline(*arguments: str) -> dict[str, Any]:
    done = CliRunner().invoke(summary.command, [*arguments, "--json"], catch_exceptions=False)
    return dict(json.loads(done.stdout))


def test_a_backbone_is_summarised_without_its_weights() -> None:
    told = outline("resnet18", "--unfreeze", "layer4", "--image-size", "64")
    groups = {row["group"]: row for row in told["groups"]}
    assert groups["layer4"]["output_shape"] == [512, 2, 2]
    assert groups["layer4"]["trainable"] == groups["layer4"]["parameters"] == 8_393_728
    assert groups["layer3"]["trainable"] == 0
    # torchvision's documentation gives 11,689,512 with the classifier of 512 x 1000 weights and 1000 biases.
    assert told["parameters"] == 11_689_512 - 513_000
    assert told["trainable"] == 8_393_728


def test_the_last_four_layers_that_have_parameters_can_be_shown_as_trainable() -> None:
    told = outline("vgg16.keras", "--unfreeze", "4", "--image-size", "64")
    # Keras's VGG16 without its top has 14,714,688 parameters; three layers of 512 -> 512 (3 x 3) follow block 4's last.
    assert told["parameters"] == 14_714_688
    assert told["trainable"] == 4 * (9 * 512 * 512 + 512)


def test_of_a_schedule_that_freezes_again_what_it_trains_meanwhile_is_trainable() -> None:
    told = outline("resnet18", "--unfreeze", "all=2,head=3", "--image-size", "64")
    assert told["trainable"] == told["parameters"]


def test_the_table_ends_with_the_totals() -> None:
    printed = CliRunner().invoke(summary.command, ["vgg16.keras", "--image-size", "64"], catch_exceptions=False).stdout
    assert "Total params: 14,714,688 (58.9 MB in float32)" in printed
    assert "Trainable params: 0" in printed
    assert "BatchNorm" not in printed


def test_the_statistics_that_keras_counts_as_parameters_are_told() -> None:
    from torchvision.models import resnet18

    told = outline("resnet18", "--image-size", "64")
    buffers = {name: tensor for name, tensor in resnet18(weights=None).named_buffers() if "running" in name}
    assert told["statistics"] == sum(tensor.numel() for tensor in buffers.values()) == 9_600
    printed = CliRunner().invoke(summary.command, ["resnet18", "--image-size", "64"], catch_exceptions=False).stdout
    assert "BatchNorm statistics: 9,600 more, which Keras counts as non-trainable params" in printed


@pytest.mark.parametrize("network", ["vgg16.keras", "efficientnet_lite0", "resnet50", "convnext_tiny"])
def test_the_layers_of_a_group_are_those_that_unfreeze_counts(network: str) -> None:
    groups = outline(network, "--image-size", "64")["groups"]
    counted = [sum(int(part.split()[0]) if part[0].isdigit() else 1 for part in row["layers"].split(", "))
               if row["parameters"] else 0 for row in groups]  # fmt: skip
    last = next(place for place in range(len(groups) - 1, 0, -1) if counted[place])
    above = sum(counted[last:])
    trained = {row["group"]: row["trainable"] for row in outline(
        network, "--image-size", "64", "--unfreeze", str(above))["groups"]}  # fmt: skip
    assert trained[groups[last]["group"]] == groups[last]["parameters"]
    assert trained[groups[last - 1]["group"]] == 0
    more = outline(network, "--image-size", "64", "--unfreeze", str(above + 1))["groups"]
    assert more[last - 1]["trainable"] > 0


@pytest.mark.parametrize("network", ["vgg16.keras", "resnet50", "convnext_tiny", "vit_small_patch14_dinov2.lvd142m"])
def test_the_table_fits_a_window_of_80_columns(network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    printed = CliRunner().invoke(summary.command, [network, "--unfreeze", "4"], catch_exceptions=False).stdout
    assert max(map(len, printed.splitlines())) <= 80
    assert all(row["group"] in printed for row in outline(network)["groups"])


def test_the_layers_of_a_head_are_rows_with_the_parameters_that_torch_counts() -> None:
    import torch
    from torch import nn

    from headstart.networks import head_rows
    from headstart.networks.layers import AgainstZero, UnitNorm, describe_layers

    mlp = nn.Sequential(nn.Linear(20, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 1), AgainstZero())
    for head in (mlp, nn.Linear(20, 3), nn.Sequential(UnitNorm(), nn.Linear(20, 3, bias=False))):
        rows = head_rows(describe_layers(head), 20)
        values = torch.zeros(1, 20)
        parts = list(head) if isinstance(head, nn.Sequential) else [head]
        for row, part in zip(rows, parts, strict=True):
            values = part(values)
            assert row.output_shape == tuple(values.shape[1:])
            assert row.parameters == row.trainable == sum(p.numel() for p in part.parameters())
    told = [(row.group, row.layers) for row in head_rows(describe_layers(mlp), 20)]
    assert told == [
        ("head.0", "Linear"), ("head.1", "ReLU"), ("head.2", "Dropout 0.5"), ("head.3", "Linear"),
        ("head.4", "AgainstZero"),
    ]  # fmt: skip


def test_an_unknown_network_or_stage_has_near_matches() -> None:
    with pytest.raises(SettingError, match="resnet18"):
        outline("resnet81")
    with pytest.raises(SettingError, match="'layer4'"):
        outline("resnet18", "--unfreeze", "layer5")
