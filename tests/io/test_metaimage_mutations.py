"""Mutated MetaImage files: whatever the change, the reader gives SimpleITK's volume or a ReadError.

300 examples in a normal run, always the same; HYPOTHESIS_PROFILE=nightly runs
10,000 new ones. SimpleITK sees only files that our reader accepted.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_alnct.core.errors import ReadError
from napari_alnct.io.metaimage import read_metaimage

from ..corpus.mhd_builder import DATA_NAME, HEADER, RAW

IS_NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
N_EXAMPLES = 10_000 if IS_NIGHTLY else 300
VALUES_BY_KEY = {
    "NDims": ("3", "03", "+3", "2", "4", "-3", "1000000", "3.0"),
    "DimSize": ("8 8 8", "4 8 16", "16 16 2", "1 1 512", "512 1 1", "8 8", "8 8 8 8", "8\t8  8", "0 8 8", "8,8,8"),
    "ElementSpacing": (
        "1 1 1",
        "0.5 0.6 0.7",
        "10 10 10",
        "1e-3 1 1",
        "7e-1 7E-1 +1.25",
        "1. .5 1",
        "0x1 1 1",
        "-1 1 1",
    ),
    "Offset": ("0 0 0", "-1 -2 -3", "1e5 -1e5 1e-5", "1e999 0 0", "nan 0 0", "1,5 0 0", "1 2", "-0 0 0"),
    "Origin": ("0 0 0", "5 6 7"),
    "TransformMatrix": (
        "-1 0 0 0 -1 0 0 0 1",
        "0 1 0 0 0 1 1 0 0",
        "-1 0 0 0 1 0 0 0 1",
        "1 1e-5 0 0 1 0 0 0 1",
        "1 0 0",
    ),
    "Rotation": ("1 0 0 0 1 0 0 0 1", "0 -1 0 1 0 0 0 0 1", "2 0 0 0 2 0 0 0 2"),
    "ElementType": ("MET_SHORT", "MET_USHORT", "MET_UCHAR", "MET_INT", "MET_FLOAT", "MET_DOUBLE", "MET_LONG", "short"),
    "ElementDataFile": (DATA_NAME, "LOCAL", "LIST", "scan.mhd", "scan.mha", "../scan.raw", "s%d.raw 1 2 1", "none.raw"),
    "BinaryDataByteOrderMSB": ("True", "true", "False", "0", "1", "maybe"),
    "ElementByteOrderMSB": ("True", "False"),
    "CompressedData": ("True", "False", "T", "yes"),
    "CompressedDataSize": ("0", "-1", "1024", "1e3", "99999999999999999999"),
    "BinaryData": ("False", "True", "1"),
    "ObjectType": ("Image", "Tube", "image"),
    "ElementNumberOfChannels": ("1", "1.0", "0", "2", "-1"),
    "HeaderSize": ("0", "-1", "8"),
    "ElementToIntensityFunctionSlope": ("1", "1.0", "2", "nan"),
    "ElementSize": ("1 1 1", "text"),
    "AnatomicalOrientation": ("RAI", "LPS", "???"),
    "DistanceUnits": ("mm", "cm", "?"),
    "Modality": ("MET_MOD_CT", "x"),
    "Comment": ("NDims = 4", "größe", ""),
    "dimsize": ("8 8 8",),
    "0010|0010": ("anonymous",),
}
PAIRS = [(key, value) for key, values in VALUES_BY_KEY.items() for value in values]

Files = tuple[str, bytes, bytes]  # suffix, header, payload
keys = st.sampled_from(list(VALUES_BY_KEY))
values = st.sampled_from([value for _, value in PAIRS]) | st.text(max_size=12)
places = st.integers(min_value=0, max_value=20)


def _start(kind: str) -> Files:
    """Give a good file."""
    header, payload = HEADER, RAW
    if "float" in kind:
        header, payload = header | {"ElementType": "MET_FLOAT"}, np.linspace(-1000, 400, 512, dtype="<f4").tobytes()
    if "zlib" in kind:
        header, payload = header | {"CompressedData": "True"}, zlib.compress(payload)
    if "mha" in kind:
        header = header | {"ElementDataFile": "LOCAL"}
    return (".mha" if "mha" in kind else ".mhd"), _text(header), payload


def _text(header: dict[str, str]) -> bytes:
    return "".join(f"{key} = {value}\n" for key, value in header.items()).encode()


def _on_lines(change: Callable[[list[bytes]], object]) -> Callable[[Files], Files]:
    """Give a mutation of the header's lines."""

    def mutate(files: Files) -> Files:
        lines = files[1].splitlines(keepends=True) or [b""]
        change(lines)
        return files[0], b"".join(lines), files[2]

    return mutate


