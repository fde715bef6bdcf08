"""What the pages show of a real server: a busy slot, histograms, a wrong method."""

from __future__ import annotations

import re

from live_server import LiveServer, wait_until


def histogram(server: LiveServer, name: str) -> tuple[float, float, dict[str, float]]:
    """Return count, sum and buckets."""
    _, page = server.request("GET", "/metrics")
    found = re.findall(rf'^{name}_bucket{{le="(\S+)"}} (\S+)$', page.decode(), re.MULTILINE)
    buckets = {bound: float(count) for bound, count in found}
    return server.metric(f"{name}_count"), server.metric(f"{name}_sum"), buckets


def test_histograms_count_requests_and_tokens(server: LiveServer) -> None:
    names = ("time_to_first_token_seconds", "inter_token_seconds", "queue_seconds", "prompt_length_tokens")
    before = [histogram(server, f"pyllama:{name}") for name in names]
    status, answer = server.chat(temperature=0, ignore_eos=True, max_tokens=9)
    assert status == 200
    after = [histogram(server, f"pyllama:{name}") for name in names]
    added = [new[0] - old[0] for old, new in zip(before, after, strict=True)]
    assert added == [1, 8, 1, 1]
    assert after[3][1] - before[3][1] == answer["usage"]["prompt_tokens"]
    for count, total, buckets in after:
        assert total >= 0
        assert list(buckets.values()) == sorted(buckets.values())
        assert buckets["+Inf"] == count


def test_choices_of_one_request_are_one_first_token(server: LiveServer) -> None:
    before = histogram(server, "pyllama:time_to_first_token_seconds")[0]
    gaps = histogram(server, "pyllama:inter_token_seconds")[0]
    status, _ = server.chat(n=2, temperature=0, ignore_eos=True, max_tokens=5)
    assert status == 200
    assert histogram(server, "pyllama:time_to_first_token_seconds")[0] - before == 1
    assert histogram(server, "pyllama:inter_token_seconds")[0] - gaps == 8


def test_a_busy_slot_shows_its_request(server: LiveServer) -> None:
    client = server.stream(temperature=0.5, max_tokens=3000)
    wait_until("it decodes", lambda: any("next_token" in slot for slot in server.get("/slots")))
    shown = next((slot for slot in server.get("/slots") if slot["is_processing"]), None)
    client.close()
    if shown is None:
        return  # it has ended meanwhile
    assert shown["id_task"].startswith("chatcmpl-")
    assert shown["speculative"] is False
    assert shown["params"]["temperature"] == 0.5
    assert shown["n_prompt_tokens_processed"] + shown["n_prompt_tokens_cache"] <= shown["n_prompt_tokens"]
    (token,) = shown["next_token"]
    assert token["n_remain"] == 3000 - token["n_decoded"]


def test_a_method_that_a_path_does_not_take_is_not_found(server: LiveServer) -> None:
    for method, path in (("PUT", "/health"), ("DELETE", "/v1/models"), ("GET", "/v1/chat/completions")):
        status, _ = server.request(method, path)
        assert status == 404
    status, body = server.request("HEAD", "/health")
    assert (status, body) == (200, b"")


def test_keep_alive_comments_are_the_requests_choice(server: LiveServer) -> None:
    status, answer = server.chat(sse_ping_interval="soon")
    assert (status, answer["error"]["param"]) == (400, "sse_ping_interval")
    status, _ = server.chat(sse_ping_interval=-1)
    assert status == 200
