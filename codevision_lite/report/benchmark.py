"""What a benchmark run has shown: the table for the terminal, and report.html with plots for each damage and browsable trajectories.

Reads a run folder's results.json and rows; needs no model and no benchmark file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from codevision_lite.errors import UserError
from codevision_lite.files import read_jsonl, write_atomic
from codevision_lite.records import Sample, Trajectory
from codevision_lite.report.load import Attempt, condition_label
from codevision_lite.report.page import document
from codevision_lite.report.plots import Bar, grouped_bars
from codevision_lite.report.summary import percent
from codevision_lite.report.trajectories import trajectories_html

_IN_A_PLOT = 9  # damages; more, and their names run into each other
_TOOL_ROWS = {  # key of a tool summary -> what it is, and whether it is a share
    "tool_use_rate": ("items with a tool turn", True), "tool_turns": ("tool turns for an item", False),
    "operations_per_turn": ("operations in a successful run", False), "chained": ("runs that chain operations", True),
    "error_rate": ("items with a failed run", True), "recovery_rate": ("of those, a later run succeeded", True),
    "crop_rate": ("items that cropped", True), "crop_iou": ("overlap (IoU) of the best crop with the target", False),
    "crop_recall": ("share of the target that it shows", False), "contained": ("crops that contain the target", True),
    "brute_force": ("items that tried orientations out", True), "no_op": ("items with a picture that came back unchanged", True),
    "unsupported_right": ("right answers without a picture that shows it", True),
    "emergent_rate": ("items with an operation that SFT did not teach", True),
    "answered": ("items with a final answer", True), "well_formed": ("items in the agreed format", True),
    "tokens": ("tokens written for an answer", False), "seconds": ("seconds for an answer", False),
}  # fmt: skip


def write_benchmark_report(folder: Path) -> Path:
    """Write `folder`/report.html and return its path. Raises UserError where there are no results."""
    path = folder / "results.json"
    if not path.exists():
        raise UserError(f"{folder}: no results there ({path.name})")
    return write_atomic(folder / "report.html", page_html(json.loads(path.read_text(encoding="utf-8")), _attempts(folder)))


def page_html(results: Mapping[str, Any], attempts: Sequence[Attempt]) -> str:
    """The whole page."""
    sections = {
        "Accuracy for each damage": _plots(results) + _damages_table(results), "The benchmark's own numbers": _official(results),
        "Categories": _categories(results), "Tool use": _tools(results), "Published numbers": _published(results),
        "What was left out": _left_out(results), "Trajectories": trajectories_html(attempts),
    }  # fmt: skip
    body = "".join(
        f'<section aria-labelledby="s{i}"><h2 id="s{i}">{name}</h2>{html}</section>'
        for i, (name, html) in enumerate(sections.items())
        if html
    )
    title = f"{results['title']}: {results['model']}"
    return document(title, f'<p class="conclusion">{escape(conclusion(results))}</p>', f"<main>{body}</main>\n{_footer(results)}")


def conclusion(results: Mapping[str, Any]) -> str:
    """One sentence: accuracy, what orientations cost, and what was not scored."""
    first, turned = results["conditions"][0], results["orientations"]
    parts = [f"{percent(first['accuracy'], 1)} on {first['n']} undamaged pictures ({interval(first)})"]
    if turned and turned["accuracy"] is not None:
        parts.append(f"{percent(turned['accuracy'], 1)} over the orientation changes ({change(turned['drop'])} against the same pictures)")
    if results["chance"] is not None:
        parts.append(f"guessing gives {percent(results['chance'])}")
    if results["failures"]["n"]:
        parts.append(f"{results['failures']['n']} of {results['n_items']} items failed and are in no number")
    if results.get("bad_rows", {}).get("n"):
        parts.append(f"{results['bad_rows']['n']} rows of the file can't be used")
    return f"{results['model']} on {results['title']}: {'; '.join(parts)}."


def benchmark_table(results: Mapping[str, Any]) -> str:
    """The table that ends a run in the terminal: plain ASCII, at most 110 columns."""
    head = f"{'damage':<20}{'n':>6}  {'accuracy % [95 %]':<22}{'drop, points [95 %]':<24}{'tool turns':>11}{'errors':>8}{'failed':>8}"
    lines = [f"{results['title']}: {results['model']}", head, "-" * len(head)]
    for row in results["conditions"]:
        lines.append(_line(row["condition"], row, row["n_failed"]))
    if results["orientations"]:
        lines += ["-" * len(head), _line("all orientations", results["orientations"])]
    if results["paper_average"] is not None:
        lines.append(f"{'paper-style average':<28}{100 * results['paper_average']:5.1f}  (mean of undamaged and the five)")
    context = results["context"]
    lines.append(f"seed {context['seed']} | {context['config_hash']} | {context['commit']} | {context['hardware']}")
    return "\n".join(line.rstrip() for line in lines)


def interval(row: Mapping[str, Any]) -> str:
    """"45.1-62.0", in percent; empty where nothing was measured."""
    return "" if row["accuracy"] is None else f"{100 * row['low']:.1f}-{100 * row['high']:.1f}"


def change(drop: Mapping[str, Any] | None) -> str:
    """"-12.5 [-20.1, -4.9]", in points; a dash where there is nothing to compare with."""
    if drop is None or drop["difference"] is None:
        return "-"
    return f"{100 * drop['difference']:+.1f} [{100 * drop['low']:+.1f}, {100 * drop['high']:+.1f}]"


def _line(name: str, row: Mapping[str, Any], n_failed: int | None = None) -> str:
    accuracy = "not scored" if row["accuracy"] is None else f"{100 * row['accuracy']:5.1f} [{interval(row)}]"
    turns, errors = row["tools"]["tool_turns"], row["tools"]["error_rate"]
    cells = f"{'-' if turns is None else format(turns, '.2f'):>11}{percent(errors) if errors is not None else '-':>8}"
    return f"{name[:19]:<20}{row['n']:>6}  {accuracy:<22}{change(row['drop']):<24}{cells}{'' if n_failed is None else n_failed:>8}"


def _label(condition: str) -> str:
    return "undamaged" if condition == "none" else condition_label(condition)


def _plots(results: Mapping[str, Any]) -> str:
    rows = [row for row in results["conditions"] if row["accuracy"] is not None]
    html = ""
    for at in range(0, len(rows), _IN_A_PLOT):
        part = rows[at : at + _IN_A_PLOT]
        notes = [f"{_label(r['condition'])}: {percent(r['accuracy'], 1)} ({interval(r)})" for r in part]
        bars = [Bar(r["accuracy"], r["low"], r["high"], note) for r, note in zip(part, notes, strict=True)]
        title = "Accuracy for each damage with 95 % intervals; the table below has the same numbers"
        plot = grouped_bars([_label(r["condition"]) for r in part], [bars], title)
        html += f'<div class="scroll" role="region" aria-label="Accuracy plot" tabindex="0">{plot}</div>'
    return html


def _damages_table(results: Mapping[str, Any]) -> str:
    def cells(name: str, r: Mapping[str, Any], p_value: str, n_failed: str) -> list[str]:
        return [name, str(r["n"]), percent(r["accuracy"], 1), interval(r), change(r["drop"]), p_value, n_failed]

    rows = [
        cells(_label(r["condition"]), r, f"{r['drop']['p_value']:.3g}" if r["drop"] else "–", str(r["n_failed"]))
        for r in results["conditions"]
    ]
    if results["orientations"] is not None:  # no p: McNemar's test would take an item's five variants as independent
        rows.append(cells("all orientations", results["orientations"], "–", ""))
    note = (
        "Intervals count pictures, not items, where items share one. The drop is paired with the same item undamaged (bootstrap); "
        "p is McNemar's exact test. Failed items are in no number."
    )
    head = ("damage", "n", "accuracy", "95 % interval", "drop, points", "McNemar p", "failed")
    return _table(head, rows) + f'<p class="note">{note}</p>'


def _official(results: Mapping[str, Any]) -> str:
    """The headline numbers side by side; all of the undamaged ones, and those of each damage folded."""
    rows = [row for row in results["conditions"] if row["n"] and row["official"]]
    if not rows:
        return ""
    names = [k for k, v in rows[0]["official"].items() if not isinstance(v, Mapping)]
    table = [[_label(row["condition"]), *(_value(row["official"].get(name)) for name in names)] for row in rows]
    html = _table(("damage", *(name.replace("_", " ") for name in names)), table)
    for number, row in enumerate(rows):
        if parts := _nested(row["official"]):
            opened = " open" if number == 0 else ""
            html += f"<details{opened}><summary>{escape(_label(row['condition']))}, in parts</summary>{parts}</details>"
    rule = "the official rule" if results["is_official"] else "a rule of this project, not an official one"
    return f'<p class="note">Scored by {rule}, on the text of the final answer; no judge.</p>{html}'


def _nested(official: Mapping[str, Any]) -> str:
    """A table for each mapping among the numbers; numbers by themselves are left to the caller."""
    html = ""
    for name, inner in official.items():
        if isinstance(inner, Mapping) and inner:
            nested = [v for v in inner.values() if isinstance(v, Mapping)]
            columns = list(dict.fromkeys(k for v in nested for k, x in v.items() if not isinstance(x, Mapping))) if nested else ["value"]
            rows = [[_label(str(k)), *(_value(v.get(c) if isinstance(v, Mapping) else v) for c in columns)] for k, v in inner.items()]
            html += _table((str(name).replace("_", " "), *(_label(str(c)) if c != "none" else "none" for c in columns)), rows)
    return html


def _categories(results: Mapping[str, Any]) -> str:
    if not results["categories"]:
        return ""
    conditions = [row["condition"] for row in results["conditions"]]
    rows = [
        [name, *(f"{percent(r['accuracy'], 1)} ({interval(r)}, n {r['n']})" if (r := of[c])["n"] else "–" for c in conditions)]
        for name, of in results["categories"].items()
    ]
    return _table(("category", *map(_label, conditions)), rows)


def _tools(results: Mapping[str, Any]) -> str:
    rows = [row for row in results["conditions"] if row["n"]]
    if not any(row["tools"]["tool_turns"] for row in rows):
        return '<p class="note">No tool was used.</p>'
    table = [
        [meaning, *(_value(row["tools"][key]) if not share else percent(row["tools"][key], 1) for row in rows)]
        for key, (meaning, share) in _TOOL_ROWS.items()
    ]
    html = _table(("", *(_label(row["condition"]) for row in rows)), table)
    emergent = {name: v for row in rows for name, v in (row["tools"]["emergent"] or {}).items()}
    if emergent:
        counts = {name: [row["tools"]["emergent"].get(name) for row in rows] for name in emergent}
        cells = [[name, *("–" if v is None else f"{v['items']} ({v['right']} right)" for v in values)] for name, values in counts.items()]
        head = ("operation", *(_label(row["condition"]) for row in rows))
        html += "<h3>Effective operations that SFT did not teach</h3>" + _table(head, cells)
    return html


def _published(results: Mapping[str, Any]) -> str:
    if not results["published"]:
        return ""
    conditions = list(dict.fromkeys(k for row in results["published"] for k in row["values"]))
    ours = {row["condition"]: row["accuracy"] for row in results["conditions"]}
    average = percent(results["paper_average"], 1)
    rows = [[f"{results['model']} (this run)", *(percent(ours.get(c), 1) for c in conditions), average, "measured"]]
    rows += [
        [row["model"], *(percent(row["values"].get(c), 1) for c in conditions), percent(row["average"], 1), row["source"]]
        for row in results["published"]
    ]
    note = (
        "Published rows are the paper's (arXiv 2512.03746), with its own harness, judge and pixel limits: a difference to this run is no "
        "finding."
    )
    return _table(("model", *map(_label, conditions), "average", "source"), rows) + f'<p class="note">{note}</p>'


def _left_out(results: Mapping[str, Any]) -> str:
    failed, bad = results["failures"], results.get("bad_rows", {"n": 0, "rows": []})
    html = ""
    if failed["n"]:
        kinds = ", ".join(f"{n} {kind}" for kind, n in failed["by_kind"].items())
        items = "".join(f"<li>{escape(f['id'])}: {escape(f['kind'])}: {escape(f['reason'])}</li>" for f in failed["items"])
        html += f"<p>{failed['n']} items failed ({escape(kinds)}).</p><ul>{items}</ul>"
    if bad["n"]:
        html += f"<p>{bad['n']} rows of the file can't be used.</p><ul>{''.join(f'<li>{escape(row)}</li>' for row in bad['rows'])}</ul>"
    return html


def _footer(results: Mapping[str, Any]) -> str:
    context = results["context"]
    facts = {k.replace("_", " "): v for k, v in context.items() if k not in ("config", "versions")} | dict(context["versions"])
    items = "".join(f"<div><dt>{escape(str(k))}</dt><dd>{escape(str(v))}</dd></div>" for k, v in facts.items())
    settings = escape(json.dumps(context["config"], indent=1))
    config = f'<details><summary>The settings of the run</summary><pre tabindex="0">{settings}</pre></details>'
    return f'<footer><h2>How these numbers were made</h2><dl class="facts">{items}</dl>{config}</footer>'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in row[1:])}</tr>' for row in rows
    )
    return f'<div class="scroll" tabindex="0"><table class="accuracy"><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>'


def _value(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _attempts(folder: Path) -> list[Attempt]:
    """The rows whose pictures were kept."""

    def parse(row: dict[str, Any]) -> Attempt | None:
        if not row["sample"]["image"]:
            return None
        sample = Sample.from_json({**row["sample"], "image": str(folder / row["sample"]["image"])})
        return Attempt(row["stage"], row["condition"], bool(row["correct"]), sample, Trajectory.from_json(row["trajectory"], folder), {})

    path = folder / "trajectories.jsonl"
    return [a for a in read_jsonl(path, parse, cut_tail=True) if a is not None] if path.exists() else []
