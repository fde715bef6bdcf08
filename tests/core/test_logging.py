import logging
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

import pyllama.logging
from pyllama import Context, Model
from pyllama.models import demo_model_path


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


def test_lines_of_other_threads_arrive(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "another")
    pyllama.logging.install(logging.DEBUG, "another")
    try:
        threads = [
            threading.Thread(target=lambda: Model(demo_model_path(), vocab_only=True).close())
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        pyllama.logging.uninstall()
    loads = [record for record in caplog.records if "loaded meta data" in record.getMessage()]
    assert len(loads) == 4
    assert {record.name for record in loads} == {"another"}
    assert all("\n" not in record.getMessage() for record in caplog.records)


def test_levels_are_thresholds(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "pyllama")
    pyllama.logging.install(logging.WARNING)
    try:
        Model(demo_model_path(), vocab_only=True).close()
    finally:
        pyllama.logging.uninstall()
    assert all(record.levelno >= logging.WARNING for record in caplog.records)


def test_a_broken_filter_loses_its_own_line_only(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    n_calls = 0

    def fail_once(record: logging.LogRecord) -> bool:
        nonlocal n_calls
        n_calls += 1
        if n_calls == 1:
            raise ZeroDivisionError
        return True

    logger = logging.getLogger("pyllama")
    caplog.set_level(logging.DEBUG, "pyllama")
    logger.addFilter(fail_once)
    pyllama.logging.install(logging.DEBUG)
    try:
        Model(demo_model_path(), vocab_only=True).close()
    finally:
        pyllama.logging.uninstall()
        logger.removeFilter(fail_once)
    assert "ZeroDivisionError" in capfd.readouterr().err
    assert n_calls > 1
    assert caplog.records


@pytest.mark.parametrize(
    "code",
    [
        # Lines are still waiting when the interpreter ends: they are delivered first.
        "import logging, sys, pyllama, pyllama.logging as log\n"
        "from pyllama.models import demo_model_path as path\n"
        "logging.basicConfig(stream=sys.stdout, level=10)\n"
        "log.install(10)\n"
        "pyllama.Model(path(), vocab_only=True).close()\n",
        # A child of fork has no reader thread to wait for; the parent has it still.
        "import logging, os, sys, pyllama, pyllama.logging as log\n"
        "from pyllama.models import demo_model_path as path\n"
        "logging.basicConfig(stream=sys.stdout, level=10)\n"
        "log.install(10)\n"
        "child = os.fork()\n"
        "if child:\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
        "    pyllama.Model(path(), vocab_only=True).close()\n",
    ],
)
def test_nothing_is_lost_at_the_end(code: str) -> None:
    command = [sys.executable, "-W", "error", "-W", "default::DeprecationWarning", "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd="/", timeout=60)
    assert "loaded meta data" in done.stdout
