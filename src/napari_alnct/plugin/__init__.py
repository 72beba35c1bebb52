"""The napari layer: private modules that only the manifest points at."""
