"""Options, and types of their values, that several commands share."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

import click

from pneumokeras.core.errors import SettingsError

if TYPE_CHECKING:
    from pneumokeras.evaluation import OperatingPoint

PATH = click.Path(path_type=Path)


class ClassNames(click.ParamType):
    """Two class names, separated by a comma."""

    name = "A,B"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Convert `"NORMAL,PNEUMONIA"` to `("NORMAL", "PNEUMONIA")`."""
        if isinstance(value, tuple):
            return value
        names = [name.strip() for name in value.split(",")]
        if len(names) != 2 or not all(names) or names[0].upper() == names[1].upper():
            self.fail(
                f"{value!r}: expected two names, the healthy class first, as in NORMAL,PNEUMONIA.", param, ctx
            )
        return names[0], names[1]


class OutputFile(click.Path):
    """A file to be written; whether it can be is checked before any work is done."""

    def __init__(self, *, allow_dash: bool = False) -> None:
        super().__init__(path_type=Path, allow_dash=allow_dash)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path if its folder is writable, or can be made; `-` is stdout where it is allowed."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if str(path) == "-":
            if not self.allow_dash:
                self.fail("- is no file here; name one.", param, ctx)
            return path
        if os.path.isdir(path):
            self.fail(f"{path} cannot be written: {path.absolute()} is a folder.", param, ctx)
        _require_writable(self, path, path.absolute().parents, param, ctx)
        return path


class OutputFolder(click.Path):
    """A folder to write into; whether that is possible is checked before any work is done."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path if the folder is writable, or can be made."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        _require_writable(self, path, [path.absolute(), *path.absolute().parents], param, ctx)
        return path


def _require_writable(
    kind: click.ParamType,
    path: Path,
    places: Iterable[Path],
    param: click.Parameter | None,
    ctx: click.Context | None,
) -> None:
    """Refuse a path if the first of `places` that exists is no folder that files can be made in."""
    place = next(folder for folder in places if os.path.lexists(folder))
    if not os.path.isdir(place):
        kind.fail(f"{path} cannot be written: {place} is not a folder.", param, ctx)
    if not _is_writable(place):
        kind.fail(f"{path} cannot be written: {place} is not writable.", param, ctx)


def _is_writable(folder: Path) -> bool:
    """Return whether files can be made in a folder, which its permissions alone do not tell."""
    try:
        with TemporaryFile(dir=folder):
            return os.access(folder, os.W_OK | os.X_OK)
    except OSError:
        return False


class FineTuning(click.ParamType):
    """A stage of training: what it trains, for how many epochs, at which learning rate."""

    name = "WHAT[:EPOCHS[:RATE]]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        """Convert `"stage5:5:1e-5"` to the arguments of a `Stage`."""
        if isinstance(value, dict):
            return value
        match = re.fullmatch(
            r"(head|all|stage\d+|top ?\d+)(?::([1-9]\d*)(?::(\d*\.?\d+(?:e-?\d+)?))?)?", value
        )
        if match is None:
            self.fail(
                f"{value!r}: expected what to train, epochs and learning rate, as in stage5:5:1e-5.",
                param,
                ctx,
            )
        what, epochs, rate = match.groups()
        given = {"epochs": epochs and int(epochs), "learning_rate": rate and float(rate)}
        return {"trainable": re.sub(r"top ?", "top ", what)} | {
            name: number for name, number in given.items() if number is not None
        }


class ClassWeights(click.ParamType):
    """Loss weights: balanced, none, or one for each class."""

    name = "balanced|none|W0,W1"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | tuple[float, float]:
        """Convert `"2.9,1"` to `(2.9, 1.0)`; the library refuses what makes no sense."""
        if not isinstance(value, str) or value in ("balanced", "none"):
            return value
        try:
            first, second = map(float, value.split(","))
        except ValueError:
            self.fail(f"{value!r}: expected balanced, none, or two numbers, as in 2.9,1.", param, ctx)
        return first, second


class Threshold(click.ParamType):
    """A fixed threshold, or a policy that chooses one, with its number."""

    name = "NUMBER|POLICY[:NUMBER]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Convert `"sensitivity:0.98"` to `Sensitivity(0.98)`."""
        if not isinstance(value, str):
            return value
        from pneumokeras.evaluation import policy_from_text

        try:
            return policy_from_text(value)
        except SettingsError as error:
            self.fail(str(error).replace("`", ""), param, ctx)


