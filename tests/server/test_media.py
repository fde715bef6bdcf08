"""Images by their URLs: what is fetched, and what must not be."""

from __future__ import annotations

import base64
import http.server
import json
import threading
from collections.abc import Iterator

import pytest

from pyllama.errors import InvalidRequestError, MediaUrlError
from pyllama.server import media
from pyllama.server.media import MediaFetcher, fetch
from pyllama.server.settings import Settings
from pyllama.server.state import ServerState

IMAGE = b"\x89PNG an image"


class Handler(http.server.BaseHTTPRequestHandler):
    """One answer for each path."""

    asked: list[tuple[str, str]]

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["Host"]))
        name = self.path.partition("?")[0]
        if name in ("/around", "/away"):
            self.send_response(302)
            self.send_header("Location", "/around" if name == "/around" else "/image.png")
            self.end_headers()
        elif name == "/to-file":
            self.send_response(302)
            self.send_header("Location", "file:///etc/hosts")
            self.end_headers()
        elif name == "/missing":
            self.send_error(404)
        else:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(IMAGE if name != "/large" else bytes(11 * 1024 * 1024))

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def address() -> Iterator[str]:
    Handler.asked = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_image_is_fetched(address: str) -> None:
    assert fetch(f"http://{address}/image.png?a=b c#d", private=True) == IMAGE
    assert fetch(f"http://{address}", private=True) == IMAGE
    assert fetch(f"http://{address}/away", private=True) == IMAGE
    assert Handler.asked[0] == ("/image.png?a=b%20c", address)
    assert Handler.asked[1] == ("/", address)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("http://ADDRESS/missing", "does not answer with an image"),
        ("http://ADDRESS/large", "more than"),
        ("http://ADDRESS/around", "redirected too often"),
        ("http://ADDRESS/to-file", "neither http: nor https:"),
        ("http://user:secret@ADDRESS/", "a user name"),
        ("ftp://ADDRESS/", "neither http: nor https:"),
        ("http://", "neither http: nor https:"),
        ("http://ADDRESS:port/", "[Pp]ort"),
    ],
)
def test_what_is_no_image_is_refused(address: str, path: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        fetch(path.replace("ADDRESS", address), private=True)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.3.4",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:7f00:1::]",
        "[fe80::1]",
        "[fc00::1]",
        "[ff02::1]",
        "localhost",
    ],
)
def test_addresses_that_are_not_public_are_not_asked(host: str) -> None:
    with pytest.raises(ValueError, match="not a public one"):
        fetch(f"http://{host}:9/")


def test_one_private_address_among_others_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(2, 1, 6, "", ("8.8.8.8", 80)), (2, 1, 6, "", ("127.0.0.1", 80))]
    monkeypatch.setattr(media.socket, "getaddrinfo", lambda *args, **kwargs: found)
    with pytest.raises(ValueError, match="not a public one"):
        fetch("http://example.invalid/")


def test_public_addresses_are() -> None:
    for text in ("8.8.8.8", "2001:4860:4860::8888", "::ffff:8.8.8.8", "64:ff9b::808:808"):
        assert media._is_public(text)


def test_a_server_that_answers_byte_by_byte_is_left() -> None:
    """The limit is of all the time, not of the time between two bytes."""
    import socket

    listener = socket.create_server(("127.0.0.1", 0))
    left = threading.Event()

    def drip() -> None:
        peer, _ = listener.accept()
        with peer:
            peer.recv(1000)
            peer.sendall(b"HTTP/1.1 200 OK\r\nX: ")
            try:
                while not left.is_set():
                    peer.sendall(b"a")
                    left.wait(0.01)
            except OSError:
                left.set()

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        with pytest.raises((OSError, ValueError, media.http.client.HTTPException)):
            fetch(f"http://127.0.0.1:{listener.getsockname()[1]}/", private=True, seconds=0.2)
        assert left.wait(30)
    finally:
        left.set()
        thread.join()
        listener.close()


def data_uri(image: bytes) -> str:
    return "data:image/*;base64," + base64.b64encode(image).decode()


@pytest.mark.anyio
async def test_the_image_takes_the_place_of_its_url(address: str) -> None:
    part = {"type": "image_url", "image_url": {"url": f"http://{address}/x"}}
    body = {"messages": [{"role": "user", "content": ["é", part]}], "seed": 12345678901234567890}
    filled = await MediaFetcher(2).fill_in(json.dumps(body).encode(), "messages[0].content[1].image_url.url")
    part["image_url"] = {"url": data_uri(IMAGE)}
    assert json.loads(filled) == body


@pytest.mark.anyio
async def test_a_failure_names_the_field_and_little_else(address: str) -> None:
    for allowed, url, why in (
        (1, f"http://{address}/x", "not a public one"),
        (2, "http://127.0.0.1:1/x", "cannot be fetched"),
        (2, "https://127.0.0.1:1/x", "cannot be fetched"),
        (2, f"https://{address}/x", "cannot be fetched"),
    ):
        body = json.dumps({"prompt": {"multimodal_data": [url]}}).encode()
        with pytest.raises(InvalidRequestError, match=why) as caught:
            await MediaFetcher(allowed).fill_in(body, "prompt.multimodal_data[0]")
        assert caught.value.param == "prompt.multimodal_data[0]"


class Core:
    """Refuses each URL in a list of them, the first one first."""

    def prepare_chat(self, body: bytes, dialect: str) -> bytes:
        urls = json.loads(body)["urls"]
        for i, url in enumerate(urls):
            if url.startswith("http"):
                raise MediaUrlError("a URL", param=f"urls[{i}]")
        return body


@pytest.mark.anyio
async def test_the_core_is_asked_again_until_no_url_is_left(address: str) -> None:
    state = ServerState(Settings(media_urls=2))
    state._engine = Core()  # type: ignore[assignment]
    urls = [f"http://{address}/{i}" for i in range(8)]
    prepared = await state.prepare_chat(json.dumps({"urls": urls}).encode())
    assert json.loads(prepared) == {"urls": [data_uri(IMAGE)] * 8}  # type: ignore[arg-type]
    with pytest.raises(MediaUrlError):
        await state.prepare_chat(json.dumps({"urls": [*urls, urls[0]]}).encode())
    off = ServerState(Settings(media_urls=0))
    off._engine = state._engine
    with pytest.raises(MediaUrlError):
        await off.prepare_chat(json.dumps({"urls": urls}).encode())
