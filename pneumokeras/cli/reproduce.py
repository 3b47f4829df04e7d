"""`pneumokeras reproduce`: train published systems, and compare them with their published figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pneumokeras.cli.console import Talk, load_tensorflow, talking
from pneumokeras.cli.options import PATH, reading_options, skip_bad_option

if TYPE_CHECKING:
    from pneumokeras.recipes.reproduce import Reproduction


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="RECIPE...|all")
@click.option(
    "--data",
    "path",
    type=PATH,
    required=True,
    help="Folder, PneumoniaMNIST .npz or CSV manifest, with a test split.",
)
@click.option(
    "--out",
    type=PATH,
    default=Path("tuner_runs/reproduction"),
    show_default=True,
    help="Folder for the runs and the table: table.md, table.json, table.html.",
)
@click.option(
    "--seeds", type=click.IntRange(1, 100), default=1, show_default=True, help="Number of seeds per variant."
)
@click.option(
    "--variant",
    "variants",
    type=click.Choice(["as-published", "corrected", "on-lite0"]),
    multiple=True,
    help="Run this variant only; on-lite0 is corrected, on EfficientNet-Lite0. Can be repeated.  [default: "
    "as-published and corrected]",
)
@click.option(
    "--weights",
    multiple=True,
    metavar="[BACKBONE=]imagenet|none|FILE",
    help="Weights of all backbones, or of one, instead of ImageNet's. Can be repeated.",
)
@click.option(
    "--epochs", type=click.IntRange(min=1), help="Epochs of each stage or trial, if not the recipe's."
)
@click.option(
    "--views",
    type=click.IntRange(min=1),
    help="Augmented versions of each radiograph, in recipes with a fixed number.",
)
@click.option("--no-cache", is_flag=True, help="Do not store features of frozen layers.")
@click.option("--yes", is_flag=True, help="Store large feature maps without asking.")
@reading_options
@skip_bad_option
@talking
def reproduce(
    talk: Talk,
    *,
    names: tuple[str, ...],
    path: Path,
    out: Path,
    seeds: int,
    variants: tuple[str, ...],
    weights: tuple[str, ...],
    epochs: int | None,
    views: int | None,
    no_cache: bool,
    yes: bool,
    **reading: Any,
) -> None:
    """Train published systems, as published and corrected, and compare their results on test.

    `all` runs the reference systems. Finished runs are not repeated, and the table is written after
    each variant. All seeds, 0, 1 and so on, use the same splits. The exit status is 1 if a variant
    fails; its row says why.
    """
    load_tensorflow()
    from pneumokeras.recipes.catalog import reference_names
    from pneumokeras.recipes.recipe import ALL_VARIANTS, VARIANTS
    from pneumokeras.recipes.reproduce import reproduce as run_all

    recipes = list(
        dict.fromkeys(name for given in names for name in (reference_names() if given == "all" else [given]))
    )
    chosen = [name for name in ALL_VARIANTS if name.replace(" ", "-") in variants] or VARIANTS
    with talk.searching() as progress:
        table = run_all(
            recipes,
            path,
            out=out,
            seeds=range(seeds),
            variants=chosen,
            weights=_by_backbone(weights),
            epochs=epochs,
            views=views,
            cache=not no_cache,
            confirm=None if yes else progress.agrees_to_store,
            on_run_start=lambda name, variant, seed: talk.say(f"{name}, {variant}, seed {seed}"),
            on_row=lambda table: _write(table, out),
            progress=progress,
            **reading,
        )
    talk.result(table.markdown().rstrip())
    talk.result(f"Table: {out / 'table.html'}")
    if table.failed:
        raise click.exceptions.Exit(1)


def _write(table: Reproduction, out: Path) -> None:
    """Write the table as Markdown, HTML and JSON."""
    from pneumokeras.core.files import write_json, write_text

    write_text(out / "table.md", table.markdown())
    write_text(out / "table.html", table.html())
    write_json(out / "table.json", table.json())


def _by_backbone(given: tuple[str, ...]) -> str | dict[str, str] | None:
    """Convert `("none",)` to `"none"`, and `("resnet18=a.keras",)` to `{"resnet18": "a.keras"}`."""
    if not given:
        return None
    if len(given) == 1 and "=" not in given[0]:
        return given[0]
    named = [value.partition("=") for value in given]
    if not all(equals for _, equals, _ in named):
        raise click.UsageError("Expected one --weights for all backbones, or BACKBONE=... for each.")
    return {backbone: weights for backbone, _, weights in named}
