"""What people are told of figures, in the same words at the terminal, on the page and in the model card."""

from __future__ import annotations

from headstart.core.metrics import Evaluation
from headstart.core.text import count

# From this width on an interval is called wide.
WIDE = 0.1


def percent(value: float) -> str:
    """Return a share as people read it, such as `96.5 %`."""
    return f"{100 * value:.1f} %"


def paired_verdict(p: float, epochs: int | None) -> str:
    """Return what the p of a paired test of frozen and fine-tuned says, on the pictures that chose among `epochs`."""
    verdict = "chance alone seldom does that" if p < 0.05 else "chance alone can do that"
    # That helps the tuned network a little: p is the smaller for it.
    return verdict + ("; the epoch was chosen on these pictures" if epochs is not None and epochs > 1 else "")


def pictures(n: int, units: int | None, noun: str = "picture") -> str:
    """Return "96 pictures in 12 groups", or "96 pictures" where none belong together or it is not known.

    Args:
        n: How many pictures.
        units: How many units they make, see `Evaluation`.
        noun: What they are.
    """
    return count(n, noun) + (f" in {count(units, 'group')}" if units is not None and units < n else "")


def width_sentence(evaluation: Evaluation) -> str:
    """Return what a wide 95 % interval means for people, or nothing where it is narrow."""
    main, n, units = evaluation.figures[evaluation.headline], evaluation.n, evaluation.units
    if main.high - main.low < WIDE:
        return ""
    say = "says" if n == 1 else "say"
    return (
        f"The interval is wide, because {pictures(n, units)} {say} no more: on new pictures of the same kind the "
        f"{evaluation.headline.replace('_', ' ')} may be as low as {percent(main.low)} or as high as "
        f"{percent(main.high)}."
    )


def groups_sentence(evaluation: Evaluation) -> str:
    """Return why the intervals are wider than the number of pictures lets expect, or nothing where they are not."""
    if evaluation.units is None or evaluation.units == evaluation.n:
        return ""
    return (
        "Pictures that are the same, nearly the same or of one group count together, as one group: the intervals are "
        "wider for it."
    )


def repeats_sentence(repeats: int | None) -> str:
    """Return which figures are means over the repeats of cross-validation, and which are of one repeat."""
    return (
        f"The figures are means of {repeats or 'several'} repeats; the confusion matrix, the figures of the classes "
        "and the pictures are of the first."
    )
