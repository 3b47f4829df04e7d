"""Why a model predicts what it predicts: heatmaps, tests of heatmaps, activations and projections."""
