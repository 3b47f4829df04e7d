"""Fit, tune, ensemble, predict and evaluate, and the tools they share."""

from pneumokeras.core.backend import require_tensorflow

require_tensorflow()
