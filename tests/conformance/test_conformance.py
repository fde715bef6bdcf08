from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

import conformance
from conformance import Verdict, judge, read_expected, table

BASELINE = ["unit/test_a.py::one", "unit/test_a.py::two[x y]", "unit/test_b.py::three"]

# Stands for the suite's own driver: says what the folder's file `outcomes.json` tells it to.
DRIVER = """
import json, pathlib, sys
arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
work = pathlib.Path(arguments["--work"])
runs = json.loads((work / "outcomes.json").read_text())
wanted = json.loads(pathlib.Path(arguments["--baseline"]).read_text())["passed"]
results = {test: outcome for test, outcome in runs.pop(0).items() if test in wanted}
(work / "outcomes.json").write_text(json.dumps(runs))
output = pathlib.Path(arguments["--results"])
output.write_text(json.dumps(results))
output.with_suffix(".detail.json").write_text(json.dumps({"reasons": {t: "it says why" for t in results}}))
print("the driver's own words")
"""


def outcomes(*passed: str) -> dict[str, str]:
    return {test: "passed" if test in passed else "failed" for test in BASELINE}


def test_reasons_stand_above_their_tests() -> None:
    later = "Comes later:\n  unit/test_a.py::one\n  unit/test_a.py::two[x y]\n"
    text = f"# a comment\n\n{later}By design:\n  unit/test_b.py::three\n"
    assert read_expected(text) == {
        "unit/test_a.py::one": "Comes later",
        "unit/test_a.py::two[x y]": "Comes later",
        "unit/test_b.py::three": "By design",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("  unit/test_a.py::one\n", "line 1: a test needs a reason above it"),
        ("Why:\n  unit/test_a.py\n", "line 2: a test needs a reason above it"),
        ("Why:\n  a::b\nOther:\n  a::b\n", "line 4: a::b stands here twice"),
        ("unit/test_a.py::one\n", "line 1: neither a reason"),
    ],
)
def test_a_list_that_cannot_be_read_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_expected(text)


def test_the_list_itself_can_be_read() -> None:
    assert all(read_expected(conformance.EXPECTED.read_text()).values())


def test_what_is_expected_passes() -> None:
    verdict = judge(outcomes(*BASELINE[:2]), BASELINE, [BASELINE[2]])
    assert verdict.passed


def test_a_regression_fails_and_what_is_not_true_any_more_is_told() -> None:
    verdict = judge(outcomes(BASELINE[0]), BASELINE, [BASELINE[0], BASELINE[2], "unit/test_c.py::gone"])
    assert verdict == Verdict((BASELINE[1],), (BASELINE[0],), ("unit/test_c.py::gone",))
    assert not verdict.passed


def test_tests_that_did_not_run_are_not_judged() -> None:
    assert judge({BASELINE[0]: "passed"}, BASELINE, [BASELINE[2]]).passed


def test_an_error_and_a_skip_are_no_pass() -> None:
    results = {BASELINE[0]: "error", BASELINE[1]: "skipped", BASELINE[2]: "passed"}
    assert judge(results, BASELINE, []).regressions == tuple(BASELINE[:2])


def test_the_table_counts_by_file() -> None:
    lines = table(outcomes(BASELINE[0], BASELINE[2]), BASELINE).splitlines()
    assert [line.split() for line in lines] == [
        ["test_a.py", "1", "of", "2"],
        ["test_b.py", "1", "of", "1"],
        ["all", "2", "of", "3"],
    ]


@pytest.fixture
def drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Run main() on a suite whose driver reports the given outcomes, one set per run."""
    suite = tmp_path / "suite"
    work = tmp_path / "work"
    suite.mkdir()
    work.mkdir()
    (suite / "run.py").write_text(DRIVER)
    (suite / "baseline.json").write_text(json.dumps({"passed": BASELINE}))
    expected = tmp_path / "expected.txt"
    monkeypatch.setattr(conformance, "EXPECTED", expected)
    monkeypatch.setattr(conformance, "SOURCES", tmp_path / "no sources")

    def drive(runs: list[dict[str, str]], named: str) -> tuple[int, int]:
        expected.write_text(f"Comes later:\n  {named}\n" if named else "")
        (work / "outcomes.json").write_text(json.dumps(runs))
        code = conformance.main(["--suite", str(suite), "--work", str(work), "--server", "x"])
        return code, len(json.loads((work / "outcomes.json").read_text()))

    return drive


def test_a_regression_fails_on_the_second_try_too(drive, capsys: pytest.CaptureFixture[str]) -> None:
    assert drive([outcomes(BASELINE[0]), outcomes(BASELINE[0])], BASELINE[2]) == (1, 0)
    output = capsys.readouterr().out
    assert f"FAILED {BASELINE[1]}: it says why" in output
    assert BASELINE[2] not in output


def test_what_fails_once_has_a_second_try(drive) -> None:
    assert drive([outcomes(BASELINE[0]), outcomes(BASELINE[1])], BASELINE[2]) == (0, 0)


def test_what_passes_has_no_second_try(drive) -> None:
    assert drive([outcomes(*BASELINE), outcomes()], "") == (0, 1)


def test_a_stale_line_is_told(drive, capsys: pytest.CaptureFixture[str]) -> None:
    assert drive([outcomes(*BASELINE)], BASELINE[2]) == (0, 0)
    assert f"take it out of expected.txt: {BASELINE[2]}" in capsys.readouterr().out


def test_no_suite_is_one_line_and_no_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert conformance.main(["--suite", str(tmp_path), "--work", str(tmp_path / "w"), "--server", ""]) == 0
    output = capsys.readouterr().out
    assert output.count("\n") == 1
    assert "not at hand" in output
    assert not (tmp_path / "w").exists()
