"""Why a model says what it says: heatmaps, and radiographs shown with them."""
