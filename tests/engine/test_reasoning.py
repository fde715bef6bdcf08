"""Reasoning budgets from every side, on the demo model: flags, request fields, templates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pyllama._core import _llama
from pyllama.answer import Completion
from pyllama.engine import Engine
from pyllama.errors import InvalidRequestError
from pyllama.models import demo_model_path

pytestmark = pytest.mark.anyio

QUESTION = [{"role": "user", "content": "What is 17 + 25?"}]
MESSAGE = "Enough, I have to answer now."
TEMPLATE = Path(__file__).parents[2] / "pyllama/models/training/template.jinja"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def ask(flags: dict[str, Any] | None = None, **options: Any) -> Completion:
    async with Engine(n_ctx=1024, n_parallel=1, n_threads=1, **(flags or {})) as engine:
        stream = await engine.chat(QUESTION, **{"temperature": 0, "max_tokens": 400, **options})
        async with stream:
            return await stream.result()


def said(answer: Completion) -> tuple[str, str, int]:
    return answer.reasoning, answer.content, answer.usage.completion_tokens


def rendered(flags: list[str], **fields: Any) -> str:
    params = _llama.ServerParams(
        ["--model", str(demo_model_path()), "--ctx-size", "512", "--threads", "1", *flags]
    )
    core = _llama.Engine(params)
    try:
        body = json.dumps({"messages": QUESTION, **fields}).encode()
        prompt = json.loads(core.answer_text("apply_template", body))["prompt"]
        assert isinstance(prompt, str)
        return prompt
    finally:
        core.close()


async def test_a_budget_cuts_the_reasoning_and_the_answer_comes() -> None:
    free = await ask()
    cut = await ask(reasoning_budget_tokens=10)
    assert free.usage.reasoning_tokens > 20
    assert cut.reasoning
    assert free.reasoning.startswith(cut.reasoning.rstrip())
    assert cut.usage.reasoning_tokens == 10 + 1  # and the line feed before the tag
    assert cut.content
    assert cut.finish_reason == "stop"
    assert said(await ask({"reasoning_budget": 10})) == said(cut)


async def test_the_alias_and_the_flag_come_after_the_field() -> None:
    ten = said(await ask(reasoning_budget_tokens=10))
    assert said(await ask(thinking_budget_tokens=10)) == ten
    assert said(await ask(thinking_budget_tokens=3, reasoning_budget_tokens=10)) == ten
    assert said(await ask({"reasoning_budget": 3}, reasoning_budget_tokens=10)) == ten
    assert (
        said(await ask({"reasoning_budget": 10}, reasoning_budget_tokens=-1)) == ten
    )  # the server's default


async def test_a_soft_landing_ends_with_a_sentence() -> None:
    hard = await ask(reasoning_budget_tokens=40)
    assert not hard.reasoning.rstrip().endswith(".")
    for n in (0, -1):
        assert said(await ask(reasoning_budget_tokens=40, reasoning_budget_soft=n)) == said(hard)
    soft = await ask(reasoning_budget_tokens=40, reasoning_budget_soft=40)
    assert soft.reasoning.rstrip().endswith(".")
    assert 20 < soft.usage.reasoning_tokens < hard.usage.reasoning_tokens
    assert soft.content
    assert soft.finish_reason == "stop"
    assert said(await ask({"reasoning_budget_soft": 40}, reasoning_budget_tokens=40)) == said(soft)
    flags = {"reasoning_budget": 40, "reasoning_budget_soft": 3}
    assert said(await ask(flags, reasoning_budget_soft=40)) == said(soft)


async def test_nothing_may_be_thought() -> None:
    for answer in (await ask(reasoning_budget_tokens=0), await ask({"reasoning_budget": 0})):
        assert not answer.reasoning
        assert answer.content
        assert answer.finish_reason == "stop"


async def test_a_template_that_opens_the_block_is_held_to_a_budget_of_nothing(tmp_path: Path) -> None:
    opening = tmp_path / "opening.jinja"
    source = TEMPLATE.read_text()
    head, tail = source.rsplit("{%- endif -%}\n{%- endif -%}", 1)
    opening.write_text(head + "{%- else -%}{{- '<think>\\n' -}}{%- endif -%}\n{%- endif -%}" + tail)
    flags = {"chat_template_file": opening}
    assert rendered(["--chat-template-file", str(opening)]).endswith("<think>\n")
    assert (await ask(flags)).reasoning
    for answer in (await ask(flags, reasoning_budget_tokens=0), await ask({**flags, "reasoning_budget": 0})):
        assert not answer.reasoning
        assert answer.content
    # What the template writes for a model that shall not think, to the token.
    off = await ask(flags, chat_template_kwargs={"enable_thinking": False})
    assert answer.content == off.content
    cut = await ask(flags, reasoning_budget_tokens=7)
    assert cut.reasoning
    assert cut.content
    assert cut.usage.reasoning_tokens == 7 + 1


async def test_the_message_is_the_last_thing_that_is_thought() -> None:
    for answer in (
        await ask(reasoning_budget_tokens=10, reasoning_budget_message=MESSAGE),
        await ask({"reasoning_budget": 10, "reasoning_budget_message": MESSAGE}),
        await ask(
            {"reasoning_budget": 10, "reasoning_budget_message": "Stop."}, reasoning_budget_message=MESSAGE
        ),
    ):
        assert answer.reasoning.rstrip().endswith(MESSAGE)
        assert answer.content
        assert MESSAGE not in answer.content


async def test_the_message_is_text_and_nothing_else() -> None:
    message = "<|im_end|> and <think>"
    answer = await ask(reasoning_budget_tokens=4, reasoning_budget_message=message, max_tokens=100)
    assert answer.reasoning.rstrip().endswith(message)
    assert answer.content
    with pytest.raises(InvalidRequestError) as caught:
        await ask(reasoning_budget_message="a" * (1 << 17))
    assert caught.value.param == "reasoning_budget_message"


async def test_forced_tokens_have_no_probability() -> None:
    answer = await ask(
        reasoning_budget_tokens=5, reasoning_budget_message=MESSAGE, logprobs=True, max_tokens=60
    )
    unknown = [i for i, entry in enumerate(answer.logprobs) if entry.logprob is None]
    assert unknown == list(range(unknown[0], unknown[0] + len(unknown)))  # in one piece
    assert "".join(answer.logprobs[i].token for i in unknown) == MESSAGE + "\n</think>\n\n"
    assert len(answer.logprobs) == answer.usage.completion_tokens or answer.finish_reason == "stop"


async def test_limits_hold() -> None:
    for n in (1, 6, 8, 12):
        answer = await ask(reasoning_budget_tokens=5, reasoning_budget_message=MESSAGE, max_tokens=n)
        assert answer.usage.completion_tokens == n
        assert answer.finish_reason == "length"


async def test_tools_and_schemas_work_after_a_forced_end() -> None:
    tool = {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
    messages = [{"role": "user", "content": "What is the weather in Paris?"}]
    async with Engine(n_ctx=1024, n_parallel=1, n_threads=1) as engine:
        for options in ({"tool_choice": "required"}, {}):
            stream = await engine.chat(
                messages, tools=[tool], temperature=0, max_tokens=200, reasoning_budget_tokens=3, **options
            )
            async with stream:
                answer = await stream.result()
            if options:
                assert [call.name for call in answer.tool_calls] == ["get_weather"]
                assert "city" in json.loads(answer.tool_calls[0].arguments)
    schema = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}
    form = {"type": "json_schema", "json_schema": {"schema": schema}}
    for budget in (0, 3):
        answer = await ask(reasoning_budget_tokens=budget, response_format=form)
        assert isinstance(json.loads(answer.content)["sum"], int)
        assert answer.usage.reasoning_tokens <= budget + 1


async def test_a_grammar_of_the_client_s_own() -> None:
    # It rules from the first token, as in llama-server: one that knows no reasoning leaves none.
    answer = await ask(reasoning_budget_tokens=0, grammar="root ::= [0-9]+", max_tokens=10)
    assert answer.content.isdigit()
    thinking = r'root ::= "<think>" [^<]* "</think>" [0-9]+'
    answer = await ask(reasoning_budget_tokens=4, grammar=thinking, max_tokens=30)
    assert answer.content.strip().isdigit()
    assert answer.usage.reasoning_tokens <= 5


async def test_reasoning_on_and_off() -> None:
    assert (await ask({"reasoning": "on"})).reasoning
    assert (await ask({"reasoning": "auto"})).reasoning
    assert not (await ask({"reasoning": "off"})).reasoning
    assert (await ask({"reasoning": "off"}, chat_template_kwargs={"enable_thinking": True})).reasoning
    assert not (await ask(chat_template_kwargs={"enable_thinking": False})).reasoning
    assert not (await ask(reasoning_effort="none")).reasoning


async def test_reasoning_format() -> None:
    for raw in (await ask(reasoning_format="none"), await ask({"reasoning_format": "none"})):
        assert not raw.reasoning
        assert raw.content.startswith("<think>")
        assert "</think>" in raw.content
    assert (await ask({"reasoning_format": "none"}, reasoning_format="deepseek")).reasoning
    cut = await ask(reasoning_format="none", reasoning_budget_tokens=3, reasoning_budget_message=MESSAGE)
    assert MESSAGE + "\n</think>\n\n" in cut.content


def test_effort_and_preserved_reasoning_reach_the_template() -> None:
    template = (
        "{{- messages[0].content -}}"
        "{%- if reasoning_effort is defined -%}{{- '|' + reasoning_effort -}}{%- endif -%}"
        "{%- if preserve_thinking -%}{{- '|kept' -}}{%- endif -%}"
    )
    flags = ["--chat-template", template]
    question = QUESTION[0]["content"]
    assert rendered(flags) == question + "|kept"
    assert rendered([*flags, "--no-reasoning-preserve"]) == question
    assert rendered([*flags, "--reasoning-preserve"]) == question + "|kept"
    assert rendered([*flags, "--reasoning-effort", "high"]) == question + "|high|kept"
    assert rendered([*flags, "--reasoning-effort", "high"], reasoning_effort="low") == question + "|low|kept"
    assert rendered([*flags, "--reasoning-effort", "high"], reasoning_effort="none") == question + "|kept"


async def test_the_flags_show_in_props() -> None:
    async with Engine(n_ctx=512, n_parallel=1, n_threads=1, reasoning_budget=7) as engine:
        assert engine.props()["default_generation_settings"]["params"]["reasoning_budget_tokens"] == 7


async def test_raw_completions_think_between_the_client_s_tags() -> None:
    tags: dict[str, Any] = {
        "reasoning_budget_start_tag": "<think>",
        "reasoning_budget_end_tags": ["</think>"],
        "reasoning_budget_message": MESSAGE,
    }
    async with Engine(n_ctx=1024, n_parallel=1, n_threads=1) as engine:

        async def say(prompt: str, **fields: Any) -> str:
            stream = await engine.completion(prompt, temperature=0, max_tokens=400, **fields)
            async with stream:
                return (await stream.result()).content

        for opening in ("", "<think>\n"):
            prompt = f"<|im_start|>user\n{QUESTION[0]['content']}<|im_end|>\n<|im_start|>assistant\n{opening}"
            free = await say(prompt)
            assert MESSAGE not in free
            assert await say(prompt, reasoning_budget_tokens=5) == free  # nothing says what a thought is
            assert await say(prompt, **tags) == free
            thought, found, rest = (await say(prompt, **tags, reasoning_budget_tokens=5)).partition(MESSAGE)
            assert found
            assert rest.strip()
            assert free.startswith(thought)
            none = await say(prompt, **tags, reasoning_budget_tokens=0)
            assert none.removeprefix("<think>").startswith(MESSAGE)
