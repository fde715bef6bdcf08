"""``pyllama chat``: talk to a model in the terminal."""

from __future__ import annotations

import contextlib
import select
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

from pyllama.answer import Completion, Delta
from pyllama.cli.keys import Keys
from pyllama.cli.session import HeldLog, guarded, open_engine, take_option
from pyllama.cli.terminal import AnswerWriter, Bar, can_move_cursor, dim, printable
from pyllama.errors import PyllamaError
from pyllama.sync import SyncEngine, SyncStream

__all__ = ["run"]

_USAGE = """\
usage: pyllama chat [--system TEXT] [flags]

Flags are llama-server's, such as -m model.gguf -c 4096 -ngl 99 --temp 0.7 (pyllama serve --help shows all).
Without a model it is the small demo model that comes with pyllama.
"""

# Seconds between two looks for a signal at the prompt.
_LOOK = 0.2

_HELP = """\
/end            end the reasoning and go on with the answer, while it runs
/think on|off   let the model reason before it answers, or not
/reset          forget the conversation
/help           show this
/quit           leave (also Ctrl-D)
Ctrl-C          stop the answer; the conversation goes on"""


def run(args: list[str]) -> int:
    """Talk until the person leaves; return the exit code."""
    if "--help" in args or "-h" in args:
        print(_USAGE, end="")
        return 0
    flags = list(args)
    try:
        system = take_option(flags, "--system")
    except LookupError as exc:
        print(f"pyllama chat: {exc}\n{_USAGE}", end="", file=sys.stderr)
        return 2

    def talk() -> int:
        with open_engine(flags) as (engine, log):
            Chat(engine, log, system).talk()
        return 0

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # gives the terminal back
    return guarded("chat", talk)


