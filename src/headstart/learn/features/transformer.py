"""Features for other people's classifiers: one function, and a scikit-learn transformer around it."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from headstart.core import pictures as sources
from headstart.core.progress import Progress
from headstart.learn.features.extract import FeatureSettings, extract
from headstart.learn.features.memory import check_memory
from headstart.networks import Backbone, catalog, load_backbone


def extract_features(
    pictures: Any,
    backbone: str | Backbone = catalog.DEFAULT,
    *,
    image_size: int | tuple[int, int] | None = None,
    pooling: str | None = None,
    weights: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    progress: Progress | None = None,
) -> np.ndarray:
    """Return the features of a pretrained backbone, float32 `(n, d)`; each picture is computed once and cached.

    Args:
        pictures: A folder, or one or several paths, bytes, uint8 RGB arrays `(h, w, 3)` or PIL images.
        backbone: A name (`headstart models` lists them) or a loaded backbone.
        image_size: Side, or `(height, width)`, in pixels; None takes the backbone's.
        pooling: `avg`, `max` or `flatten`; None takes the backbone's.
        weights: A file with the backbone's weights instead of the usual ones.
        device: `auto`, `cpu`, `cuda` or `mps`.
        precision: `auto`, `float32` or `bfloat16`.
        progress: Is shown the pictures done.

    Raises:
        DataError: Pictures cannot be read; every one is named.
        WeightsError: The weights cannot be had.
        SettingError: There is no such backbone, pooling, device or precision, or memory is too small for the features.
    """
    if isinstance(backbone, str):
        backbone = load_backbone(backbone, weights=weights, image_size=image_size, pooling=pooling)
    listed = sources.as_list(pictures)
    if not listed:
        return np.zeros((0, backbone.num_features), np.float32)
    check_memory(len(listed), 1, backbone.num_features)
    how = FeatureSettings(device=device, precision=precision)
    return extract(listed, backbone, how, progress=progress).read()[:, 0]


class FeatureExtractor(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """`extract_features` as a scikit-learn transformer, for pipelines with any classifier.

    Args:
        backbone, image_size, pooling, weights, device, precision: As in `extract_features`.
    """

    def __init__(
        self,
        backbone: str = catalog.DEFAULT,
        *,
        image_size: int | tuple[int, int] | None = None,
        pooling: str | None = None,
        weights: str | None = None,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        self.backbone = backbone
        self.image_size = image_size
        self.pooling = pooling
        self.weights = weights
        self.device = device
        self.precision = precision

    def fit(self, X: Any, y: Any = None) -> FeatureExtractor:
        """Load the backbone; nothing is learned from X."""
        self.backbone_ = load_backbone(
            self.backbone, weights=self.weights, image_size=self.image_size, pooling=self.pooling
        )
        self.n_features_out_ = self.backbone_.num_features
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return float32 features `(n, d)` of pictures; see `extract_features`."""
        return extract_features(X, self.backbone_, device=self.device, precision=self.precision)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return `efficientnet_lite0_0`, … for scikit-learn's `set_output`."""
        return np.array([f"{self.backbone}_{i}" for i in range(self.n_features_out_)], dtype=object)
