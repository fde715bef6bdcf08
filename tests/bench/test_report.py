from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from bench import records
from bench.goals import Goal, at_most
from bench.measure import RAW, Measurement, spread
from bench.process import Memory
from bench.report import OURS, REFERENCE, Row, disturbance, markdown, rows, verdict
from bench.scenarios import DEFAULT_GROUPS, GROUPS, shortened

LOADED, SERVED = Memory(600, 590, 50), Memory(700, 690, 60)


def measurement(
    server: str, group: str, unified: bool = False, ready: float = 1.0, **rates: float
) -> Measurement:
    scenarios = {
        name: {"tokens_per_s": rate, "ttft_p50_ms": 1000 / rate, "other_cores": rate / 1000}
        | dict.fromkeys(("gap_p99_ms", "added_steps", "python_steady_us_per_token"), 12.0)
        for name, rate in rates.items()
    }
    return Measurement(server, group, unified, 2, ready, LOADED, SERVED, scenarios)


def figures(server: str, group: str, scenario: str, **known: float) -> Measurement:
    unified = GROUPS[group].kv_modes[0]
    return Measurement(server, group, unified, 2, 1.0, LOADED, SERVED, {scenario: dict(known)})


def find(table: list[Row], *words: str) -> Row:
    (row,) = (row for row in table if all(word in row.what for word in words))
    return row


def test_a_rate_is_the_median_of_the_rounds() -> None:
    measurements = [measurement(OURS, "real", users8=rate) for rate in (10.0, 30.0, 90.0)]
    measurements += [measurement(REFERENCE, "real", users8=rate) for rate in (20.0, 25.0, 26.0)]
    row = find(rows(measurements), "8 users")
    assert (row.ours, row.reference, row.ratio) == (30, 25, 1.2)
    assert verdict(row) == "yes"


def test_each_server_counts_in_its_better_kv_mode() -> None:
    measurements = [
        measurement(OURS, "long", unified=True, long=50.0),
        measurement(OURS, "long", unified=False, long=40.0),
        measurement(REFERENCE, "long", unified=True, long=44.0),
        measurement(REFERENCE, "long", unified=False, long=75.0),
    ]
    row = find(rows(measurements), "32 users")
    assert (row.ours, row.reference, row.note, verdict(row)) == (50, 75, "-kvu / -no-kvu", "no")


def test_the_first_start_fills_the_page_cache_and_does_not_count() -> None:
    measurements = [measurement(OURS, "start", ready=ready) for ready in (60.0, 1.2, 1.4)]
    measurements += [measurement(REFERENCE, "start", ready=ready) for ready in (1.0, 1.0, 1.0)]
    assert math.isclose(find(rows(measurements), "start to ready").ratio, 1.3)


def test_a_missing_server_leaves_gaps_in_the_table() -> None:
    table = rows([measurement(REFERENCE, "real", single=20.0)])
    assert math.isnan(find(table, "single stream").ours)
    assert "| single stream, qwen3-0.6b | tokens/s | - | 20 |  | ≥ 1 |  |  |" in markdown(table).splitlines()


def test_memory_is_a_difference() -> None:
    measurements = [measurement(OURS, "real", single=1.0), measurement(REFERENCE, "real", single=1.0)]
    row = find(rows(measurements), "memory, resident after load")
    assert (row.ours, row.reference, row.note, verdict(row)) == (600, 600, "+0 MB", "yes")
    assert math.isnan(row.ratio)


def test_what_says_nothing_of_the_other_is_not_shown_of_it() -> None:
    measurements = [measurement(server, "real", users32=100.0) for server in (OURS, REFERENCE)]
    row = find(rows(measurements), "32 users", "CPU of Python")
    assert row.ours == 12
    assert math.isnan(row.reference)


def test_details_are_shown_when_asked_for() -> None:
    measurements = [measurement(server, "real", users8=100.0) for server in (OURS, REFERENCE)]
    assert [row.what for row in rows(measurements) if "8 users" in row.what] == ["8 users, qwen3-0.6b"]
    assert find(rows(measurements, details=True), "8 users", "gap p99").ratio == 1


