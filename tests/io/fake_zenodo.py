"""A server on 127.0.0.1 that speaks the part of Zenodo's record API that is used, with faults on request."""

from __future__ import annotations

import hashlib
import io
import json
import re
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import numpy as np

HEADER = "seriesuid,coordX,coordY,coordZ,diameter_mm\n"
MHD = """ObjectType = Image
NDims = 3
DimSize = {edge} {edge} {edge}
ElementSpacing = 1 1 1
Offset = 0 0 0
TransformMatrix = 1 0 0 0 1 0 0 0 1
ElementType = MET_SHORT
ElementByteOrderMSB = False
ElementDataFile = {name}.raw
"""


@dataclass
class Request:
    """One request as the server saw it."""

    path: str
    range: str | None
    if_range: str | None
    status: int = 0
    sent: int = 0

    @property
    def key(self) -> str:
        """Give the name of the file asked for, empty for a record."""
        match = re.search(r"/files/([^/?]+)", self.path)
        return unquote(match[1]) if match else ""


@dataclass
class Fault:
    """What goes wrong with one request: another status, a body cut short, changed or slow, or a wrong length."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    flip: bool = False
    body: bytes | None = None
    wait: threading.Event | None = None
    wait_after: int = -1  # bytes sent before the wait; below 0 it comes before the answer


class FakeZenodo:
    """Records, their files and what goes wrong with the next requests."""

    def __init__(self) -> None:
        self.records: dict[str, dict[str, bytes]] = {}
        self.faults: dict[str, list[Fault]] = {}  # by file name or record number, used up one by one
        self.changes: dict[str, dict[str, object]] = {}  # by file name, on top of the entry in the record
        self.api_sends_ranges = self.page_sends_ranges = True
        self.has_page = True
        self.raw_record: bytes | None = None
        self.requests: list[Request] = []
        self.most_at_a_time = self.n_now = 0
        self.lock = threading.Lock()
        self.url = ""

    @property
    def api(self) -> str:
        """Give the address of the record API."""
        return f"{self.url}/api"

    def asked(self, key: str) -> list[Request]:
        """Give the requests for one file."""
        return [request for request in self.requests if request.key == key]

    def document(self, record: str) -> dict[str, object]:
        """Give a record in the form of the API."""
        files = [
            {
                "id": f"00000000-0000-0000-0000-{n:012d}",
                "key": key,
                "size": len(content),
                "checksum": f"md5:{hashlib.md5(content).hexdigest()}",
                "links": {"self": f"{self.api}/records/{record}/files/{key}/content"},
            }
            | self.changes.get(key, {})
            for n, (key, content) in enumerate(self.records[record].items())
        ]
        return {
            "id": int(record),
            "recid": record,
            "doi": f"10.5281/zenodo.{record}",
            "title": f"LUNA16, record {record}",
            "links": {"self": f"{self.api}/records/{record}"}
            | ({"self_html": f"{self.url}/records/{record}"} if self.has_page else {}),
            "metadata": {"title": f"LUNA16, record {record}", "license": {"id": "cc-by-4.0"}},
            "files": files,
        }


@contextmanager
def serving(zenodo: FakeZenodo) -> Iterator[FakeZenodo]:
    """Serve while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            request = Request(self.path, self.headers.get("Range"), self.headers.get("If-Range"))
            with zenodo.lock:
                zenodo.requests.append(request)
                zenodo.n_now += 1
                zenodo.most_at_a_time = max(zenodo.most_at_a_time, zenodo.n_now)
            try:
                _answer(zenodo, self, request)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True
            finally:
                with zenodo.lock:
                    zenodo.n_now -= 1

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    zenodo.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield zenodo
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _answer(zenodo: FakeZenodo, handler: BaseHTTPRequestHandler, request: Request) -> None:
    match = re.match(r"(/api)?/records/(\d+)(?:/files/([^/?]+)(?:/content)?)?(?:\?.*)?$", request.path)
    record, key = (match[2], unquote(match[3] or "")) if match else ("", "")
    with zenodo.lock:
        faults = zenodo.faults.get(key or record, [])
        fault = faults.pop(0) if faults else Fault()
    if fault.wait is not None and fault.wait_after < 0:
        fault.wait.wait(20)
    if fault.status is not None:
        return _send(zenodo, handler, request, fault.status, fault.body or b"{}", fault.headers)
    files = zenodo.records.get(record)
    if files is None or (key and key not in files):
        return _send(zenodo, handler, request, 404, b'{"status": 404, "message": "not found"}', {})
    if not key:
        content = zenodo.raw_record or json.dumps(zenodo.document(record)).encode()
        return _send(zenodo, handler, request, 200, content, {"Content-Type": "application/json"})
    content = files[key] if fault.body is None else fault.body
    etag = f'"md5:{hashlib.md5(content).hexdigest()}"'
    if fault.flip:
        content = bytes([content[0] ^ 1]) + content[1:]
    sends_ranges = zenodo.api_sends_ranges if match and match[1] else zenodo.page_sends_ranges
    asked = re.match(r"bytes=(\d+)-$", request.range or "")
    headers = {"ETag": etag} | fault.headers
    if asked and sends_ranges and request.if_range in (None, etag):
        begin = int(asked[1])
        if begin >= len(content):
            return _send(zenodo, handler, request, 416, b"", {"Content-Range": f"bytes */{len(content)}"})
        headers = {"Content-Range": f"bytes {begin}-{len(content) - 1}/{len(content)}"} | headers
        return _send(zenodo, handler, request, 206, content[begin:], headers, fault)
    return _send(zenodo, handler, request, 200, content, headers, fault)


