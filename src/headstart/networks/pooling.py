"""From the last activations to features `(n, d)`."""

from __future__ import annotations

import torch
from timm.layers.adaptive_avgmax_pool import SelectAdaptivePool2d
from timm.models.vision_transformer import global_pool_nlc
from torch import nn

MAP_POOLINGS = ("avg", "max", "flatten")
POOLINGS = (*MAP_POOLINGS, "token")


class MapPool(nn.Module):
    """A map `(n, c, h, w)` -> features `(n, c)`, or `(n, h * w * c)` when flattened.

    Flattening goes row by row, all channels of a position together: the order of Keras's `Flatten`, so that a
    dense layer of a Keras model finds its inputs where it expects them.

    Args:
        pooling: `avg`, `max`, `flatten`, or another kind that timm knows (`avgmax`, `catavgmax`).
        norm: What comes between pooling and features, as in ConvNeXt; flattened maps are normalised at each position.
    """

    def __init__(self, pooling: str, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.pooling = pooling
        self.pool = nn.Identity() if pooling == "flatten" else SelectAdaptivePool2d(pool_type=pooling)
        self.norm = nn.Identity() if norm is None else norm

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return the features of `maps`."""
        pooled: torch.Tensor = self.norm(self.pool(maps))
        return (pooled.permute(0, 2, 3, 1) if self.pooling == "flatten" else pooled).flatten(1)


class TokenPool(nn.Module):
    """Tokens `(n, t, d)` -> features `(n, d)`, or `(n, patches * d)` when flattened.

    Args:
        pooling: `token` takes the class token; `avg`, `max` and `flatten` the patches.
        prefix_tokens: How many tokens (class, registers) stand before the patches.
        include_prefix: Whether averages take these too.
        norm: Normalisation of the pooled features, as some architectures have it.
    """

    def __init__(self, pooling: str, prefix_tokens: int, *, include_prefix: bool, norm: nn.Module) -> None:
        super().__init__()
        self.pooling = pooling
        self.prefix_tokens = prefix_tokens
        self.include_prefix = include_prefix
        self.norm = norm

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the features of `tokens`."""
        if self.pooling == "flatten":
            return self.norm(tokens[:, self.prefix_tokens :]).flatten(1)  # type: ignore[no-any-return]
        pooled = global_pool_nlc(tokens, self.pooling, self.prefix_tokens, self.include_prefix)
        return self.norm(pooled)  # type: ignore[no-any-return]


class UnflattenMap(nn.Module):
    """Features flattened by `MapPool` -> the map `(n, c, h, w)` they came from."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height = height
        self.width = width

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the map of flattened `features (n, h * w * c)`."""
        return features.reshape(len(features), self.height, self.width, -1).permute(0, 3, 1, 2)
