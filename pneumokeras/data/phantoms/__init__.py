"""Synthetic radiographs with known opacities."""
