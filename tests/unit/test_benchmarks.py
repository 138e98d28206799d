"""The benchmarks' own code: rows, bounds, the list of modules, the page. Nothing is measured here."""

import ast
import http.client
import importlib
import inspect
import json
import math
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
FILES = sorted(path.stem for path in FOLDER.glob("*.py"))
TOOLS = {"fit_once", "harness", "rows", "run", "servers", "table"}
MODULES = [name for name in FILES if name not in TOOLS]


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The folder's modules can be imported by name, and are forgotten afterwards: their names are common words."""
    monkeypatch.syspath_prepend(str(FOLDER))
    yield
    for name in FILES:
        sys.modules.pop(name, None)


def load(name: str) -> ModuleType:
    return importlib.import_module(name)


def test_run_knows_every_benchmark_and_no_other() -> None:
    run = load("run")
    assert sorted((*run.BENCHMARKS, *run.PEERS)) == MODULES
    assert len(MODULES) >= 12


@pytest.mark.parametrize("name", MODULES)
def test_a_benchmark_imports_says_what_it_compares_and_can_be_measured(name: str) -> None:
    module = load(name)
    assert len(module.__doc__.split()) >= 10
    assert list(inspect.signature(module.measure).parameters) == ["data", "effort"]
    for title, bound in [*getattr(module, "BOUNDS", {}).items(), *getattr(module, "LIMITS", {}).items()]:
        assert title
        assert bound >= 0


