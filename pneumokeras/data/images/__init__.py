"""Read one image file: header, pixels, format, patient."""
