from __future__ import annotations

import math

from bench.measure import Measurement
from bench.process import Memory
from bench.report import OURS, REFERENCE, Row, disturbance, markdown, rows

LOADED, SERVED = Memory(600, 590, 50), Memory(700, 690, 60)


def measurement(
    server: str, group: str, unified: bool = False, ready: float = 1.0, **rates: float
) -> Measurement:
    scenarios = {
        name: {"tokens_per_s": rate, "ttft_p50_ms": 1000 / rate, "other_cores": rate / 1000}
        | dict.fromkeys(("gap_p99_ms", "added_steps", "python_cpu_us_per_token"), 12.0)
        for name, rate in rates.items()
    }
    return Measurement(server, group, unified, 2, ready, LOADED, SERVED, scenarios)


def find(table: list[Row], start: str) -> Row:
    (row,) = (row for row in table if row.what.startswith(start))
    return row


def test_a_rate_is_the_median_of_the_rounds() -> None:
    measurements = [measurement(OURS, "real", users8=rate) for rate in (10.0, 30.0, 90.0)]
    measurements += [measurement(REFERENCE, "real", users8=rate) for rate in (20.0, 25.0, 26.0)]
    row = find(rows(measurements), "8 users")
    assert (row.ours, row.reference, row.ratio) == (30, 25, 1.2)


def test_each_server_counts_in_its_better_kv_mode() -> None:
    measurements = [
        measurement(OURS, "long", unified=True, long=50.0),
        measurement(OURS, "long", unified=False, long=40.0),
        measurement(REFERENCE, "long", unified=True, long=44.0),
        measurement(REFERENCE, "long", unified=False, long=75.0),
    ]
    row = find(rows(measurements), "32 users")
    assert (row.ours, row.reference, row.note) == (50, 75, "-kvu / -no-kvu")


def test_the_first_start_fills_the_page_cache_and_does_not_count() -> None:
    measurements = [measurement(OURS, "start", ready=ready) for ready in (60.0, 1.2, 1.4)]
    measurements += [measurement(REFERENCE, "start", ready=ready) for ready in (1.0, 1.0, 1.0)]
    assert math.isclose(find(rows(measurements), "start to ready").ratio, 1.3)


def test_a_missing_server_leaves_gaps_in_the_table() -> None:
    table = rows([measurement(REFERENCE, "real", single=20.0)])
    assert math.isnan(find(table, "single stream").ours)
    assert "| single stream, qwen3-0.6b | tokens/s | - | 20 |  | ≥ 1.0 |  |" in markdown(table).splitlines()


def test_memory_is_a_difference() -> None:
    measurements = [measurement(OURS, "real", single=1.0), measurement(REFERENCE, "real", single=1.0)]
    row = find(rows(measurements), "memory, resident after load")
    assert (row.ours, row.reference, row.note) == (600, 600, "+0 MB")
    assert math.isnan(row.ratio)


def test_disturbance_is_the_worst_of_all_loads() -> None:
    assert disturbance([measurement(OURS, "real", single=100.0, users8=300.0)]) == 0.3
    assert disturbance([measurement(OURS, "start")]) == 0
