"""Read, group, split, load, audit and draw radiographs."""
