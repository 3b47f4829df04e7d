"""The documentation says what the commands say."""

import importlib.util
import runpy
from pathlib import Path

import pneumokeras
from pneumokeras.cli import main

DOCS = Path(__file__).resolve().parent.parent / "docs"


def help_blocks():
    spec = importlib.util.spec_from_file_location("help_blocks", DOCS / "help_blocks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_command_stands_in_the_docs():
    page = (DOCS / "commands.md").read_text()
    names = [*main.commands, *(f"data {name}" for name in main.commands["data"].commands)]
    assert [name for name in names if f"<!-- help: pneumokeras {name} -->" not in page] == []


def test_the_help_in_the_docs_is_the_commands_own():
    """If this fails: python docs/help_blocks.py."""
    page = (DOCS / "commands.md").read_text()
    assert help_blocks().filled(page) == page


def test_the_settings_of_the_documentation_can_be_read():
    settings = runpy.run_path(str(DOCS / "conf.py"))
    assert settings["project"] == "pneumokeras"
    assert settings["release"] == settings["version"] == pneumokeras.__version__
