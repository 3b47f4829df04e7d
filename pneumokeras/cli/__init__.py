"""The command line: one file per command, each of which parses, calls and prints."""

import click

from pneumokeras import __version__
from pneumokeras.cli.cache import cache
from pneumokeras.cli.console import OneLineErrors
from pneumokeras.cli.data import data
from pneumokeras.cli.demo import demo
from pneumokeras.cli.ensemble import ensemble
from pneumokeras.cli.predict import predict
from pneumokeras.cli.recipes import recipes
from pneumokeras.cli.report import report
from pneumokeras.cli.reproduce import reproduce
from pneumokeras.cli.train import train
from pneumokeras.cli.tune import tune


@click.group(
    cls=OneLineErrors, context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__)
def main() -> None:
    """Turn a folder of chest radiographs into a tuned, evaluated and explained pneumonia classifier.

    Research software, not a medical device.
    """


for command in (demo, data, tune, train, ensemble, report, predict, recipes, reproduce, cache):
    main.add_command(command)
