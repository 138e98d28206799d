"""What the settings of `--training` and `--augmentation` mean, in a line each, for `--help`."""

from __future__ import annotations

from dataclasses import fields

import click

from headstart.learn.finetune.settings import TrainingSettings

TRAINING = {
    "unfreeze": "as --unfreeze",
    "epochs": "passes over the training pictures",
    "batch_size": "pictures a step",
    "learning_rate": "of the head, at its peak",
    "backbone_learning_rate": "of the topmost unfrozen stage",
    "layer_decay": "its factor from each stage to the one below",
    "optimizer": "adamw, adam or sgd",
    "momentum": "of sgd",
    "weight_decay": "of weights, not of biases and normalisation",
    "schedule": "cosine, step, plateau or constant",
    "warmup": "share of the steps in which the rate rises",
    "step_epochs": "of step: epochs between two cuts of the rate",
    "step_factor": "of step and plateau: what the rate is multiplied by",
    "label_smoothing": "share of each target spread over all classes",
    "mixup": "alpha of mixup, such as 0.2; 0 is off",
    "cutmix": "alpha of CutMix, such as 1; 0 is off",
    "ema": "decay of averaged weights, such as 0.99; 0 is off",
    "clip_norm": "largest norm of the gradients; 0 is off",
    "patience": "epochs without a better one before it stops; 0 never",
    "batch_norm": "frozen, or train: update its statistics",
    "precision": "auto, float32 or bfloat16, of training",
    "checkpoint_seconds": "longest time between two checkpoints",
}
# What stands for None in them: see `complete`.
DEFAULTS = {
    "unfreeze": "by size",
    "epochs": "by size",
    "learning_rate": "0.001, sgd 0.01",
    "backbone_learning_rate": "three tenths of that",
    "layer_decay": "1; 0.8 above five learning stages",
}
POLICIES = {
    "none": "every view is the plain picture",
    "flip": "left and right mirrored, of half the views",
    "light": "flip, and small turns, shifts, zooms and changes of light",
    "standard": "flip, and a random crop of a quarter of the picture or more, as networks are trained on ImageNet",
    "strong": "standard, and one operation of TrivialAugment, and a grey rectangle in a quarter of the views",
}
AUGMENTATION = {
    "rotation": "degrees, either way",
    "shift": "share of the side, either way, across and down",
    "width_shift": "the same across only",
    "height_shift": "the same down only",
    "zoom": "share: 0.1 is 0.9 to 1.1",
    "shear": "degrees, either way",
    "perspective": "share of the side that corners move in, such as 0.3",
    "horizontal_flip": "probability, such as 0.5",
    "vertical_flip": "probability",
    "brightness": "share: 0.2 is 0.8 to 1.2",
    "contrast": "share",
    "saturation": "share",
    "hue": "share of the circle, up to 0.5",
    "crop_scale": "smallest area of a random resized crop; 1 is off",
    "greyscale": "probability",
    "blur": "probability",
    "trivial": "true: one random operation of TrivialAugment",
    "erasing": "probability of a grey rectangle",
}


class Augments(click.Command):
    """A command with `--augmentation`, whose help lists policies and settings."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the lists after the options."""
        with formatter.section("Policies of --augmentation (docs/augmentation.md has more)"):
            formatter.write_dl(list(POLICIES.items()))
        with formatter.section("Settings of --augmentation, such as flip,rotation=15"):
            formatter.write_dl(list(AUGMENTATION.items()))


class Trains(Augments):
    """A command with `--training` too."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write both lists after the options."""
        super().format_epilog(ctx, formatter)
        defaults = {field.name: field.default for field in fields(TrainingSettings)} | DEFAULTS
        rows = [(name, f"{meaning}  [default: {defaults[name]}]") for name, meaning in TRAINING.items()]
        with formatter.section("Settings of --training, such as epochs=5,optimizer=sgd"):
            formatter.write_dl(rows)
