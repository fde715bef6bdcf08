"""The comparison as a page with plots: ``python -m bench.page`` makes it from the file of measurements."""

from __future__ import annotations

import argparse
import html
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import records
from bench.measure import RAW, Measurement
from bench.paths import OUT, PAGE
from bench.plots import distribution_plot, ratio_plot
from bench.report import OURS, REFERENCE, Row, disturbance, number, ratio, rows, verdict
from bench.scenarios import GROUPS, Group, Scenario

_QUIET = 0.1  # cores that others may use

_STYLE = """
body { font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; max-width: 1080px; margin: 2rem auto;
  padding: 0 1rem; color: #1c1c1c; background: #fff }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.2rem }
table { border-collapse: collapse; width: 100%; font-size: 13.5px }
th, td { padding: .25rem .5rem; border-bottom: 1px solid #ddd; text-align: right; vertical-align: top }
th:first-child, td:first-child, td:last-child { text-align: left }
tr.group td { font-weight: 600; padding-top: .9rem; text-align: left; border-bottom: 1px solid #888 }
.yes { color: #2f8f4e } .no { color: #c8452f; font-weight: 600 }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem }
dt { color: #666 } dd { margin: 0 }
img { max-width: 100%; height: auto; display: block; margin: .6rem 0 }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f5f5f5; padding: .5rem .7rem;
  font-size: 12.5px }
.warning { background: #fdf0e7; border-left: 4px solid #c8452f; padding: .5rem .8rem }
"""


def write_page(machine: Mapping[str, Any], measurements: Sequence[Measurement], folder: Path) -> Path:
    """Write index.html and its plots into a folder; return the page's path.

    Files of an earlier page that have no place in this one are removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.svg"):
        old.unlink()
    parts = [f"<h1>{OURS} and {REFERENCE}</h1>", _facts(machine, measurements)]
    for threads in sorted({m.threads for m in measurements}):
        parts += _comparison([m for m in measurements if m.threads == threads], threads, folder)
    parts += ["<h2>Commands</h2>", _commands(measurements)]
    path = folder / "index.html"
    path.write_text(
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{OURS} and {REFERENCE}</title>\n<style>{_STYLE}</style>\n"
        + "\n".join(parts)
        + "\n</html>\n",
        encoding="utf-8",
    )
    return path


def _facts(machine: Mapping[str, Any], measurements: Sequence[Measurement]) -> str:
    lines = [f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in machine.items()]
    others = disturbance(measurements)
    lines.append(f"<dt>others used</dt><dd>up to {others:.2f} cores</dd>")
    facts = f"<dl>{''.join(lines)}</dl>"
    if others > _QUIET:
        facts += '<p class="warning">The machine was not quiet: these figures are hints.</p>'
    return facts


def _comparison(measurements: Sequence[Measurement], threads: int, folder: Path) -> list[str]:
    table = rows(measurements)
    parts = [f"<h2>With -t {threads}</h2>"]
    if ratio_plot(table, folder / f"ratios-t{threads}.svg"):
        parts.append(_image(f"ratios-t{threads}.svg", "Each ratio and its goal"))
    parts.append(_table(table))
    plots = []
    for name, group in GROUPS.items():
        for scenario in group.scenarios:
            file = f"{name}-{scenario.name}-t{threads}.svg"
            values = _values([m for m in measurements if m.group == name], group, scenario)
            title = f"{scenario.title}, {group.model}"
            if distribution_plot(values, title, folder / file):
                plots.append(_image(file, f"Distributions: {title}"))
    return [*parts, "<h2>Distributions</h2>", *plots] if plots else parts


def _values(
    measurements: Sequence[Measurement], group: Group, scenario: Scenario
) -> dict[str, dict[str, list[float]]]:
    """Return the values of all rounds, by measure and server, in a group's first KV mode."""
    found: dict[str, dict[str, list[float]]] = {}
    for server in (OURS, REFERENCE):
        for m in measurements:
            if m.server == server and m.unified == group.kv_modes[0]:
                for measure, values in m.values.get(scenario.name, {}).items():
                    found.setdefault(measure, {}).setdefault(server, []).extend(values)
    return found


def _table(table: Sequence[Row]) -> str:
    lines = [
        f"<tr><th></th><th>unit</th><th>{OURS}</th><th>{REFERENCE}</th><th>ratio</th><th>goal</th><th>met</th>"
        "<th></th></tr>"
    ]
    group = ""
    for row in table:
        if row.group != group:
            group = row.group
            lines.append(f'<tr class="group"><td colspan="8">{_text(group)}</td></tr>')
        goal = "" if row.goal is None else str(row.goal)
        cells = (row.what, row.unit, number(row.ours), number(row.reference), ratio(row), goal)
        told = verdict(row)
        lines.append(
            f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in cells)}"
            f'<td class="{told}">{told}</td><td>{_text(row.note)}</td></tr>'
        )
    return f"<table>{''.join(lines)}</table>"


def _commands(measurements: Sequence[Measurement]) -> str:
    order = (OURS, REFERENCE, RAW)
    known = sorted(measurements, key=lambda m: (list(GROUPS).index(m.group), order.index(m.server)))
    commands = dict.fromkeys(f"{m.group}: {shlex.join(m.command)}" for m in known)
    return f"<pre>{_text(chr(10).join(commands))}</pre>"


def _image(file: str, words: str) -> str:
    return f'<img src="{_text(file)}" alt="{_text(words)}">'


def _text(value: object) -> str:
    return html.escape(str(value))


def main() -> int:
    """Write the page from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=OUT / "compare.json", help="the measurements")
    parser.add_argument("--page", type=Path, default=PAGE, help="the folder to write to")
    args = parser.parse_args()
    try:
        print(write_page(*records.read(args.json), args.page))
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
