"""Compute one answer over ggml's RPC, with a second process on this machine: the same text as without it.

Run it with a Python that has a wheel with RPC in it: ``venv/bin/python packaging/try_rpc.py``. The other
process is ggml's own RPC server, started from the package's libraries, on the loopback address only.
"""

from __future__ import annotations

import ctypes
import socket
import subprocess
import sys
from pathlib import Path

QUESTION = "What is 17 + 25?"


def library_folder() -> Path:
    import pyllama

    return Path(pyllama.__path__[0]) / "lib"


def serve(endpoint: str) -> None:
    """Serve every device of this process until it is ended."""
    lib = library_folder()
    ggml = ctypes.CDLL(str(lib / "libpyllama-ggml.so"), mode=ctypes.RTLD_GLOBAL)
    rpc = ctypes.CDLL(str(lib / "libggml-rpc.so"))
    ggml.ggml_backend_load_all_from_path(str(lib).encode())
    ggml.ggml_backend_dev_count.restype = ctypes.c_size_t
    ggml.ggml_backend_dev_get.restype = ctypes.c_void_p
    ggml.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    count = ggml.ggml_backend_dev_count()
    devices = (ctypes.c_void_p * count)(*(ggml.ggml_backend_dev_get(index) for index in range(count)))
    rpc.ggml_backend_rpc_start_server.argtypes = [
        ctypes.c_char_p,
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_size_t,
        ctypes.c_void_p,
    ]
    rpc.ggml_backend_rpc_start_server(endpoint.encode(), None, 1, count, devices)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_it_listens(server: subprocess.Popen[bytes], port: int) -> None:
    while server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
    raise SystemExit(f"try_rpc: the server ended with {server.returncode}")


def answer(*flags: str) -> tuple[str, str]:
    """Return the answer's text, and what was logged of where the model's layers went."""
    command = [sys.executable, "-m", "pyllama.cli", "run", QUESTION, "--temp", "0", "-lv", "4", *flags]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(
            f"try_rpc: {' '.join(command[3:])} ended with {done.returncode}: {done.stderr[-400:]}"
        )
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "RPC" in line)


def main() -> int:
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2])
        return 1
    port = free_port()
    endpoint = f"127.0.0.1:{port}"
    server = subprocess.Popen([sys.executable, __file__, "serve", endpoint], stdout=subprocess.DEVNULL)
    try:
        wait_until_it_listens(server, port)
        here, _ = answer()
        there, log = answer("--rpc", endpoint, "-ngl", "99")
    finally:
        server.kill()
        server.wait()
    print(log)
    print(there, end="")
    if here != there:
        print(f"try_rpc: without RPC it is {here!r}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
