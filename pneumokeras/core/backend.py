"""Find out what Keras runs on, without importing it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from pneumokeras.core.errors import SettingsError


def require_tensorflow() -> None:
    """Refuse another backend of Keras than TensorFlow, before Keras is imported and fails in many lines.

    Raises:
        SettingsError: if Keras runs on another backend, or would.
    """
    backend = _backend()
    if backend != "tensorflow":
        raise SettingsError(
            f"pneumokeras needs Keras on TensorFlow, but its backend is {backend}. Set "
            "KERAS_BACKEND=tensorflow in the environment before Python starts."
        )


def _backend() -> str:
    """Return Keras' backend by Keras' own rules: that in use, the environment's, that of its settings."""
    if "keras" in sys.modules and hasattr(sys.modules["keras"], "config"):
        return sys.modules["keras"].config.backend()
    if named := os.environ.get("KERAS_BACKEND"):
        return named
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    try:
        return json.loads((home / "keras.json").read_text(encoding="utf-8"))["backend"]
    except (OSError, ValueError, LookupError, TypeError):
        return "tensorflow"
