"""What Keras, torchvision, fastai, timm and Ultralytics call the settings of augmentation and of training.

A name alone is what the setting is called here; words tell what to do where nothing here is quite the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from headstart.core.errors import SettingError, unknown_name

_ONE_OF_TRIVIAL = "is trivial=true here, one random operation on every view, or the policy strong: write one of them"
_BORDER = "is not to be chosen: what comes in from outside continues the border. Leave it out"
_NORMALISED = "is the network's own first layer here: leave it out"
_MIXED = "mixes training pictures, which is a setting of training here: write --training"

AUGMENTATION = {
    # Keras: ImageDataGenerator
    "rotation_range": "rotation",
    "width_shift_range": "width_shift",
    "height_shift_range": "height_shift",
    "shear_range": "shear",
    "zoom_range": "zoom",
    "brightness_range": "brightness",
    "channel_shift_range": "has no counterpart here; hue and saturation change colours: write one of them",
    "fill_mode": _BORDER,
    "cval": _BORDER,
    "rescale": _NORMALISED,
    "preprocessing_function": _NORMALISED,
    # Keras: layers
    "RandomTranslation": "shift",
    "RandomZoom": "zoom",
    "RandomShear": "shear",
    "RandomFlip": "horizontal_flip",
    "RandomBrightness": "brightness",
    "RandomContrast": "contrast",
    "RandomSaturation": "saturation",
    "RandomHue": "hue",
    "RandomGaussianBlur": "blur",
    # torchvision
    "RandomRotation": "is called rotation here, in degrees as in torchvision (Keras's 0.1 is 36): write rotation",
    "RandomAffine": "is several settings here: write those of rotation, shift, zoom and shear that you want",
    "RandomHorizontalFlip": "horizontal_flip",
    "RandomVerticalFlip": "vertical_flip",
    "RandomResizedCrop": "crop_scale",
    "RandomCrop": "has no counterpart here; crop_scale is a random crop of a random size: write crop_scale=0.25",
    "ColorJitter": "is several settings here: write those of brightness, contrast, saturation and hue that you want",
    "RandomGrayscale": "greyscale",
    "GaussianBlur": "blur",
    "RandomPerspective": "perspective",
    "distortion_scale": "perspective",
    "RandomErasing": "erasing",
    "TrivialAugment": "trivial",
    "TrivialAugmentWide": "trivial",
    "RandAugment": _ONE_OF_TRIVIAL,
    "AutoAugment": _ONE_OF_TRIVIAL,
    "AugMix": _ONE_OF_TRIVIAL,
    "degrees": "rotation",
    "translate": "shift",
    "scale": "is zoom here (Ultralytics, RandomAffine) or crop_scale (timm, RandomResizedCrop): write one of them",
    "ratio": "is not to be chosen: random crops have 3/4 to 4/3 of the network's proportions. Leave it out",
    # fastai
    "max_rotate": "rotation",
    "max_zoom": "is called zoom here, without the 1 (fastai's 1.1 is 0.1): write zoom",
    "max_warp": "perspective",
    "max_lighting": "is brightness and contrast here: write both",
    "min_scale": "crop_scale",
    "do_flip": "horizontal_flip",
    "flip_vert": "vertical_flip",
    "p_affine": "is not to be chosen: every view is moved, by as much as is drawn for it. Leave it out",
    "p_lighting": "is not to be chosen: every view is changed, by as much as is drawn for it. Leave it out",
    # timm
    "hflip": "horizontal_flip",
    "vflip": "vertical_flip",
    "color_jitter": "is several settings here: write those of brightness, contrast, saturation and hue that you want",
    "aa": _ONE_OF_TRIVIAL,
    "reprob": "erasing",
    # Ultralytics
    "fliplr": "horizontal_flip",
    "flipud": "vertical_flip",
    "hsv_h": "hue",
    "hsv_s": "saturation",
    "hsv_v": "brightness",
    "mixup": f"{_MIXED} mixup=0.2",
    "cutmix": f"{_MIXED} cutmix=1",
}

TRAINING = {
    # Keras and torch
    "lr": "learning_rate",
    "gamma": "step_factor",
    "factor": "step_factor",
    "step_size": "step_epochs",
    "clipnorm": "clip_norm",
    "global_clipnorm": "clip_norm",
    "max_norm": "clip_norm",
    "scheduler": "schedule",
    "lr_scheduler": "schedule",
    "EarlyStopping": "patience",
    "dropout": "is that of the mlp head: write --head mlp --dropout",
    # fastai
    "lr_max": "learning_rate",
    "bs": "batch_size",
    "wd": "weight_decay",
    "moms": "momentum",
    "opt_func": "optimizer",
    "n_epoch": "epochs",
    "freeze_epochs": "is a schedule here: write --unfreeze head=1,all=4 for one epoch of the head and four of all",
    # timm
    "opt": "optimizer",
    "sched": "schedule",
    "decay_epochs": "step_epochs",
    "decay_rate": "step_factor",
    "smoothing": "label_smoothing",
    "clip_grad": "clip_norm",
    "model_ema_decay": "ema",
    "mixup_alpha": "mixup",
    "cutmix_alpha": "cutmix",
    "warmup_epochs": "is called warmup here, a share of all steps (0.1 is one epoch of ten): write warmup",
    "amp": "precision",
    # Ultralytics
    "lr0": "learning_rate",
    "lrf": "has no counterpart here: schedule=cosine, the default, ends at 0, and schedule=constant where it began",
    "batch": "batch_size",
    "cos_lr": "is schedule=cosine here, the default: leave it out",
    "freeze": "counts from the picture, and unfreeze from the features: write unfreeze=4 to train the last four layers",
}


def called_here(name: object, others: Mapping[str, str]) -> str | None:
    """Return what one of the tables says of a name, in whatever case and with or without `_`; None where nothing."""
    return {_key(theirs): ours for theirs, ours in others.items()}.get(_key(name))


def unknown_setting(kind: str, name: object, known: Iterable[str], others: Mapping[str, str]) -> SettingError:
    """Return the error for a setting that does not exist: what it is called here, or the nearest names.

    Args:
        kind: What it should have been, such as `augmentation setting`.
        name: What was given.
        known: All that exist.
        others: One of the tables above.
    """
    known = list(known)
    told = called_here(name, others)
    if told in known:
        return SettingError(f"{kind} {name} is called {told} here: write {told}.")
    if told is not None and " " in told:
        return SettingError(f"{kind} {name} {told}.")
    return unknown_name(kind, name, known, "`headstart fit --help`")


def _key(name: object) -> str:
    return re.sub(r"[^a-z0-9]", "", str(name).lower())
