"""Records of Zenodo: read from a server that speaks its API; anything else is one sentence."""

from __future__ import annotations

import json

import pytest

from napari_alnct.core.errors import SettingsError
from napari_alnct.io.https import DownloadError, Patience
from napari_alnct.io.luna16_files import RECORDS, choose_files
from napari_alnct.io.zenodo import API, api_address, read_record

from .fake_zenodo import FakeZenodo, Fault, luna16, serving

QUICK = Patience(n_tries=2, first_wait_s=0.01, stall_s=2.0)


@pytest.fixture
def zenodo():
    """Serve a record of two files."""
    with serving(FakeZenodo()) as server:
        server.records = {"12": {"b.csv": b"beta", "a b.zip": b"alpha"}}
        yield server


def test_a_record_tells_its_files(zenodo):
    """Names, sizes, MD5, both addresses, licence, and where and when it was read."""
    record = read_record("12", api=zenodo.api, patience=QUICK)
    assert [(f.name, f.size, f.algorithm) for f in record.files] == [("a b.zip", 5, "md5"), ("b.csv", 4, "md5")]
    assert record.files[1].digest == "987bcab01b929eb2c07877b224215c92"
    assert record.files[1].urls == (
        f"{zenodo.api}/records/12/files/b.csv/content",
        f"{zenodo.url}/records/12/files/b.csv?download=1",
    )
    assert record.files[0].urls[1].endswith("/files/a%20b.zip?download=1")
    assert (record.license_id, record.doi) == ("cc-by-4.0", "10.5281/zenodo.12")
    assert record.url == f"{zenodo.api}/records/12"
    assert record.read_at.endswith("+00:00")
    assert record.document["files"][0]["key"] == "b.csv"


def test_the_page_of_another_server_is_no_address(zenodo):
    """The second address is taken only from the server that was asked."""
    document = zenodo.document("12")
    document["links"]["self_html"] = "https://elsewhere.org/records/12"
    zenodo.raw_record = json.dumps(document).encode()
    record = read_record("12", api=zenodo.api, patience=QUICK)
    assert all(len(file.urls) == 1 for file in record.files)


def test_a_busy_api_is_asked_again(zenodo):
    """503 once, then the record."""
    zenodo.faults["12"] = [Fault(status=503, headers={"Retry-After": "0"})]
    assert len(read_record("12", api=zenodo.api, patience=QUICK).files) == 2


def test_a_missing_record_is_named(zenodo):
    """404 is final."""
    with pytest.raises(DownloadError, match=r"record 99: 127.0.0.1:.* answered 404 Not Found; check the address"):
        read_record("99", api=zenodo.api, patience=QUICK)
    assert len(zenodo.requests) == 1


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"<html>maintenance</html>", "something that is not JSON"),
        (b"[" * 100_000, "something that is not JSON"),
        (b"[]", "expected an object"),
        (b"{}", "expected a list of files, found nothing"),
        (b'{"files": []}', "expected a list of files"),
        (b'{"files": {"a": 1}}', "expected a list of files"),
        (b'{"files": ["a.zip"]}', "expected a file as an object"),
    ],
    ids=["page", "deep", "list", "empty", "no files", "files as object", "file as text"],
)
def test_an_answer_that_is_no_record(zenodo, answer, sentence):
    """One sentence with what was expected."""
    zenodo.raw_record = answer
    with pytest.raises(DownloadError, match=f"record 12: .*{sentence}"):
        read_record("12", api=zenodo.api, patience=QUICK)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"key": "../evil"}, "a plain file name as key"),
        ({"key": ".hidden"}, "a plain file name as key"),
        ({"key": None}, "a plain file name as key"),
        ({"key": "a b.zip"}, "each file once"),
        ({"size": "4"}, "a size of b.csv"),
        ({"size": -1}, "a size of b.csv"),
        ({"size": True}, "a size of b.csv"),
        ({"checksum": "abc"}, "a checksum of b.csv"),
        ({"checksum": "md5:xyz"}, "a checksum of b.csv"),
        ({"checksum": "crc:" + "0" * 32}, "a checksum of b.csv"),
        ({"checksum": "md5:"}, "a checksum of b.csv"),
        ({"checksum": None}, "a checksum of b.csv"),
        ({"links": {}}, "a link to b.csv"),
        ({"links": {"self": "http://example.org/b.csv"}}, "must begin with https://"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_file_entry_that_cannot_be_used(zenodo, change, sentence):
    """Every value of an entry is checked before it is used."""
    zenodo.changes["b.csv"] = change
    with pytest.raises(DownloadError, match=sentence):
        read_record("12", api=zenodo.api, patience=QUICK)


def test_the_address_of_the_api(monkeypatch):
    """Zenodo, unless the environment names another server."""
    monkeypatch.delenv("ALNCT_ZENODO_API", raising=False)
    assert api_address() == API == "https://zenodo.org/api"
    monkeypatch.setenv("ALNCT_ZENODO_API", "http://127.0.0.1:1/api/")
    assert api_address() == "http://127.0.0.1:1/api"


def records():
    """Give the files of both LUNA16 records of the fake server."""
    with serving(luna16()) as zenodo:
        return [file for number in RECORDS for file in read_record(number, api=zenodo.api, patience=QUICK).files]


def test_the_choice_of_files():
    """Tables first, then masks, then the subsets asked for; the others are left out by name."""
    choice = choose_files(records(), (3, 9))
    assert [(f.remote.name, f.kind, f.folder) for f in choice.files] == [
        ("annotations.csv", "tables", "CSVFILES"),
        ("candidates.csv", "tables", "CSVFILES"),
        ("candidates_V2.zip", "tables", "CSVFILES"),
        ("sampleSubmission.csv", "tables", "CSVFILES"),
        ("evaluationScript.zip", "evaluation", "evaluationScript"),
        ("seg-lungs-LUNA16.zip", "masks", "seg-lungs-LUNA16"),
        ("subset3.zip", "scans", "subset3"),
        ("subset9.zip", "scans", "subset9"),
    ]
    assert choice.missing == ()
    assert choice.left_out == tuple(f"subset{k}.zip" for k in (0, 1, 2, 4, 5, 6, 7, 8))


def test_a_choice_without_masks():
    """The lung masks can be left out."""
    assert "seg-lungs-LUNA16.zip" in choose_files(records(), (), with_masks=False).left_out


def test_a_subset_that_no_record_holds():
    """The sentence names it, and what there is."""
    files = [file for file in records() if file.name != "subset4.zip"]
    with pytest.raises(SettingsError, match=r"no scans of subset 4; they hold annotations\.csv"):
        choose_files(files, (3, 4))


def test_what_the_records_should_hold_is_missed():
    """Without these files the run goes on, but says so."""
    choice = choose_files([file for file in records() if file.name.startswith("subset")], (0,))
    assert [what.split(" (")[0] for what in choice.missing] == [
        "the annotations",
        "candidates_V2",
        "the lung masks",
        "the evaluation script with the excluded findings",
    ]
