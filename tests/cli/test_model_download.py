"""``models download``: the same transfer, with a hash that is checked before the file takes its name."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from napari_alnct.cli.app import dispatch
from tests.core.tiny_models import write_tiny_model

from ..io.fake_zenodo import FakeZenodo, Fault, serving


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> bytes:
    """Give the bytes of a small model file."""
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    write_tiny_model(path)
    return path.read_bytes()


@pytest.fixture
def zenodo(model):
    """Serve the model, and a file that is none."""
    with serving(FakeZenodo()) as server:
        server.records = {"7": {"tiny.safetensors": model, "page.safetensors": b"<html>", "x.pth": b"x"}}
        yield server


def fetch(zenodo, name: str, *flags: str) -> int:
    """Run the subcommand in this process and give its exit code."""
    return dispatch(["models", "download", f"{zenodo.url}/records/7/files/{name}?download=1", *flags])


def names(folder: Path) -> list[str]:
    """List a folder."""
    return sorted(path.name for path in folder.iterdir())


def test_a_model_is_fetched_and_tried(zenodo, model, tmp_path, capsys, monkeypatch):
    """It gets the name in the address, passes its self-test, and the way to use it is shown."""
    monkeypatch.chdir(tmp_path)
    digest = hashlib.sha256(model).hexdigest()
    assert fetch(zenodo, "tiny.safetensors", "--sha256", digest.upper()) == 0
    assert (tmp_path / "tiny.safetensors").read_bytes() == model
    assert names(tmp_path) == ["tiny.safetensors"]
    text = capsys.readouterr().out
    assert text.startswith("tiny, version 0: fetched, SHA-256 as expected, weights finite, self-test passed")
    assert "detect scan.mhd --model tiny.safetensors" in text
    zenodo.requests.clear()
    assert fetch(zenodo, "tiny.safetensors", "--sha256", digest) == 0
    assert zenodo.requests == []
    assert "tiny, version 0: is there" in capsys.readouterr().out


def test_out_names_a_file_or_a_folder(zenodo, model, tmp_path):
    """--out with a folder keeps the name in the address."""
    digest = hashlib.sha256(model).hexdigest()
    assert fetch(zenodo, "tiny.safetensors", "--sha256", digest, "--out", str(tmp_path)) == 0
    assert fetch(zenodo, "tiny.safetensors", "--sha256", digest, "--out", str(tmp_path / "b.safetensors")) == 0
    assert names(tmp_path) == ["b.safetensors", "tiny.safetensors"]


def test_a_cut_model_is_continued(zenodo, model, tmp_path):
    """Also without an announced size."""
    zenodo.faults["tiny.safetensors"] = [Fault(cut_after=len(model) - 10_000)]
    digest = hashlib.sha256(model).hexdigest()
    assert fetch(zenodo, "tiny.safetensors", "--sha256", digest, "--out", str(tmp_path)) == 0
    assert zenodo.requests[-1].status == 206
    assert (tmp_path / "tiny.safetensors").read_bytes() == model


def test_without_a_hash_nothing_is_fetched(zenodo, tmp_path, capsys):
    """One sentence, no request."""
    assert fetch(zenodo, "tiny.safetensors", "--out", str(tmp_path)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "models download needs --sha256" in line
    assert zenodo.requests == []


def test_another_hash_leaves_no_file(zenodo, tmp_path, capsys):
    """A file that is not the announced one never takes the name."""
    assert fetch(zenodo, "tiny.safetensors", "--sha256", "0" * 64, "--out", str(tmp_path)) == 2
    assert "announced is SHA256 000000000000..., what came has" in capsys.readouterr().err
    assert names(tmp_path) == []


def test_the_right_hash_of_what_is_no_model(zenodo, tmp_path, capsys):
    """A web page with the announced hash is refused by the reader and removed."""
    digest = hashlib.sha256(b"<html>").hexdigest()
    assert fetch(zenodo, "page.safetensors", "--sha256", digest, "--out", str(tmp_path)) == 2
    assert "this looks like a web page, not a model" in capsys.readouterr().err
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["http://example.org/a.safetensors", "--sha256", "0" * 64], "an address must begin with https://"),
        (["a.safetensors", "--sha256", "0" * 64], "an address must begin with https://"),
        (["https://example.org/a.safetensors", "--sha256", "123"], "--sha256 takes 64 hexadecimal digits"),
        (["https://example.org/model.pth", "--sha256", "0" * 64], r"the address names no .safetensors file"),
        (["https://example.org/%2e%2e%2fa.safetensors", "--sha256", "0" * 64], "the address names no .safetensors"),
        (["https://example.org/a", "--sha256", "0" * 64, "--out", "a.bin"], "the name of a model ends in"),
        (["https://example.org/a", "--sha256", "0" * 64, "--out", "no/a.safetensors"], "folder no does not exist"),
    ],
)
def test_what_is_refused_without_the_network(tmp_path, capsys, monkeypatch, arguments, sentence):
    """Exit 2, one sentence, nothing written."""
    monkeypatch.chdir(tmp_path)
    assert dispatch(["models", "download", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert sentence in line
    assert names(tmp_path) == []


def test_another_model_of_the_name_stays(zenodo, model, tmp_path, capsys):
    """A file that is there under the name is never overwritten."""
    (tmp_path / "tiny.safetensors").write_bytes(b"mine")
    digest = hashlib.sha256(model).hexdigest()
    assert fetch(zenodo, "tiny.safetensors", "--sha256", digest, "--out", str(tmp_path)) == 2
    assert "is there and is not the announced file" in capsys.readouterr().err
    assert (tmp_path / "tiny.safetensors").read_bytes() == b"mine"
