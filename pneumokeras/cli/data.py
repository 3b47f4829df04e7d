"""`pneumokeras data`: fetching, making, splitting and inspecting radiographs."""

from __future__ import annotations

from pathlib import Path

import click

from pneumokeras.cli.console import Talk, talking
from pneumokeras.cli.data_download import download
from pneumokeras.cli.data_split import split
from pneumokeras.cli.options import PATH


@click.group()
def data() -> None:
    """Fetch, draw and split radiographs."""


data.add_command(download)
data.add_command(split)


@data.command()
@click.argument("out", type=PATH)
@click.option(
    "--count", type=click.IntRange(min=1), default=800, show_default=True, help="How many radiographs."
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The same seed draws the same."
)
@click.option("--size", type=click.IntRange(32, 2048), default=256, show_default=True, help="Side in pixels.")
@talking
def phantoms(talk: Talk, *, out: Path, count: int, seed: int, size: int) -> None:
    """Draw synthetic chest radiographs into OUT, in the layout of the Kaggle set.

    Opacities of PNEUMONIA radiographs have known masks, in OUT/masks. OUT must be new or empty.
    """
    from pneumokeras.data.phantoms import write_phantoms

    write_phantoms(out, count=count, seed=seed, size=size)
    talk.result(f"{count} synthetic radiographs in {out}")
