from __future__ import annotations

import os

from bench.process import (
    Memory,
    ThreadTime,
    parse_smaps_rollup,
    parse_stat_seconds,
    used_since,
)


def test_memory_is_read_in_bytes_of_a_million() -> None:
    text = (
        "55d0-7ffe ---p 00000000 00:00 0    [rollup]\n"
        "Rss:              2000 kB\nPss:              1500 kB\nPss_Dirty: 1 kB\nAnonymous:  1000 kB\n"
    )
    assert parse_smaps_rollup(text) == Memory(rss=2.048, pss=1.536, anonymous=1.024)


def test_a_thread_name_may_hold_brackets() -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    fields = ["S", *["0"] * 10, str(3 * ticks), str(ticks // 2), "9", "9"]
    assert parse_stat_seconds(f"12 (a) b) {' '.join(fields)}\n") == 3.5


def test_python_threads_are_all_but_the_core_threads() -> None:
    before = {1: ThreadTime("pyllama-server", 1.0), 2: ThreadTime("pyllama-engine", 5.0)}
    after = {
        1: ThreadTime("pyllama-server", 1.5),
        2: ThreadTime("pyllama-engine", 9.0),
        3: ThreadTime("pyllama-engine", 2.0),
        4: ThreadTime("pyllama-render", 0.5),
        5: ThreadTime("AnyIO worker", 0.25),
    }
    assert used_since(before, after) == 7.25
    assert used_since(before, after, python_only=True) == 0.75
