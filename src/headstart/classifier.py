"""`ImageClassifier` as the package gives it: that of `learn`, which also writes a report beside the model."""

from __future__ import annotations

import os
from typing import Any

from headstart.core.finished import Finish
from headstart.core.progress import OnEpoch, Progress
from headstart.learn import classifier as learn
from headstart.use.report import finish as write_report


class ImageClassifier(learn.ImageClassifier):
    """An image classifier learned by transfer; every fit writes `report.html` into the model folder."""

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        out: str | os.PathLike[str] | None = None,
        resume: bool = False,
        progress: Progress | None = None,
        on_epoch: OnEpoch | None = None,
        finish: Finish | None = write_report,
    ) -> ImageClassifier:
        """Learn from labelled pictures, test once, and write the model folder with its report.

        Takes and raises what `headstart.learn.classifier.ImageClassifier.fit` does; `finish=None` writes no report.
        """
        super().fit(X, y, out=out, resume=resume, progress=progress, on_epoch=on_epoch, finish=finish)
        return self


ImageClassifier.__doc__ = learn.ImageClassifier.__doc__
