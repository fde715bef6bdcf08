"""A server whose model is named by a hub."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from stand_in import Hub

from pyllama import SyncEngine
from pyllama.models import demo_model_path


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "LLAMA_CACHE": str(tmp_path), "NO_PROXY": "127.0.0.1"}


def serve_once(environment: dict[str, str], *flags: str) -> tuple[str, str]:
    """Start a server, ask for the model's id and end it; return the id and what stood on stderr."""
    command = [sys.executable, "-P", "-m", "pyllama.cli", "serve", "--port", "0", "--threads", "1", *flags]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        address = next(
            (found[1] for line in process.stdout if (found := re.search(r"ready on (\S+)", line))), None
        )
        if address is not None:
            with urllib.request.urlopen(address + "/v1/models", timeout=60) as response:
                name = json.loads(response.read())["data"][0]["id"]
            process.terminate()
        _, errors = process.communicate(timeout=60)
    return name if address is not None else "", errors


def test_a_repository_is_downloaded_served_and_kept(environment: dict[str, str]) -> None:
    hub = Hub()
    try:
        hub.files = {"model-Q4_K_M.gguf": Path(demo_model_path()).read_bytes()}
        environment["MODEL_ENDPOINT"] = hub.url
        name, errors = serve_once(environment, "--hf-repo", "user/model")
        assert name == "user/model"
        assert "downloading model-Q4_K_M.gguf" in errors
        assert "\r" not in errors
    finally:
        hub.shutdown()
        hub.server_close()
    assert serve_once(environment, "-hf", "user/model", "--offline") == ("user/model", "")


def test_what_the_hub_does_not_have_is_one_line(environment: dict[str, str]) -> None:
    hub = Hub()
    try:
        environment["HF_ENDPOINT"] = hub.url
        name, errors = serve_once(environment, "--hf-repo", "user/other")
        (line,) = errors.splitlines()
        assert name == ""
        assert line.startswith("pyllama-server: the hub answers 404")
    finally:
        hub.shutdown()
        hub.server_close()


def test_an_engine_in_process_takes_the_same_flags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub = Hub()
    try:
        hub.files = {"tiny.gguf": Path(demo_model_path()).read_bytes()}
        places = {"endpoint": hub.url, "hub_cache": str(tmp_path), "file_cache": str(tmp_path)}
        monkeypatch.setattr("pyllama._core._llama.hub_places", lambda: places)
        flags = ["--threads", "1", "--ctx-size", "256", "--parallel", "1"]
        for named in (["-hf", "user/model"], ["--model-url", hub.url + "tiny.gguf"]):
            with SyncEngine.from_flags([*named, *flags]) as engine:
                assert Path(engine.props()["model_path"]).name == "tiny.gguf"
        assert "downloading tiny.gguf" in capsys.readouterr().err
    finally:
        hub.shutdown()
        hub.server_close()
