"""``GET /metrics``: Prometheus text, llama-server's series under their names and ours beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pyllama.errors import UnsupportedError
from pyllama.server.state import ServerState

__all__ = ["MetricsPage", "routes"]

# (name on the wire, name in Engine.metrics() or None for a constant zero, help)
_COUNTERS: tuple[tuple[str, str | None, str], ...] = (
    (
        "llamacpp:prompt_tokens_total",
        "prompt_tokens",
        "Number of prompt tokens processed, without cached ones",
    ),
    (
        "llamacpp:prompt_tokens_cached_total",
        "cached_tokens",
        "Number of prompt tokens taken from the KV cache",
    ),
    (
        "pyllama:prefix_shared_tokens_total",
        "shared_tokens",
        "Number of those taken from another slot's sequence",
    ),
    (
        "pyllama:prefix_waits_total",
        "prefix_waits",
        "Times that a request waited for a prefix that another one was decoding",
    ),
    ("llamacpp:prompt_seconds_total", "prompt_seconds", "Time spent on prompts"),
    ("llamacpp:tokens_predicted_total", "generated_tokens", "Number of tokens generated"),
    ("llamacpp:tokens_predicted_seconds_total", "generation_seconds", "Time spent on generating tokens"),
    ("llamacpp:n_decode_total", "steps", "Number of decode calls"),
    ("llamacpp:n_tokens_max", "tokens_max", "Longest sequence seen, prompt and generation"),
    ("llamacpp:spec_decode_num_draft_tokens_total", None, "Speculative decoding: draft tokens generated"),
    ("llamacpp:spec_decode_num_accepted_tokens_total", None, "Speculative decoding: draft tokens accepted"),
    ("llamacpp:spec_decode_num_drafts_total", None, "Speculative decoding: verification steps"),
    ("pyllama:requests_total", "requests", "Requests accepted"),
    ("pyllama:requests_finished_total", "requests_finished", "Requests that ended by themselves"),
    (
        "pyllama:requests_cancelled_total",
        "requests_cancelled",
        "Requests cancelled, by a disconnect for example",
    ),
    ("pyllama:requests_failed_total", "requests_failed", "Requests that ended with an error"),
    ("pyllama:requests_rejected_total", "requests_rejected", "Requests refused because the queue was full"),
    (
        "pyllama:requests_parked_total",
        "requests_parked",
        "Requests put back because others needed their cells",
    ),
    ("pyllama:controls_refused_total", "controls_refused", "Controls that did not fit the request's state"),
    ("pyllama:session_replays_total", "session_replays", "Readers that came back to a conversation's stream"),
    ("pyllama:session_gaps_total", "session_gaps", "Readers whose next byte was gone"),
    ("pyllama:session_evictions_total", "session_evictions", "Ended streams that made room for others"),
    ("pyllama:prefix_refused_total", "prefix_refused", "Cached prefixes that turned out not to be whole"),
)

_GAUGES = (
    (
        "pyllama:step_budget_seconds",
        "step_budget_seconds",
        "Time from one decode step to the next that prompts are cut for",
    ),
    ("pyllama:step_prompt_tokens", "step_prompt_tokens", "Tokens of prompts in a step beside decodes"),
    ("pyllama:step_decode_seconds", "step_decode_seconds", "Expected time of a decode step"),
    (
        "pyllama:step_token_seconds",
        "step_token_seconds",
        "Expected time that a token of a prompt adds to a step",
    ),
    ("pyllama:sessions_live", "sessions_live", "Conversations whose stream goes on"),
    ("pyllama:sessions_kept", "sessions_kept", "Conversations whose stream has ended and can be read again"),
    ("pyllama:session_readers", "session_readers", "Readers of conversations' streams"),
    ("pyllama:service_seconds", "service_seconds", "Mean time that a request keeps its slot"),
    (
        "pyllama:memory_bytes",
        "memory_bytes",
        "Host memory of streams, cached prompts, checkpoints and parked requests",
    ),
    (
        "pyllama:memory_limit_bytes",
        "memory_limit_bytes",
        "Limit of that memory (--host-memory), 0 for none",
    ),
    ("pyllama:stream_bytes", "stream_bytes", "Share of that memory: all streams"),
    ("pyllama:cache_bytes", "cache_bytes", "Share of that memory: cached prompts (--cache-ram)"),
    ("pyllama:checkpoint_bytes", "checkpoint_bytes", "Share of that memory: checkpoints"),
    ("pyllama:parked_bytes", "parked_bytes", "Share of that memory: what parked requests had computed"),
)

# (name on the wire, name in Engine.histograms(), help)
_HISTOGRAMS = (
    ("pyllama:queue_seconds", "queue_time", "Time from a request's submission to its slot"),
    (
        "pyllama:time_to_first_token_seconds",
        "time_to_first_token",
        "Time from a request's submission to its first token",
    ),
    ("pyllama:inter_token_seconds", "token_gap", "Time between two tokens of an answer"),
    ("pyllama:prompt_length_tokens", "prompt_length", "Tokens of a request's prompt, with cached ones"),
)

_CONTROL_ACTIONS = ("reasoning_end", "reasoning_budget", "pause", "resume", "stop", "sampling", "inject")


def routes(state: ServerState) -> list[Route]:
    """Return the metrics' route."""
    page = MetricsPage()

    async def get_metrics(_: Request) -> Response:
        if not state.settings.endpoint_metrics:
            raise UnsupportedError("This server does not support metrics endpoint. Start it with `--metrics`")
        text = page.render(state.metrics(), state.engine.histograms())
        response = Response(text, media_type="text/plain; version=0.0.4")
        # Spelled as llama-server spells it, for clients that mind the case.
        response.raw_headers.append((b"Process-Start-Time-Unix", str(int(state.started_at)).encode()))
        return response

    return [Route(state.settings.api_prefix + "/metrics", get_metrics)]


