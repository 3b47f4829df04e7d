"""`pneumokeras cache`: list or remove the stored features of frozen backbones."""

from __future__ import annotations

import click
from rich.filesize import decimal

from pneumokeras.cli.console import Commands, Talk, talking


@click.group(cls=Commands)
def cache() -> None:
    """List or remove stored features. It is always safe to remove them."""


@cache.command("list")
@talking
def list_(talk: Talk) -> None:
    """List the stored features and where they are."""
    from pneumokeras.training.feature_store import cache_folder, stored_features

    stored = stored_features()
    for features in stored:
        setting = features.setting
        size = " x ".join(map(str, setting["input_shape"][:2]))
        shape = " x ".join(map(str, setting["shape"]))
        description = (
            f"{setting['backbone']:<17} {size}  {shape} {setting['precision']}  weights {setting['weights']}"
        )
        talk.result(f"{features.rows:>8,} views  {decimal(features.size):>8}  {description}")
    talk.result(f"{decimal(sum(features.size for features in stored))} in {cache_folder()}")


@cache.command()
@talking
def clear(talk: Talk) -> None:
    """Remove all stored features."""
    from pneumokeras.training.feature_store import clear_cache

    talk.result(f"{decimal(clear_cache())} removed")
