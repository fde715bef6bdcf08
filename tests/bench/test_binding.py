from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

pytest.importorskip("gguf", reason="needs the group `bench`, which is in `dev`")

from bench.binding import (
    OURS,
    REFERENCE,
    expected_sampled,
    loop_command,
    parse_reference,
    ratios,
    reference_command,
    table,
)

ARGS = argparse.Namespace(threads=3, n_prompt=64, n_gen=16)
ROUNDS = [
    {
        REFERENCE: {"pp": 100.0, "tg": tg, "version": "b1"},
        OURS: {"pp": 99.0, "tg": tg, "sampled": expected_sampled(tg, 100.0) / 2, "sample_us": 100.0},
        "other": {"pp": 50.0, "tg": 2 * tg, "sampled": tg, "version": "2"},
    }
    for tg in (10.0, 20.0, 1000.0)
]


def test_both_get_the_same_load() -> None:
    model = Path("m.gguf")
    assert " ".join(reference_command(Path("b"), model, ARGS)) == "b -m m.gguf -t 3 -p 64 -n 16 -r 1 -o json"
    ours = " ".join(loop_command(OURS, "py", model, ARGS))
    assert ours.startswith("py ")
    assert ours.endswith("pyllama --model m.gguf --threads 3 --n-prompt 64 --n-gen 16")


def test_llama_bench_is_read() -> None:
    records = [
        {"n_prompt": 64, "n_gen": 0, "avg_ts": 300.5, "build_number": 11549},
        {"n_prompt": 0, "n_gen": 16, "avg_ts": 40.25, "build_number": 11549},
    ]
    assert parse_reference(json.dumps(records)) == {"pp": 300.5, "tg": 40.25, "version": "b11549"}


def test_sampling_is_added_to_the_reference() -> None:
    assert expected_sampled(100.0, 0.0) == 100.0
    assert expected_sampled(1000.0, 1000.0) == 500.0


def test_ratios_are_of_each_round() -> None:
    assert ratios(ROUNDS, OURS) == {"pp": 0.99, "tg": 1.0, "sampled": 0.5}
    assert ratios(ROUNDS, "other")["tg"] == 2.0


def test_the_table_names_everything() -> None:
    text = table(ROUNDS, "tiny")
    assert "| llama-bench | b1 | 100.0 | 20.0 |  |  |  |  |" in text
    assert "| pyllama |  | 99.0 | 20.0 |" in text
    assert "0.990 | 1.000 | 0.500 |" in text
    assert "100.0 µs a token" in text
