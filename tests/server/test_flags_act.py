"""A sampling of the flags that the table calls acting, each seen to act on a running engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pyllama import SyncEngine
from pyllama._core import _llama
from pyllama.models import demo_model_path

QUESTION = "What is 17 + 25?"


def engine(*flags: str) -> SyncEngine:
    return SyncEngine.from_flags(["--threads", "1", "--ctx-size", "1024", *flags])


def test_the_defaults_of_requests_are_shown_as_they_were_given() -> None:
    wanted: dict[str, Any] = {
        "--temp": ("temperature", 0.25),
        "--top-k": ("top_k", 7),
        "--top-p": ("top_p", 0.5),
        "--min-p": ("min_p", 0.125),
        "--top-n-sigma": ("top_n_sigma", 2),
        "--typical": ("typical_p", 0.75),
        "--xtc-probability": ("xtc_probability", 0.5),
        "--xtc-threshold": ("xtc_threshold", 0.25),
        "--repeat-last-n": ("repeat_last_n", 9),
        "--repeat-penalty": ("repeat_penalty", 1.5),
        "--presence-penalty": ("presence_penalty", 0.5),
        "--frequency-penalty": ("frequency_penalty", 0.25),
        "--dry-multiplier": ("dry_multiplier", 0.5),
        "--dry-base": ("dry_base", 2),
        "--dry-allowed-length": ("dry_allowed_length", 3),
        "--dynatemp-range": ("dynatemp_range", 0.5),
        "--dynatemp-exp": ("dynatemp_exponent", 2),
        "--mirostat": ("mirostat", 2),
        "--mirostat-ent": ("mirostat_tau", 4),
        "--mirostat-lr": ("mirostat_eta", 0.5),
        "--adaptive-target": ("adaptive_target", 0.5),
        "--seed": ("seed", 42),
        "--predict": ("n_predict", 5),
        "--samplers": ("samplers", ["top_k", "temperature"]),
        "--reasoning-budget": ("reasoning_budget_tokens", 3),
    }
    flags: list[str] = []
    for name, (_, value) in wanted.items():
        flags += [name, ";".join(value) if isinstance(value, list) else str(value)]
    with engine("--parallel", "3", "-no-kvu", *flags) as running:
        props = running.props()
    shown = props["default_generation_settings"]["params"]
    assert {field: shown[field] for field, _ in wanted.values()} == dict(wanted.values())
    assert props["total_slots"] == 3


def test_limits_of_the_context() -> None:
    with engine("--parallel", "2", "-no-kvu") as running:
        assert (running.n_slots, running.n_ctx) == (2, 512)
    with engine("--parallel", "2", "-kvu", "--kv-unified-per-slot", "300") as running:
        assert running.n_ctx == 300


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (("--grammar", 'root ::= "ja"'), "ja"),
        (("--json-schema", '{"const": "ja"}'), '"ja"'),
        (("--predict", "1"), None),
    ],
)
def test_defaults_shape_the_answer(flags: tuple[str, ...], text: str | None) -> None:
    with engine(*flags) as running:
        result = running.completion("Once", temperature=0).result()
    if text is None:
        assert result.usage.completion_tokens == 1
    else:
        assert result.content == text


def test_reverse_prompt_stops() -> None:
    with engine("--temp", "0", "--reasoning", "off") as running:
        whole = running.chat([{"role": "user", "content": QUESTION}], max_tokens=40).result().content
    stop = whole[3:5]
    with engine("--temp", "0", "--reasoning", "off", "--reverse-prompt", stop) as running:
        cut = running.chat([{"role": "user", "content": QUESTION}], max_tokens=40).result().content
    assert cut == whole.split(stop)[0]


def test_no_cache_prompt() -> None:
    with engine("--parallel", "1", "--no-cache-prompt", "--predict", "2") as running:
        for _ in range(2):
            running.completion("Once upon a time", temperature=0).result()
        assert running.metrics()["cached_tokens"] == 0


def test_reasoning_off_and_template_arguments(tmp_path: Path) -> None:
    template = tmp_path / "template.jinja"
    template.write_text("{{ messages[0].content }}/{{ shade }}/{{ enable_thinking }}")
    flags = ("--chat-template-file", str(template), "--chat-template-kwargs", '{"shade": "blue"}')
    with engine(*flags) as running:
        assert running.apply_template([{"role": "user", "content": "x"}]).startswith("x/blue/")


def test_alias_names_the_model() -> None:
    params = _llama.ServerParams(["--model", demo_model_path(), "--alias", "b,a"])
    assert json.dumps(sorted(params.as_dict()["model_alias"])) == '["a", "b"]'
