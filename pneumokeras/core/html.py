"""Templates and data URIs for pages: each is one file in one style, offline, with every name escaped."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from html import escape

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

_MARKDOWN = re.compile(r"([\\`*_\[\]<>|~$&#])")


def environment(package: str) -> Environment:
    """Return the environment of the templates in a package's folder `templates`; they may include `page.css`.

    Args:
        package: the dotted name, such as `pneumokeras.report`.
    """
    return Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader(__name__)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def data_uri(kind: str, content: bytes) -> str:
    """Return content as a URI that a page can contain; `kind` is its media type, such as `image/jpeg`."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def table(header: Iterable[object], rows: Iterable[Iterable[object]], *, caption: str = "") -> str:
    """Return a table for a notebook, every cell escaped.

    Args:
        header: one cell for each column.
        rows: the cells of each row; `None` leaves one empty.
        caption: shown above it, escaped; a line break starts a new line.
    """
    above = f"<caption>{escape(caption).replace(chr(10), '<br>')}</caption>" if caption else ""
    body = "".join(_row(row, "td") for row in rows)
    return f"<table>{above}<thead>{_row(header, 'th')}</thead><tbody>{body}</tbody></table>"


def _row(cells: Iterable[object], tag: str) -> str:
    texts = ("" if cell is None else escape(str(cell)) for cell in cells)
    return f"<tr>{''.join(f'<{tag}>{text}</{tag}>' for text in texts)}</tr>"


def plain_markdown(text: str) -> str:
    """Return a text escaped so that Markdown finds no markup in it."""
    return _MARKDOWN.sub(r"\\\1", text)
