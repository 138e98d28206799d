"""Heat maps: against Grad-CAM worked by hand, against planted places, and laid back over the whole picture."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from tiny_backbones import tiny_backbone
from torch import nn
from torch.nn import functional as F

from headstart.core.errors import SettingError
from headstart.core.predictor import Predictor
from headstart.core.preprocessing import Preprocessing
from headstart.networks.export import Classifier, to_onnx
from headstart.networks.layers import AgainstZero
from headstart.use.explain import gradcam, occlusion, over_whole, overlay

SIZE = 64


def pictures(count: int, height: int = SIZE, width: int = SIZE) -> np.ndarray:
    """Return smooth random pictures, uint8."""
    small = torch.from_numpy(np.random.default_rng(0).random((count, 3, 4, 4), np.float32))
    large = F.interpolate(small, (height, width), mode="bicubic").clamp(0, 1)
    return (255 * large.permute(0, 2, 3, 1)).round().numpy().astype(np.uint8)


def with_head(backbone, classes: int = 3) -> Classifier:
    torch.manual_seed(0)
    return Classifier(backbone.network, nn.Linear(backbone.num_features, classes)).eval()


def enlarged(grid: torch.Tensor, size: tuple[int, int]) -> np.ndarray:
    """Return the positive part of `(n, rows, columns)`, enlarged by torch, each map's maximum 1."""
    large = F.interpolate(grid.clamp(min=0)[:, None], size, mode="bicubic", align_corners=False)[:, 0].clamp(min=0)
    return (large / large.amax((1, 2), keepdim=True).clamp(min=1e-12)).numpy()


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet"])
def test_with_averages_and_a_linear_head_it_is_cam_worked_by_hand(name: str, tmp_path) -> None:
    backbone = tiny_backbone(name, tmp_path, image_size=SIZE)
    network, images, targets = with_head(backbone), pictures(5), np.array([0, 1, 2, 1, 0])
    found = gradcam.heat_maps((backbone, network), images, targets)
    with torch.inference_mode():
        maps = backbone.network[:-1](torch.from_numpy(images))
        others = [[other for other in range(3) if other != target] for target in targets]
        weights = torch.stack(
            [network.head.weight[t] - network.head.weight[o].mean(0) for t, o in zip(targets, others, strict=True)]
        )
        by_hand = torch.einsum("nc,nchw->nhw", weights, maps)
    assert maps.shape[2] > 1
    assert found.dtype == np.float32
    assert found.shape == (5, SIZE, SIZE)
    assert np.abs(found - enlarged(by_hand, (SIZE, SIZE))).max() < 1e-3
    assert (found.max(axis=(1, 2)) == 1).sum() >= 2


