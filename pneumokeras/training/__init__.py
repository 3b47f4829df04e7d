"""Fit, tune, ensemble, predict and evaluate, and the tools they share."""
