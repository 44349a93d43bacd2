"""A web server that serves byte ranges, as object stores do."""

import contextlib
import hashlib
import http.server
import os
import threading
from functools import partial


class RangeHandler(http.server.SimpleHTTPRequestHandler):
    """Serves byte ranges, as object stores do."""

    def log_message(self, *args):
        pass

    def send_head(self):
        if "forbidden" in self.path:
            return self.send_error(403)
        spec = self.headers.get("Range")
        if not spec:
            return super().send_head()
        path = self.translate_path(self.path)
        if not os.path.isfile(path):
            return self.send_error(404)
        with open(path, "rb") as file:
            content = file.read()
        start, _, stop = spec.removeprefix("bytes=").partition("-")
        first, last = int(start), min(int(stop or len(content)), len(content) - 1)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("ETag", f'"{hashlib.md5(content).hexdigest()}"')
        self.end_headers()
        self.wfile.write(content[first : last + 1])
        return None


@contextlib.contextmanager
def file_server(folder):
    """Serves a folder; yields ``host:port``."""
    handler = partial(RangeHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{running.server_port}"
        finally:
            running.shutdown()
            thread.join()
