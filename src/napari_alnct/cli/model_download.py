"""A model file from the network: fetched, its hash checked before it takes its name, then tried."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from napari_alnct.cli.outputs import refuse_unwritable_table
from napari_alnct.core.errors import ModelError, SettingsError

SUFFIX = ".safetensors"
MOST_BYTES = 4 << 30


def download_model(url: str, sha256: str | None, out: Path | None) -> str:
    """Fetch a model file and check it.

    Parameters
    ----------
    url : str
        Address, https.
    sha256 : str or None
        Expected SHA-256, hexadecimal; without it nothing is fetched.
    out : Path or None
        File or folder to write; by default the name in the address, in the current folder.

    Returns
    -------
    str
        What it is, and how to use it.

    Raises
    ------
    SettingsError
        If the hash is missing or none, or the output cannot be written.
    DownloadError
        If it cannot be fetched, or is not the file of this hash.
    ModelError
        If it is not a model of this project; it is removed again.
    """
    from napari_alnct.cli.download_bar import DownloadBar
    from napari_alnct.core.checkpoint import read_checkpoint
    from napari_alnct.io.downloads import RemoteFile, fetch

    digest = _digest(sha256)
    target = _target(url, out)
    refuse_unwritable_table(target)
    remote = RemoteFile(name=target.name, urls=(url,), algorithm="sha256", digest=digest, most_bytes=MOST_BYTES)
    with DownloadBar() as bar:
        is_new = fetch(remote, target, on_bytes=lambda n: bar.show(target.name, "fetching", n, None))
    try:
        recipe = read_checkpoint(target, sha256=digest).recipe
    except ModelError as error:
        if is_new:
            target.unlink()
        raise ModelError(f"{error} (the SHA-256 is the expected one, the file was removed)") from error
    shown = target if not target.is_absolute() else target.resolve()
    return (
        f"{recipe.name}, version {recipe.version}: {'fetched' if is_new else 'is there'}, SHA-256 as expected, weights "
        f"finite, self-test passed: {shown}\nuse it with: napari-alnct-train detect scan.mhd --model {shown}"
    )


def _digest(sha256: str | None) -> str:
    if sha256 is None:
        raise SettingsError("models download needs --sha256, the hash that the maker of the model publishes with it")
    digest = sha256.strip().lower().removeprefix("sha256:")
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise SettingsError(f"--sha256 takes 64 hexadecimal digits, found {sha256[:80]!r}")
    return digest


def _target(url: str, out: Path | None) -> Path:
    """Give the file to write."""
    if out is not None and not out.is_dir():
        if out.suffix != SUFFIX:
            raise SettingsError(f"{out.name}: the name of a model ends in {SUFFIX}; choose such a name with --out")
        return out
    name = unquote(urlsplit(url).path.rpartition("/")[2])
    if not re.fullmatch(r"\w[\w .+-]*\.safetensors", name):
        raise SettingsError(f"the address names no {SUFFIX} file (found {name[:80]!r}); name one with --out")
    return (out or Path()) / name
