"""Conversations in which the model calls a tool with one argument and reports the result."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .words import CITIES, NAMES, WORDS, filler, pseudo_word


@dataclass(frozen=True)
class Tool:
    """One function that may be called, and how users ask for it."""

    name: str
    description: str
    parameter: str
    json_type: str
    prompts: tuple[str, ...]
    value: Callable[[random.Random], str | int]

    def schema(self) -> dict[str, Any]:
        """Return the tool in the form that chat templates receive."""
        parameters = {
            "type": "object",
            "properties": {self.parameter: {"type": self.json_type}},
            "required": [self.parameter],
        }
        function = {"name": self.name, "description": self.description, "parameters": parameters}
        return {"type": "function", "function": function}


def _city(rng: random.Random) -> str:
    return rng.choice(CITIES) if rng.random() < 0.8 else pseudo_word(rng, rng.randint(4, 8)).capitalize()


def _words(rng: random.Random) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 2)))


def _known_tool(rng: random.Random) -> Tool:
    pick = rng.randrange(8)
    if pick <= 1:
        return Tool(
            rng.choice(("get_weather", "get_current_weather", "weather")),
            rng.choice(("Get the weather in a city", "Get the current weather", "Weather of a city", "")),
            rng.choice(("city", "location", "city", "place")),
            "string",
            (
                "What is the weather in {}?",
                "What's the weather like in {}?",
                "How is the weather in {} today?",
                "Is it raining in {}?",
                "Weather in {}",
                "Tell me the weather in {}.",
                "Is it warm in {}?",
            ),
            _city,
        )
    if pick == 2:
        return Tool(
            rng.choice(("get_time", "get_current_time")),
            rng.choice(("Get the time in a city", "Get the current time", "")),
            rng.choice(("city", "location", "timezone")),
            "string",
            ("What time is it in {}?", "What is the time in {}?", "Tell me the time in {}.", "Time in {}"),
            _city,
        )
    if pick == 3:
        return Tool(
            rng.choice(("search", "web_search", "search_web")),
            rng.choice(("Search the web", "Search for a text", "")),
            rng.choice(("query", "text", "q")),
            "string",
            ("Search for {}.", "Search the web for {}.", "Look up {} on the web.", "Find pages about {}."),
            _words,
        )
    if pick == 4:
        return Tool(
            rng.choice(("read_file", "open_file")),
            rng.choice(("Read a file", "Read the text of a file", "")),
            rng.choice(("path", "file", "name")),
            "string",
            ("Read the file {}.", "Open the file {}", "What is in the file {}?", "Show me the file {}."),
            lambda r: f"{r.choice(WORDS)}.{r.choice(('txt', 'md', 'py', 'json'))}",
        )
    if pick == 5:
        return Tool(
            rng.choice(("get_user", "find_user")),
            rng.choice(("Get a user", "Find a user by name", "")),
            rng.choice(("name", "user")),
            "string",
            ("Find the user {}.", "Look up the user {}", "Who is the user {}?"),
            lambda r: r.choice(NAMES),
        )
    if pick == 6:
        return Tool(
            rng.choice(("set_timer", "start_timer")),
            rng.choice(("Set a timer", "Start a timer of some minutes", "")),
            rng.choice(("minutes", "duration")),
            "integer",
            ("Set a timer for {} minutes.", "Start a timer of {} minutes.", "Wake me in {} minutes."),
            lambda r: r.randint(1, 120),
        )
    return Tool(
        rng.choice(("get_price", "get_stock_price")),
        rng.choice(("Get the price of something", "Get a price", "")),
        rng.choice(("symbol", "product", "item")),
        "string",
        ("What is the price of {}?", "How much does {} cost?", "Price of {}", "Get the price of {}."),
        lambda r: r.choice(WORDS) if r.random() < 0.7 else pseudo_word(r, 4).upper(),
    )


def _unknown_tool(rng: random.Random) -> Tool:
    verb = rng.choice(("get", "set", "run", "find", "make", "do", pseudo_word(rng, 4)))
    name = rng.choice((f"{verb}_{pseudo_word(rng, rng.randint(4, 7))}", f"{verb}_{rng.choice(WORDS)}"))
    return Tool(
        name,
        rng.choice(("", "Use this tool", filler(rng, rng.randint(2, 5)))),
        rng.choice(("value", "name", "text", "input", "x", "id", rng.choice(WORDS), pseudo_word(rng, 5))),
        "string",
        (
            f"Use {name} with {{}}.",
            f"Call {name} with {{}}.",
            f"Please call the tool {name} for {{}}.",
            f"Run {name} on {{}}.",
        ),
        lambda r: r.choice((_city(r), r.choice(WORDS), r.choice(NAMES), pseudo_word(r, 6))),
    )


def draw_tool(rng: random.Random) -> Tool:
    """Draw a tool: every fourth has a name never seen before."""
    return _unknown_tool(rng) if rng.random() < 0.25 else _known_tool(rng)


def draw_tools(rng: random.Random) -> list[Tool]:
    """Draw one to three tools with different names."""
    tools: dict[str, Tool] = {}
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3))):
        tool = draw_tool(rng)
        if not any(tool.prompts == other.prompts for other in tools.values()):
            tools[tool.name] = tool
    return list(tools.values())


@dataclass(frozen=True)
class ToolUse:
    """A question, the call that it needs, and what follows."""

    tools: list[Tool]
    prompt: str
    call: dict[str, Any]
    call_thinking: str
    result: str
    result_thinking: str
    answer: str


def draw_tool_use(rng: random.Random) -> ToolUse:
    """Draw a question that one of the listed tools answers."""
    tools = draw_tools(rng)
    tool = rng.choice(tools)
    value = tool.value(rng)
    names = ", ".join(other.name for other in tools)
    call_thinking = (
        f"The user wants something that may need a tool. I have these tools: {names}. "
        f"The right tool is {tool.name}. It takes one argument with the name {tool.parameter}. "
        f"In the question I find the value {value}. "
        f"So I call {tool.name} with {tool.parameter} {value} and wait for the result."
    )
    result = _result(rng, tool)
    result_thinking = (
        f"The tool {tool.name} gave me a result, so I need no other call. The result is this:\n{result}\n"
        "Now I tell the user what the tool says, in one short line, and I do not add a thing to it. "
        "I write the result as it is."
    )
    call = {"name": tool.name, "arguments": {tool.parameter: value}}
    prompt = rng.choice(tool.prompts).format(value)
    return ToolUse(tools, prompt, call, call_thinking, result, result_thinking, f"The tool says: {result}")


def _result(rng: random.Random, tool: Tool) -> str:
    sky = rng.choice(("sunny", "cloudy", "rainy", "windy"))
    degrees = rng.randint(-9, 39)
    if "weather" in tool.name:
        return rng.choice(
            (
                f"{degrees} degrees and {sky}",
                f"{sky}, {degrees} C",
                json.dumps({"temperature": degrees, "condition": sky}),
                json.dumps({"temperature": degrees, "unit": "celsius"}),
                json.dumps({"temp": degrees, "sky": sky}),
            )
        )
    if "time" in tool.name:
        return f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}"
    return rng.choice(
        (
            "ok",
            "done",
            str(rng.randint(0, 9999)),
            json.dumps(
                {
                    rng.choice(("result", "value", "status")): rng.choice(
                        ("ok", rng.randint(0, 999), rng.choice(WORDS))
                    )
                }
            ),
            " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 4))),
        )
    )
