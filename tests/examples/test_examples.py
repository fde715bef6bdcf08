"""Every example runs to its end, and says what it should."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
WORDS = {
    "constrained_output": ["schema: {'sum': ", "grammar: "],
    "continuous_batching": ["17 + 25?   The sum is 42.", "8 + 9?"],
    "custom_sampler": ["no repeat: "],
    "decode_loop": ["The sum is 42."],
    "embeddings_search": ["What is 17 + 25?", "What is 3 + 4?"],
    "resuming_stream": ["lost behind: ", "The sum is 42.", "same text: True"],
    "speculative_decoding": ["same tokens: True"],
}


def test_all_are_here() -> None:
    assert sorted(path.stem for path in EXAMPLES.glob("*.py")) == sorted(WORDS)


@pytest.mark.parametrize("name", sorted(WORDS))
def test_example(name: str) -> None:
    script = EXAMPLES / f"{name}.py"
    assert len(script.read_text().splitlines()) <= 60
    done = subprocess.run(
        [sys.executable, "-P", "-W", "error", str(script)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for words in WORDS[name]:
        assert words in done.stdout


def test_notebook(capsys: pytest.CaptureFixture[str]) -> None:
    # As a kernel runs it: cell by cell on one event loop, with await at the top level.
    notebook = json.loads((EXAMPLES / "chat_notebook.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    names: dict[str, Any] = {"__name__": "__main__"}

    async def run() -> None:
        for number, source in enumerate(cells):
            code = compile(source, f"cell {number}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            result = eval(code, names)
            if inspect.iscoroutine(result):
                await result

    asyncio.run(run())
    shown = capsys.readouterr().out
    assert shown.count("The sum is") >= 5
    assert "yppah" in shown
