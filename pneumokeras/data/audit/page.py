"""An audit as a page: one HTML file that holds its style and pictures, needs no network, runs no script."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from jinja2 import Environment

from pneumokeras.core.html import environment
from pneumokeras.data.dataset import WHOLE

if TYPE_CHECKING:
    from pneumokeras.data.audit.results import Audit
    from pneumokeras.data.audit.types import DuplicateGroup, Shift

SHOWN_GROUPS = 12
LISTED = 200
"""Of the longer lists; all of them stand in the JSON."""


def render_page(audit: Audit) -> str:
    """The whole page as HTML."""
    pictures = {
        name: f"data:image/jpeg;base64,{base64.b64encode(picture).decode('ascii')}"
        for name, picture in audit.pictures.items()
    }
    template = _templates().get_template("audit.html.jinja")
    return template.render(
        audit=audit, pictures=pictures, listed=LISTED, shown_groups=SHOWN_GROUPS, whole=WHOLE
    )


def render_summary(audit: Audit) -> str:
    """Findings and counts as a piece of HTML for a notebook."""
    return _templates().get_template("summary.html.jinja").render(audit=audit)


def names_shown(duplicates: Sequence[DuplicateGroup], shifts: Iterable[Shift]) -> set[str]:
    """Names of the radiographs that the page shows as pictures."""
    groups = {name for group in duplicates[:SHOWN_GROUPS] for name in members_shown(group)}
    return groups.union(*(names for shift in shifts for names in shift.examples.values()))


def members_shown(group: DuplicateGroup) -> tuple[str, ...]:
    """One of a group whose pixels are equal; else two, to compare."""
    return group.names[: 1 if group.kind == "exact" else 2]


def _templates() -> Environment:
    templates = environment("pneumokeras.data.audit")
    templates.filters |= {"number": "{:,}".format, "auc": "{:.2f}".format, "members_shown": members_shown}
    return templates
