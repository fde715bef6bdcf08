"""HTTP/2 without TLS, spoken by clients that mean harm: streams that are reset, starved or too many."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator

import h2.config
import h2.connection
import h2.events
import pytest
from h2.settings import SettingCodes
from live_server import CHAT, ENDLESS, QUESTION, LiveServer, wait_until

SHORT = json.dumps({"messages": QUESTION, "max_tokens": 4, "temperature": 0}).encode()
LONG = json.dumps(ENDLESS).encode()
PING = b"\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678"


class Client:
    """One connection. A GOAWAY or a lost connection shows as ``ended``."""

    def __init__(self, server: LiveServer, *, window: int | None = None) -> None:
        self.socket = server.connect()
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        if window is not None:
            self.h2.local_settings[SettingCodes.INITIAL_WINDOW_SIZE] = window
        self.h2.initiate_connection()
        self.ended = False
        self.bodies: dict[int, bytes] = {}
        self.statuses: dict[int, str] = {}
        self.whole: set[int] = set()
        self.flush()

    def flush(self) -> None:
        try:
            self.socket.sendall(self.h2.data_to_send())
        except OSError:
            self.ended = True

    def ask(self, body: bytes | None) -> int:
        """Send a request, or only the head of one; return its stream."""
        while body is not None and self.h2.outbound_flow_control_window < len(body) and not self.ended:
            self.read()
        stream = self.h2.get_next_available_stream_id()
        head = [(":method", "POST"), (":path", CHAT), (":authority", "x"), (":scheme", "http")]
        self.h2.send_headers(stream, head)
        if body is not None:
            self.h2.send_data(stream, body, end_stream=True)
        return stream

    def read(self) -> None:
        """Take what comes next."""
        self.flush()
        try:
            data = self.socket.recv(65536)
        except ConnectionError:
            data = b""
        self.ended = self.ended or not data
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                self.statuses[event.stream_id] = dict(event.headers)[b":status"].decode()
            elif isinstance(event, h2.events.DataReceived):
                self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                self.whole.add(event.stream_id)
            elif isinstance(event, h2.events.ConnectionTerminated):
                self.ended = True


def check_answer(client: Client) -> None:
    stream = client.ask(SHORT)
    while stream not in client.whole:
        assert not client.ended
        client.read()
    assert client.statuses[stream] == "200"
    assert json.loads(client.bodies[stream])["usage"]["completion_tokens"] == 4


@pytest.fixture(scope="module")
def running() -> Iterator[LiveServer]:
    with LiveServer("--parallel", "2", "--ctx-size", "8192", "--max-queue", "400") as server:
        yield server


@pytest.mark.parametrize("body", [None, SHORT, LONG], ids=["head", "short", "endless"])
def test_streams_that_are_reset_at_once(server: LiveServer, body: bytes | None) -> None:
    client = Client(server)
    for number in range(2000):
        client.h2.reset_stream(client.ask(body))
        if number % 20 == 0:
            client.flush()
            server.answers_a_question() if number % 400 == 0 else None
    if not client.ended:
        check_answer(client)


def test_more_resets_at_once_than_hypercorn_remembers(server: LiveServer) -> None:
    client = Client(server)
    for _ in range(4000):
        client.h2.reset_stream(client.ask(None))
    client.flush()
    # It may drop the connection for that, with a line in the log and no more; nobody else is hurt.
    server.answers_a_question()
    assert server.said().count("a connection was dropped") <= 1


def test_streams_that_take_nothing_hold_nobody_up(server: LiveServer) -> None:
    starved = Client(server, window=0)
    for _ in range(100):
        starved.ask(SHORT)
    starved.flush()
    wait_until("they are served", lambda: server.metric("llamacpp:requests_deferred") == 0)
    check_answer(Client(server))
    server.answers_a_question()


def test_endless_answers_of_a_client_that_leaves(server: LiveServer) -> None:
    client = Client(server)
    first = client.ask(LONG)
    for _ in range(20):
        client.ask(LONG)
    while not client.bodies.get(first):
        client.read()
    client.socket.close()


@pytest.mark.parametrize(
    "frames",
    [
        struct.pack(">I", 0)[1:] + b"\x01\x00\x00\x00\x00\x01",  # a head that does not end,
        PING * 5000,
        b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" * 5000,  # settings
        b"\x00\x00\x05\x02\x00\x00\x00\x00\x03\x00\x00\x00\x00\x10"
        * 3000,  # the same priority again and again
        b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",  # a frame that is too long
    ],
    ids=["head", "ping", "settings", "priority", "long"],
)
def test_floods_of_frames(server: LiveServer, frames: bytes) -> None:
    client = Client(server)
    more = b"\x00\x40\x00\x09\x00\x00\x00\x00\x01" + b"a" * 16384  # and goes on,
    client.socket.settimeout(5)
    try:
        client.socket.sendall(frames)
        for _ in range(100 if frames[3:4] == b"\x01" else 0):
            client.socket.sendall(more)
    except (OSError, socket.timeout):  # noqa: UP041
        pass  # it was dropped, or is not read while it does not read
    server.answers_a_question()
