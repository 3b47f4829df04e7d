"""Radiographs: reading, splitting, loading, drawing."""
