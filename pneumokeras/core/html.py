"""Templates and data URIs for pages: one file each, one style, no network, every name escaped."""

from __future__ import annotations

import base64
import re

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

_MARKDOWN = re.compile(r"([\\`*_\[\]<>|~$&#])")


def environment(package: str) -> Environment:
    """Return the environment of a package's templates, which may include `page.css`.

    Args:
        package: its dotted name; the templates are in its folder `templates`.
    """
    return Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader(__name__)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def data_uri(kind: str, content: bytes) -> str:
    """Encode content as a URI that a page can contain.

    Args:
        kind: the media type, such as `image/jpeg`.
        content: the bytes.
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def plain_markdown(text: str) -> str:
    """Escape a text so that Markdown finds no markup in it."""
    return _MARKDOWN.sub(r"\\\1", text)
