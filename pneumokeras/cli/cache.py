"""`pneumokeras cache`: the stored features of frozen backbones."""

from __future__ import annotations

import click

from pneumokeras.cli.console import Talk, load_tensorflow, talking


@click.group()
def cache() -> None:
    """Show or remove stored features. They can be removed at any time."""


@cache.command("list")
@talking
def list_(talk: Talk) -> None:
    """List what is stored, and where."""
    load_tensorflow()
    from pneumokeras.features import cache_folder, stored_features

    stored = stored_features()
    for features in stored:
        setting = features.setting
        size = " x ".join(map(str, setting["input_shape"][:2]))
        what = f"{setting['backbone']:<17} {size}  {setting['precision']}  weights {setting['origin']}"
        talk.result(f"{features.rows:>8,} views  {in_bytes(features.size):>8}  {what}")
    talk.result(f"{in_bytes(sum(features.size for features in stored))} in {cache_folder()}")


@cache.command()
@talking
def clear(talk: Talk) -> None:
    """Remove all stored features."""
    load_tensorflow()
    from pneumokeras.features import clear_cache

    talk.result(f"{in_bytes(clear_cache())} removed")


def in_bytes(size: int) -> str:
    """Such as 38.5 MB."""
    number = float(size)
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"
