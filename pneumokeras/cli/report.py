"""`pneumokeras report`: evaluate a run's model and write the report."""

from __future__ import annotations

from pathlib import Path

import click

from pneumokeras.cli.console import Talk, load_tensorflow, talking
from pneumokeras.cli.options import PATH, OutputFolder, skip_bad_option


@click.command()
@click.argument("run", type=PATH)
@click.option(
    "--data", "path", type=PATH, help="Evaluate these radiographs instead; taken whole, never split."
)
@click.option(
    "--split",
    type=click.Choice(["test", "val", "train"]),
    default="test",
    show_default=True,
    help="Split to evaluate.",
)
@click.option("--out", type=OutputFolder(), help="Folder for the report.  [default: RUN/report]")
@click.option(
    "--compare",
    "other",
    type=PATH,
    metavar="RUN",
    help="Another run, to compare with this one on the same radiographs.",
)
@click.option(
    "--prevalence",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Share of PNEUMONIA, such as 0.1, to state predictive values at.",
)
@click.option("--no-images", is_flag=True, help="Leave out all pictures, for data that must not be shared.")
@click.option(
    "--check-explanations", is_flag=True, help="Test how far the heatmaps can be trusted; takes longer."
)
@click.option(
    "--no-cache", is_flag=True, help="Run the whole model and cache no features of these radiographs."
)
@skip_bad_option
@talking
def report(
    talk: Talk,
    *,
    run: Path,
    path: Path | None,
    split: str,
    out: Path | None,
    other: Path | None,
    prevalence: float | None,
    no_images: bool,
    check_explanations: bool,
    no_cache: bool,
    skip_bad: bool,
) -> None:
    """Evaluate the model of RUN and write report.json, index.html, a model card and figures."""
    load_tensorflow()
    from pneumokeras.report.report_run import report_run

    written = report_run(
        run,
        data=path,
        split=split,
        out=out,
        compare_with=other,
        prevalence=prevalence,
        images=not no_images,
        check_explanations=check_explanations,
        cache=not no_cache,
        skip_bad=skip_bad,
    )
    for notice in written.further_notices:
        talk.say(notice)
    talk.result(str(written.evaluation.report()))
    if written.comparison is not None:
        talk.result(f"\n{written.comparison.report()}\n")
    talk.result(f"Report: {written.folder / 'index.html'}")
