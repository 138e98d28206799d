"""The waist of headstart: a picture in, class probabilities out. Everything that uses a model goes through here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headstart.core import pictures as sources
from headstart.core.answers import Answer, Thresholds, answer
from headstart.core.errors import ImageError, SettingError
from headstart.core.machine import cores
from headstart.core.pictures import Picture
from headstart.core.pipeline import chunked, map_ordered
from headstart.core.preprocessing import Preprocessing
from headstart.core.runtime import Network, Precision
from headstart.core.text import cell_name

BATCH_SIZE = 4  # small batches keep activations in the processor's cache; docs/decisions/0004-engines.md


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the network says of one picture, or the `error` that says why there is nothing.

    Attributes:
        name: The picture's path, or its position.
        probabilities: float32 `(c,)`, or None.
        error: One sentence, or None.
        novelty: How unlike the training pictures it is; None where the model does not say.
    """

    name: str
    probabilities: np.ndarray | None
    error: str | None = None
    novelty: float | None = None


class Predictor:
    """Predicts with a saved model; needs no torch.

    Args:
        network_file: ONNX file: uint8 `images (n, h, w, 3)` in; `probabilities (n, c)`, `features (n, d)` and perhaps
            `novelty (n,)` out.
        classes: The c class names, in the order of the probabilities.
        preprocessing: Turns any picture into what the network sees.
        description: What `model.json` says.
        precision: What the network computes in; float32 gives the same answer on every machine.
    """

    def __init__(
        self,
        network_file: Path,
        classes: tuple[str, ...],
        preprocessing: Preprocessing,
        *,
        description: dict[str, Any] | None = None,
        precision: Precision = "float32",
    ) -> None:
        self.network_file = network_file
        self.classes = classes
        self.preprocessing = preprocessing
        self.description = description or {}
        self.precision = precision
        self.thresholds = Thresholds.of(self.description)
        self._networks: dict[int, Network] = {}

    def predict_proba(self, pictures: Any) -> np.ndarray:
        """Return class probabilities, float32 `(n, c)`; rows sum to 1, unless pictures have several labels.

        Args:
            pictures: One or several of: path, folder, bytes, uint8 RGB array `(h, w, 3)`, PIL image.

        Raises:
            ImageError: A picture cannot be read; the message names it.
        """
        return self._outputs(pictures, "probabilities")

    def predict(self, pictures: Any) -> np.ndarray:
        """Return the most probable class of each picture, an array of n class names; see `predict_proba`.

        Where pictures have several labels, return which are given as scikit-learn does, bool `(n, c)` with a column a
        class; `predict_labels` returns their names.
        """
        probabilities = self.predict_proba(pictures)
        if self.thresholds.labels is not None:
            return np.asarray(probabilities >= np.asarray(self.thresholds.labels))
        named: np.ndarray = np.asarray(self.classes)[probabilities.argmax(axis=1)]
        return named

    def predict_labels(self, pictures: Any) -> list[tuple[str, ...]]:
        """Return the labels of each picture, in the order of the classes, perhaps none; see `predict_proba`.

        Raises:
            SettingError: The model gives each picture one class.
        """
        if self.thresholds.labels is None:
            raise SettingError("this model gives each picture one class: call predict.")
        return [tuple(self.classes[index] for index in np.flatnonzero(row)) for row in self.predict(pictures)]

    def extract_features(self, pictures: Any) -> np.ndarray:
        """Return the features below the head, float32 `(n, d)`; see `predict_proba`."""
        return self._outputs(pictures, "features")

    def score(self, pictures: Any, labels: Iterable[Any]) -> float:
        """Return the share of pictures whose most probable class is their label; numbers are known by their names.

        Raises:
            SettingError: The model gives a picture several labels.
        """
        if self.thresholds.labels is not None:
            raise SettingError("this model gives a picture several labels: measure it with `headstart evaluate`.")
        named = [cell_name(label) or "" for label in labels]  # a missing one is no class
        return float(np.mean(self.predict(pictures) == np.asarray(named)))

    def stream(self, pictures: Iterable[Picture], *, many: bool = True) -> Iterator[Prediction]:
        """Yield a `Prediction` for each picture, in order, in bounded memory; a broken picture has its `error` set.

        Args:
            pictures: Paths, bytes, arrays or PIL images; may be endless.
            many: Whether to prefer throughput; False answers the first picture sooner.
        """
        for name, outputs, error in self._run(pictures, many=many):
            if outputs is None:
                yield Prediction(name, None, error)
            else:
                novelty = float(outputs["novelty"]) if "novelty" in outputs else None
                yield Prediction(name, outputs["probabilities"], novelty=novelty)

    def answer(self, prediction: Prediction) -> Answer:
        """Return what people are told of a picture: class, prediction set, and whether it is none of the classes.

        Args:
            prediction: Of `stream`, without an error.
        """
        assert prediction.probabilities is not None
        return answer(prediction.probabilities, prediction.novelty, self.classes, self.thresholds)

    def _outputs(self, pictures: Any, output: str) -> np.ndarray:
        listed = sources.as_list(pictures)
        rows = []
        for name, outputs, error in self._run(listed, many=len(listed) > BATCH_SIZE):
            if outputs is None:
                raise ImageError(f"{name}: {error}")
            rows.append(outputs[output])
        if rows:
            return np.stack(rows)
        return np.zeros((0, len(self.classes) if output == "probabilities" else 0), np.float32)

    def _run(
        self, pictures: Iterable[Picture], *, many: bool
    ) -> Iterator[tuple[str, dict[str, np.ndarray] | None, str | None]]:
        network = self.network(many=many)

        def work(chunk: list[tuple[int, Picture]]) -> list[tuple[str, dict[str, np.ndarray] | None, str | None]]:
            results = self.run([picture for _, picture in chunk], network)
            return [
                (sources.name(picture, index), None, str(result))
                if isinstance(result, ImageError)
                else (sources.name(picture, index), result, None)
                for (index, picture), result in zip(chunk, results, strict=True)
            ]

        chunks = chunked(enumerate(pictures), BATCH_SIZE)
        for results in map_ordered(work, chunks, workers=network.streams):
            yield from results

    def run(self, pictures: Sequence[Picture], network: Network) -> list[dict[str, np.ndarray] | ImageError]:
        """Decode a few pictures and run the network on them, in this thread; safe to call from several.

        Args:
            pictures: At most about `BATCH_SIZE`.
            network: What `network` returned.

        Returns:
            For each picture its outputs by name (the first axis is gone), or the error that says why there are none.
        """
        images: list[np.ndarray] = []
        results: list[dict[str, np.ndarray] | ImageError] = []
        for picture in pictures:
            try:
                images.append(sources.load(picture, self.preprocessing))
                results.append({})
            except ImageError as error:
                results.append(error)
        outputs = network.run(np.stack(images)) if images else {}
        rows = iter(range(len(images)))
        return [
            result
            if isinstance(result, ImageError)
            else {key: value[row] for row in [next(rows)] for key, value in outputs.items()}
            for result in results
        ]

    def network(self, *, many: bool) -> Network:
        """Return the network, compiled on first use: one stream a core (many), or all cores for the picture at hand."""
        streams = cores() if many else 1
        if streams not in self._networks:
            self._networks[streams] = Network(self.network_file, precision=self.precision, streams=streams)
        return self._networks[streams]
