"""`pneumokeras data download`: download published radiographs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from pneumokeras.cli.console import Commands, Talk, program, talking
from pneumokeras.cli.options import PATH

if TYPE_CHECKING:
    from pneumokeras.data.download import Download


@click.group(cls=Commands)
def download() -> None:
    """Download published radiographs from their publishers."""


@download.command()
@click.argument("dest", type=PATH)
@talking
def kaggle(talk: Talk, *, dest: Path) -> None:
    """Download the chest X-ray set (1.2 GB) from Kaggle into the folder DEST.

    Needs kagglehub (pip install 'pneumokeras[kaggle]'), which keeps a cache and finds your credentials.
    DEST must be new or empty; its files are linked from that cache where they can be.
    """
    from pneumokeras.data.download import download_kaggle

    _conclude(talk, download_kaggle(dest))


@download.command()
@click.argument("dest", type=PATH)
@click.option(
    "--size",
    type=click.Choice(["28", "64", "128", "224"]),
    default="28",
    show_default=True,
    help="Side in pixels; 4, 21, 76 or 214 MB.",
)
@talking
def pneumoniamnist(talk: Talk, *, dest: Path, size: str) -> None:
    """Download PneumoniaMNIST into the folder DEST, or to DEST if that ends in .npz.

    The file appears only when its checksum is right; an interrupted download leaves nothing.
    """
    from pneumokeras.data.download import download_pneumoniamnist

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=console, transient=True, disable=talk.quiet or not console.is_terminal
    ) as bar:
        task = bar.add_task("PneumoniaMNIST", total=None)
        found = download_pneumoniamnist(
            dest, size=int(size), progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    _conclude(talk, found)


def _conclude(talk: Talk, found: Download) -> None:
    talk.result(f"{found.path}: already there and complete." if found.kept else f"{found.path}")
    talk.result(f"Next: {program()} tune --data {found.path}")