@pytest.mark.parametrize("pooling", ["token", "avg"])
def test_of_a_transformer_it_is_grad_cam_on_the_grid_of_patches_worked_by_hand(pooling: str, tmp_path) -> None:
    backbone = tiny_backbone("test_vit", tmp_path, image_size=SIZE, pooling=pooling)
    network, images, targets = with_head(backbone), pictures(4), np.array([2, 0, 1, 1])
    found = gradcam.heat_maps((backbone, network), images, targets)
    last = len(backbone.stages) - 1  # normalize, patch_embed, blocks …; the last block, norm and pool stay above
    with torch.no_grad():
        tokens = backbone.network[:last](torch.from_numpy(images))
    tokens.requires_grad_(True)
    logits = network.head(backbone.network[last:](tokens))
    contrast = sum(row[t] - (row.sum() - row[t]) / 2 for row, t in zip(logits, targets, strict=True))
    (gradient,) = torch.autograd.grad(contrast, tokens)
    weights = gradient[:, 1:].mean(1, keepdim=True)
    by_hand = (weights * tokens[:, 1:]).sum(2).detach().reshape(4, SIZE // 16, SIZE // 16)
    assert backbone.stages[last - 1].startswith("blocks.")
    assert np.abs(found - enlarged(by_hand, (SIZE, SIZE))).max() < 1e-3


@pytest.mark.parametrize(
    ("name", "settings", "size"),
    [
        ("test_resnet", {"pooling": "max"}, (64, 64)),
        ("test_resnet", {"pooling": "flatten"}, (64, 96)),
        ("test_convnext", {}, (64, 64)),
        ("test_vit", {"pooling": "flatten"}, (64, 64)),
        ("vit_tiny_patch16_224", {}, (48, 80)),
        ("vit_small_patch14_reg4_dinov2", {}, (56, 84)),  # class token and four registers before the patches
        ("mobilenetv3_small_050", {}, (64, 64)),  # pools before its last layer
        ("test_mambaout", {}, (96, 64)),  # one stage, maps with the channels last
    ],
)
def test_every_kind_of_network_has_heat_of_its_own_size_and_orientation(name, settings, size) -> None:
    """A patch is planted at the upper right: where activations change most is where the layout says that it is."""
    from headstart.networks import load_backbone

    torch.manual_seed(0)
    backbone = load_backbone(name, blank=True, image_size=size, **settings)
    for part in backbone.network.modules():
        if isinstance(part, (nn.Linear, nn.Conv2d)):
            nn.init.normal_(part.weight, std=0.05)
        elif "weight" in part._parameters and isinstance(part.weight, nn.Parameter):
            nn.init.ones_(part.weight)
        if isinstance(part, nn.BatchNorm2d | nn.BatchNorm1d):
            part.running_var.fill_(1)
    images = np.full((2, *size, 3), 128, np.uint8)
    images[1, : size[0] // 4, -size[1] // 4 :] = (255, 0, 0)
    cut, layout = gradcam._choose_layer(backbone)
    with torch.no_grad():
        maps, _ = layout.take_apart(backbone.network[:cut](torch.from_numpy(images)))
        again = layout.put_together(*layout.take_apart(backbone.network[:cut](torch.from_numpy(images))))
        assert torch.equal(again, backbone.network[:cut](torch.from_numpy(images)))
    change = (maps[1] - maps[0]).abs().sum(0)
    rows, columns = change.shape
    row, column = divmod(int(change.argmax()), columns)
    assert maps.shape[2:] == (layout.rows, layout.columns)
    assert abs(rows / columns - size[0] / size[1]) < 0.2
    assert (row + 0.5) / rows <= 0.5 <= (column + 0.5) / columns
    heat = gradcam.heat_maps((backbone, with_head(backbone)), images, np.array([0, 1]))
    assert heat.shape == (2, *size)
    assert np.isfinite(heat).all()
    assert heat.min() >= 0
    assert heat.max() <= 1


def test_a_head_that_reads_one_place_of_a_flattened_map_has_heat_there_alone(tmp_path) -> None:
    size = 4 * SIZE
    backbone = tiny_backbone("test_resnet", tmp_path, image_size=size, pooling="flatten")
    _, layout = gradcam._choose_layer(backbone)
    head = nn.Linear(backbone.num_features, 2)
    weight = torch.zeros(layout.rows, layout.columns, backbone.num_features // (layout.rows * layout.columns))
    weight[0, -1] = 1
    head.weight.data = torch.stack([-weight.flatten(), weight.flatten()])
    heat = gradcam.heat_maps((backbone, Classifier(backbone.network, head)), pictures(2, size, size), np.array([1, 1]))
    centre = size / layout.rows / 2
    for one in heat:
        row, column = np.unravel_index(one.argmax(), one.shape)
        assert row <= centre
        assert column >= size - centre
        assert one[size // 2 :].max() < 1e-6
        assert one[:, : size // 2].max() < 1e-6


def test_both_classes_of_a_single_output_can_be_explained(tmp_path) -> None:
    backbone = tiny_backbone("test_resnet", tmp_path, image_size=4 * SIZE)
    torch.manual_seed(0)
    single = nn.Linear(backbone.num_features, 1)
    images = pictures(2, 4 * SIZE, 4 * SIZE)
    with torch.no_grad():  # evidence for and against in every picture
        maps = backbone.network[:-1](torch.from_numpy(images))
    mean = maps.mean((0, 2, 3))
    single.weight.data -= (single.weight @ mean) * mean / mean.dot(mean)
    head = nn.Linear(backbone.num_features, 2)
    head.weight.data = torch.cat([-single.weight / 2, single.weight / 2]).detach()
    one = Classifier(backbone.network, nn.Sequential(single, AgainstZero()))
    two = Classifier(backbone.network, head)
    for target in (0, 1):
        targets = np.array([target, target])
        found = gradcam.heat_maps((backbone, one), images, targets)
        assert found.max() == 1
        assert np.abs(found - gradcam.heat_maps((backbone, two), images, targets)).max() < 1e-4


class RedSpot(nn.Module):
    """uint8 `(n, 64, 64, 3)` -> probabilities of (grey, red): red where any 8 x 8 square is red; and two features."""

    outputs = ("probabilities", "features")
    novelty = None

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        values = images.permute(0, 3, 1, 2).float() / 255
        red = F.avg_pool2d(values[:, :1] - values[:, 1:2], 8).amax((2, 3))
        features = torch.cat([0.5 - red, red], dim=1)
        return torch.softmax(8 * features, dim=1), features


@pytest.fixture(scope="module")
def red_spot(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    folder = tmp_path_factory.mktemp("red")
    to_onnx(RedSpot(), folder / "model.onnx", (SIZE, SIZE), ("probabilities", "features"))
    return Predictor(folder / "model.onnx", ("grey", "red"), Preprocessing((SIZE, SIZE)))


@pytest.mark.parametrize(("row", "column"), [(0, 0), (24, 40), (56, 8), (56, 56)])
def test_occlusion_finds_a_planted_patch_and_nothing_where_there_is_none(red_spot, row: int, column: int) -> None:
    images = np.full((2, SIZE, SIZE, 3), 128, np.uint8)
    images[0, row : row + 8, column : column + 8] = (255, 0, 0)
    heat = occlusion.heat_maps(red_spot, images, np.array([1, 1]))
    peak = np.unravel_index(heat[0].argmax(), heat[0].shape)
    assert heat.dtype == np.float32
    assert abs(peak[0] - row - 3.5) <= 4
    assert abs(peak[1] - column - 3.5) <= 4
    far = np.hypot(*(np.mgrid[:SIZE, :SIZE] - np.array([row + 4, column + 4])[:, None, None])) > 32
    assert heat[0][far].max() < 0.01
    assert heat[1].max() == 0
    against = occlusion.heat_maps(red_spot, images[:1], np.array([0]))
    assert against.max() == 0  # covering the red patch makes it more grey, nothing makes it less


def test_a_place_that_matters_little_is_not_painted_as_if_it_mattered_much(red_spot) -> None:
    images = np.full((3, SIZE, SIZE, 3), 128, np.uint8)
    for image, red in zip(images, (130, 140, 255), strict=True):
        image[24:40, 24:40] = (red, 128, 128)  # one square covers all of it, so the loss is that of the odds
    heat = occlusion.heat_maps(red_spot, images, np.array([1, 1, 1])).max(axis=(1, 2))
    evidence = np.log(red_spot.network(many=True).run(images)["probabilities"])
    grey = np.log(red_spot.network(many=True).run(np.full_like(images, 128))["probabilities"])
    odds = (evidence - grey) @ np.array([-1, 1])
    assert heat[2] == 1
    assert 0 < heat[0] < heat[1] < odds[1] < 1  # blurring leaves some of the red


def test_occlusion_runs_the_network_a_bounded_number_of_times(red_spot, monkeypatch) -> None:
    kind = type(red_spot.network(many=True))
    run, seen = kind.run, []

    def counted(self, images):
        seen.append(len(images))
        return run(self, images)

    monkeypatch.setattr(kind, "run", counted)
    occlusion.heat_maps(red_spot, np.zeros((2, SIZE, SIZE, 3), np.uint8), np.array([0, 1]), grid=4)
    assert sum(seen) == 2 * (5 * 5 + 1)
    for grid in (1, 33):
        with pytest.raises(SettingError, match="grid is"):
            occlusion.heat_maps(red_spot, np.zeros((1, SIZE, SIZE, 3), np.uint8), np.array([0]), grid=grid)


def test_occlusion_and_overlay_import_no_torch(red_spot) -> None:
    code = """
import sys, numpy as np
from pathlib import Path
from headstart.core.predictor import Predictor
from headstart.core.preprocessing import Preprocessing
from headstart.use.explain import explain_pictures
predictor = Predictor(Path(sys.argv[1]), ("grey", "red"), Preprocessing((64, 64)))
picture = np.full((80, 96, 3), 128, np.uint8)
picture[40:50, 40:50] = (255, 0, 0)
(one,) = explain_pictures(predictor, [picture], method="occlusion")
print(one.overlay().shape, "torch" in sys.modules, "captum" in sys.modules)
"""
    command = [sys.executable, "-c", code, str(red_spot.network_file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(80, 96, 3) False False"


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
@pytest.mark.parametrize(("height", "width"), [(90, 200), (200, 90), (120, 120)])
def test_heat_lies_on_the_whole_picture_where_its_cause_is(fit: str, height: int, width: int) -> None:
    preprocessing = Preprocessing((SIZE, SIZE), fit=fit)
    x0, y0, x1, y1 = preprocessing.window(width, height)
    for down, across in ((0.3, 0.4), (0.6, 0.75)):
        row, column = int(y0 + down * (y1 - y0)), int(x0 + across * (x1 - x0))
        whole = np.zeros((height, width, 3), np.uint8)
        whole[row - 4 : row + 5, column - 4 : column + 5] = 255
        seen = preprocessing(whole).astype(np.float32)[..., 0] / 255
        seen[(preprocessing(whole + 1) == preprocessing.pad_value).all(2)] = 0
        heat = over_whole(seen, preprocessing, (height, width))
        rows, columns = np.nonzero(np.nan_to_num(heat) > 0.5)
        assert heat.shape == (height, width)
        assert abs(rows.mean() - row) < 3
        assert abs(columns.mean() - column) < 3
    visible = ~np.isnan(heat)
    assert visible.mean() == pytest.approx(preprocessing.share_seen(width, height), abs=0.03)


def test_the_overlay_keeps_the_shape_marks_the_heat_and_darkens_what_was_not_seen() -> None:
    image = np.full((60, 100, 3), (40, 90, 200), np.uint8)
    heat = np.zeros((60, 100), np.float32)
    heat[20:40, 20:40] = 1
    heat[:, 70:] = np.nan
    drawn = overlay(image, heat)
    assert drawn.dtype == np.uint8
    assert drawn.shape == image.shape
    assert drawn[30, 30, 0] > drawn[30, 30, 2]  # warm where the heat is
    assert drawn[30, 60, 2] > drawn[30, 60, 0]  # the picture's own blue where there is none
    assert drawn[30, 90].max() < drawn[30, 60].mean()  # dark where nothing was seen
    assert overlay(image, heat[::2, ::2]).shape == image.shape
