"""`headstart demo`: the whole job on real input that comes with scikit-learn."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("demo")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("demo"), show_default=True)
@click.option("--quiet", is_flag=True, help="No progress.")
def command(folder: Path, quiet: bool) -> None:
    """Write scikit-learn's 1,797 handwritten digits as a folder of pictures, fit, measure, predict three."""
    from headstart.cli.console import ConsoleProgress, show
    from headstart.cli.predictions import write
    from headstart.cli.result import show_fit, summary
    from headstart.learn.sample import write_digits

    digits, model = folder / "digits", folder / "digits-model"
    progress = ConsoleProgress(quiet=quiet)
    with progress.step("import libraries"):
        from headstart.classifier import ImageClassifier
    show(f"$ headstart fit {write_digits(digits)} --method frozen --out {model}")
    classifier = ImageClassifier(method="frozen").fit(digits, out=model, progress=progress)
    show_fit(summary(classifier, str(model)))
    pictures = [sorted((digits / name).iterdir())[0] for name in ("3", "5", "8")]
    show("", f"$ headstart predict {model} {' '.join(map(str, pictures))}")
    write(classifier.predictor_.stream(pictures), classifier.predictor_, top=1, style=None)
