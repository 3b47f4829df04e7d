"""`pneumokeras recipes`: list the published systems that can be run, or show the file of one."""

from __future__ import annotations

import tomllib

import click

from pneumokeras.cli.console import Talk, talking


@click.command()
@click.argument("name", required=False)
@talking
def recipes(talk: Talk, *, name: str | None) -> None:
    """List the recipes, or show the file of one, to start your own from."""
    from pneumokeras.recipes.catalog import recipe_names, recipe_text

    if name is not None:
        talk.result(recipe_text(name).rstrip())
        return
    width = max(map(len, recipe_names()))
    for each in recipe_names():
        recipe = tomllib.loads(recipe_text(each))
        talk.result(f"{each:<{width}}  {recipe['source']:<4}  {recipe['about']}")
