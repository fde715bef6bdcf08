"""The server as a process, on the fake core: start, signals, exit codes. Real sockets."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("fake_server.py")
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer right\r\n"


class Process:
    def __init__(self, mode: str, shutdown_timeout: float, write_timeout: float) -> None:
        command = [sys.executable, str(SCRIPT), mode, str(shutdown_timeout), str(write_timeout)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.port = int(self.line("bound"))
        self.connections: list[http.client.HTTPConnection] = []
        self.sockets: list[socket.socket] = []

    def line(self, word: str) -> str:
        assert self.process.stdout is not None
        text = self.process.stdout.readline()
        assert text.startswith(word + " "), (text, self.process.poll())
        return text.split()[1]

    def ready(self) -> Process:
        assert self.line("ready") == f"http://127.0.0.1:{self.port}"
        return self

    def connect(self) -> http.client.HTTPConnection:
        self.connections.append(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30))
        return self.connections[-1]

    def ask(self, stream: bool = True) -> http.client.HTTPConnection:
        connection = self.connect()
        body = json.dumps({"messages": [], "stream": stream})
        connection.request("POST", "/v1/chat/completions", body, {"authorization": "Bearer right"})
        return connection

    def raw(self, text: bytes) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        self.sockets.append(client)
        client.sendall(text)
        return client

    def chat(self) -> http.client.HTTPResponse:
        response = self.ask().getresponse()
        assert response.status == 200
        assert response.readline() == b"data: first\n"
        return response

    def signal(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def end(self) -> tuple[int, str]:
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def start_one(mode: str, shutdown_timeout: float = 30, write_timeout: float = 30) -> Process:
        started.append(Process(mode, shutdown_timeout, write_timeout))
        return started[-1]

    yield start_one
    for process in started:
        if process.process.poll() is None:
            process.process.kill()
        process.process.communicate()
        for connection in [*process.connections, *process.sockets]:
            connection.close()


def test_every_event_arrives_once_over_a_reused_connection(start: Callable[..., Process]) -> None:
    server = start("count").ready()
    connection = server.connect()
    for _ in range(3):
        connection.request(
            "POST", "/v1/chat/completions", b'{"stream":true}', {"authorization": "Bearer right"}
        )
        response = connection.getresponse()
        expected = b"data: first\n\n" + b"".join(b"data: %d\n\n" % number for number in range(1000))
        assert response.read() == expected
    server.signal()
    assert server.end() == (0, "")


def test_signal_when_idle_with_an_open_keep_alive_connection(start: Callable[..., Process]) -> None:
    server = start("echo").ready()
    connection = server.connect()
    connection.request("GET", "/health")
    assert connection.getresponse().read() == b'{"status":"ok"}'
    server.signal()
    assert server.end() == (0, "")


def test_running_requests_are_cut_off_with_an_event_after_the_limit(start: Callable[..., Process]) -> None:
    server = start("endless", 0.2).ready()
    response = server.chat()
    server.signal()
    rest = response.read()
    assert b'data: {"error":{"message":"the server is shutting down"}}' in rest
    response.close()
    assert server.end() == (0, "")


def test_queued_requests_get_503_at_the_limit(start: Callable[..., Process]) -> None:
    server = start("queued", 0.2).ready()
    connection = server.ask()
    other = server.connect()
    other.request("GET", "/health")
    other.getresponse().read()
    server.signal()
    response = connection.getresponse()
    assert response.status == 503
    assert json.loads(response.read())["error"]["type"] == "unavailable_error"
    assert server.end() == (0, "")


def test_new_connections_are_refused_while_draining(start: Callable[..., Process]) -> None:
    server = start("endless", 30).ready()
    response = server.chat()
    server.signal()
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", server.port), timeout=5).close()
        except OSError:
            break
        assert time.monotonic() < deadline
    server.signal()
    code, errors = server.end()
    assert code == 1
    assert "second signal" in errors
    response.close()


def test_a_body_that_never_ends_does_not_hold_the_shutdown(start: Callable[..., Process]) -> None:
    server = start("endless", 0.1).ready()
    server.raw(HEAD + b"content-length: 100\r\n\r\n{")
    other = server.connect()
    other.request("GET", "/health")
    other.getresponse().read()
    server.signal()
    assert server.end() == (0, "")


def test_a_client_that_reads_nothing_does_not_hold_the_shutdown(start: Callable[..., Process]) -> None:
    server = start("flood", 0.1).ready()
    client = server.raw(HEAD + b'content-length: 15\r\n\r\n{"stream":true}')
    assert client.recv(4) == b"HTTP"
    server.signal()
    code, errors = server.end()
    assert (code, errors) == (0, "")


def test_a_client_that_reads_nothing_is_dropped(start: Callable[..., Process]) -> None:
    server = start("flood", write_timeout=0.1).ready()
    server.raw(HEAD + b'content-length: 15\r\n\r\n{"stream":true}')
    server.line("cancelled")
    server.signal()
    assert server.end() == (0, "")


@pytest.mark.parametrize("stream", [True, False])
def test_disconnect_in_the_queue(start: Callable[..., Process], stream: bool) -> None:
    server = start("queued").ready()
    connection = server.ask(stream)
    server.line("queued")
    connection.close()
    server.line("cancelled")
    server.signal()
    assert server.end() == (0, "")


def test_disconnect_while_streaming(start: Callable[..., Process]) -> None:
    server = start("endless").ready()
    response = server.chat()
    response.close()
    server.connections[-1].close()
    server.line("cancelled")
    server.signal()
    assert server.end() == (0, "")


@pytest.mark.parametrize(("path", "status"), [("/v1/chat/completions", 413), ("/nowhere", 404)])
def test_a_refused_body_of_50_mb(start: Callable[..., Process], path: str, status: int) -> None:
    server = start("echo").ready()
    for key, expected in (("right", status), ("wrong", 401)):
        connection = server.connect()
        connection.request("POST", path, b"x" * 50_000_000, {"authorization": f"Bearer {key}"})
        response = connection.getresponse()
        assert response.status == expected
        assert json.loads(response.read())["error"]["code"] == expected
    server.chat().close()
    server.signal()
    assert server.end() == (0, "")


def test_load_that_fails_is_one_line_and_the_port_was_never_open(start: Callable[..., Process]) -> None:
    server = start("broken")
    code, errors = server.end()
    assert code == 1
    assert errors == "pyllama-server: cannot load the model: its tensors are cut off\n"


def test_loading_answers_503_and_a_signal_ends_it(start: Callable[..., Process]) -> None:
    server = start("loading")
    deadline = time.monotonic() + 20
    while True:
        try:
            connection = server.connect()
            connection.request("GET", "/health")
            break
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
    response = connection.getresponse()
    assert response.status == 503
    assert json.loads(response.read())["error"]["message"] == "Loading model"
    server.signal()
    assert server.end() == (0, "")


@pytest.mark.parametrize("port", [-1, 65_536, 99_999])
def test_a_port_that_is_none(port: int) -> None:
    from pyllama.server.settings import Settings
    from pyllama.server.sockets import BindError, bind_all

    with pytest.raises(BindError, match=f"--port {port}: a port is a number from 0 to 65535"):
        bind_all(Settings(port=port))


def test_busy_port_is_one_line() -> None:
    from pyllama.server.settings import Settings
    from pyllama.server.sockets import BindError, bind_all

    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(BindError, match=f"127.0.0.1 port {port}: address already in use") as caught:
            bind_all(Settings(port=port))
        assert "\n" not in str(caught.value)


def test_unix_socket_left_behind_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    from pyllama.server.settings import Settings
    from pyllama.server.sockets import BindError, bind_all

    path = tmp_path / "server.sock"
    settings = Settings(host=(str(path),))
    (dead,) = bind_all(settings)
    dead.close()
    (alive,) = bind_all(settings)
    alive.listen()
    with pytest.raises(BindError, match=r"server\.sock"):
        bind_all(settings)
    alive.close()
    assert os.path.exists(path)


def test_port_0_needs_one_address() -> None:
    from pyllama.server.settings import Settings
    from pyllama.server.sockets import BindError, bind_all

    with pytest.raises(BindError, match="--port 0"):
        bind_all(Settings(host=("127.0.0.1", "::1"), port=0))
