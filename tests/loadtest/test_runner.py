"""Loads against servers that answer, refuse, stall, cut, and never end."""

from __future__ import annotations

import math
import shutil
import socket
import ssl
import subprocess
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from scripted_server import STREAM, Exchange, ScriptedServer, chunked, events, refusal

from pyllama.loadtest import Ask, Crowd, Limits, Load, Refusal, Run, Sample, Target, TargetError
from pyllama.loadtest.wire import request_bytes

LIMITS = Limits(connect_s=20, stall_s=20, total_s=20, n_bytes=1 << 20)
ONE = Load(Ask(max_tokens=5))
NO_CHUNK = "an event that is no chunk"


def run(server: ScriptedServer, load: Load, limits: Limits = LIMITS, **options: Any) -> Run:
    running = Run(server.target, load, limits, **options)
    running.run()
    return running


def failure(server: ScriptedServer, limits: Limits = LIMITS) -> tuple[str, str]:
    """Return the kind and the words of the one request's failure."""
    (outcome,) = run(server, ONE, limits).outcomes
    assert isinstance(outcome, Refusal)
    return outcome.failure.kind, outcome.failure.detail


def test_users_share_the_requests_and_get_every_answer(serve: Any) -> None:
    server = serve()
    load = Load(Ask(prompt_words=9, max_tokens=40, fields={"ignore_eos": True}), users=5, requests=14)
    outcomes = run(server, load).outcomes
    assert sorted(outcome.number for outcome in outcomes) == list(range(14))
    for outcome in outcomes:
        assert isinstance(outcome, Sample)
        assert outcome.completion_tokens == 40
        assert len(outcome.gaps) == 39
        assert not outcome.counted
        assert outcome.late == 0
    assert len({body["messages"][0]["content"] for body in server.bodies}) == 14
    assert all(body["ignore_eos"] and body["stream"] for body in server.bodies)


def test_no_more_are_in_flight_than_there_are_users(serve: Any) -> None:
    counts: list[int] = []
    running = 0
    lock = threading.Lock()

    def answer(exchange: Exchange) -> None:
        nonlocal running
        with lock:
            running += 1
            counts.append(running)
        parts = chunked(events(5))
        exchange.send(STREAM, *parts[:-1])
        with lock:
            running -= 1
        exchange.send(parts[-1])

    server = serve(*[answer] * 12)
    run(server, Load(ONE.ask, users=3, requests=12))
    assert len(counts) == 12
    assert max(counts) <= 3


def test_an_open_loop_waits_for_no_answer(serve: Any) -> None:
    together = threading.Barrier(6)

    def wait_for_all(exchange: Exchange) -> None:
        together.wait(timeout=20)
        exchange.answer()

    # No answer comes before all six requests are there: a closed loop would wait for ever.
    server = serve(*[wait_for_all] * 6)
    outcomes = run(server, Load(ONE.ask, rate=1e4, requests=6)).outcomes
    assert all(isinstance(outcome, Sample) for outcome in outcomes)


def test_latencies_count_from_when_a_request_was_due(serve: Any) -> None:
    server = serve()
    # All are due at nearly the same time, and only one may be open: the others wait, and that counts.
    load = Load(ONE.ask, rate=1e9, poisson=False, max_open=1, requests=8)
    outcomes = sorted(run(server, load).outcomes, key=lambda outcome: outcome.number)
    samples = [outcome for outcome in outcomes if isinstance(outcome, Sample)]
    assert len(samples) == 8
    for before, after in pairwise(samples):
        assert after.start_ns + after.late * 1e6 > before.end_ns  # sent behind the answer before
        assert after.ttft > after.late > before.total - 1e-3  # due with it


def test_a_duration_begins_no_request_behind_it(serve: Any) -> None:
    server = serve()
    outcomes = run(server, Load(ONE.ask, rate=1000.0, poisson=False, duration_s=0.02)).outcomes
    assert sorted(outcome.number for outcome in outcomes) == list(range(20))
    assert len(run(server, Load(ONE.ask, users=2, duration_s=1e-9, pause_s=1.0)).outcomes) == 0


def test_a_load_goes_on_where_another_one_ended(serve: Any) -> None:
    server = serve()
    run(server, Load(ONE.ask, requests=4))
    run(server, Load(ONE.ask, requests=2, first=2))
    texts = [body["messages"][0]["content"] for body in server.bodies]
    assert texts[2:4] == texts[4:]


def test_the_key_and_the_host_are_sent(serve: Any) -> None:
    server = serve()
    run(server, ONE, api_key="secret")
    assert "Authorization: Bearer secret\r\n" in server.heads[0]
    assert f"Host: 127.0.0.1:{server.target.port}\r\n" in server.heads[0]
    run(server, ONE)
    assert "Authorization" not in server.heads[1]


def test_a_prefix_and_ipv6(serve: Any) -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6")
    try:
        server = serve(family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 on this machine")
    target = Target.parse(f"http://[::1]:{server.target.port}/proxy/v1/")
    running = Run(target, ONE, LIMITS)
    running.run()
    assert isinstance(running.outcomes[0], Sample)
    assert server.heads[0].startswith("POST /proxy/v1/chat/completions HTTP/1.1\r\nHost: [::1]:")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    folder: Path = tmp_path_factory.mktemp("tls")
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost"
    )
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


