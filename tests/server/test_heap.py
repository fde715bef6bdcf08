"""The limits of glibc's heap: set for a server, left alone where an operator has set them."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import pytest

from pyllama.server.heap import keep_little_free


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """What was asked of mallopt: this process keeps the limits it has."""
    seen: dict[int, int] = {}
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=seen.__setitem__))
    for name in ("GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"):
        monkeypatch.delenv(name, raising=False)
    return seen


def test_both_limits_are_set(limits: dict[int, int]) -> None:
    keep_little_free()
    assert sorted(limits) == [-3, -1]
    assert all(0 < limit <= 16 << 20 for limit in limits.values())


@pytest.mark.parametrize(
    ("name", "value", "ours"),
    [
        ("MALLOC_TRIM_THRESHOLD_", "1000000", [-3]),
        ("MALLOC_MMAP_THRESHOLD_", "1000000", [-1]),
        ("GLIBC_TUNABLES", "glibc.malloc.arena_max=2:glibc.malloc.trim_threshold=1000000", [-3]),
        ("GLIBC_TUNABLES", "glibc.malloc.arena_max=2", [-3, -1]),
    ],
)
def test_a_limit_of_an_operators_is_left_alone(
    name: str, value: str, ours: list[int], limits: dict[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    keep_little_free()
    assert sorted(limits) == ours


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch, limits: dict[int, Any]) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())
    keep_little_free()
    assert limits == {}
