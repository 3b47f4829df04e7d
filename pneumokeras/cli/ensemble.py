"""`pneumokeras ensemble`: average the models of several runs, and keep the result as a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pneumokeras.cli.console import Talk, after_run, load_tensorflow, talking, warnings_of
from pneumokeras.cli.options import PATH, OutputFolder

if TYPE_CHECKING:
    from pneumokeras.runs.result import TuningResult


@click.command()
@click.argument("runs", type=PATH, nargs=-1, required=True, metavar="RUN RUN...")
@click.option("--run", type=OutputFolder(), help="Run folder.  [default: tuner_runs/ensemble-<hash>]")
@click.option(
    "--calibrate", is_flag=True, help="Calibrate each member's temperature on validation before averaging."
)
@talking
def ensemble(talk: Talk, *, runs: Sequence[Path], run: Path | None, calibrate: bool) -> None:
    """Average the probabilities of finished runs in one model, and keep it as a run.

    The runs must share their validation radiographs, and none may have been trained on
    radiographs that another holds out. The same command again shows the finished run.
    """
    talk.warns_in_result = True
    load_tensorflow()
    from pneumokeras.training.ensemble import ensemble as average

    talk.result(_summary(average(runs, run=run, calibrate=calibrate)))


def _summary(result: TuningResult) -> str:
    """Return the scores of the members and of their mean, and what to type next."""
    from pneumokeras.runs.folder import open_run, reading

    folder = open_run(result.run)
    point = result.operating_points["validation"]
    with reading(folder.record_path):
        record = folder.record()
        settings, members = record["settings"], record["members"]
        lines = []
        for name, member in members.items():
            scaled = f", temperature {member['temperature']:.3f}" if settings["calibrate"] else ""
            run = settings["members"][name]["run"]
            lines.append(f"{run}: validation AUC {member['val_auc']:.4f}{scaled}")
        lines.append(
            f"Mean of {len(members)}: validation AUC {record['val_auc']:.4f}; "
            f"threshold {point.threshold:.4f}, chosen on {point.images} validation images"
        )
    return "\n".join([*lines, *warnings_of(result), *after_run(result.run)])
