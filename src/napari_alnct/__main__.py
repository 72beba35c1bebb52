"""Run the command as ``python -m napari_alnct``."""

from napari_alnct.cli.app import run

if __name__ == "__main__":
    run()
