"""Fill the blocks `<!-- help: pneumokeras tune -->` of commands.md: `python docs/help_blocks.py`.

A test compares them with what the commands really say.
"""

import re
from pathlib import Path

import click

from pneumokeras.cli import main

PAGE = Path(__file__).with_name("commands.md")
BLOCK = re.compile(r"<!-- help: pneumokeras ?(?P<path>[\w ]*) -->\n.*?<!-- /help -->", re.DOTALL)


def filled(text: str) -> str:
    """The page with each block holding its command's help."""
    return BLOCK.sub(lambda match: _block(match["path"].split()), text)


def _block(path: list[str]) -> str:
    command: click.Command = main
    context = _context(main, "pneumokeras", None)
    for name in path:
        assert isinstance(command, click.Group)
        command = command.commands[name]
        context = _context(command, name, context)
    mark = " ".join(["pneumokeras", *path])
    return f"<!-- help: {mark} -->\n```text\n{command.get_help(context)}\n```\n<!-- /help -->"


def _context(command: click.Command, name: str, parent: click.Context | None) -> click.Context:
    return click.Context(
        command, info_name=name, parent=parent, terminal_width=90, **command.context_settings
    )


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
