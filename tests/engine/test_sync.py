"""The engine without async."""

from __future__ import annotations

import asyncio
import select
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from pyllama import SyncEngine, SyncStream
from pyllama._core import _llama
from pyllama.errors import ClosedError, InvalidRequestError, ModelLoadError
from pyllama.models import demo_model_path

QUESTION = [{"role": "user", "content": "What is 17 + 25?"}]


@pytest.fixture(scope="module")
def engine() -> Iterator[SyncEngine]:
    with SyncEngine(n_ctx=2048, n_parallel=2, n_threads=1) as engine:
        yield engine


def answer(engine: SyncEngine) -> str:
    return "".join(delta.content for delta in engine.chat(QUESTION, temperature=0, max_tokens=400))


def endless(engine: SyncEngine) -> SyncStream:
    return engine.chat(QUESTION, max_tokens=-1, ignore_eos=True)


def no_token_comes_any_more(engine: SyncEngine) -> bool:
    # slots() answers at the top of a step, right before what is cancelled is dropped: only the decode that
    # runs now may still bring a token.
    engine.slots()
    before = engine.metrics()["generated_tokens"]
    busy = [engine.slots() for _ in range(20)][-1]
    return not any(slot["is_processing"] for slot in busy) and engine.metrics()["generated_tokens"] == before


def test_a_plain_loop_and_the_result_agree(engine: SyncEngine) -> None:
    stream = engine.chat(QUESTION, temperature=0, max_tokens=400)
    content = "".join(delta.content for delta in stream)
    whole = stream.result()
    assert "42" in content
    assert whole.content == content
    assert whole.finish_reason == "stop"
    assert whole.usage.prompt_tokens == stream.n_prompt_tokens
    assert engine.chat(QUESTION, temperature=0, max_tokens=400).result().content == content


def test_many_threads(engine: SyncEngine) -> None:
    alone = answer(engine)
    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(answer, [engine] * 12)) == {alone}


def test_inside_a_running_event_loop() -> None:
    async def cell() -> str:
        with SyncEngine(n_ctx=1024, n_threads=1) as engine:
            return answer(engine)

    assert "42" in asyncio.run(cell())


def fail(stream: SyncStream) -> None:
    for _delta in stream:
        raise ZeroDivisionError


@pytest.mark.parametrize("way", ["break", "raise", "drop", "with", "cancel"])
def test_leaving_cancels_at_once(engine: SyncEngine, way: str) -> None:
    stream = endless(engine)
    if way == "break":
        for _delta in stream:
            break
    elif way == "raise":
        with pytest.raises(ZeroDivisionError):
            fail(stream)
    elif way == "drop":
        del stream
    elif way == "with":
        with stream:
            next(iter(stream))
    else:
        for _delta in stream:
            stream.cancel()
    assert no_token_comes_any_more(engine)


def test_reading_in_a_loop_of_ones_own(engine: SyncEngine) -> None:
    stream = engine.chat(QUESTION, temperature=0, max_tokens=400)
    assert len(stream.read(timeout=0)) < 400
    content = ""
    while not stream.finished:
        select.select([stream], [], [])
        content += "".join(delta.content for delta in stream.read(timeout=0))
    stream.close()
    stream.close()
    assert content == answer(engine)
    assert stream.read() == []
    with pytest.raises(ClosedError):
        stream.fileno()


def test_completion_of_a_templated_prompt_is_the_chat(engine: SyncEngine) -> None:
    prompt = engine.apply_template(QUESTION)
    assert QUESTION[0]["content"] in prompt
    whole = engine.completion(prompt, temperature=0, n_predict=400).result()
    chat = engine.chat(QUESTION, temperature=0, max_tokens=400).result()
    assert whole.usage.completion_tokens == chat.usage.completion_tokens
    assert whole.content.endswith(chat.content)
    tokens = engine.tokenize(prompt)
    assert engine.completion(tokens, temperature=0, n_predict=400).result().content == whole.content


def test_tokens(engine: SyncEngine) -> None:
    tokens = engine.tokenize("What is 17 + 25?")
    assert engine.detokenize(tokens) == "What is 17 + 25?"


def test_errors(engine: SyncEngine) -> None:
    with pytest.raises(InvalidRequestError, match="messages"):
        engine.chat([])
    with pytest.raises(ModelLoadError):
        SyncEngine("/nowhere.gguf").start()
    with pytest.raises(ClosedError):
        SyncEngine().chat(QUESTION)


def test_closing_ends_what_runs() -> None:
    engine = SyncEngine(n_ctx=512, n_threads=1)
    engine.start()
    engine.start()
    stream = endless(engine)
    next(iter(stream))
    other = endless(engine)
    engine.close()
    engine.close()
    assert stream.finished
    with pytest.raises(Exception, match="closed"):
        other.result()
    with pytest.raises(ClosedError):
        engine.chat(QUESTION)


def test_what_progress_raises_stops_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def load(params: object, progress: object) -> None:
        over.wait()
        raise ModelLoadError("stopped")

    def refuse(value: float) -> None:
        assert value == 0
        over.set()
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(_llama, "Engine", load)
        engine = SyncEngine(n_ctx=1024, n_threads=1, progress=refuse)
        with pytest.raises(ZeroDivisionError):
            engine.start()
    with engine:
        assert "42" in answer(engine)


def test_a_stopped_load_fails() -> None:
    progress = _llama.LoadProgress()
    progress.stop()
    params = _llama.ServerParams(["--model", str(demo_model_path()), "--ctx-size", "512"])
    with pytest.raises(ModelLoadError, match="was stopped"):
        _llama.Engine(params, progress)
    whole = _llama.LoadProgress()
    assert whole.value == 0
    _llama.Engine(params, whole).close()
    assert whole.value == 1


def test_flags() -> None:
    with SyncEngine.from_flags("-c 512 -np 1 -t 1") as engine:
        assert engine.n_slots == 1
        assert engine.n_ctx == 512
        assert engine.props()["total_slots"] == 1