class Chat:
    """One conversation with a person at a terminal, or with the lines of a pipe."""

    def __init__(self, engine: SyncEngine, log: HeldLog, system: str | None) -> None:
        self._engine = engine
        self._log = log
        self._start: list[dict[str, Any]] = [] if system is None else [{"role": "system", "content": system}]
        self._messages = list(self._start)
        self._thinks: bool | None = None
        self._interactive = sys.stdin.isatty()
        self._typed_ahead: list[str] = []
        self._unfinished = ""
        self._stream: SyncStream | None = None
        self._leaving = False
        self._commands: dict[str, Callable[[str], None]] = {
            "/end": self._end,
            "/think": self._think,
            "/reset": self._reset,
            "/help": lambda _: self._say(_HELP),
            "/quit": self._quit,
        }

    def talk(self) -> None:
        """Ask and answer in turns until the input ends or the person leaves."""
        if self._interactive:
            with contextlib.suppress(ImportError):
                import readline  # noqa: F401  (input() edits lines with it)
            name = self._engine.props()["model_path"].rsplit("/", 1)[-1]
            self._say(f"{name}, {self._engine.n_ctx} tokens of context. /help shows the commands.")
        while not self._leaving:
            try:
                if (line := self._ask()) is None:
                    break
                self._take(line)
            except KeyboardInterrupt:
                if not self._interactive:
                    raise
                self._say("\n(/quit or Ctrl-D leaves)")

    def _take(self, line: str) -> None:
        if line.startswith("/"):
            self._command(line)
        elif line.strip():
            self._answer(line)

    def _ask(self) -> str | None:
        self._log.show()
        if self._typed_ahead:
            line = self._typed_ahead.pop(0)
            self._say(f"> {line}")
            return line
        if not self._interactive:
            return next((line.rstrip("\n") for line in sys.stdin), None)
        try:
            with self._prefilled(), _signals_seen():
                return input("\n> ")
        except EOFError:
            print()
            return None

    @contextlib.contextmanager
    def _prefilled(self) -> Iterator[None]:
        # What was typed during the answer and not entered is the beginning of the next line.
        text, self._unfinished = self._unfinished, ""
        readline = sys.modules.get("readline")
        if readline is None or not text:
            yield
            return
        readline.set_startup_hook(lambda: readline.insert_text(text))
        try:
            yield
        finally:
            readline.set_startup_hook(None)

    def _answer(self, text: str) -> None:
        self._messages.append({"role": "user", "content": text})
        options: dict[str, Any] = {"return_progress": True, "reasoning_control": True}
        if self._thinks is not None:
            options["chat_template_kwargs"] = {"enable_thinking": self._thinks}
        try:
            self._stream = stream = self._engine.chat(self._messages, **options)
            answer = self._show(stream)
        except BaseException as exc:
            self._messages.pop()
            if not isinstance(exc, PyllamaError):
                raise
            print(f"{printable(str(exc))}", file=sys.stderr)
            return
        finally:
            self._stream = None
        self._messages.append({"role": "assistant", "content": answer.content})
        if self._interactive:
            self._say(_closing_words(answer))

    def _show(self, stream: SyncStream) -> Completion:
        writer = AnswerWriter(sys.stdout)
        try:
            if self._interactive and can_move_cursor(sys.stdout):
                self._show_and_read(stream, writer)
            else:
                for delta in stream:
                    writer.write(delta)
        except KeyboardInterrupt:
            stream.close()
        writer.end()
        return stream.result()

    def _show_and_read(self, stream: SyncStream, writer: AnswerWriter) -> None:
        bar = Bar("reading the prompt")
        waiting: list[Delta] = []
        with Keys() as keys:
            try:
                while not stream.finished or waiting:
                    sources: list[Keys | SyncStream] = [keys] if stream.finished else [keys, stream]
                    ready, _, _ = select.select(sources, [], [])
                    if stream in ready:
                        waiting += stream.read(timeout=0)
                    if keys in ready:
                        keys.read()
                        self._take_entered(keys, bar)
                    if not keys.typing:
                        _write(waiting, writer, bar)
                        waiting = []
            finally:
                bar.clear()
                self._typed_ahead += keys.entered
                self._unfinished = keys.text or self._unfinished

    def _take_entered(self, keys: Keys, bar: Bar) -> None:
        while keys.entered:
            line = keys.entered.pop(0)
            if line.startswith("/"):
                bar.clear()
                self._command(line)
            else:
                self._typed_ahead.append(line)

    def _command(self, line: str) -> None:
        name, _, argument = line.strip().partition(" ")
        command = self._commands.get(name)
        if command is None:
            self._say(f"unknown command {name}; /help shows them")
        else:
            command(argument.strip())

    def _end(self, _: str) -> None:
        if self._stream is None:
            self._say("no answer is running")
            return
        result = self._stream.control("reasoning_end")
        if not result.success:
            self._say(result.message or "the reasoning cannot be ended now")

    def _think(self, argument: str) -> None:
        if argument not in ("on", "off"):
            self._say("/think on, or /think off")
            return
        self._thinks = argument == "on"
        self._say(f"thinking is {argument}" + (" from the next answer on" if self._stream else ""))

    def _reset(self, _: str) -> None:
        if self._stream is not None:
            self._say("stop the answer first (Ctrl-C)")
            return
        self._messages = list(self._start)
        self._say("the conversation is forgotten")

    def _quit(self, _: str) -> None:
        self._leaving = True
        if self._stream is not None:
            self._stream.close()

    def _say(self, text: str) -> None:
        if self._interactive:
            if self._stream is not None:
                text = f"\n[{text}]"
            print(dim(printable(text), sys.stdout), flush=True)


@contextlib.contextmanager
def _signals_seen() -> Iterator[None]:
    """Python's readline waits on when a signal comes right before it waits: let it look again, and again."""
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, _LOOK, _LOOK)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _write(deltas: list[Delta], writer: AnswerWriter, bar: Bar) -> None:
    for delta in deltas:
        if delta.prefill is not None:
            bar.show(delta.prefill.processed / max(1, delta.prefill.total))
        else:
            bar.clear()
            writer.write(delta)


def _closing_words(answer: Completion) -> str:
    if answer.finish_reason is None:
        return "[stopped]"
    speed = 1000 * answer.timings.predicted_n / max(answer.timings.predicted_ms, 0.001)
    words = f"{answer.usage.completion_tokens} tokens, {speed:.0f} tokens/s"
    return f"[{words}; cut at the token limit]" if answer.finish_reason == "length" else f"[{words}]"