def _send(
    zenodo: FakeZenodo,
    handler: BaseHTTPRequestHandler,
    request: Request,
    status: int,
    body: bytes,
    headers: dict[str, str],
    fault: Fault | None = None,
) -> None:
    request.status = status
    handler.send_response(status)
    for name, value in ({"Content-Length": str(len(body))} | headers).items():
        handler.send_header(name, value)
    handler.end_headers()
    fault = fault or Fault()
    whole = len(body) if fault.cut_after is None else fault.cut_after
    for begin in range(0, whole, 8192):
        piece = body[begin : min(begin + 8192, whole)]
        handler.wfile.write(piece)
        request.sent += len(piece)
        if fault.wait is not None and 0 <= fault.wait_after <= request.sent:
            fault.wait.wait(120)
    if fault.cut_after is not None:
        handler.wfile.flush()
        handler.close_connection = True
        handler.connection.shutdown(2)


def zip_of(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Give a zip archive with these members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def noise(n_bytes: int, seed: int = 0) -> bytes:
    """Give bytes that do not compress."""
    return np.random.default_rng(seed).bytes(n_bytes)


def scan_files(folder: str, name: str, edge: int = 16, seed: int = 0) -> dict[str, bytes]:
    """Give the two files of a small MetaImage scan."""
    return {
        f"{folder}/{name}.mhd": MHD.format(edge=edge, name=name).encode(),
        f"{folder}/{name}.raw": noise(2 * edge**3, seed),
    }


def luna16(edge: int = 16) -> FakeZenodo:
    """Give both records with ten subsets of two scans each, masks, tables and the evaluation script."""
    names = {k: [f"1.3.6.{k}.{n}" for n in (1, 2)] for k in range(10)}
    subsets = {
        f"subset{k}.zip": zip_of(
            {f"subset{k}/": b""}
            | {file: body for name in names[k] for file, body in scan_files(f"subset{k}", name, edge, k).items()}
        )
        for k in range(10)
    }
    masks = {f: b for k in names for name in names[k] for f, b in scan_files("seg-lungs-LUNA16", name, 4).items()}
    evaluation = {
        "evaluationScript/noduleCADEvaluationLUNA16.py": b"print('evaluation')\n",
        "evaluationScript/annotations/annotations_excluded.csv": (HEADER + "1.3.6.1.1,1,2,3,-1\n").encode(),
        "__MACOSX/evaluationScript/._x": b"x",
    }
    zenodo = FakeZenodo()
    zenodo.records = {
        "3723295": {
            "annotations.csv": (HEADER + "1.3.6.0.1,1,2,3,4\n1.3.6.0.1,5,5,5,6\n1.3.6.9.2,1,2,3,9\n").encode(),
            "candidates.csv": b"seriesuid,coordX,coordY,coordZ,class\n",
            "candidates_V2.zip": zip_of({"candidates_V2.csv": b"seriesuid,coordX,coordY,coordZ,class\n"}),
            "evaluationScript.zip": zip_of(evaluation),
            "sampleSubmission.csv": b"seriesuid,coordX,coordY,coordZ,probability\n",
            "seg-lungs-LUNA16.zip": zip_of(masks),
            **{name: body for name, body in subsets.items() if name < "subset7"},
        },
        "4121926": {name: body for name, body in subsets.items() if name >= "subset7"},
    }
    return zenodo
