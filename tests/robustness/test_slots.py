"""Slots, adapters, a full context and sleep over HTTP: who asks for what is not there gets told so."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live_server import QUESTION, LiveServer, check_error, http_post, wait_until

PROMPT = "What is 17 + 25? " * 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("slots")


@pytest.fixture(scope="module")
def saving(folder: Path) -> Iterator[LiveServer]:
    flags = ("--parallel", "2", "--ctx-size", "1024", "--slot-save-path", str(folder), "--context-shift")
    with LiveServer(*flags) as server:
        yield server


def complete(server: LiveServer, **fields: Any) -> dict[str, Any]:
    status, answer = server.ask("/completion", {"prompt": PROMPT, "n_predict": 5, "temperature": 0, **fields})
    assert status == 200, answer
    return dict(answer)


def act(server: LiveServer, slot: str, action: str, body: Any = None) -> tuple[int, Any]:
    data = b"" if body is None else json.dumps(body).encode()
    return server.post(data, f"/slots/{slot}?action={action}")


def test_a_slot_is_saved_and_restored(saving: LiveServer, folder: Path) -> None:
    first = complete(saving, id_slot=0)
    status, saved = act(saving, "0", "save", {"filename": "a.bin"})
    assert status == 200
    n_tokens = first["tokens_evaluated"] + 4
    assert (saved["id_slot"], saved["filename"], saved["n_saved"]) == (0, "a.bin", n_tokens)
    assert saved["n_written"] == (folder / "a.bin").stat().st_size
    assert saved["timings"]["save_ms"] >= 0
    assert act(saving, "0", "erase") == (200, {"id_slot": 0, "n_erased": n_tokens})
    status, restored = act(saving, "1", "restore", {"filename": "a.bin"})
    assert (status, restored["n_restored"], restored["n_read"]) == (200, n_tokens, saved["n_written"])
    again = complete(saving, id_slot=1)
    assert again["content"] == first["content"]
    assert again["timings"]["prompt_n"] == 1
    saving.check_settled()


@pytest.mark.parametrize(
    "name", ["", "..", "../a.bin", "/etc/hostname", "a/b", "a\0b", "x" * 256, 7, None, ["a"], {"a": 1}]
)
@pytest.mark.parametrize("action", ["save", "restore"])
def test_names_that_are_no_names(saving: LiveServer, folder: Path, action: str, name: Any) -> None:
    before = sorted(os.listdir(folder))
    check_error(*act(saving, "0", action, {"filename": name}), param="filename")
    assert sorted(os.listdir(folder)) == before


def test_files_that_are_no_slots(saving: LiveServer, folder: Path) -> None:
    complete(saving, id_slot=0)
    assert act(saving, "0", "save", {"filename": "whole"})[0] == 200
    data = (folder / "whole").read_bytes()
    files = {"empty": b"", "text": b"hello" * 100, "cut": data[: len(data) // 2], "zeros": bytes(len(data))}
    for name, content in files.items():
        (folder / name).write_bytes(content)
        check_error(*act(saving, "1", "restore", {"filename": name}))
    (folder / "link").symlink_to("whole")
    os.mkfifo(folder / "pipe")
    for name in ("link", "pipe", "missing", "."):
        check_error(*act(saving, "1", "restore", {"filename": name}))
    saving.check_settled()


@pytest.mark.parametrize("slot", ["2", "-1", "x", "99999999999999999999", "%31%00", "1.0"])
def test_slots_that_are_not_there(saving: LiveServer, slot: str) -> None:
    check_error(*act(saving, slot, "erase"))


def test_actions_that_are_none(saving: LiveServer) -> None:
    for action in ("", "load", "SAVE"):
        check_error(*act(saving, "0", action, {"filename": "x"}))
    check_error(*saving.post(b"{", "/slots/0?action=save"))
    check_error(*saving.post(b"[]", "/slots/0?action=save"))


def test_an_action_waits_for_a_busy_slot_and_a_client_that_leaves_is_let_go(saving: LiveServer) -> None:
    client = saving.stream(id_slot=0)
    wait_until("the slot is busy", lambda: saving.n_busy() == 1)
    waiting = saving.connect(http_post({}, path="/slots/0?action=erase"))
    waiting.close()
    erased = saving.connect(http_post({}, path="/slots/0?action=erase"))
    client.close()
    response = http.client.HTTPResponse(erased)
    response.begin()
    assert response.status == 200, response.read()
    saving.close_sockets()
    saving.check_settled()


def test_without_the_flag_there_is_no_such_action(running: LiveServer) -> None:
    check_error(*act(running, "0", "save", {"filename": "x"}), code=501)


def test_a_full_context_is_shifted(saving: LiveServer) -> None:
    answer = complete(saving, n_predict=600, ignore_eos=True, n_keep=10)
    assert answer["truncated"] is True
    assert answer["tokens_predicted"] == 600
    status, chat = saving.chat(max_tokens=700, ignore_eos=True, n_keep=-1, n_discard=3)
    assert (status, chat["usage"]["completion_tokens"]) == (200, 700)
    assert complete(saving)["truncated"] is False


def test_time_limits_wait_for_a_line(running: LiveServer) -> None:
    # The model answers in one line: the limit is over long before, and nothing is cut.
    answer = complete(running, n_predict=12, t_max_predict_ms=1, ignore_eos=True)
    assert "\n" in answer["content"] or answer["tokens_predicted"] == 12


def test_without_adapters_there_are_none(running: LiveServer) -> None:
    assert running.get("/lora-adapters") == []
    assert running.ask("/lora-adapters", []) == (200, {"success": True})
    for body in ({}, 7, [1], [{"id": 0, "scale": 1}], [{"id": 0}], None):
        check_error(*running.ask("/lora-adapters", body))
    check_error(*running.post(b"[" * 1000, "/lora-adapters"))
    for lora in ({}, [{"id": 0, "scale": 1}], "x", [[]]):
        check_error(*running.chat(lora=lora))
    assert running.chat(lora=[])[0] == 200


def test_it_sleeps_and_wakes() -> None:
    with LiveServer("--parallel", "1", "--ctx-size", "512", "--sleep-idle-seconds", "1") as server:

        def sleeping() -> bool:
            return bool(server.get("/props")["is_sleeping"])

        def look() -> bool:
            server.get("/health")
            server.get("/v1/models")
            server.metric("llamacpp:requests_processing")
            return sleeping()

        wait_until("it sleeps", look)
        status, answer = server.ask("/v1/chat/completions/control", {"id": "x", "action": "reasoning_end"})
        assert (status, answer["success"]) == (200, False)
        assert look()
        (model,) = server.get("/models")["data"]
        assert model["status"] == {"value": "sleeping"}
        assert model["meta"]["n_vocab"] > 0
        calls = [
            lambda: server.chat(messages=QUESTION)[0],
            lambda: server.ask("/tokenize", {"content": "x"})[0],
            lambda: server.request("GET", "/slots")[0],
            lambda: server.request("GET", "/lora-adapters")[0],
        ]
        for call in calls:
            wait_until("it sleeps", sleeping)
            assert call() == 200
            assert not sleeping()
        wait_until("it sleeps", sleeping)
        # Model and context are gone, and what they held.
        n_descriptors = server.descriptors()
        for _ in range(2):
            assert server.chat()[0] == 200
            wait_until("it sleeps", sleeping)
        wait_until("nothing more is open", lambda: server.descriptors() <= n_descriptors)
