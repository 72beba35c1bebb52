"""PNG bytes: valid for another library, and the same pixels give the same bytes."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from matplotlib.image import imread

from napari_alnct.io.png_files import data_address, png_bytes


@pytest.mark.parametrize("shape", [(7, 5), (7, 5, 3), (1, 1)], ids=["grey", "colour", "one pixel"])
def test_another_library_reads_the_same_pixels(shape: tuple[int, ...]) -> None:
    """Matplotlib gives back what was written."""
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.testing.assert_array_equal(np.rint(imread(io.BytesIO(png_bytes(pixels))) * 255), pixels)
    assert png_bytes(pixels) == png_bytes(pixels.copy())


def test_an_address_holds_the_whole_file() -> None:
    """What follows the comma is the file, in base64."""
    assert base64.b64decode(data_address(b"\x89PNG", "image/png").removeprefix("data:image/png;base64,")) == b"\x89PNG"
