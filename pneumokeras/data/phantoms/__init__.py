"""Phantoms: synthetic chest radiographs with known opacities."""
