"""What a report.json may hold, as the JSON Schema that the package ships."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any


def report_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of report.json, `report.schema.json` beside this module."""
    path = files("pneumokeras.report") / "report.schema.json"
    return json.loads(path.read_text(encoding="utf-8"))
