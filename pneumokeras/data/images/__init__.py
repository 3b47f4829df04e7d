"""One image file: its header, its pixels, its format, and whose radiograph it is."""