def test_a_server_s_overhead_is_over_bare_decoding() -> None:
    measurements = [figures(OURS, "overhead", "greedy", tpot_p50_ms=each) for each in (1.5, 1.58, 9.0)]
    measurements += [figures(REFERENCE, "overhead", "greedy", tpot_p50_ms=1.9)]
    measurements += [figures(RAW, "overhead", "raw", step_ms=each) for each in (1.4, 1.5, 1.6)]
    table = rows(measurements)
    row = find(table, "greedy", "bare decoding, streamed")
    assert (round(row.ours, 6), round(row.reference, 6)) == (0.08, 0.4)
    assert verdict(row) == "yes"
    assert find(table, "llama-bench").reference == 1.5
    assert math.isnan(find(rows(measurements[:4]), "greedy", "bare decoding, streamed").ours)


def test_a_goal_may_be_a_multiple_of_another_figure() -> None:
    known = {"gap_p99_ms": 90.0, "gap_max_ms": 100.0, "rate_share": 0.6, "ttft_p50_ms": 9.0}
    for budget, expected in ((50.0, "yes"), (40.0, "no"), (math.nan, "")):
        table = rows([figures(OURS, "gap", "gap", **known, budget_ms=budget)])
        assert verdict(find(table, "their gap p99")) == expected
    assert verdict(find(table, "over idle")) == "yes"
    assert verdict(find(table, "largest gap")) == ""


@pytest.mark.parametrize(
    ("goal", "ours", "reference", "met"),
    [
        (at_most(0.5), 1.0, 2.0, True),
        (at_most(0.5), 1.1, 2.0, False),
        (at_most(0.5), 1.0, 0.0, None),
        (Goal("≥", 8, "ours"), 8.0, math.nan, True),
        (Goal("≤", 80, "difference", "MB"), 100.0, 20.0, True),
        (Goal("≤", 80, "difference", "MB"), 101.0, 20.0, False),
        (Goal("≤", 80, "difference", "MB"), 101.0, math.nan, None),
    ],
)
def test_goals(goal: Goal, ours: float, reference: float, met: bool | None) -> None:
    assert goal.met(ours, reference) is met


def test_disturbance_is_the_worst_of_all_loads() -> None:
    assert disturbance([measurement(OURS, "real", single=100.0, users8=300.0)]) == 0.3
    assert disturbance([measurement(OURS, "start")]) == 0


def test_the_groups() -> None:
    assert set(DEFAULT_GROUPS) <= set(GROUPS)
    for name, group in GROUPS.items():
        assert group.name == name
        assert len({scenario.name for scenario in group.scenarios}) == len(group.scenarios)
        short = shortened(group)
        assert [scenario.name for scenario in short.scenarios] == [s.name for s in group.scenarios]
        assert short.rounds <= 2


def test_measurements_come_back_from_their_file(tmp_path: Path) -> None:
    path = tmp_path / "compare.json"
    known = figures(OURS, "gap", "gap", gap_max_ms=3.0)
    known.values["gap"] = {"gap": [1.0, 2.0]}
    unknown = figures(RAW, "overhead", "raw", step_ms=math.nan)
    records.write([known, unknown], path)
    json.loads(path.read_text(), parse_constant=pytest.fail)
    machine, found = records.read(path)
    assert {"cpu", "cores", "llama.cpp", "pyllama", "time"} <= set(machine)
    assert found[0] == known
    assert math.isnan(found[1].scenarios["raw"]["step_ms"])
    path.write_text('{"machine": {}, "measurements": [{"server": 3}]}')
    with pytest.raises(ValueError, match="no file of measurements of this version"):
        records.read(path)


def test_a_spread_keeps_few_values_and_the_ends_of_many() -> None:
    assert spread([3.0, 1.0]) == [1.0, 3.0]
    many = spread([float(value) for value in range(100_001)])
    assert len(many) == 201
    assert (many[0], many[100], many[-1]) == (0, 50_000, 100_000)
