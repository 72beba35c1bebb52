"""Records of Zenodo: which files they hold, with sizes, checksums and addresses.

All of it is read at run time from the record API (``<api>/records/<id>``), whose answer
is kept beside the data; no address or checksum of a file stands in this program. The
API's own link to a file sends no byte ranges (zenodo/zenodo#2593), the link of the
record's page does, so both are given: a transfer that was cut goes on over the second.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import requests

from napari_alnct.io.downloads import DIGITS, RemoteFile
from napari_alnct.io.https import DownloadError, PassingFault, Patience, host_of, open_url, pause, refuse_unsafe

API = "https://zenodo.org/api"
API_VARIABLE = "ALNCT_ZENODO_API"
MOST_RECORD_BYTES = 16 << 20
SAFE_NAME = re.compile(r"[\w][\w .+()-]{0,199}")


@dataclass(frozen=True, kw_only=True)
class ZenodoRecord:
    """What a record says.

    Parameters
    ----------
    record_id : str
        Number of the record.
    url : str
        Address that was asked.
    read_at : str
        When, ISO 8601, UTC.
    title, doi, license_id : str
        As the record says; empty when it does not.
    files : tuple of RemoteFile
        In order of name.
    document : dict
        The whole answer.
    """

    record_id: str
    url: str
    read_at: str
    title: str
    doi: str
    license_id: str
    files: tuple[RemoteFile, ...]
    document: dict[str, Any]


def api_address() -> str:
    """Give the address of the record API: that of Zenodo, unless ``ALNCT_ZENODO_API`` names another."""
    return os.environ.get(API_VARIABLE, API).rstrip("/")


def read_record(
    record_id: str,
    *,
    api: str | None = None,
    patience: Patience | None = None,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> ZenodoRecord:
    """Read a record.

    Parameters
    ----------
    record_id : str
        Number of the record.
    api : str, optional
        Address of the record API.
    patience : Patience, optional
        How long to keep trying.
    is_cancelled : callable
        Tells whether the user has stopped.

    Returns
    -------
    ZenodoRecord

    Raises
    ------
    DownloadError
        If the record cannot be read, or its answer is not that of a record with files.
    """
    url = f"{api or api_address()}/records/{quote(record_id, safe='')}"
    name, patience = f"record {record_id}", patience or Patience(n_tries=4)
    n_failed = 0
    while True:
        try:
            document = _document(url, name, patience.stall_s)
            break
        except PassingFault as fault:
            n_failed += 1
            if n_failed >= patience.n_tries:
                raise DownloadError(f"{fault} ({n_failed} tries)") from fault
            pause(patience.wait_s(n_failed) if fault.wait_s is None else fault.wait_s, is_cancelled)
    return _record(record_id, url, document)


def _document(url: str, name: str, stall_s: float) -> dict[str, Any]:
    """Give the JSON object that an address answers with."""
    content = b""
    with open_url(url, name, {"Accept": "application/json"}, stall_s=stall_s) as response:
        try:
            for chunk in response.iter_content(1 << 16):
                content += chunk
                if len(content) > MOST_RECORD_BYTES:
                    raise DownloadError(f"{name}: the answer of {host_of(url)} is too long for a record; try later")
        except requests.RequestException as error:
            raise PassingFault(f"{name}: the connection was cut; check the network") from error
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DownloadError(f"{name}: {host_of(url)} answered with something that is not JSON; try later") from error
    if not isinstance(document, dict):
        raise _malformed(name, "an object", document)
    return document


def _record(record_id: str, url: str, document: dict[str, Any]) -> ZenodoRecord:
    name = f"record {record_id}"
    entries = document.get("files")
    if not isinstance(entries, list) or not entries:
        raise _malformed(name, "a list of files", entries)
    page = _page_of(document, url)
    files = sorted((_file(entry, name, page) for entry in entries), key=lambda file: file.name)
    if len({file.name.casefold() for file in files}) != len(files):
        raise _malformed(name, "each file once", [file.name for file in files])
    metadata = document.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    licence = metadata.get("license")
    return ZenodoRecord(
        record_id=record_id,
        url=url,
        read_at=datetime.now(UTC).isoformat(timespec="seconds"),
        title=str(metadata.get("title", "")),
        doi=str(document.get("doi", "")),
        license_id=str(licence.get("id", "")) if isinstance(licence, dict) else str(licence or ""),
        files=tuple(files),
        document=document,
    )


def _file(entry: object, name: str, page: str | None) -> RemoteFile:
    """Give one file of a record, every value checked."""
    if not isinstance(entry, dict):
        raise _malformed(name, "a file as an object", entry)
    key, size, checksum, links = (entry.get(word) for word in ("key", "size", "checksum", "links"))
    if not isinstance(key, str) or not SAFE_NAME.fullmatch(key):
        raise _malformed(name, "a plain file name as key", key)
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise _malformed(name, f"a size of {key} in bytes", size)
    algorithm, _, digest = checksum.lower().partition(":") if isinstance(checksum, str) else ("", "", "")
    if not re.fullmatch(f"[0-9a-f]{{{DIGITS.get(algorithm, 1)}}}", digest) or algorithm not in DIGITS:
        raise _malformed(name, f"a checksum of {key} such as md5:...", checksum)
    link = links.get("self") if isinstance(links, dict) else None
    if not isinstance(link, str):
        raise _malformed(name, f"a link to {key}", links)
    refuse_unsafe(link, name)
    urls = [link] + ([f"{page}/files/{quote(key)}?download=1"] if page else [])
    return RemoteFile(name=key, urls=tuple(urls), algorithm=algorithm, digest=digest, size=size)


def _page_of(document: dict[str, Any], url: str) -> str | None:
    """Give the address of the record's page, when it names one on the server that was asked."""
    links = document.get("links")
    page = links.get("self_html") if isinstance(links, dict) else None
    return page.rstrip("/") if isinstance(page, str) and host_of(page) == host_of(url) else None


def _malformed(name: str, expected: str, found: object) -> DownloadError:
    text = "nothing" if found is None else repr(found)[:80]
    return DownloadError(f"{name}: expected {expected}, found {text}; the record API may have changed, try later")
