"""The small pages: models, props, slots, metrics."""

from __future__ import annotations

import re

import pytest
from asgi import serving
from fake_core import Engine

from pyllama.server.routes.metrics import MetricsPage

pytestmark = pytest.mark.anyio


async def test_models() -> None:
    async with serving(
        model_path="/m/x.gguf", model_alias=("zeta", "alpha"), model_tags=("b", "a")
    ) as client:
        for path in ("/v1/models", "/models"):
            call = await client.get(path)
            (model,) = call.json()["data"]
            assert model["id"] == "alpha"
            assert model["aliases"] == ["alpha", "zeta"]
            assert model["tags"] == ["a", "b"]
            assert model["object"] == "model"
            assert model["owned_by"] == "llamacpp"
            assert model["meta"] == {"n_vocab": 580, "n_ctx": 512}
            assert model["architecture"]["input_modalities"] == ["text"]


async def test_props() -> None:
    async with serving() as client:
        call = await client.get("/props")
        assert call.json()["total_slots"] == 2
        post = client.call("POST", "/props", {"content-length": "2"})
        post.give(b"{}")
        await post.end()
        assert (post.status, post.json()["error"]["type"]) == (501, "not_supported_error")
    async with serving(endpoint_props=True) as client:
        post = client.call("POST", "/props", {"content-length": "2"})
        post.give(b"{}")
        await post.end()
        assert (post.status, post.json()) == (200, {"success": True})


async def test_props_show_the_ui_settings() -> None:
    async with serving(ui_settings={"theme": "dark"}, ui=False) as client:
        props = (await client.get("/props")).json()
    assert (props["ui"], props["ui_settings"]) == (False, {"theme": "dark"})


async def test_tools_are_disabled() -> None:
    async with serving(api_prefix="/llm") as client:
        for path in ("/llm/tools", "/llm/cors-proxy"):
            call = await client.get(path)
            assert (call.status, call.json()["error"]["type"]) == (403, "feature_disabled")


async def test_slots() -> None:
    async with serving() as client:
        call = await client.get("/slots")
        assert [slot["id"] for slot in call.json()] == [0, 1]
        call = await client.get("/slots", query="fail_on_no_slot=1")
        assert (call.status, call.json()["error"]["type"]) == (503, "unavailable_error")
    async with serving(endpoint_slots=False) as client:
        call = await client.get("/slots")
        assert (call.status, call.json()["error"]["type"]) == (501, "not_supported_error")


async def test_metrics_need_the_flag() -> None:
    async with serving() as client:
        assert (await client.get("/metrics")).status == 501
    async with serving(endpoint_metrics=True) as client:
        call = await client.get("/metrics")
        assert call.status == 200
        assert call.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert int(call.headers["process-start-time-unix"]) > 0
        lines = call.body.decode().splitlines()
        assert "llamacpp:prompt_tokens_total 12" in lines
        assert "llamacpp:prompt_tokens_seconds 24" in lines
        assert "llamacpp:n_busy_slots_per_decode 1.5" in lines
        series = [line.split()[0] for line in lines if not line.startswith("#")]
        assert len(series) == len(set(series))
        names = list(dict.fromkeys(re.sub(r"(_bucket|_sum|_count)?({.*)?$", "", name) for name in series))
        assert [line.split()[2] for line in lines if line.startswith("# TYPE")] == names
        assert [line.split()[2] for line in lines if line.startswith("# HELP")] == names


async def test_histograms_are_cumulative() -> None:
    async with serving(endpoint_metrics=True) as client:
        page = (await client.get("/metrics")).body.decode()
    start = page.index("# HELP pyllama:inter_token_seconds")
    assert page[start : page.index("# HELP", start + 1)].splitlines()[1:] == [
        "# TYPE pyllama:inter_token_seconds histogram",
        'pyllama:inter_token_seconds_bucket{le="0.5"} 3',
        'pyllama:inter_token_seconds_bucket{le="2"} 3',
        'pyllama:inter_token_seconds_bucket{le="+Inf"} 4',
        "pyllama:inter_token_seconds_sum 9.25",
        "pyllama:inter_token_seconds_count 4",
    ]


def test_throughput_is_that_of_the_last_window() -> None:
    page = MetricsPage()
    histograms = Engine().histograms()
    page.render({"generated_tokens": 100, "generation_seconds": 10}, histograms)
    text = page.render({"generated_tokens": 130, "generation_seconds": 11}, histograms)
    assert "llamacpp:predicted_tokens_seconds 30\n" in text
    text = page.render({"generated_tokens": 130, "generation_seconds": 11}, histograms)
    assert "llamacpp:predicted_tokens_seconds 0\n" in text
