"""Collections of radiographs: folders, PneumoniaMNIST files, CSV manifests."""
