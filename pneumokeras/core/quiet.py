"""Keep TensorFlow's messages about processors and missing graphics cards out of notebooks and commands."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_CHATTER = re.compile(rb"(I\d{4} |WARNING: All log messages before absl::InitializeLog)")


def quiet_tensorflow() -> None:
    """Ask TensorFlow to log fatal errors only, unless it, or Keras with it, is imported or a level is set."""
    if "tensorflow" not in sys.modules:
        os.environ.setdefault(LEVEL, "3")


@contextmanager
def without_chatter() -> Iterator[None]:
    """Hold back what the block writes to standard error, and then write it without TensorFlow's chatter.

    TensorFlow's C++ side writes some messages before it reads its log level. Nothing is held back if
    TensorFlow is imported already, by Keras too, or the user chose a level that shows them.
    """
    if "tensorflow" in sys.modules or os.environ.get(LEVEL) != "3":
        yield
        return
    try:
        standard_error = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    with tempfile.TemporaryFile() as held:
        sys.stderr.flush()
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(standard_error, 2)
            held.seek(0)
            for line in held:
                if not _CHATTER.match(line):
                    os.write(standard_error, line)
            os.close(standard_error)
