"""A stand-in for a hub on this machine: refs, trees and files of one repository, user/model."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
import urllib.parse
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str, str]] = []  # path, range, authorization
        self.listed: list[dict[str, Any]] | None = None
        self.cut_after: int | None = None
        self.elsewhere = ""  # where file downloads are redirected to
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def __exit__(self, *reason: Any) -> None:
        self.shutdown()
        super().__exit__(*reason)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        hub = self.server
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        hub.asked.append((path, self.headers.get("Range", ""), self.headers.get("Authorization", "")))
        if path == "/api/models/user/model/refs":
            self.answer(json.dumps({"branches": [{"name": "main", "targetCommit": COMMIT}]}).encode())
        elif path == f"/api/models/user/model/tree/{COMMIT}":
            entries = hub.listed if hub.listed is not None else [entry(*item) for item in hub.files.items()]
            self.answer(json.dumps(entries).encode())
        elif path.rpartition("/")[2] in hub.files:
            if hub.elsewhere and not path.startswith("/cdn/"):
                self.send_response(302)
                self.send_header("Location", hub.elsewhere + "cdn/" + path.rpartition("/")[2])
                self.send_header("Content-Length", "0")
                self.end_headers()
            else:
                self.answer(hub.files[path.rpartition("/")[2]])
        else:
            self.answer(b'{"error":"Repository not found"}', 404)

    def answer(self, body: bytes, status: int = 200) -> None:
        etag = f'"{hashlib.sha256(body).hexdigest()[:8]}"'
        if self.headers.get("If-None-Match") == etag:
            self.send_response(304)
            self.end_headers()
            return
        start = int(self.headers.get("Range", "bytes=0-")[6:-1])
        if start and start >= len(body):
            self.send_error(416)
            return
        self.send_response(206 if start else status)
        self.send_header("Content-Length", str(len(body) - start))
        self.send_header("ETag", etag)
        self.end_headers()
        cut = None if self.path.startswith("/api/") else self.server.cut_after
        self.wfile.write(body[start:cut])


def entry(path: str, body: bytes) -> dict[str, Any]:
    return {"type": "file", "path": path, "oid": "f" * 40, "lfs": {"oid": hashlib.sha256(body).hexdigest()}}
