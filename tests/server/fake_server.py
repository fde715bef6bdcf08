"""A server process on the fake core: ``python fake_server.py MODE SHUTDOWN_TIMEOUT WRITE_TIMEOUT``.

MODE says what the core does:

echo     every request gets one event and ends
endless  every request gets one event and goes on until the engine is shut down
queued   no request ever starts
flood    every request gets far more than any socket buffer holds
count    every request gets a thousand events, from another thread
broken   the load fails
loading  the load never ends
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

from fake_core import Engine, Stream, Waker

from pyllama.errors import ModelLoadError
from pyllama.server.serve import run_server
from pyllama.server.settings import Settings
from pyllama.server.sockets import bind_all


def count(stream: Stream) -> None:
    for number in range(1000):
        stream.append(b"data: %d\n\n" % number)
        time.sleep(0)
    stream.finish()


def main(mode: str, shutdown_timeout: float, write_timeout: float) -> int:
    def answer(stream: Stream) -> None:
        stream.on_cancel = lambda: print("cancelled now", flush=True)
        if mode == "queued":
            print("queued now", flush=True)
            return
        stream.start()
        if mode == "flood":
            stream.append(b"x" * 64_000_000)
        stream.append(b"data: first\n\n")
        if mode == "count":
            threading.Thread(target=count, args=(stream,)).start()
        if mode == "echo":
            stream.finish()

    def load() -> Any:
        if mode == "broken":
            raise ModelLoadError("cannot load the model: its tensors are cut off")
        if mode == "loading":
            threading.Event().wait()
        engine = Engine()
        engine.on_submit = answer
        return engine, Waker()

    settings = Settings(
        port=0, shutdown_timeout=shutdown_timeout, write_timeout=write_timeout, api_keys=("right",)
    )
    sockets = bind_all(settings)
    print(f"bound {sockets[0].getsockname()[1]}", flush=True)
    return run_server(settings, sockets, load, lambda addresses: print(f"ready {addresses[0]}", flush=True))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3])))
