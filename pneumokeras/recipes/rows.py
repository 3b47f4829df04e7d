"""A row of the table of reproduced systems."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pneumokeras.evaluation import Interval

NORMALS, PNEUMONIAS = 234, 390
"""The test radiographs that the documents' figures are about."""

PUBLISHED = "published"


@dataclass(frozen=True)
class Row:
    """What one system reached, in one way.

    Attributes:
        recipe: its name.
        title: what its document calls it.
        variant: `"published"`, `"as published"` or `"corrected"`.
        figures: by name. Of several seeds the mean, of estimates and of the ends of their intervals: so an
            interval tells what another test set might give, and `spread` what another seed might.
        seeds: how many were run.
        spread: lowest and highest estimate among the seeds, if there are several, of figures that each has.
        thresholds: of each seed.
        chosen_on: what the thresholds were chosen on: `"fixed"`, `"val"`, or test with a warning.
        weights: where the backbone's weights come from; empty for a network from scratch.
        parameters: of the network; BatchNorm's running statistics are none.
        size: of the saved model in megabytes.
        minutes: of training, the seeds' mean.
        changes: what was run otherwise than the recipe says, such as `{"epochs": 2}`.
        reason: why a run failed; the figures are then those of the seeds before it, if there were any.
    """

    recipe: str
    title: str
    variant: str
    figures: Mapping[str, Interval]
    seeds: int = 0
    spread: Mapping[str, tuple[float, float]] | None = None
    thresholds: tuple[float, ...] = ()
    chosen_on: str = ""
    weights: str = ""
    parameters: int | None = None
    size: float | None = None
    minutes: float | None = None
    changes: Mapping[str, Any] | None = None
    reason: str = ""

    @property
    def not_run(self) -> bool:
        """Whether there is a reason instead of figures."""
        return bool(self.reason) and not self.figures

    def json(self) -> dict[str, Any]:
        """As plain JSON; NaN becomes `None`."""
        plain = {**vars(self), "figures": {name: figure.json() for name, figure in self.figures.items()}}
        return {name: value for name, value in plain.items() if value not in (None, "", {}, ())}
