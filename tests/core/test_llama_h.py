"""Every function of llama.h, and every field of its parameters, is bound, or the guide says why not."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEADER = ROOT / "vendor/llama.cpp/src/include/llama.h"
GUIDE = ROOT / "docs/guide/low-level.md"
# Where each of the parameters is filled in.
PARAMETERS = {
    "llama_model_params": "pyllama/_core/model*.pxi",
    "llama_context_params": "pyllama/_core/context*.pxi",
    "llama_model_quantize_params": "csrc/quantize.cpp",
}
# What the bindings call through C++ of our own.
BEHIND = ("backends", "build_info", "checked_chain", "log_sink", "lora_file", "quantize", "tokenize")

pytestmark = pytest.mark.skipif(not HEADER.exists(), reason="needs the tree of llama.cpp")


def without_comments(text: str) -> str:
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)


def header() -> str:
    return without_comments(HEADER.read_text())


def functions(text: str) -> set[str]:
    """The functions that are declared and not deprecated."""
    declared = re.findall(r"LLAMA_API[^;()]*?\b(llama_\w+)\s*\(", text)
    deprecated = re.findall(r"DEPRECATED\(\s*LLAMA_API[^;()]*?\b(llama_\w+)\s*\(", text)
    return set(declared) - set(deprecated)


def fields(text: str) -> set[str]:
    """The members of the parameters, as struct.member."""
    found = set()
    for name in PARAMETERS:
        body = re.search(rf"struct {name} \{{(.*?)\n    \}}", text, re.DOTALL)
        assert body is not None, name
        found |= {f"{name}.{member}" for member in re.findall(r"(\w+)\s*;", body[1])}
    return found


@cache
def code(files: str) -> str:
    """The text of our files without comments."""
    paths = sorted(ROOT.glob(files))
    assert paths, files
    return "\n".join(re.sub(r"(#|//)[^\n]*", "", path.read_text()) for path in paths)


def bound(names: set[str]) -> set[str]:
    """Functions that are called somewhere beside their declaration, and fields that are set."""
    text = code("pyllama/_core/*.p*")
    behind = "\n".join(code(f"csrc/{name}.cpp") for name in BEHIND)
    found = set()
    for name in names:
        struct, dot, member = name.partition(".")
        if dot:
            is_bound = re.search(rf"params\.{member}\b", code(PARAMETERS[struct]))
        else:
            alias = re.search(rf'\b(\w+) "{name}"', text)
            called = rf"\b{name if alias is None else alias[1]}\b"
            is_bound = len(re.findall(called, text)) > 1 or re.search(called, behind)
        if is_bound:
            found.add(name)
    return found


def left_out() -> dict[str, str]:
    """The guide's names, with or without a *, and the reason of each."""
    section = GUIDE.read_text().partition("## Not bound, and why\n")[2].partition("\n## ")[0]
    reasons = {}
    for item in re.findall(r"^- (.*?)(?=^- |\Z)", section, re.DOTALL | re.MULTILINE):
        names, _, reason = item.partition(": ")
        reasons |= dict.fromkeys(re.findall(r"`([^`]+)`", names), reason.strip())
    return reasons


NAMES = functions(header()) | fields(header()) if HEADER.exists() else set()


def test_the_header_was_read() -> None:
    assert {"llama_decode", "llama_model_load_from_file", "llama_context_params.n_ctx"} <= NAMES
    assert "llama_n_vocab" not in NAMES  # deprecated
    assert len(NAMES) > 250


def test_everything_is_bound_or_left_out_for_a_reason() -> None:
    missing = sorted(
        name for name in NAMES - bound(NAMES) if not any(fnmatchcase(name, pattern) for pattern in left_out())
    )
    assert missing == []


def test_reasons_are_true() -> None:
    """Every reason is one, for something that exists and is not bound."""
    unbound = NAMES - bound(NAMES)
    for pattern, reason in left_out().items():
        assert len(reason.split()) >= 4, pattern
        assert any(fnmatchcase(name, pattern) for name in unbound), pattern
