"""What the doctor found in labelled pictures: made in `learn/doctor`, shown by `use/doctor` and the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from headstart.core.metrics import Figure


@dataclass(frozen=True)
class Kind:
    """A kind of finding: its title, what it means, and what to do about it."""

    title: str
    meaning: str
    advice: str


# Findings of these kinds cost nothing to leave out. All others are judgements: a picture may be right and only hard,
# and a test without its hard pictures promises too much.
CERTAIN = ("unreadable", "leaks", "duplicates")
# These are looked for on the features of a network.
FROM_FEATURES = ("labels", "outliers")
# In the order in which they are told: what spoils a result most comes first.
KINDS = {
    "unreadable": Kind(
        "Unreadable files",
        "These cannot be decoded; `fit` sets them aside.",
        "Replace them or leave them out.",
    ),
    "leaks": Kind(
        "Leaks between the splits",
        "These are the same as, nearly the same as, or of one group with pictures that test or validate.",
        "`fit` leaves them out of what it learns from. Other programs do not: leave them out of the manifest.",
    ),
    "contradictions": Kind(
        "The same picture with different labels",
        "Identical or nearly identical pictures stand in different classes.",
        "At most one of the labels is right: correct it, or leave all of them out.",
    ),
    "labels": Kind(
        "Likely wrong labels",
        "A classifier that did not learn from the picture is sure of another label.",
        "Look at each, the likeliest first. Some are right and only hard.",
    ),
    "outliers": Kind(
        "Outliers",
        "These are much farther from every other picture than the pictures of their class are.",
        "Look whether they belong here at all.",
    ),
    "duplicates": Kind(
        "Duplicates",
        "Each is the same as, or nearly the same as, a picture that stays.",
        "`fit` keeps them on one side of the split. They add nothing: leaving them out costs nothing.",
    ),
    "blurry": Kind(
        "Blurry", "Hardly any fine detail for the contrast they have.", "Look whether the subject can be recognised."
    ),
    "dark": Kind("Too dark", "Even the brightest hundredth of the pixels is dark.", "Brighten them or leave them out."),
    "bright": Kind(
        "Too bright",
        "Even the darkest twentieth of the pixels is almost white.",
        "Look whether anything is to be seen.",
    ),
    "plain": Kind(
        "Hardly anything to see", "Nearly all pixels have the same brightness.", "Leave them out if they are empty."
    ),
    "tiny": Kind("Tiny", "The shorter side has very few pixels.", "Find larger versions; enlarging adds nothing."),
    "long": Kind(
        "Extreme shape",
        "One side is several times the other, so that a crop shows a small part.",
        "Crop them by hand, or use `--fit-mode pad`.",
    ),
    "odd": Kind(
        "Odd files",
        "They can be read and are used, but are not what the others are.",
        "Usually harmless. Where it goes with a class, the network may learn the file instead of the picture.",
    ),
}


# The picture is used, and nothing is better without it.
HARMLESS = ("odd",)


def sort_kinds(found: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the kinds, of those with findings, that cost nothing to leave out, and those to be judged by looking."""
    certain = tuple(kind for kind in found if kind in CERTAIN)
    return certain, tuple(kind for kind in found if kind not in CERTAIN and kind not in HARMLESS)


@dataclass(frozen=True)
class Suspect:
    """One picture that something may be the matter with.

    Attributes:
        path: The file.
        label: Its class, or its labels with `;` between them.
        split: `train`, `validation` or `test`, as a fit would use it; empty where a fit would cross-validate.
        reason: One sentence, or part of one.
        score: How strongly, the higher the worse; comparable within one kind only.
        suggestion: The class that fits better, where one does; else empty.
        others: Other files that the reason speaks of, such as the one it is a duplicate of.
    """

    path: str
    label: str
    split: str
    reason: str
    score: float
    suggestion: str = ""
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inflation:
    """What leaking pictures do to the test accuracy of one way to learn.

    Attributes:
        method: The way to learn.
        with_leaks: Test accuracy when everything outside the test split is learned from.
        without: When the leaking pictures are left out.
        touched_with: The first, on the test pictures that have leaked alone.
        touched_without: The second, likewise.
    """

    method: str
    with_leaks: Figure
    without: Figure
    touched_with: Figure
    touched_without: Figure


@dataclass(frozen=True)
class Leakage:
    """How much the leaks between the data's own splits inflate the score.

    Attributes:
        leaking: Pictures outside the test split that would leak into it.
        touched: Test pictures that they are the same as, nearly the same as, or of one group with.
        tested: Test pictures in all.
        inflation: Measured for each way to learn.
    """

    leaking: int
    touched: int
    tested: int
    inflation: tuple[Inflation, ...]


@dataclass(frozen=True)
class Pair:
    """Two classes that are hard, or not, to tell apart.

    Attributes:
        first, second: Their names.
        accuracy: Cross-validated accuracy when only these two are in question, mean of both classes.
        confused: Pictures of one that were taken for the other.
        pictures: Pictures of both.
        chance: Whether guessing would do as well, as far as can be known.
    """

    first: str
    second: str
    accuracy: Figure
    confused: int
    pictures: int
    chance: bool


@dataclass(frozen=True)
class Balance:
    """How evenly the pictures are spread over the classes: the ends, their ratio, and the share of the largest."""

    largest: str
    most: int
    smallest: str
    fewest: int
    majority: float

    @property
    def ratio(self) -> float:
        """How many times as many pictures the largest class has."""
        return self.most / max(1, self.fewest)


@dataclass(frozen=True)
class Checkup:
    """What the doctor found.

    Attributes:
        source: What was read.
        pictures: How many pictures can be used.
        classes: Pictures of each class in each part, as `headstart check` has always told.
        report: The plain values that `headstart check --json` has always told.
        findings: Suspects by kind, in the order of `KINDS`, the worst first; a kind that was not looked for is absent.
        balance: Of the classes.
        pairs: Pairs of classes worth telling, the hardest first; None when features were not computed.
        leakage: None when nothing leaks, the data bring no test split, or features were not computed.
        accuracy: Cross-validated accuracy of the head that judged the labels; None without features.
        backbone: Whose features were used; empty when none were.
        usual: Oddities that more than half of the pictures share, and that are therefore told once.
        notes: What was noticed when the data were read and split.
        options: Of the command line, that tell how several labels of a picture are written; empty for one class each.
    """

    source: str
    pictures: int
    classes: dict[str, dict[str, int]]
    report: dict[str, Any]
    findings: dict[str, tuple[Suspect, ...]]
    balance: Balance
    pairs: tuple[Pair, ...] | None = None
    leakage: Leakage | None = None
    accuracy: Figure | None = None
    backbone: str = ""
    usual: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
    options: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain values: those of `report`, and beside them what the doctor found."""
        values = asdict(self)
        return {
            **self.report,
            "findings": values["findings"],
            "balance": {**values["balance"], "ratio": self.balance.ratio},
            "pairs": values["pairs"],
            "leakage": values["leakage"],
            "cross_validated_accuracy": values["accuracy"],
            "backbone": self.backbone,
            "usual": list(self.usual),
            "notes": list(self.notes),
        }
