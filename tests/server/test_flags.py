"""The table of flags: complete, on paper, told at the start, and true of a sampling of flags."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pyllama._core import _llama
from pyllama.errors import InvalidRequestError
from pyllama.server.flags import ACTING, INERT, REMOVED, check_tools, given_flags, inert_warning, leading_name
from pyllama.server.settings import Settings

DOCS = Path(__file__).resolve().parents[2] / "docs"
FLAGS = _llama.known_flags()
BY_NAME = {name: flag for flag in FLAGS for name in (*flag["names"], *flag["negated"])}


def warning(*args: str, **environ: str) -> str | None:
    return inert_warning(given_flags(FLAGS, args, environ))


def test_every_flag_of_the_parser_is_in_the_table_once() -> None:
    inert = [name for names in INERT.values() for name in names]
    switched_off = [name for name in inert if name not in map(leading_name, FLAGS)]
    listed = [*ACTING, *REMOVED, *(name for name in inert if name not in switched_off)]
    theirs = [leading_name(flag) for flag in FLAGS if flag["group"] != "pyllama"]
    assert sorted(listed) == sorted(theirs)
    for name in switched_off:
        assert name in BY_NAME[name]["negated"]
        assert leading_name(BY_NAME[name]) in ACTING


def test_the_parser_knows_what_the_help_shows(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(_llama.CliExit):
        _llama.ServerParams(["--help"])
    shown = [
        line for line in capfd.readouterr().out.splitlines() if line.startswith("-") and "---" not in line
    ]
    assert len(shown) == len(FLAGS)
    words = {frozenset(line.replace(",", " ").split()) for line in shown}
    for flag in FLAGS:
        assert any(line.issuperset(flag["names"]) for line in words), flag


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_flags", DOCS / "generate" / "flags.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date() -> None:
    page = generator().page()
    assert "| unknown |" not in page
    assert (DOCS / "flags.md").read_text() == page, "run make docs"


def test_what_acts_is_not_warned_of() -> None:
    assert warning("--ctx-size", "512", "-ngl", "0", "--temp", "0.5", LLAMA_ARG_BATCH="64") is None


def test_one_line_names_every_inert_flag_as_it_was_given() -> None:
    line = warning(
        "-md",
        "draft.gguf",
        "--models_max",
        "3",
        "--temp",
        "0",
        "--spec-type",
        "ngram-mod",
        LLAMA_ARG_CACHE_RAM="9",
    )
    assert line is not None
    assert "\n" not in line
    assert line.startswith("accepted, but without effect: ")
    assert "-md, --spec-type (speculative decoding is not there yet)" in line
    assert "--models_max (" in line
    assert "--temp" not in line


def test_a_value_is_not_taken_for_a_flag() -> None:
    assert warning("--alias", "--mlock", "--reverse-prompt", "-md") is None


def test_what_asks_for_nothing_is_not_warned_of() -> None:
    assert warning("--spec-type", "none", "--no-webui", "-cb") is None


def test_only_switching_it_off_is_inert() -> None:
    line = warning("-nocb")
    assert line is not None
    assert "-nocb (batching is always continuous)" in line


@pytest.mark.parametrize("names", [[], ["all"], ["read_file", "get_info"]])
def test_known_tools(names: list[str]) -> None:
    check_tools(given_flags(FLAGS, ["--tools", ",".join(names)] if names else [], {}))


def test_an_unknown_tool_is_named_with_the_others() -> None:
    with pytest.raises(
        InvalidRequestError, match=r'^unknown tool "bad"\. available tools: read_file, .*get_info$'
    ):
        check_tools(given_flags(FLAGS, [], {"LLAMA_ARG_TOOLS": "read_file,bad"}))


def settings(*args: str) -> Settings:
    return Settings.from_flags(_llama.ServerParams(args).as_dict())


def test_timeout_bounds_bodies_and_writes() -> None:
    plain = settings()
    assert (plain.body_timeout, plain.write_timeout) == (30, 60)
    given = settings("--timeout", "600")
    assert (given.body_timeout, given.write_timeout) == (600, 600)
    assert settings("--timeout", "600", "--write-timeout", "5").write_timeout == 5


def test_http_threads_prepare_requests() -> None:
    assert settings().prepare_threads == 4
    assert settings("--threads-http", "2").prepare_threads == 2


def test_ui_config_is_parsed_once() -> None:
    assert settings("--webui-config", '{"theme":"dark"}').ui_settings == {"theme": "dark"}
    for bad in ("{", "[]"):
        with pytest.raises(InvalidRequestError, match=r"^--ui-config is not "):
            settings("--ui-config", bad)


def test_aliases_and_tags() -> None:
    given = settings("--alias", "zeta,alpha", "--tags", "x,y")
    assert given.model_name == "alpha"
    assert set(given.model_alias) == {"alpha", "zeta"}
    assert set(given.model_tags) == {"x", "y"}


def test_embeddings_lower_the_batch(capfd: pytest.CaptureFixture[str]) -> None:
    flags: dict[str, Any] = _llama.ServerParams(["--embeddings", "-b", "256", "-ub", "64"]).as_dict()
    assert (flags["n_batch"], flags["n_ubatch"]) == (64, 64)
    (line,) = capfd.readouterr().err.splitlines()
    assert "256" in line
    assert "64" in line


def test_the_scope_of_shared_prefixes_is_one_of_two_words() -> None:
    for scope in ("all", "key"):
        _llama.ServerParams(["--prefix-sharing-scope", scope])
    with pytest.raises(InvalidRequestError, match=r'^--prefix-sharing-scope: "none" is neither all nor key$'):
        _llama.ServerParams(["--prefix-sharing-scope", "none"])


def test_more_slots_than_sequences_are_refused_in_one_line() -> None:
    assert _llama.ServerParams(["--parallel", "256"]).as_dict()["n_parallel"] == 256
    with pytest.raises(InvalidRequestError, match=r"^--parallel 257 is more than the 256 sequences [^\n]*$"):
        _llama.ServerParams(["--parallel", "257"])
