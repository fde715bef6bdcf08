from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from bench.servers import ServerError, Settings, is_ready, running

# Answers 503 to the first request, as a server that is still loading, and 200 from then on.
FAKE = """
import http.server, sys

class Handler(http.server.BaseHTTPRequestHandler):
    status = 503
    def do_GET(self):
        self.send_response(Handler.status)
        self.send_header("Content-Length", "0")
        self.end_headers()
        Handler.status = 200

arguments = sys.argv[1:]
print(" ".join(arguments), flush=True)
if "-kvu" in arguments:
    sys.exit(3)
http.server.HTTPServer(("127.0.0.1", int(arguments[arguments.index("--port") + 1])), Handler).serve_forever()
"""


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("bench.servers.OUT", tmp_path / "out")
    return tmp_path / "out"


def test_a_server_runs_for_the_length_of_the_block(out: Path) -> None:
    settings = Settings(Path("m.gguf"), parallel=3, context=99, threads=1)
    with running([sys.executable, "-c", FAKE], settings, "fake") as server:
        assert is_ready(server.port)
        assert server.ready_s > 0
        flags = "-m m.gguf -np 3 -c 99 -t 1 -tb 1 -b 2048 -ub 512 --cache-ram 0 --metrics -no-kvu"
        expected = f"{flags} --host 127.0.0.1 --port {server.port}\n"
        assert (out / "fake.log").read_text().startswith(expected)
    assert not is_ready(server.port)
    with pytest.raises(ProcessLookupError):
        os.kill(server.pid, 0)


def test_a_server_that_ends_is_an_error(out: Path) -> None:
    with (
        pytest.raises(ServerError, match=r"ended with status 3; see .*fake\.log"),
        running([sys.executable, "-c", FAKE], Settings(Path("m.gguf"), unified=True), "fake"),
    ):
        pytest.fail("the block ran")
    assert out.is_dir()
