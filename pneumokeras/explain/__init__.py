"""Why a model predicts what it predicts: heatmaps, tests of heatmaps, activations and projections."""

from pneumokeras.core.backend import require_tensorflow

require_tensorflow()
