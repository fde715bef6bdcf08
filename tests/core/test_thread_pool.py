"""Thread pools: the same numbers on other threads, and no way to have two masters."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable

import numpy as np
import pytest

import pyllama
from pyllama import Batch, Context, ThreadPool

Prefill = Callable[..., Batch]


def test_the_numbers_are_the_same(
    make_context: Callable[..., Context], prompt: list[int], prefill: Prefill
) -> None:
    own, pooled = make_context(), make_context()
    pool = ThreadPool(1)
    pooled.attach_threads(pool, ThreadPool(2, priority="low", poll=0, strict=True))
    assert (pool.n_threads, pooled.n_threads, pooled.n_threads_batch) == (1, 1, 2)
    for context in (own, pooled):
        prefill(context, prompt)
        prefill(context, [5], len(prompt))
    np.testing.assert_allclose(pooled.logits(), own.logits(), atol=1e-3)
    pooled.attach_threads(pool)
    prefill(pooled, [6], len(prompt) + 1)
    pooled.detach_threads()
    pooled.detach_threads()
    del pool
    prefill(pooled, [7], len(prompt) + 2)
    assert pooled.n_threads_batch == 1


def test_threads_are_not_more_than_the_pool_has(context: Context) -> None:
    context.attach_threads(ThreadPool(1), ThreadPool(2))
    context.set_n_threads(1, 2)
    with pytest.raises(pyllama.InvalidRequestError, match=r"n_threads=2 must be in \[1, 1\]"):
        context.set_n_threads(2, 2)
    with pytest.raises(pyllama.InvalidRequestError, match="n_threads_batch=3"):
        context.set_n_threads(1, 3)
    context.detach_threads()
    context.set_n_threads(3)


def test_two_contexts_share_one(
    make_context: Callable[..., Context], prompt: list[int], prefill: Prefill
) -> None:
    pool = ThreadPool(2)
    first, second = make_context(), make_context()
    for context in (first, second):
        context.attach_threads(pool)
        prefill(context, prompt)
    np.testing.assert_allclose(first.logits(), second.logits(), atol=1e-3)
    first.close()
    prefill(second, [5], len(prompt))


def test_a_pool_belongs_to_its_thread(context: Context) -> None:
    pools: list[ThreadPool] = []
    thread = threading.Thread(target=lambda: pools.append(ThreadPool(1)))
    thread.start()
    thread.join()
    with pytest.raises(pyllama.EngineError, match="the thread pool belongs to thread"):
        context.attach_threads(pools[0])
    with pytest.raises(pyllama.EngineError, match="the thread pool belongs to thread"):
        context.attach_threads(ThreadPool(1), pools[0])
    assert context.n_threads == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_threads": 0}, "n_threads=0"),
        ({"n_threads": 513}, "n_threads=513"),
        ({"n_threads": 1, "cpus": [os.cpu_count()]}, "cpus="),
        ({"n_threads": 1, "cpus": [-1]}, "cpus=-1"),
        ({"n_threads": 1, "priority": "highest"}, "priority='highest'"),
        ({"n_threads": 1, "poll": 101}, "poll=101"),
    ],
)
def test_wrong_values_are_named(options: dict[str, object], words: str) -> None:
    with pytest.raises(pyllama.InvalidRequestError, match=words):
        ThreadPool(**options)


def test_the_cpus_are_used() -> None:
    """In a process of its own: the calling thread keeps the pool's CPUs."""
    code = """
import os, pyllama
from pyllama.models import demo_model_path
with pyllama.Model(demo_model_path()) as model, pyllama.Context(model, n_ctx=64) as context:
    cpu = min(os.sched_getaffinity(0))
    context.attach_threads(pyllama.ThreadPool(2, cpus=[cpu]))
    batch = pyllama.Batch(2)
    batch.add_sequence([5, 6], 0, 0)
    context.decode(batch)
    assert os.sched_getaffinity(0) == {cpu}
"""
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("the system says nothing of CPUs")
    subprocess.run([sys.executable, "-P", "-W", "error", "-c", code], check=True, timeout=60)
