from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytest.importorskip("matplotlib", reason="needs the group `bench`, which is in `dev`")

from bench.goals import at_least, at_most
from bench.measure import Measurement
from bench.page import write_page
from bench.plots import advantage
from bench.process import Memory
from bench.report import OURS, REFERENCE, Row

MEMORY = Memory(600, 590, 50)


def measurement(server: str, rate: float) -> Measurement:
    figures = {"tokens_per_s": rate, "ttft_p50_ms": 100 / rate, "other_cores": 0.3}
    values = {"single": {"gap": [0.0, 1.0, rate], "ttft": []}}
    return Measurement(
        server, "real", False, 2, 1.0, MEMORY, MEMORY, {"single": figures}, values, [server, "-c", "a<b"]
    )


def test_a_page_holds_the_table_the_plots_and_the_commands(tmp_path: Path) -> None:
    (tmp_path / "old.svg").write_text("")
    measurements = [measurement(OURS, 30.0), measurement(REFERENCE, 20.0)]
    path = write_page({"cpu": "<fast>"}, measurements, tmp_path)
    text = path.read_text()
    assert "<td>single stream, qwen3-0.6b</td><td>tokens/s</td><td>30</td><td>20</td><td>1.50</td>" in text
    assert '<td class="yes">yes</td>' in text
    assert "&lt;fast&gt;" in text
    assert "real: pyllama -c &#x27;a&lt;b&#x27;" in text
    assert "not quiet" in text
    plots = sorted(plot.name for plot in tmp_path.glob("*.svg"))
    assert plots == ["ratios-t2.svg", "real-single-t2.svg"]
    for plot in plots:
        assert f'src="{plot}"' in text
        ElementTree.parse(tmp_path / plot)


def test_the_same_measurements_give_the_same_bytes(tmp_path: Path) -> None:
    measurements = [measurement(OURS, 30.0), measurement(REFERENCE, 20.0)]
    for folder in ("one", "other"):
        write_page({}, measurements, tmp_path / folder)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "other" / file.name).read_bytes()


def test_a_page_of_one_server(tmp_path: Path) -> None:
    text = write_page({}, [measurement(OURS, 30.0)], tmp_path).read_text()
    assert "<td>-</td>" in text
    assert not (tmp_path / "ratios-t2.svg").exists()


def test_better_is_above_one() -> None:
    slower = Row("g", "time", "ms", 3.0, 1.0, "lower", at_most(0.5))
    faster = Row("g", "rate", "1/s", 3.0, 1.0, "higher", at_least(2.0))
    assert math.isclose(advantage(slower, slower.ratio), 1 / 3)
    assert advantage(slower, 0.5) == 2
    assert advantage(faster, faster.ratio) == 3
