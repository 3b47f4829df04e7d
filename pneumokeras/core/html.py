"""What all pages share: one file each, one style, no network, every name in it escaped."""

from __future__ import annotations

import base64

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def environment(package: str) -> Environment:
    """Templates of a package, which may include `page.css`.

    Args:
        package: its dotted name; its templates lie in its folder `templates`.
    """
    return Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader(__name__)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def data_uri(kind: str, content: bytes) -> str:
    """Content as a URI that a page holds in itself.

    Args:
        kind: its media type, such as `image/jpeg`.
        content: its bytes.
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