def test_tls(serve: Any, certificate: ssl.SSLContext) -> None:
    server = serve(tls=certificate)
    load = Load(Ask(max_tokens=200), users=3, requests=6)
    assert all(isinstance(outcome, Sample) for outcome in run(server, load).outcomes)
    running = Run(Target.parse(server.url), ONE, LIMITS)
    running.run()
    (outcome,) = running.outcomes
    assert isinstance(outcome, Refusal)
    assert outcome.failure.kind == "tls"
    assert "certificate" in outcome.failure.detail


def test_tls_where_there_is_none(serve: Any) -> None:
    server = serve(greeting=refusal("400 Bad Request", "what is this?"))
    running = Run(Target("127.0.0.1", server.target.port, secure=True), ONE, LIMITS)
    running.run()
    (outcome,) = running.outcomes
    assert isinstance(outcome, Refusal)
    assert outcome.failure.kind == "tls"


# --- what a server may do wrong ---


def test_refusals_are_counted_with_their_words(serve: Any) -> None:
    script = [refusal("429 Too Many Requests", "the queue is full", "Retry-After: 3")] * 2
    server = serve(*script, refusal("500 Oops", "no"))
    outcomes = run(server, Load(ONE.ask, requests=4)).outcomes
    refused = [outcome for outcome in outcomes if isinstance(outcome, Refusal)]
    assert [(each.failure.kind, each.failure.detail) for each in refused] == [
        ("status 429", "the queue is full"),
        ("status 429", "the queue is full"),
        ("status 500", "no"),
    ]
    assert [each.retry_after for each in refused[:2]] == [3, 3]
    assert math.isnan(refused[2].retry_after)
    assert len(outcomes) == 4


def test_a_refused_request_is_sent_again_when_asked_for(serve: Any) -> None:
    busy = refusal("429 Too Many Requests", "full", "Retry-After: 0")
    server = serve(busy, busy, refusal("500 Oops", "no"))
    load = Load(ONE.ask, requests=2, n_retries=2)
    outcomes = sorted(run(server, load).outcomes, key=lambda outcome: outcome.number)
    assert [(type(each), each.n_tries) for each in outcomes] == [(Refusal, 3), (Sample, 1)]
    assert server.bodies[0] == server.bodies[1] == server.bodies[2] != server.bodies[3]
    server.script = [busy, busy]
    (outcome,) = run(server, Load(ONE.ask, n_retries=2)).outcomes
    assert isinstance(outcome, Sample)
    assert outcome.n_tries == 3
    # What is measured is the last try, from when the first was due.
    assert outcome.late > 0


def test_nobody_is_waited_for_who_asks_for_days(serve: Any) -> None:
    server = serve(refusal("503 Loading", "later", "Retry-After: 999999"))
    (outcome,) = run(server, Load(ONE.ask, n_retries=5)).outcomes
    assert isinstance(outcome, Refusal)
    assert (outcome.n_tries, outcome.retry_after) == (1, 999999)


def test_a_server_that_cuts(serve: Any) -> None:
    def cut(exchange: Exchange) -> None:
        exchange.send(STREAM, *chunked(events(5))[:4])

    server = serve(cut, b"", STREAM + b"".join(chunked(events(5, done=False))), STREAM[:20])
    assert failure(server) == ("cut", "the answer was cut off")
    assert failure(server) == ("cut", "no answer")
    assert failure(server) == ("cut", "the answer ended without a finish reason")
    assert failure(server) == ("cut", "not a whole HTTP response")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", "not an HTTP response"),
        (b"HTTP/1.1 2x0 OK\r\n\r\n", "not an HTTP response"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 20_000, "a response head of more than 65536 bytes"),
        (STREAM + b"xyz\r\n", "a chunk of size b'xyz'"),
        (STREAM + b"-5\r\n", "a chunk of size b'-5'"),
        (STREAM + b"ffffffffffffffffff\r\n", "a chunk of size b'ffffffffffffffffff'"),
        (STREAM + b"2\r\nabcdef\r\n", "a chunk is longer than it says"),
        (STREAM + b"5" * 5000, "a line between chunks is too long"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "a Content-Length of '-1'"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
            "no event stream, but nothing that says what it is",
        ),
        (STREAM + b"".join(chunked(b"data: [1, 2]\n\n")), "an event that is no chunk: [1, 2]"),
        (
            STREAM + b"".join(chunked(b"data: \xff{\n\n")),
            "an event that is no chunk: \N{REPLACEMENT CHARACTER}{",
        ),
        (
            STREAM + b"".join(chunked(b"data: " + b"[" * 100_000 + b"\n\n", 4096)),
            "an event that is no chunk: [[",
        ),
    ],
)
def test_garbage(serve: Any, answer: bytes, words: str) -> None:
    kind, detail = failure(serve(answer))
    assert kind == "garbage"
    assert detail.startswith(words)
    assert len(detail) < 400