@pytest.mark.parametrize(("name", "count"), [("serving", 2), ("serving_abuse", 10)])
def test_without_a_load_generator_every_target_of_the_server_counts_as_not_measured(
    name: str, count: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run, harness, module = load("run"), load("harness"), load(name)

    def nothing(data: Path, effort: object) -> Iterator[object]:
        raise harness.NotMeasured("wrk is not installed")
        yield

    monkeypatch.setattr(module, "measure", nothing)
    saved: list = []
    monkeypatch.setattr(run, "save", saved.extend)
    assert run.run(name, tmp_path, harness.FULL)
    assert len(saved) == len({one.name for one in saved}) == count
    assert {one.target[:2] for one in saved} == {">=", "<="}
    assert all(one.met is None and "wrk is not installed" in one.note for one in saved)
    # Every row with a target has its bound from there.
    source = inspect.getsource(module)
    assert source.count("at_least=") + source.count("at_most=") == count
    assert source.count("at_least=BOUNDS[") + source.count("at_most=LIMITS[") == count


def test_a_connection_that_breaks_beside_the_load_is_counted_and_asks_on(monkeypatch: pytest.MonkeyPatch) -> None:
    module = load("serving_abuse")
    results = iter([ConnectionResetError("gone"), 200, http.client.IncompleteRead(b""), 503, 200])
    posted = threading.Event()

    class Client:
        def __init__(self, url: str) -> None:
            pass

        def post(self, body: bytes) -> int:
            result = next(results, None)
            if result is None:
                posted.set()
                return 503
            if isinstance(result, Exception):
                raise result
            return result

        def close(self) -> None:
            pass

    class Server:
        url = "http://localhost"

        def memory(self) -> float:
            return 1.0

    monkeypatch.setattr(module, "Client", Client)
    beside = module.Beside(Server(), b"")
    assert posted.wait(30)
    beside.stop()
    assert beside.broken == 2
    assert len(beside.waits) == 2


@pytest.mark.parametrize("path", sorted((FOLDER / "peers").glob("*.py")), ids=lambda path: path.stem)
def test_a_peer_does_not_need_headstart(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    assert not {name for name in names if name.split(".")[0] in {"headstart", *FILES}}


def test_bounds_are_judged_and_runs_are_summed_up() -> None:
    row = load("rows").row
    high = row("speed", [3.0, 5.0, 4.0], "x", at_least=4)
    assert (high.value, high.low, high.high, high.target, high.met) == (4.0, 3.0, 5.0, ">= 4", True)
    assert row("speed", [3.99], "x", at_least=4).met is False
    assert row("time", [2.0], "s", at_most=2).met is True
    assert row("time", [2.1], "s", at_most=2).met is False
    free = row("time", [2.1], "s")
    assert (free.target, free.met) == ("", None)
    assert row("accuracy", [0.0, 0.0, 0.9], "", middle=lambda values: sum(values) / 3).value == pytest.approx(0.3)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_no_row(value: float) -> None:
    with pytest.raises(ValueError, match="times faster: measured"):
        load("rows").row("times faster", [1.0, value], "x")


def test_the_epochs_of_a_run_are_those_of_fine_tuning_not_of_its_head() -> None:
    history = ({"stage": "head", "seconds": math.nan}, {"stage": "finetune", "seconds": 2.0})
    assert load("harness").Fit(9.0, 1.0, (), history, {}, ()).epochs() == [2.0]


def test_what_could_not_be_measured_is_neither_met_nor_missed(capsys: pytest.CaptureFixture[str]) -> None:
    rows = load("rows")
    one = rows.not_measured("times faster", "no such library", at_least=10)
    assert (one.value, one.target, one.met) == (None, ">= 10", None)
    rows.show([one, rows.row("other", [1.0], "s", at_most=2)])
    shown = capsys.readouterr().out.splitlines()
    assert "not measured: no such library" in shown[0]
    assert shown[1].endswith("met")


def test_rows_merge_by_name(tmp_path: Path) -> None:
    rows, file = load("rows"), tmp_path / "results.json"
    rows.save([rows.row("a", [1.0], "s"), rows.row("b", [2.0], "s")], file)
    rows.save([rows.row("a", [3.0], "s", at_most=2), rows.row("c", [4.0], "s")], file)
    saved = json.loads(file.read_text())
    assert [(one["name"], one["value"], one["met"]) for one in saved] == [
        ("b", 2.0, None),
        ("a", 3.0, False),
        ("c", 4.0, None),
    ]
    assert set(saved[0]) >= {"name", "value", "low", "high", "unit", "target", "met"}


def test_a_measured_row_is_not_lost_to_one_that_could_not_be_measured(tmp_path: Path) -> None:
    rows, file = load("rows"), tmp_path / "results.json"
    rows.save([rows.row("a", [1.0], "s"), rows.not_measured("b", "absent")], file)
    rows.save([rows.not_measured("a", "absent"), rows.row("b", [2.0], "s")], file)
    assert {one["name"]: one["value"] for one in json.loads(file.read_text())} == {"a": 1.0, "b": 2.0}


def test_the_old_cache_comes_back_after_the_empty_one(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = load("harness")
    monkeypatch.setenv("HEADSTART_CACHE", "before")
    with pytest.raises(RuntimeError, match="inside"), harness.empty_cache() as folder:
        assert os.environ["HEADSTART_CACHE"] == str(folder)
        assert list(folder.iterdir()) == []
        raise RuntimeError("inside")
    assert os.environ["HEADSTART_CACHE"] == "before"
    assert not folder.exists()
    monkeypatch.delenv("HEADSTART_CACHE")
    with harness.empty_cache():
        pass
    assert "HEADSTART_CACHE" not in os.environ


def test_a_peer_that_is_not_installed_becomes_rows_not_a_crash(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, harness, module = load("run"), load("harness"), load("keras_frozen")
    monkeypatch.setattr(harness.run_peer, "__kwdefaults__", {"python": tmp_path / "nowhere" / "python"})
    monkeypatch.setattr(module, "write_vgg16", lambda file: file)
    saved: list[object] = []
    monkeypatch.setattr(run, "save", saved.extend)
    assert run.run("keras_frozen", tmp_path, harness.Effort())
    assert {row.name for row in saved} == set(module.BOUNDS)
    assert {(row.value, row.met, row.benchmark) for row in saved} == {(None, None, "keras_frozen")}
    assert "not installed" in capsys.readouterr().out


def test_a_peer_that_fails_is_named_with_its_last_line(tmp_path: Path) -> None:
    harness = load("harness")
    script = tmp_path / "peer.py"
    script.write_text("print('{}')\nraise SystemExit('the library is broken')")
    with pytest.raises(harness.NotMeasured, match=r"peer\.py failed: the library is broken"):
        harness.run_json([sys.executable, script])
    script.write_text("print('chatter')\nprint('{\"seconds\": 1}')")
    assert harness.run_json([sys.executable, script]) == {"seconds": 1}


def test_a_benchmark_that_breaks_is_a_row_and_a_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, harness = load("run"), load("harness")
    monkeypatch.setattr(load("accuracy"), "measure", lambda data, effort: 1 / 0)
    assert not run.run("accuracy", tmp_path, harness.Effort(quick=True))
    captured = capsys.readouterr()
    assert captured.out.count("not measured: ZeroDivisionError") == 2
    assert "Traceback" in captured.err


def test_a_quick_trial_writes_no_results(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run, rows, harness = load("run"), load("rows"), load("harness")
    monkeypatch.setattr(rows, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(load("accuracy"), "measure", lambda data, effort: [rows.row("a", [1.0], "s")])
    assert run.run("accuracy", tmp_path, harness.Effort(quick=True))
    assert not (tmp_path / "results.json").exists()
    assert run.run("accuracy", tmp_path, harness.Effort())
    assert json.loads((tmp_path / "results.json").read_text())[0]["benchmark"] == "accuracy"


def test_all_sides_get_the_same_test_pictures(class_folders, tmp_path: Path) -> None:
    import csv

    harness = load("harness")
    folder = class_folders(per_class=24)
    with harness.write_manifest(folder, tmp_path / "split.csv", test_size=0.25).open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 48
    assert sum(line["split"] == "test" for line in lines) == 12
    assert {line["split"] for line in lines} == {"train", "test"}
    assert all(Path(line["path"]).parent.name == line["label"] for line in lines)


def test_a_small_copy_keeps_the_folders(class_folders, tmp_path: Path) -> None:
    copy = load("harness").small_copy(class_folders(per_class=5), tmp_path / "small", per_class=2)
    assert {folder.name: len(list(folder.iterdir())) for folder in copy.iterdir()} == {"dots": 2, "stripes": 2}


def test_the_page_shows_values_verdicts_and_reasons() -> None:
    table, rows = load("table"), load("rows")
    from dataclasses import asdict, replace

    made = [
        replace(rows.row("fast", [4.0, 6.0], "x", at_least=5, note="keras 3"), benchmark="keras_frozen", machine="M"),
        replace(rows.row("slow", [9.0], "s", at_most=5), benchmark="keras_frozen", machine="M"),
        replace(rows.not_measured("absent", "no fastai", at_least=2), benchmark="fastai_finetune"),
    ]
    page = table.page([asdict(one) for one in made])
    assert "1 of 3 targets are met; 1 not measured." in page
    assert "| fast | 5 x | 4 to 6 | >= 5 | met |" in page
    assert "| slow | 9 s |  | <= 5 | **missed** |" in page
    assert "| absent | – |  | >= 2 | not measured |" in page
    assert "Not measured: no fastai." in page
    assert page.index("## keras_frozen") < page.index("## fastai_finetune")


def test_the_torch_of_the_peers_is_headstarts_own() -> None:
    def versions(name: str) -> dict[str, str]:
        lines = (FOLDER.parent / name).read_text(encoding="utf-8").splitlines()
        return dict(line.split("#")[0].strip().split("==") for line in lines if "==" in line)

    ours, theirs = versions("constraints.txt"), versions("constraints-peers.txt")
    for name in ("torch", "torchvision", "timm"):
        assert theirs[name] == ours[name], name
