"""`pneumokeras data`: download, draw, audit and split radiographs."""

from __future__ import annotations

from pathlib import Path

import click

from pneumokeras.cli.console import Commands, Talk, talking
from pneumokeras.cli.data_audit import audit
from pneumokeras.cli.data_download import download
from pneumokeras.cli.data_split import split
from pneumokeras.cli.options import PATH, seed_option


@click.group(cls=Commands)
def data() -> None:
    """Download, draw, audit and split radiographs."""


data.add_command(audit)
data.add_command(download)
data.add_command(split)


@data.command()
@click.argument("out", type=PATH)
@click.option(
    "--count", type=click.IntRange(min=1), default=800, show_default=True, help="Number of radiographs."
)
@seed_option("The same seed draws the same radiographs.")
@click.option("--size", type=click.IntRange(32, 2048), default=256, show_default=True, help="Side in pixels.")
@click.option(
    "--rotation",
    type=click.FloatRange(0.0, 45.0),
    default=0.0,
    show_default=True,
    help="Rotate by up to this many degrees.",
)
@click.option(
    "--exposure",
    type=click.FloatRange(0.0, 1.0),
    default=0.0,
    show_default=True,
    help="Vary brightness and gamma by up to 2 to this power.",
)
@click.option(
    "--marker",
    type=click.FloatRange(0.0, 1.0),
    help="Put a letter in a corner, tied to PNEUMONIA from 0 (never) to 1 (always).  [default: no letter]",
)
@click.option(
    "--format",
    "image_format",
    type=click.Choice(["jpeg", "dicom"]),
    default="jpeg",
    show_default=True,
    help="Format of the files.",
)
@talking
def phantoms(
    talk: Talk,
    *,
    out: Path,
    count: int,
    seed: int,
    size: int,
    rotation: float,
    exposure: float,
    marker: float | None,
    image_format: str,
) -> None:
    """Draw synthetic chest radiographs into OUT, in the layout of the Kaggle set.

    Masks of the opacities in PNEUMONIA radiographs are in OUT/masks. OUT must be new or empty.

    The same seed draws the same patients, whatever the rotation, exposure and marker;
    OUT/nuisance.csv lists these for each radiograph.
    """
    from pneumokeras.data.phantoms.nuisance import Nuisance
    from pneumokeras.data.phantoms.write import write_phantoms

    nuisance = Nuisance(rotation=rotation, exposure=exposure, marker=marker)
    write_phantoms(out, count=count, seed=seed, size=size, nuisance=nuisance, image_format=image_format)
    talk.result(f"{count} synthetic radiographs in {out}")
