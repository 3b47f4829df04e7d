"""Render an audit as one HTML file with its style and pictures inside, without network or scripts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jinja2 import Environment

from pneumokeras.core.html import data_uri, environment
from pneumokeras.data.audit.types import DuplicateGroup, Shift
from pneumokeras.data.dataset import WHOLE

SHOWN_GROUPS = 12

LISTED = 200
"""Longer lists are cut; the JSON has all of them."""


def render_page(audit: Mapping[str, Any]) -> str:
    """Return the whole page as HTML; `audit` holds the attributes of an `Audit` and its findings by name."""
    pictures = {name: data_uri("image/jpeg", picture) for name, picture in audit["pictures"].items()}
    template = _templates().get_template("audit.html.jinja")
    return template.render(
        audit=audit, pictures=pictures, listed=LISTED, shown_groups=SHOWN_GROUPS, whole=WHOLE
    )


def render_summary(audit: Mapping[str, Any]) -> str:
    """Return findings and counts as HTML for a notebook; `audit` is as for `render_page`."""
    return _templates().get_template("summary.html.jinja").render(audit=audit)


def names_shown(duplicates: Sequence[DuplicateGroup], shifts: Iterable[Shift]) -> set[str]:
    """Return the names of the radiographs that the page shows as pictures."""
    groups = {name for group in duplicates[:SHOWN_GROUPS] for name in members_shown(group)}
    return groups.union(*(names for shift in shifts for names in shift.examples.values()))


def members_shown(group: DuplicateGroup) -> tuple[str, ...]:
    """Return the images to show: one for exact duplicates, two for near duplicates."""
    return group.names[: 1 if group.kind == "exact" else 2]


def _templates() -> Environment:
    templates = environment("pneumokeras.data.audit")
    templates.filters |= {"number": "{:,}".format, "auc": "{:.2f}".format, "members_shown": members_shown}
    return templates
