from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("gguf", reason="needs the group `bench`, which is in `dev`")

from bench import compare, records
from bench.client import LoadError
from bench.measure import Measurement
from bench.process import Memory
from bench.report import OURS, REFERENCE
from bench.scenarios import Group

Run = Callable[..., tuple[int, list[Measurement]]]

MEMORY = Memory(1, 1, 1)


def measurement(server: str, group: str, rate: float = 1.0) -> Measurement:
    figures = {"single": {"tokens_per_s": rate, "other_cores": 0.0}}
    return Measurement(server, group, False, 2, 1.0, MEMORY, MEMORY, figures)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the comparison with servers that are not there, and return its exit code and its measurements."""
    path = tmp_path / "compare.json"

    def groups(group: Group, commands: dict[str, list[str]], threads: int) -> Iterator[Measurement]:
        for server in commands:
            yield measurement(server, group.name)
            if group.name == "small":
                raise LoadError("request 3: cut: gone")
            if group.name == "demo":
                raise KeyboardInterrupt

    def start(*args: str) -> tuple[int, list[Measurement]]:
        here = ["--json", str(path), "--no-page", "--pyllama", sys.executable, "--reference", sys.executable]
        monkeypatch.setattr(sys, "argv", ["compare", *here, *args])
        code = compare.main()
        return code, records.read(path)[1]

    monkeypatch.setattr(compare, "run_group", groups)
    return start


def test_a_group_that_fails_leaves_the_others_alone(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = run("--scenario", "small", "real")
    assert code == 1
    assert [(m.group, m.server) for m in found] == [("small", OURS), ("real", OURS), ("real", REFERENCE)]
    out, err = capsys.readouterr()
    assert "small failed: request 3: cut: gone" in err
    assert "| single stream, qwen3-0.6b |" in out


def test_what_there_is_is_told_when_it_is_interrupted(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = run("--scenario", "real", "demo", "long")
    assert code == 130
    assert [m.group for m in found] == ["real", "real", "demo"]
    assert "| single stream, qwen3-0.6b |" in capsys.readouterr().out


def test_other_groups_are_kept(run: Run, tmp_path: Path) -> None:
    run("--scenario", "real", "long")
    _, found = run("--scenario", "long", "--keep", "--only", OURS)
    assert [(m.group, m.server) for m in found] == [("real", OURS), ("real", REFERENCE), ("long", OURS)]
    path = tmp_path / "compare.json"
    path.write_text(path.read_text().replace(records.machine()["cpu"], "another"))
    with pytest.raises(ValueError, match="another machine"):
        compare.kept(path, [])
    code, _ = run("--scenario", "long", "--keep")
    assert code == 1
