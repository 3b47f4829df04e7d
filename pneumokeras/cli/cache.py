"""`pneumokeras cache`: the stored features of frozen backbones."""

from __future__ import annotations

import click

from pneumokeras.cli.console import Talk, in_bytes, talking


@click.group()
def cache() -> None:
    """Show or remove stored features. They can be removed at any time."""


@cache.command("list")
@talking
def list_(talk: Talk) -> None:
    """List what is stored, and where."""
    from pneumokeras.training.feature_store import cache_folder, stored_features

    stored = stored_features()
    for features in stored:
        setting = features.setting
        size = " x ".join(map(str, setting["input_shape"][:2]))
        shape = " x ".join(map(str, setting["shape"]))
        what = (
            f"{setting['backbone']:<17} {size}  {shape} {setting['precision']}  weights {setting['weights']}"
        )
        talk.result(f"{features.rows:>8,} views  {in_bytes(features.size):>8}  {what}")
    talk.result(f"{in_bytes(sum(features.size for features in stored))} in {cache_folder()}")


@cache.command()
@talking
def clear(talk: Talk) -> None:
    """Remove all stored features."""
    from pneumokeras.training.feature_store import clear_cache

    talk.result(f"{in_bytes(clear_cache())} removed")
