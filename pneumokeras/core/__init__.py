"""What every room may use: errors, files, pages."""
