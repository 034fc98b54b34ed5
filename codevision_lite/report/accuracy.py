"""The accuracy section: stages by conditions, as bars and as the table of the same numbers."""

from __future__ import annotations

from html import escape

from codevision_lite.report.load import DAMAGED_MEAN, ConditionRow, Results, StageResult, condition_label, stage_label
from codevision_lite.report.plots import Bar, grouped_bars
from codevision_lite.report.summary import percent

_NOT_RUN = '<td class="first missing" colspan="2">not run</td>'


def accuracy_html(results: Results) -> str:
    """The table of stages and conditions, and the bars of the same numbers."""
    if not results.stages:
        return '<p class="missing">Evaluation: not run.</p>'
    names = results.stage_names
    scroll = '<div class="scroll" role="region" aria-label="{}" tabindex="0">{}</div>'
    bars, table = _bars(results, names), _table(results, names)
    return _legend(names, results) + scroll.format("Accuracy plot", bars) + scroll.format("Accuracy table", table)


def _bars(results: Results, names: list[str]) -> str:
    def bar(name: str, what: str, accuracy: float, low: float | None, high: float | None) -> Bar:
        low, high = (accuracy if low is None else low), (accuracy if high is None else high)
        return Bar(accuracy, low, high, f"{stage_label(name)}, {what}: {percent(accuracy)} ({_interval(low, high)})")

    def bars(name: str, stage: StageResult | None) -> list[Bar | None]:
        rows = [stage.row(c) if stage else None for c in results.conditions]
        found = [bar(name, condition_label(r.condition), r.accuracy, r.low, r.high) if r else None for r in rows]
        if stage is None or stage.damaged_mean is None:
            return [*found, None]
        return [*found, bar(name, DAMAGED_MEAN, stage.damaged_mean, stage.damaged_low, stage.damaged_high)]

    groups = [*(condition_label(c) for c in results.conditions), DAMAGED_MEAN]
    title = "Accuracy for each condition and stage with 95 % intervals; the table below has the same numbers"
    return grouped_bars(groups, [bars(name, results.stage(name)) for name in names], title)


def _legend(names: list[str], results: Results) -> str:
    items = "".join(
        f'<li><span class="swatch s{i}"></span>{escape(stage_label(name))}{"" if results.stage(name) else " (not run)"}</li>'
        for i, name in enumerate(names)
    )
    return f'<ul class="legend">{items}<li>whiskers: 95 % interval</li></ul>'


def _table(results: Results, names: list[str]) -> str:
    stages = [results.stage(name) for name in names]
    first = '<th scope="col" rowspan="2">condition</th><th scope="col" rowspan="2">n</th>'
    head = first + "".join(f'<th scope="colgroup" colspan="2">{escape(stage_label(n))}</th>' for n in names)
    parts = '<th scope="col">accuracy <small>95 % interval</small></th><th scope="col">tool turns</th>' * len(names)
    rows = ""
    for condition in results.conditions:
        found = [s.row(condition) if s else None for s in stages]
        rows += _row(condition_label(condition), {r.n for r in found if r}, [_condition_cells(r) for r in found])
    mean = _row(DAMAGED_MEAN, {s.damaged_n for s in stages if s}, [_mean_cells(s) for s in stages])
    return f'''<table class="accuracy"><caption>{_caption(results)}</caption>
        <thead><tr>{head}</tr><tr>{parts}</tr></thead><tbody>{rows}</tbody><tfoot>{mean}</tfoot></table>'''


def _caption(results: Results) -> str:
    names = dict.fromkeys(condition_label(r.condition) for s in results.stages for r in s.damaged_rows)
    return f"n: pictures. Tool turns: mean for a picture. Damaged mean: over {escape('; '.join(names))}."


def _row(label: str, counts: set[int], cells: list[str]) -> str:
    n = "/".join(map(str, sorted(counts))) or "–"
    return f'<tr><th scope="row">{escape(label)}</th><td>{n}</td>{"".join(cells)}</tr>'


def _condition_cells(row: ConditionRow | None) -> str:
    if row is None:
        return _NOT_RUN
    errors = f" <small>{percent(row.error_rate)} failed</small>" if row.error_rate and row.tool_turns else ""
    return _cells(percent(row.accuracy), _interval(row.low, row.high), f"{row.tool_turns:.2f}{errors}")


def _mean_cells(stage: StageResult | None) -> str:
    if stage is None or stage.damaged_mean is None:
        return _NOT_RUN
    turns = stage.damaged_tool_turns
    interval = _interval(stage.damaged_low, stage.damaged_high)
    return _cells(percent(stage.damaged_mean), interval, "–" if turns is None else f"{turns:.2f}")


def _cells(accuracy: str, interval: str, turns: str) -> str:
    return f'<td class="first">{accuracy} <small>{interval}</small></td><td>{turns}</td>'


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{100 * low:.0f}–{100 * high:.0f}"
