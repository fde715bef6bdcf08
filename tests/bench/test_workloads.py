from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from scripted_server import STREAM, Exchange, ScriptedServer, chunked, events, refusal

from bench import workloads
from bench.client import LoadError, asking
from bench.workloads import Arrival, Depth, Plain, Whole, delays, engine_times
from pyllama.loadtest import Load
from pyllama.loadtest.wire import Event


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    yield server
    server.stop()


def port(server: ScriptedServer) -> int:
    return server.target.port


def event(**members: Any) -> bytes:
    text = f"data: {json.dumps({'choices': [{'delta': {'content': 'a'}}], **members})}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(text), text)


def test_a_load_has_figures_and_values(server: ScriptedServer) -> None:
    result = Plain(Load(asking(6), users=2, requests=4)).run(port(server), seed=3)
    assert result.figures["answered"] == result.figures["finished"] == 4
    assert len(result.values["ttft"]) == 4
    assert len(result.values["gap"]) == 20
    assert all(body["ignore_eos"] and body["temperature"] == 0 for body in server.bodies)


def test_every_request_of_a_load_has_to_be_answered(server: ScriptedServer) -> None:
    workload = Plain(Load(asking(6), requests=3))
    server.script = [refusal("500 Oops", "no")]
    with pytest.raises(LoadError, match="request 0: status 500: no"):
        workload.run(port(server), seed=1)
    server.script = [STREAM + b"".join(chunked(events(6, usage=False)))]
    with pytest.raises(LoadError, match="without usage"):
        workload.run(port(server), seed=1)
    server.script = [refusal("500 Oops", "no"), STREAM + b"".join(chunked(events(3)))]
    figures = Plain(workload.load, whole=False).run(port(server), seed=1).figures
    assert (figures["answered"], figures["finished"]) == (2, 1)


def test_answers_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    bodies = []

    def answer(_port: int, _path: str, body: dict[str, Any]) -> dict[str, Any]:
        nonlocal now
        now += 0.5 + 0.002 * (body["max_tokens"] - 1)
        bodies.append(body)
        return {"usage": {"completion_tokens": min(body["max_tokens"], 64)}}

    monkeypatch.setattr(workloads, "post", answer)
    monkeypatch.setattr(workloads, "time", SimpleNamespace(perf_counter=lambda: now))
    result = Whole(asking(64, prompt_words=20), repeats=3).run(0, seed=2)
    assert result.figures == {"tpot_p50_ms": pytest.approx(2.0)}
    assert [body["max_tokens"] for body in bodies] == [64, 1] * 3
    assert not any(body["stream"] or "stream_options" in body for body in bodies)
    assert len({body["messages"][-1]["content"] for body in bodies}) == 6
    with pytest.raises(LoadError, match="64 tokens instead of 65"):
        Whole(asking(65)).run(0, seed=2)


def test_the_same_words_with_other_tails(server: ScriptedServer) -> None:
    load = Load(asking(2, system_words=20, prompt_words=5), users=2)
    Plain(load).run(port(server), seed=4)
    Plain(load, again=True).run(port(server), seed=5)
    systems = {body["messages"][0]["content"] for body in server.bodies}
    tails = {body["messages"][1]["content"] for body in server.bodies}
    assert (len(systems), len(tails)) == (1, 4)


def test_an_arrival(server: ScriptedServer) -> None:
    workload = Arrival(n_streams=2, prompt_words=50, n_before=8, repeats=2)
    arrived, answered = threading.Event(), threading.Event()

    def answer(exchange: Exchange) -> None:
        if exchange.body["max_tokens"] == 1:
            assert len(exchange.body["messages"][0]["content"].split()) == 50
            arrived.set()
            answered.wait(20)
            exchange.answer()
            return
        exchange.send(STREAM, *[event()] * 12)
        arrived.wait(20)
        exchange.send(*[event()] * 3)
        answered.set()
        while True:  # until the client hangs up
            exchange.send(event())

    server.script = [answer] * 6
    result = workload.run(port(server), seed=1)
    assert len(result.values["ttft"]) == 2
    # At the second arrival nothing holds anybody up any more: the first one's events are set.
    assert len(result.values["gap"]) >= 2 * 2
    assert result.figures["gap_max_ms"] >= result.figures["gap_p99_ms"] >= 0
    assert result.figures["rate_share"] >= 0
    assert math.isnan(result.figures["budget_ms"])
    server.script = [answer] * 6
    server.metrics = b"# HELP x\npyllama:step_budget_seconds 0.04\n"
    assert workload.run(port(server), seed=1).figures["budget_ms"] == 40


def test_an_arrival_beside_streams_that_end_too_soon(server: ScriptedServer) -> None:
    with pytest.raises(LoadError, match="ended too soon"):
        Arrival(n_streams=2, prompt_words=5, n_before=8, max_tokens=20).run(port(server), seed=1)


def test_a_long_answer(server: ScriptedServer) -> None:
    def answer(exchange: Exchange) -> None:
        assert exchange.body["timings_per_token"] is True
        parts = [event(timings={"predicted_ms": float(number)}) for number in range(300)]
        end = events(0).replace(b'"completion_tokens": 0', b'"completion_tokens": 300')
        exchange.send(STREAM, *parts, *chunked(end))

    server.script = [answer]
    result = Depth(max_tokens=300, n_tail=50).run(port(server), seed=1)
    assert len(result.values["frame"]) == 50
    assert result.figures["frame_p99_ms"] <= result.figures["frame_max_ms"]
    server.script = [STREAM + b"".join(chunked(events(300)))]
    with pytest.raises(LoadError, match="only 0 events with timings"):
        Depth(max_tokens=300, n_tail=50).run(port(server), seed=1)


def test_delays_are_behind_the_fastest() -> None:
    assert delays([(100.0, 1.0), (101.5, 2.0), (102.0, 3.0), (110.0, 4.0)]) == [0, 0.5, 0, 7]


def test_engine_times_are_of_events_with_text() -> None:
    bodies = [
        {"choices": [{"delta": {"role": "assistant"}}], "timings": {"predicted_ms": 1}},
        {"choices": [{"delta": {"content": "a"}}], "timings": {"predicted_ms": 2}},
        {"choices": [{"delta": {"content": "b"}}]},
        {"choices": [], "timings": {"predicted_ms": 3}},
    ]
    found = [Event(5_000_000, json.dumps(body).encode()) for body in bodies] + [Event(6_000_000, b"[DONE]")]
    assert list(engine_times(found)) == [(5.0, 2)]
