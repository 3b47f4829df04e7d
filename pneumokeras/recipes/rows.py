"""A row of the table of reproduced systems."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pneumokeras.evaluation import Interval

NORMALS, PNEUMONIAS = 234, 390
"""Test radiographs of each class that the documents' figures refer to."""

PUBLISHED = "published"


@dataclass(frozen=True)
class Row:
    """The results of one variant of a system.

    Attributes:
        recipe: name of the recipe.
        title: the name its document gives the system.
        variant: `"published"`, `"as published"` or `"corrected"`.
        figures: scores by name. For several seeds, the means of the estimates and of the ends of their
            intervals: an interval says what another test set might give, `spread` what another seed might.
        seeds: number of seeds.
        spread: lowest and highest estimate among several seeds, for the scores that every seed has.
        thresholds: one per seed.
        chosen_on: what the thresholds were chosen on: `"fixed"`, `"val"`, or test with a warning.
        weights: origin of the backbone's weights; empty for a network from scratch.
        parameters: of the network, without BatchNorm's running statistics.
        size: of the saved model in megabytes.
        minutes: of training, mean over the seeds.
        changes: settings that replaced the recipe's, such as `{"epochs": 2}`.
        reason: why a run failed; the figures are then the means over the seeds before it, if any.
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
        """Return the row as plain JSON; NaN becomes `None`."""
        plain = {**vars(self), "figures": {name: figure.json() for name, figure in self.figures.items()}}
        return {name: value for name, value in plain.items() if value not in (None, "", {}, ())}
