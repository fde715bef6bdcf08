"""A program on a terminal of its own: what is typed goes in, what a person would see comes out."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from types import TracebackType
from typing import Self

STYLE = re.compile(r"\x1b\[[0-9;]*m")


class Terminal:
    def __init__(self, *args: str, **environ: str) -> None:
        self.fd, slave = pty.openpty()
        termios.tcsetwinsize(slave, (24, 80))
        environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "pyllama.cli", *args],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**environment, "TERM": "xterm", **environ},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        self.slave = slave
        self.raw = ""
        self.seen = ""
        self.at = 0

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def expect(self, text: str, seconds: float = 60) -> str:
        """Read until ``text`` comes; return what came up to it. Styles are left out: ``raw`` has them."""
        deadline = time.monotonic() + seconds
        while (at := self.seen.find(text, self.at)) < 0:
            assert time.monotonic() < deadline, (text, self.seen[self.at :])
            if select.select([self.fd], [], [], 0.1)[0]:
                self.raw += os.read(self.fd, 65536).decode("utf-8", "replace")
                self.seen = STYLE.sub("", self.raw)
            else:
                assert self.process.poll() is None, (text, self.seen[self.at :])
        before, self.at = self.seen[self.at : at], at + len(text)
        return before + text

    def has_echo(self) -> bool:
        return bool(termios.tcgetattr(self.slave)[3] & termios.ECHO)

    def end(self) -> int:
        return self.process.wait(timeout=60)

    def rest(self) -> str:
        """Return what the program wrote and nobody expected, after its end."""
        while select.select([self.fd], [], [], 0)[0]:
            self.raw += os.read(self.fd, 65536).decode("utf-8", "replace")
        self.seen = STYLE.sub("", self.raw)
        return self.seen[self.at :]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.fd)
        os.close(self.slave)