def _set_value(key: str, value: str) -> Callable[[Files], Files]:
    def change(lines: list[bytes]) -> None:
        line = f"{key} = {value}\n".encode()
        at = next((n for n, old in enumerate(lines) if old.startswith(key.encode() + b" ")), None)
        if at is None:
            lines.insert(0, line)
        else:
            lines[at] = line

    return _on_lines(change)


def _set_byte(place: int, byte: int) -> Callable[[Files], Files]:
    def mutate(files: Files) -> Files:
        header = bytearray(files[1] or b" ")
        header[place % len(header)] = byte
        return files[0], bytes(header), files[2]

    return mutate


def _resize(n_bytes: int) -> Callable[[Files], Files]:
    """Give a mutation that cuts (negative) or extends the payload."""
    return lambda files: (files[0], files[1], files[2][:n_bytes] if n_bytes < 0 else files[2] + bytes(n_bytes))


mutations = st.one_of(
    st.sampled_from(PAIRS).map(lambda pair: _set_value(*pair)),
    st.sampled_from(PAIRS).map(lambda pair: _set_value(*pair)),
    st.sampled_from(PAIRS).map(lambda pair: _set_value(*pair)),
    st.builds(_set_value, keys, values),
    st.builds(lambda n: _on_lines(lambda lines: lines.pop(n % len(lines))), places),
    st.builds(lambda n, m: _on_lines(lambda lines: lines.insert(m, lines[n % len(lines)])), places, places),
    st.builds(lambda n, m: _on_lines(lambda lines: lines.insert(m, lines.pop(n % len(lines)))), places, places),
    st.builds(lambda n, text: _on_lines(lambda lines: lines.insert(n, text)), places, st.binary(max_size=30)),
    st.builds(_set_byte, st.integers(0, 400), st.integers(0, 255)),
    st.builds(_resize, st.sampled_from((-600, -512, -1, 0, 1, 512, 1024))),
)


def _for_simpleitk(header: bytes, payload: bytes) -> bytes:
    """Give the header as SimpleITK needs it: NDims first and, when zlib follows it, the length of the stream."""
    lines = header.splitlines(keepends=True)
    first = [line for line in lines if line.split(b"=")[0].strip(b" \t\xef\xbb\xbf") == b"NDims"]
    if b"CompressedDataSize" not in header:
        first.append(f"CompressedDataSize = {len(payload)}\n".encode())
    return b"".join([*first, *(line for line in lines if line not in first)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give one folder for all examples."""
    return tmp_path_factory.mktemp("mutated")


@pytest.mark.timeout(3600 if IS_NIGHTLY else 300)
@settings(
    max_examples=N_EXAMPLES,
    deadline=None,
    derandomize=not IS_NIGHTLY,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    kind=st.sampled_from(("mhd", "mhd zlib", "mhd float", "mha", "mha zlib")),
    changes=st.lists(mutations, min_size=1, max_size=3),
)
def test_mutated_files(kind: str, changes: list[Callable[[Files], Files]], folder: Path) -> None:
    """A file changed in one to three places gives the volume that SimpleITK reads, or a ReadError."""
    files = _start(kind)
    for change in changes:
        files = change(files)
    suffix, header, payload = files
    path = folder / f"scan{suffix}"
    path.write_bytes(header + (payload if suffix == ".mha" else b""))
    (folder / DATA_NAME).write_bytes(payload)
    try:
        image = read_metaimage(path)
    except ReadError:
        return
    path.write_bytes(_for_simpleitk(header, payload) + (payload if suffix == ".mha" else b""))
    oracle = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(image.array, sitk.GetArrayViewFromImage(oracle))
    assert image.array.dtype == sitk.GetArrayViewFromImage(oracle).dtype
    np.testing.assert_allclose(image.geometry.spacing_zyx_mm[::-1], oracle.GetSpacing(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(image.geometry.origin_xyz_mm, oracle.GetOrigin(), rtol=0, atol=1e-9)
    np.testing.assert_allclose(image.geometry.direction, oracle.GetDirection(), rtol=0, atol=1e-4)
