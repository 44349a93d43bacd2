"""A STAC API, a file server with ranges and a signing service, on the loopback interface."""

import contextlib
import json
import re
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from shapely.geometry import box, shape

STORAGE = "rtcstorage.blob.core.windows.net"
"""Host of the files that must be signed; the server is the proxy through which it is reached."""


@dataclass
class Fault:
    """What goes wrong with requests whose path matches, so many times.

    Attributes:
        kind: ``status`` answers with ``status``, ``break`` closes the connection within the body.
        skip: Matching requests that succeed before.
    """

    path: str
    kind: str = "status"
    status: int = 500
    headers: dict = field(default_factory=dict)
    times: int = 1
    skip: int = 0
    body: bytes = b""


class Catalogue:
    """The state of the server; tests change it while it runs.

    Attributes:
        url: Root of the server.
        folder: Folder whose files are under ``/files/`` and in the signed storage.
        items: STAC items, as dictionaries.
        collections: STAC collections by id, as dictionaries.
        page: Most items of one answer.
        faults: What goes wrong.
        lifetime_s: Seconds for which a signature is good.
        announced_s: Seconds for which the signing service says that it is good.
        requests: (method, path, range, status) of each request.
        bytes_sent: Bytes of files that were sent.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        self.items, self.collections, self.faults, self.requests = [], {}, [], []
        self.page = 100
        self.lifetime_s = self.announced_s = 3600.0
        self.bytes_sent = 0
        self.signatures = {}
        self.lock = threading.Lock()
        self.url = ""

    @property
    def api(self):
        return f"{self.url}/stac"

    def add(self, item):
        self.items.append(item)
        name = item["collection"]
        self.collections.setdefault(name, collection(name))
        return item

    def fault(self, path, **more):
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.path, path):
                    if fault.skip > 0:
                        fault.skip -= 1
                        continue
                    fault.times -= 1
                    return fault
        return None

    def paths(self, pattern):
        return [r for r in self.requests if re.search(pattern, r[1])]


def collection(name, licence="CC-BY-4.0"):
    return {
        "type": "Collection",
        "id": name,
        "stac_version": "1.0.0",
        "description": name,
        "license": licence,
        "links": [],
        "extent": {
            "spatial": {"bbox": [[-180, -90, 180, 90]]},
            "temporal": {"interval": [["2014-10-10T00:28:21Z", None]]},
        },
    }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    catalogue = None

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self._serve(body=False)

    def do_GET(self):
        self._serve()

    def do_POST(self):
        self._serve()

    def _serve(self, body=True):
        state = self.catalogue
        length = int(self.headers.get("Content-Length") or 0)
        data = json.loads(self.rfile.read(length)) if length else {}
        address = urlsplit(self.path)
        # A proxy is asked for whole addresses.
        place = "/storage" + address.path if address.netloc == STORAGE else address.path
        self._status = 0
        fault = state.fault(place)
        try:
            if fault is not None and fault.kind == "status":
                self._send(fault.status, fault.body, fault.headers, body)
            elif place.startswith("/stac"):
                query = {k: v[0] for k, v in parse_qs(address.query).items()}
                self._json(*_api(state, place[len("/stac") :].strip("/"), data or query))
            elif place.startswith("/sas/token/"):
                self._json(200, _token(state))
            elif place.startswith("/storage/"):
                problem = _signature_problem(state, parse_qs(address.query))
                if problem:
                    self._send(*problem, {}, body)
                else:
                    # /storage/container/path
                    self._file(place.split("/", 3)[3], body, fault)
            elif place.startswith("/files/"):
                self._file(place[len("/files/") :], body, fault)
            else:
                self._send(404, b"", {}, body)
        except (BrokenPipeError, ConnectionResetError):
            pass
        with state.lock:
            state.requests.append((self.command, place, self.headers.get("Range"), self._status))

    def _json(self, status, content):
        data = json.dumps(content).encode()
        self._send(status, data, {"Content-Type": "application/json"})

    def _send(self, status, data, headers, body=True):
        self._status = status
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def _file(self, name, body, fault):
        path = self.catalogue.folder / name
        if not path.is_file():
            self._send(404, b"", {}, body)
            return
        size = path.stat().st_size
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        headers = {"Accept-Ranges": "bytes"}
        status, first, last = 200, 0, size - 1
        if match:
            first = int(match[1])
            if first >= size:
                self._send(416, b"", {"Content-Range": f"bytes */{size}"}, body)
                return
            last = min(int(match[2] or size), size - 1)
            status = 206
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        with path.open("rb") as file:
            file.seek(first)
            data = file.read(last + 1 - first)
        if fault is not None and body:  # kind "break"
            self._status = status
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            self.connection.close()
            self.close_connection = True
            return
        self._send(status, data, headers, body)
        if body:
            with self.catalogue.lock:
                self.catalogue.bytes_sent += len(data)


def _token(state):
    now = datetime.now(timezone.utc)
    with state.lock:
        name = f"s{len(state.signatures)}"
        state.signatures[name] = time.monotonic() + state.lifetime_s
    expiry = (now + timedelta(seconds=state.announced_s)).isoformat()
    return {"token": f"se={expiry[:10]}&sp=r&sig={name}", "msft:expiry": expiry}


def _signature_problem(state, query):
    name = query.get("sig", [""])[0]
    if not name:
        return 409, b"<Error><Code>PublicAccessNotPermitted</Code></Error>"
    if state.signatures.get(name, 0) < time.monotonic():
        return 403, b"<Error><Code>AuthenticationFailed</Code></Error>"
    return None


def _api(state, place, query):
    root = state.api
    if place == "":
        return 200, {
            "type": "Catalog",
            "id": "loopback",
            "stac_version": "1.0.0",
            "description": "a catalogue of tests",
            "conformsTo": [
                "https://api.stacspec.org/v1.0.0/core",
                "https://api.stacspec.org/v1.0.0/collections",
                "https://api.stacspec.org/v1.0.0/ogcapi-features",
                "https://api.stacspec.org/v1.0.0/item-search",
            ],
            "links": [
                {"rel": "self", "href": root},
                {"rel": "root", "href": root},
                {"rel": "data", "href": f"{root}/collections"},
                {"rel": "search", "href": f"{root}/search", "method": "POST"},
                {"rel": "search", "href": f"{root}/search", "method": "GET"},
            ],
        }
    if place == "search":
        return 200, _search(state, query)
    item = re.fullmatch(r"collections/([^/]+)/items/([^/]+)", place)
    if item:
        found = [i for i in state.items if (i["collection"], i["id"]) == item.groups()]
        return (200, found[0]) if found else (404, {"code": "NotFound"})
    name = re.fullmatch(r"collections/([^/]+)", place)
    if name and name[1] in state.collections:
        return 200, state.collections[name[1]]
    return 404, {"code": "NotFoundError", "description": f"{place} does not exist"}


def _search(state, query):
    first = int(query.get("token") or 0)
    names = query.get("collections") or []
    names = names.split(",") if isinstance(names, str) else names
    bounds = query.get("bbox")
    bounds = [float(v) for v in bounds.split(",")] if isinstance(bounds, str) else bounds
    found = [
        item
        for item in state.items
        if (not names or item["collection"] in names)
        and (bounds is None or _meets(item, bounds))
        and _within(item, query.get("datetime"))
    ]
    page = found[first : first + min(state.page, int(query.get("limit") or state.page))]
    after = first + len(page)
    links = [{"rel": "root", "href": state.api}]
    if after < len(found):
        links.append(
            {
                "rel": "next",
                "href": f"{state.api}/search",
                "method": "POST",
                "body": {**query, "token": str(after)},
            }
        )
    return {"type": "FeatureCollection", "features": page, "links": links}


def _meets(item, bounds):
    geometry = item.get("geometry")
    outline = shape(geometry) if geometry else box(*item["bbox"])
    return outline.intersects(box(*bounds))


def _within(item, interval):
    if not interval:
        return True
    first, _, last = interval.partition("/")
    properties = item["properties"]
    start = properties.get("datetime") or properties["start_datetime"]
    end = properties.get("datetime") or properties["end_datetime"]
    return (first in ("", "..") or end >= first) and (last in ("", "..") or start <= last)


@contextlib.contextmanager
def serving(folder):
    """A running server with an empty catalogue; its files are those of a folder."""
    catalogue = Catalogue(folder)
    handler = type("Handler", (_Handler,), {"catalogue": catalogue})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    catalogue.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield catalogue
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def through_proxy(monkeypatch, catalogue):
    """Lets GDAL, requests and urllib reach ``STORAGE`` and its signing service at the server."""
    import planetary_computer.settings

    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, catalogue.url)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")
    monkeypatch.setenv("PC_SDK_SAS_URL", f"{catalogue.url}/sas/token")
    planetary_computer.settings.Settings.get.cache_clear()
