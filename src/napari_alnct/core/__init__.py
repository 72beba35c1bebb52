"""Computing on values: no Qt, no napari; only checkpoint touches files."""
