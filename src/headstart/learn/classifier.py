"""`ImageClassifier`: labelled pictures in, a tested model folder out, in scikit-learn's manner."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError

from headstart.core import artifact
from headstart.core import pictures as sources
from headstart.core.finished import Finish
from headstart.core.metrics import Evaluation
from headstart.core.predictor import Predictor
from headstart.core.progress import OnEpoch, Progress
from headstart.core.text import cell_name
from headstart.learn import parameters
from headstart.learn.shares import TEST_SIZE, VALIDATION_SIZE
from headstart.networks import catalog

if TYPE_CHECKING:
    import pandas as pd

    from headstart.learn.prepare import Prepared
    from headstart.learn.setup import Setup
    from headstart.learn.trained import Trained

DEFAULT_BUDGET = "2m"


class ImageClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """An image classifier learned by transfer: a new head on a pretrained backbone.

    Args:
        backbone: Name of a pretrained network; `headstart models` lists them.
        method: `frozen` fits a head on the features of the frozen backbone; `finetune` trains the upper stages on from
            there; `auto` does the second where the pictures and the budget allow and validation then prefers it.
        head: `linear`, `mlp` or `prototype`.
        hidden: Sizes of the hidden layers of the `mlp` head; None is `(256,)`.
        dropout: Dropout of the `mlp` head; None is 0.5.
        epochs: Passes over the training pictures of what trains by epochs: of the `mlp` head (None is 10); with another
            head, of fine-tuning (None follows the size of the data). With `mlp`, fine-tuning's stand in `training`.
        batch_size: Pictures a step, of the same; None is 32.
        learning_rate: Of the same; None takes the default. Fine-tuning's is that of the head, and the backbone has
            three tenths of it.
        patience: Epochs of the same without a better validation before it stops and the best epoch is taken, by the
            loss of the `mlp` head or what docs/fine-tuning.md names; None is 0, which never stops. The head that is
            saved learns from the validation pictures too, for as many epochs as the best took.
        output: `softmax`; `sigmoid`: one output unit for two classes; `multilabel`: several labels a picture, or none.
        image_size: Side (or `(height, width)`) in pixels of what the network sees; None takes the backbone's.
        pooling: `avg`, `max` or `flatten`; None takes the backbone's.
        fit_mode: How a picture is made to fit: `crop`, `pad` (letterbox) or `squash`.
        views: Views of each training picture; the first is plain, the others are augmented. None is one without
            augmentation, and else four, or one an epoch where fewer or all of the pixels are trained on.
        augmentation: A policy (`none`, `flip`, `light`, `standard`, `strong`) or a dictionary of single settings.
        unfreeze: What fine-tuning trains: a stage, `all`, the last N layers, or (stage, epochs) pairs; None follows
            the size of the data.
        training: Settings of fine-tuning by name, such as `{"epochs": 10}`; `headstart fit --help` lists them, and
            docs/fine-tuning.md tells what each does.
        budget: Time that fine-tuning may take by estimate, such as `10m`; None is two minutes for `auto` and no limit
            for `finetune`.
        class_weight: None, `balanced`, or a dictionary from class name to weight.
        label_columns: With `multilabel`: the manifest's columns of 0 and 1 that are labels; None takes those called
            `label:NAME` or, without any, names in the column `label`.
        label_separator: What stands between those names.
        weights: A file with the backbone's weights (safetensors, .pth, Keras .h5) instead of the usual ones.
        validation_size: Share of the pictures for choosing, where the data do not say.
        test_size: Share of the pictures for the final figure, where the data do not say.
        coverage: Share of new pictures whose true class shall be in the prediction set.
        false_alarm_rate: Share of new pictures of the known classes that may be called unknown.
        seed: Of the split, the views and the head.
        device: `auto`, `cpu`, `cuda` or `mps`.
        precision: `auto`, `float32` or `bfloat16`, of the features; the saved model predicts in float32.

    Attributes:
        classes_: Class names in the order of the probabilities: of label columns that of the columns, of labels given
            as numbers that of their values (3 is called `3`), else that of their text.
        predictor_: The saved model.
        test_: Figures of the saved model on the untouched test pictures, or over cross-validation (`evaluated_by_`).
        validation_: Figures on the validation pictures of the head that had not seen them, or None.
        evaluated_by_: `test pictures` or `repeated cross-validation`.
        history_: DataFrame with a row an epoch; empty for heads without epochs. After fine-tuning the column `stage`
            says of what, `head` or `finetune`; each counts its own epochs.
        chosen_: Hyper-parameters that were chosen.
        counts_, set_aside_, kept_together_: What became of the pictures.
        seconds_: Wall time by step.
        notes_: What was notable, one sentence each.
    """

    def __init__(
        self,
        backbone: str = catalog.DEFAULT,
        method: str = "auto",
        *,
        head: str = "linear",
        hidden: Sequence[int] | None = None,
        dropout: float | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        patience: int | None = None,
        output: str = "softmax",
        image_size: int | Sequence[int] | None = None,
        pooling: str | None = None,
        fit_mode: str = "crop",
        views: int | None = None,
        augmentation: str | dict[str, Any] | None = None,
        unfreeze: int | str | list[Any] | None = None,
        training: dict[str, Any] | None = None,
        budget: str | float | None = None,
        class_weight: str | dict[str, float] | None = None,
        label_columns: Sequence[str] | None = None,
        label_separator: str = ";",
        weights: str | None = None,
        validation_size: float = VALIDATION_SIZE,
        test_size: float = TEST_SIZE,
        coverage: float = 0.95,
        false_alarm_rate: float = 0.05,
        seed: int = 0,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        self.backbone = backbone
        self.method = method
        self.head = head
        self.hidden = hidden
        self.dropout = dropout
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.patience = patience
        self.output = output
        self.image_size = image_size
        self.pooling = pooling
        self.fit_mode = fit_mode
        self.views = views
        self.augmentation = augmentation
        self.unfreeze = unfreeze
        self.training = training
        self.budget = budget
        self.class_weight = class_weight
        self.label_columns = label_columns
        self.label_separator = label_separator
        self.weights = weights
        self.validation_size = validation_size
        self.test_size = test_size
        self.coverage = coverage
        self.false_alarm_rate = false_alarm_rate
        self.seed = seed
        self.device = device
        self.precision = precision

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        out: str | os.PathLike[str] | None = None,
        resume: bool = False,
        progress: Progress | None = None,
        on_epoch: OnEpoch | None = None,
        finish: Finish | None = None,
    ) -> ImageClassifier:
        """Learn from labelled pictures, test once, and write the model folder.

        Args:
            X: A folder of class folders (with or without train/val/test above them), a CSV or Parquet manifest, a
                DataFrame with `path` and `label`, or a list of paths.
            y: A label for each path, where X is a list; with `multilabel` a list of names for each, or a matrix of 0
                and 1 (a DataFrame, whose columns are the labels' names, or an array).
            out: Where to write the model folder; None keeps it in a temporary folder until `save`.
            resume: Whether fine-tuning continues from the checkpoint of an interrupted run with the same data and
                settings; its result is that of the uninterrupted run.
            progress: Is shown the steps; None is silent.
            on_epoch: Called with each epoch's row as soon as it is done, of the `mlp` head and of fine-tuning; `stage`
                of the head's is `head` where the method is not `frozen`.
            finish: Called with what was made just before the model folder takes its place, to add a report to it.

        Raises:
            SettingError: A parameter cannot work; all such parameters are named. Or memory is too small for the
                features, which is asked before they are computed.
            DataError: The pictures cannot be learned from; every problem is named.
            WeightsError: The backbone's weights cannot be had.
            ModelError: `out` cannot be written.
        """
        from headstart.learn.prepare import prepare

        progress = progress or Progress()
        with progress.step("import libraries"):  # checking the parameters needs torch and timm, and takes no time
            parameters.check(self)
        if out is not None:
            artifact.check_target(Path(out))
        prepared = prepare(
            X,
            y,
            several=parameters.several_labels(self),
            validation=self.validation_size,
            test=self.test_size,
            seed=self.seed,
            progress=progress,
        )
        if out is None:
            temporary = tempfile.mkdtemp(prefix="headstart-")
            weakref.finalize(self, shutil.rmtree, temporary, ignore_errors=True)
            out = Path(temporary) / "model"
        self._learn(prepared, Path(out), progress, resume, on_epoch, finish)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return class probabilities, float32 `(n, c)`; see `Predictor.predict_proba`."""
        return self._fitted().predict_proba(X)

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable class of each picture, an array of n class names.

        With `multilabel` return which labels each has as scikit-learn does: bool `(n, c)`, columns as in `classes_`;
        `predictor_.predict_labels` returns their names.
        """
        return self._fitted().predict(X)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the share of pictures named right; X may also be a folder of class folders or a manifest.

        With `multilabel` that is the share with all labels right, as in scikit-learn. The columns of a DataFrame as y
        are known by their names, in any order; those of an array are as in `classes_`.

        Raises:
            SettingError: A label of y, with `multilabel`, is no class, or a table of them has other columns or cells.
        """
        from sklearn.metrics import accuracy_score

        several = parameters.several_labels(self)

        if y is None:
            from headstart.learn.dataset import read_dataset

            dataset = read_dataset(X, several=several, for_training=False)
            X, y = list(dataset.paths), [dataset.labels(row) for row in range(len(dataset))]
            y = y if several is not None else [name for (name,) in y]
        if several is not None:
            from headstart.learn.several import as_matrix

            y = as_matrix(y, self._fitted().classes, several)
        else:
            y = [cell_name(label) or "" for label in y]  # a missing one is no class
        return float(accuracy_score(y, self.predict(sources.as_list(X)), sample_weight=sample_weight))

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Copy the model folder to `folder`, whole or not at all, and return its path.

        Raises:
            ModelError: `folder` holds something that is no model, or cannot be written.
        """
        source = self._fitted().network_file.parent
        with artifact.new_model_folder(Path(folder)) as temporary:
            shutil.copytree(source, temporary, dirs_exist_ok=True)
        return Path(folder)

    def _learn(
        self,
        prepared: Prepared,
        out: Path,
        progress: Progress,
        resume: bool,
        on_epoch: OnEpoch | None,
        finish: Finish | None,
    ) -> None:
        import pandas as pd

        from headstart.learn.confidence import make_confident
        from headstart.learn.features.memory import check_memory
        from headstart.learn.preview import crop_warning
        from headstart.learn.runs import discard
        from headstart.learn.save import save_model
        from headstart.learn.setup import Setup

        with progress.step("load backbone"):
            backbone = parameters.open_backbone(self)
        if warning := crop_warning(prepared.records, backbone.preprocessing):
            progress.note(warning, report=True)
        for hint in parameters.hints(self):
            progress.note(hint)
        setup = Setup(
            prepared,
            backbone,
            parameters.new_head(self),
            parameters.feature_settings(self),
            class_weight=parameters.class_weight_by_index(self, prepared.dataset.classes),
            seed=self.seed,
        )
        # Fine-tuning reads its views in parts, but begins with a head on all of them.
        check_memory(len(prepared.training_rows()), setup.features.views, backbone.num_features)
        trained = self._train(setup, progress, resume, on_epoch)
        confident = make_confident(
            setup, trained, coverage=self.coverage, false_alarm_rate=self.false_alarm_rate, progress=progress
        )
        trained, dataset = confident.trained, prepared.dataset
        given = (parameters.all_values(self), parameters.all_values(ImageClassifier()))
        figures = save_model(out, given, prepared, backbone, confident, progress, finish)
        discard(trained.run_folder)
        self.predictor_ = artifact.load(out)
        self.classes_ = np.asarray(dataset.classes)
        self.test_: Evaluation = figures
        self.validation_: Evaluation | None = trained.validation
        self.evaluated_by_ = "repeated cross-validation" if prepared.cross_validate else "test pictures"
        self.history_: pd.DataFrame = pd.DataFrame(list(trained.history))
        self.chosen_ = trained.chosen
        self.counts_ = prepared.counts()
        self.set_aside_ = prepared.set_aside
        self.kept_together_ = prepared.split.kept_together
        self.seconds_ = dict(progress.seconds)
        self.notes_ = tuple(progress.notes)

    def _train(self, setup: Setup, progress: Progress, resume: bool, on_epoch: OnEpoch | None) -> Trained:
        from headstart.learn.finetune.estimate import parse_seconds
        from headstart.learn.methods.finetune import Limits, fit_finetune
        from headstart.learn.methods.frozen import fit_frozen

        if self.method == "frozen":
            return fit_frozen(setup, progress, on_epoch)
        budget = DEFAULT_BUDGET if self.budget is None and self.method == "auto" else self.budget
        limits = Limits(
            budget=None if budget is None else parse_seconds(budget),
            auto=self.method == "auto",
            views=None if self.views is None else int(self.views),
        )
        return fit_finetune(
            setup,
            parameters.training_settings(self),
            limits=limits,
            resume=resume,
            progress=progress,
            on_epoch=on_epoch,
        )

    def _fitted(self) -> Predictor:
        predictor = getattr(self, "predictor_", None)
        if not isinstance(predictor, Predictor):
            raise NotFittedError("this ImageClassifier has not learned anything yet: call fit first.")
        return predictor
