"""A server of two slots whose queue of one is full, and a client that waits its turn."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

__all__ = ["is_tried_again"]


def is_tried_again(
    port: int,
    client: Any,
    refused: type[Exception],
    begin_endless: Callable[[], Any],
    ask: Callable[[Any], Any],
) -> list[Any]:
    """Fill the slots and the queue, let one client be refused and then answered; return both answers.

    ``client``: an SDK's, without retries; ``begin_endless`` returns a stream, ``ask(client)`` an answer.
    """
    running = [begin_endless() for _ in range(2)]
    for stream in running:
        next(iter(stream))
    waiting: list[Any] = []
    thread = threading.Thread(target=lambda: waiting.append(ask(client)))
    thread.start()
    while "llamacpp:requests_deferred 1" not in _metrics(port):
        assert thread.is_alive()
    with pytest.raises(refused):
        ask(client)
    # The first attempt is refused; then the running ones go, and a later attempt finds room.
    patient = client.with_options(max_retries=5)
    patient._client.event_hooks["response"].append(lambda response: [stream.close() for stream in running])
    answer = ask(patient)
    thread.join()
    return [answer, *waiting]


def _metrics(port: int) -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"x-api-key": "secret"})
    with urllib.request.urlopen(request, timeout=60) as page:
        return str(page.read().decode())
