"""headstart turns a folder of labelled pictures into a classifier you can trust, by transfer learning.

The names below are all there is to import. Each is loaded when it is first used: `import headstart` by itself
imports neither torch nor numpy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headstart.classifier import ImageClassifier
    from headstart.core.artifact import load
    from headstart.core.errors import HeadstartError
    from headstart.core.metrics import evaluate
    from headstart.core.predictor import Predictor
    from headstart.core.preprocessing import Preprocessing
    from headstart.face import explain, export
    from headstart.learn.dataset import read_dataset
    from headstart.learn.features.transformer import FeatureExtractor, extract_features
    from headstart.networks import load_backbone

__version__ = "0.1.0"

__all__ = [
    "FeatureExtractor",
    "HeadstartError",
    "ImageClassifier",
    "Predictor",
    "Preprocessing",
    "__version__",
    "evaluate",
    "explain",
    "export",
    "extract_features",
    "load",
    "load_backbone",
    "read_dataset",
]

_HOMES = {
    "FeatureExtractor": "headstart.learn.features.transformer",
    "HeadstartError": "headstart.core.errors",
    "ImageClassifier": "headstart.classifier",
    "Predictor": "headstart.core.predictor",
    "Preprocessing": "headstart.core.preprocessing",
    "evaluate": "headstart.core.metrics",
    "explain": "headstart.face",
    "export": "headstart.face",
    "extract_features": "headstart.learn.features.transformer",
    "load": "headstart.core.artifact",
    "load_backbone": "headstart.networks",
    "read_dataset": "headstart.learn.dataset",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its home on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
