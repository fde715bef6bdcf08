import logging
import subprocess
import sys
from collections.abc import Callable

import pytest

import pyllama.logging
from pyllama import Context


def test_lines_become_records(make_context: Callable[..., Context], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pyllama")
    pyllama.logging.install(logging.INFO)
    try:
        make_context(n_ctx=256)
    finally:
        pyllama.logging.uninstall()
    lines = [record.getMessage() for record in caplog.records if record.name == "pyllama"]
    assert any("n_ctx" in line for line in lines)
    assert all(record.levelno >= logging.INFO for record in caplog.records)
    caplog.clear()
    make_context(n_ctx=256)
    assert not caplog.records


def test_quiet_by_default(capfd: pytest.CaptureFixture[str], make_context: Callable[..., Context]) -> None:
    make_context(n_ctx=256)
    with pytest.raises(pyllama.EngineError, match="quantized V cache"):
        make_context(type_v="q8_0", flash_attn=False)
    assert capfd.readouterr() == ("", "")


def test_bad_levels() -> None:
    with pytest.raises(ValueError, match="level=5"):
        pyllama.logging.install(5)


def test_the_process_ends_with_the_reader_running() -> None:
    code = "import pyllama.logging as log; log.install(10); log.install(20, 'other')"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd="/", timeout=60)
