"""The command napari-alnct-train: thin, nothing heavy at module level."""
