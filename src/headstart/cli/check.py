"""`headstart check DATA`: the doctor. What is wrong with labelled pictures, before anything is learned."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from headstart.cli.options import several_labels
from headstart.networks import catalog

if TYPE_CHECKING:
    from headstart.core.findings import Checkup
    from headstart.learn.doctor.manifest import Written

# Suspects of a kind that the table names; the page and --json have all.
NAMED = 3
LEAVE_OUT = "unreadable,leaks,duplicates"
# Of the table outside a window: a name that is broken in two cannot be searched for.
WIDTH = 1_000


@click.command("check")
@click.argument("data", type=click.Path())
@click.option("--html", type=click.Path(path_type=Path), help="Write a page with the pictures, such as check.html.")
@click.option("--write-manifest", type=click.Path(path_type=Path), help="Write a new CSV of the pictures that stay.")
@click.option(
    "--leave-out",
    default=LEAVE_OUT,
    show_default=True,
    help="Kinds of findings that the manifest leaves out: unreadable, leaks, contradictions, labels, outliers, "
    "duplicates, blurry, dark, bright, plain, tiny, long, odd; or all.",
)
@click.option(
    "--of-test",
    is_flag=True,
    help="Leave pictures out of the test split too, whatever the finding: the score is then one of easier pictures.",
)
@several_labels
@click.option("--quick", is_flag=True, help="Only what needs no features: not labels, outliers, classes, score.")
@click.option("--backbone", default=catalog.DEFAULT, show_default=True, help="Whose features judge.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of split and folds.")
@click.option("--quiet", is_flag=True, help="No progress.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def command(
    data: str,
    html: Path | None,
    write_manifest: Path | None,
    leave_out: str,
    of_test: bool,
    output: str,
    labels: tuple[str, ...] | None,
    label_separator: str,
    quick: bool,
    backbone: str,
    seed: int,
    quiet: bool,
    as_json: bool,
) -> None:
    """Say what is wrong with DATA, a folder of class folders or a manifest.

    Nothing is learned, and no file is changed or deleted; only --html and --write-manifest write. Ends with code 2 when
    nothing could be learned from the data.
    """
    from headstart.cli.console import ConsoleProgress, show
    from headstart.core.text import count
    from headstart.learn.doctor import examine, write_clean_manifest
    from headstart.learn.doctor.manifest import check_kinds, check_target
    from headstart.learn.several import choose_several_labels
    from headstart.use.doctor import write_page
    from headstart.use.page import check_page

    kinds = check_kinds((kind.strip() for kind in leave_out.split(",") if kind.strip()), quick=quick)
    if html is not None:
        check_page(html)
    if write_manifest is not None:
        check_target(write_manifest)
    several = choose_several_labels(output, labels, label_separator)
    progress = ConsoleProgress(quiet=quiet or as_json)
    checkup, prepared = examine(
        data, several=several, backbone=None if quick else backbone, seed=seed, progress=progress
    )
    written = None
    if write_manifest is not None:
        written = write_clean_manifest(data, (checkup, prepared), kinds, write_manifest, several, of_test=of_test)
    if html is not None:
        write_page(checkup, html)
    if as_json:
        manifest = None if written is None else {"file": str(write_manifest), **asdict(written)}
        whole = {**checkup.to_json(), "manifest": manifest, "notes": progress.notes}
        click.echo(json.dumps(whole, ensure_ascii=False))
        return
    _show_counts(checkup)
    if prepared.cross_validate:
        show("Too few pictures for a test set: `fit` will measure by repeated cross-validation.")
    _show_findings(checkup, data, page=html is not None)
    _show_classes(checkup)
    if html is not None:
        show(f"{html}: the findings with their pictures")
    if written is not None:
        show(f"{write_manifest}: {count(written.kept, 'picture')}; {written.left_out:,} left out ({', '.join(kinds)})")
        _show_kept(written, prepared.cross_validate)


def _show_kept(written: Written, cross_validate: bool) -> None:
    from headstart.cli.console import show_prose
    from headstart.core.text import count

    if written.tested:
        pictures = count(written.tested, "picture")
        who = f"{pictures} (each tests, in cross-validation)" if cross_validate else f"{pictures} of the test split"
        show_prose(
            f"{who} with such a finding stayed: a score without hard pictures promises too much. --of-test leaves them "
            "out too."
        )
    if written.split:
        show_prose("Its column split keeps the test pictures that were looked at.")


def _show_counts(checkup: Checkup) -> None:
    from headstart.cli.console import show, table

    made = table("class", *(f"{part}#" for part in checkup.report["counts"]))
    for name, counts in checkup.classes.items():
        made.add_row(name, *(f"{count:,}" for count in counts.values()))
    show(made)
    if checkup.report["set_aside"] or checkup.report["skipped"] or any(checkup.report["kept_together"].values()):
        show("")
    for aside in checkup.report["set_aside"]:
        show(f"set aside: {aside['path']}: {aside['reason']}")
    for kind, count in checkup.report["skipped"].items():
        show(f"skipped: {count:,} {kind}")
    for kind, count in checkup.report["kept_together"].items():
        if count:
            show(f"kept on one side of the split: {count:,} {kind}")


def _show_findings(checkup: Checkup, data: str, *, page: bool) -> None:
    from headstart.cli.console import show, show_prose, table
    from headstart.core.findings import KINDS, sort_kinds
    from headstart.core.text import below, shown

    base = os.path.abspath(data) if os.path.isdir(data) else os.path.dirname(os.path.abspath(data))
    made = table("finding", "pictures#", "the worst", "why")
    for kind, suspects in checkup.findings.items():
        for position, one in enumerate(suspects[:NAMED]):
            first, name = position == 0, shown(below(one.path, base))
            made.add_row(kind if first else "", f"{len(suspects):,}" if first else "", name, one.reason)
    if made.row_count:
        show("", made, "", width=None if sys.stdout.isatty() else WIDTH)
    found = [kind for kind, suspects in checkup.findings.items() if suspects]
    nothing = [KINDS[kind].title.lower() for kind, suspects in checkup.findings.items() if not suspects]
    if nothing:
        show(f"Not found: {', '.join(nothing)}.")
    for line in checkup.usual:
        show(f"{line}: most are so, so none is singled out.")
    if checkup.leakage is not None:
        for way in checkup.leakage.inflation:
            show(
                f"Leaking into the test split: {checkup.leakage.leaking:,}, which touch {checkup.leakage.touched:,} of "
                f"{checkup.leakage.tested:,} there; accuracy of a {way.method} is {way.with_leaks.text} with them, "
                f"{way.without.text} without."
            )
    if found and not page:
        show("See them: --html check.html.")
    certain, judged = sort_kinds(found)
    if certain:
        show(f"Leave out what costs nothing: --write-manifest clean.csv --leave-out {','.join(certain)}")
    if judged:
        show_prose(f"Look first, then add to --leave-out what you agree to: {', '.join(judged)}.")


def _show_classes(checkup: Checkup) -> None:
    from headstart.cli.console import show

    balance = checkup.balance
    if balance.ratio >= 3:
        advice = "look at the figures of each label" if checkup.options else "consider --class-weight balanced"
        show(f"{balance.largest} has {balance.ratio:.1f} times as many pictures as {balance.smallest}: {advice}.")
    for pair in (checkup.pairs or ())[:NAMED]:
        verdict = "cannot be told apart" if pair.chance else "are hard to tell apart"
        show(f"{pair.first} and {pair.second} {verdict}: {pair.accuracy.text}, where guessing gives 0.5.")
    if checkup.accuracy is not None:
        show(f"A head on {checkup.backbone} that did not see them agrees with {checkup.accuracy.text} of the labels.")