def test_an_error_in_the_stream_and_an_empty_answer(serve: Any) -> None:
    error = b'data: {"error": {"message": "no\\nroom"}}\n\n'
    plain = b'data: {"error": "plain"}\n\n'
    server = serve(*[STREAM + b"".join(chunked(text)) for text in (error, plain, events(0))])
    assert failure(server) == ("error", "no room")
    assert failure(server) == ("error", "plain")
    assert failure(server) == ("empty", "an answer without text")


def test_a_server_that_stalls(serve: Any) -> None:
    def stall(exchange: Exchange) -> None:
        exchange.send(STREAM, *chunked(events(5))[:3])
        exchange.hold()

    limits = Limits(stall_s=0.05)
    assert failure(serve(stall), limits) == ("stalled", "nothing came for 0.05 s")
    assert failure(serve(Exchange.hold), limits) == ("stalled", "nothing came for 0.05 s")


def test_a_server_that_never_ends(serve: Any) -> None:
    def talk(exchange: Exchange) -> None:
        exchange.send(STREAM)
        while True:  # until the client hangs up
            exchange.send(b"4\r\n: a\n\r\n")

    assert failure(serve(talk), Limits(total_s=0.1)) == ("timeout", "not over after 0.1 s")
    assert failure(serve(talk), Limits(n_bytes=10_000)) == ("too long", "more than 10000 bytes")


def test_a_long_request_is_sent_in_pieces(serve: Any) -> None:
    text = "word " * 2_000_000
    server = serve()
    prompts = [{"messages": [{"role": "user", "content": text}]}]
    (outcome,) = run(server, Load(Ask(max_tokens=2, prompts=prompts))).outcomes
    assert isinstance(outcome, Sample)
    assert server.bodies[0]["messages"][0]["content"] == text


def test_a_long_request_may_be_refused_before_it_has_gone(serve: Any) -> None:
    # The server neither reads on nor hangs up.
    server = serve(greeting=refusal("413 Too Large", "too long"), keep_open=True)
    prompts = [{"messages": [{"role": "user", "content": "word " * 4_000_000}]}]
    (outcome,) = run(server, Load(Ask(max_tokens=2, prompts=prompts))).outcomes
    assert isinstance(outcome, Refusal)
    assert (outcome.failure.kind, outcome.failure.detail) == ("status 413", "too long")


def test_every_byte_puts_off_the_end_of_patience(serve: Any) -> None:
    go_on = threading.Event()

    def pause(exchange: Exchange) -> None:
        exchange.send(STREAM, b"4\r\n: a\n\r\n")
        go_on.wait(20)
        exchange.send(b"4\r\n: b\n\r\n")
        exchange.hold()

    server = serve(pause)
    with Crowd(server.target, Limits(stall_s=1000, total_s=1e6)) as crowd:
        exchange = crowd.open(request_bytes("h", "/", {}))
        assert crowd.read_until(lambda: exchange.n_arrived == 1)
        (link,) = crowd._links.values()
        first, _ = exchange.response.pieces[0]
        assert not link.check(first + 999 * 10**9)
        go_on.set()
        assert crowd.read_until(lambda: exchange.n_arrived == 2)
        second, _ = exchange.response.pieces[1]
        assert not link.check(second + 1000 * 10**9 - 1)
        assert link.check(second + 1000 * 10**9 + 1)


def test_nobody_is_there(serve: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        target = Target("127.0.0.1", free.getsockname()[1])
        with pytest.raises(TargetError, match=r"cannot connect to 127\.0\.0\.1:.*: connection refused"):
            Run(target, ONE).run()
    with pytest.raises(TargetError, match=r"cannot find nobody\.invalid"):
        Run(Target("nobody.invalid", 80), ONE).run()


def test_a_server_that_goes_away(serve: Any) -> None:
    server = serve()

    def leave(exchange: Exchange) -> None:
        server.shutdown()
        server.socket.close()

    server.script = [leave]
    outcomes = run(server, Load(ONE.ask, requests=3)).outcomes
    assert [outcome.failure.kind for outcome in outcomes if isinstance(outcome, Refusal)] == [
        "cut",
        "connect",
        "connect",
    ]


def test_what_there_is_stays_when_it_is_interrupted(serve: Any) -> None:
    server = serve(Exchange.answer, Exchange.hold)
    ticks = 0

    def interrupt(running: Run) -> None:
        nonlocal ticks
        ticks += running.n_over == 1 and running.n_in_flight == 1
        if ticks:
            raise KeyboardInterrupt

    running = Run(server.target, Load(ONE.ask, requests=3), LIMITS, progress=interrupt)
    with pytest.raises(KeyboardInterrupt):
        running.run()
    assert [type(outcome) for outcome in running.outcomes] == [Sample]
    assert running.n_unfinished == 1


def test_answers_are_read_at_once_when_there_are_too_many_to_keep(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyllama.loadtest.runner._KEPT", 2000)
    running = run(serve(), Load(Ask(max_tokens=20), requests=6))
    assert [type(outcome) for outcome in running.outcomes] == [Sample] * 6