class MetricsPage:
    """Renders the counters. The throughput gauges are averages over the time since the last rendering."""

    def __init__(self) -> None:
        self._last: Mapping[str, float] = {}

    def render(self, now: Mapping[str, float], histograms: Mapping[str, Any]) -> str:
        """Return the page for what ``Engine.metrics()`` and ``Engine.histograms()`` say."""
        lines: list[str] = []
        for name, key, text in _COUNTERS:
            _add(lines, "counter", name, text, 0 if key is None else now.get(key, 0))
        lines += _controls(now)
        rates = (
            ("llamacpp:prompt_tokens_seconds", "prompt_tokens", "prompt_seconds", "Prompt tokens per second"),
            (
                "llamacpp:predicted_tokens_seconds",
                "generated_tokens",
                "generation_seconds",
                "Tokens per second",
            ),
        )
        for name, tokens, seconds, text in rates:
            spent = now.get(seconds, 0) - self._last.get(seconds, 0)
            done = now.get(tokens, 0) - self._last.get(tokens, 0)
            _add(lines, "gauge", name, text, done / spent if spent > 0 else 0)
        _add(
            lines,
            "gauge",
            "llamacpp:requests_processing",
            "Requests in a slot",
            now.get("requests_running", 0),
        )
        _add(
            lines, "gauge", "llamacpp:requests_deferred", "Requests that wait", now.get("requests_queued", 0)
        )
        for name, key, text in _GAUGES:
            _add(lines, "gauge", name, text, now.get(key, 0))
        busy = now.get("busy_slots", 0) / max(now.get("steps", 0), 1)
        _add(
            lines, "gauge", "llamacpp:n_busy_slots_per_decode", "Busy slots per decode call, on average", busy
        )
        for name, key, text in _HISTOGRAMS:
            lines += _histogram(name, text, histograms[key])
        self._last = dict(now)
        return "\n".join(lines) + "\n"


def _controls(now: Mapping[str, float]) -> list[str]:
    name = "pyllama:controls_total"
    lines = [f"# HELP {name} Controls of running completions, by action", f"# TYPE {name} counter"]
    for action in _CONTROL_ACTIONS:
        lines.append(f'{name}{{action="{action}"}} {int(now.get("controls_" + action, 0))}')
    return lines


def _histogram(name: str, text: str, values: Mapping[str, Any]) -> list[str]:
    lines = [f"# HELP {name} {text}", f"# TYPE {name} histogram"]
    total = 0
    for bound, count in zip((*values["bounds"], "+Inf"), values["counts"], strict=True):
        total += count
        shown = int(bound) if isinstance(bound, float) and bound.is_integer() else bound
        lines.append(f'{name}_bucket{{le="{shown}"}} {total}')
    return [*lines, f"{name}_sum {values['sum']}", f"{name}_count {total}"]


def _add(lines: list[str], kind: str, name: str, text: str, value: float) -> None:
    shown = int(value) if float(value).is_integer() else value
    lines += (f"# HELP {name} {text}", f"# TYPE {name} {kind}", f"{name} {shown}")
