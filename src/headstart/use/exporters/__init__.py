"""Models for other runtimes, each proved on pictures before it is handed out; `write.export_model` does it all.

A format is one file of this folder with `PRECISIONS`, `export(predictor, folder, how)` and `load(folder)`; see
`contract.Exporter`. The contract tests run over `EXPORTERS`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

from headstart.core.errors import unknown_name

if TYPE_CHECKING:
    from headstart.use.exporters.contract import Exporter

EXPORTERS = {
    "onnx": "headstart.use.exporters.to_onnx",
    "openvino": "headstart.use.exporters.to_openvino",
    "torch": "headstart.use.exporters.to_torch",
    "litert": "headstart.use.exporters.to_litert",
    "bundle": "headstart.use.exporters.to_bundle",
}


def exporter(name: str) -> Exporter:
    """Return the exporter of a format.

    Raises:
        SettingError: No format has this name.
    """
    if name not in EXPORTERS:
        raise unknown_name("format", name, EXPORTERS, "`headstart export --help`")
    return cast("Exporter", import_module(EXPORTERS[name]))