data_option = click.option(
    "--data", "path", type=PATH, required=True, help="Folder, PneumoniaMNIST .npz or CSV manifest."
)
skip_bad_option = click.option(
    "--skip-bad", is_flag=True, help="Skip radiographs that cannot be decoded, and list them."
)


def seed_option(meaning: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option `--seed` with `meaning` as its help text."""
    return click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help=meaning)


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--seed`, `--run` and `--keep-val`: how it splits, and where it keeps the run."""
    command = click.option("--keep-val", is_flag=True, help="Keep the val split even if it is small.")(
        command
    )
    command = click.option(
        "--run", type=OutputFolder(), help="Run folder.  [default: tuner_runs/<model>-<hash>]"
    )(command)
    return seed_option("Seed of the splits and of training.")(command)


def fitting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of how every fit of it is trained and what its threshold is chosen by."""
    options = (
        click.option(
            "--class-weights",
            type=ClassWeights(),
            metavar="balanced|none|A,B",
            help="Loss weights of class 0 and class 1.  [default: the recipe's, or balanced]",
        ),
        click.option(
            "--oversample",
            type=float,
            metavar="RATIO",
            help="Add augmented copies of the smaller class until the larger is this many times as large; "
            "needs --class-weights none.",
        ),
        click.option(
            "--patience", type=click.IntRange(min=1), help="Epochs without a better score before a fit stops."
        ),
        click.option(
            "--threshold",
            type=Threshold(),
            metavar="NUMBER|POLICY",
            help="What the threshold is chosen by on val: a fixed number, balanced_accuracy:0.95 (with at "
            "least that sensitivity), sensitivity:0.95 or youden.",
        ),
        click.option(
            "--workers",
            type=click.IntRange(min=1),
            default=2,
            show_default=True,
            help="Threads that prepare batches of images.",
        ),
        click.option(
            "--tensorboard", type=OutputFolder(), metavar="DIR", help="Write TensorBoard's logs into DIR."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def require_weights(weights: str) -> None:
    """Refuse a file of weights that does not exist, before the radiographs are read."""
    if Path(weights).suffix and not Path(weights).is_file():
        raise click.UsageError(f"--weights {weights} does not exist. Expected imagenet, none or a file.")


def tensorboard_callbacks(folder: Path | None) -> list[Any]:
    """Return the Keras callback that `--tensorboard` asks for, in a list."""
    if folder is None:
        return []
    import keras

    return [keras.callbacks.TensorBoard(str(folder))]


def chosen_threshold(point: OperatingPoint) -> str:
    """Say which threshold was chosen, on how many radiographs, by what."""
    if point.images is None:
        return f"threshold {point.threshold:.4f}, {point.chosen_on}"
    line = f"threshold {point.threshold:.4f}, chosen on {point.images} validation images"
    if point.sensitivity_floor is None:
        return line
    return f"{line} for a sensitivity of at least {point.sensitivity_floor}"


def reading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--classes` and `--patient-pattern`: how it reads folders and file names."""
    command = click.option(
        "--patient-pattern",
        metavar="REGEX",
        help="Regular expression whose first group matches the patient in a file name.",
    )(command)
    return click.option(
        "--classes",
        type=ClassNames(),
        default="NORMAL,PNEUMONIA",
        show_default=True,
        help="Folder names of class 0 and class 1.",
    )(command)
