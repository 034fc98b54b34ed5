"""The training section: what metrics.jsonl says, as small plots over steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from codevision_lite.report.load import STAGES, stage_label
from codevision_lite.report.monitor import alarm_html, monitor_html
from codevision_lite.report.plots import line_plot

Points = list[tuple[float, float]]
_NOT_METRICS = {"step", "seconds"}
# What is shown at once, by the start of its name; everything else is behind "more".
_SHOWN = ("reward/", "loss", "eval/", "rollout/tool", "monitor/")


def training_html(metrics: Sequence[dict[str, Any]]) -> str:
    """One block for each stage: its reward terms, loss and tool use over steps, and the other metrics folded away."""
    if not metrics:
        return '<p class="missing">Training: not run, or it has written no metrics yet.</p>'
    stages = list(dict.fromkeys([*(s for s in STAGES if s != "base"), *(row.get("stage", "?") for row in metrics)]))
    return "".join(_stage_html(name, metrics) for name in stages)


def metric_series(metrics: Iterable[dict[str, Any]], stage: str) -> dict[str, Points]:
    """Each numeric metric of a stage as (step, value) points in order of steps; a step that was run again counts once."""
    series: dict[str, dict[float, float]] = {}
    for row in metrics:
        if row.get("stage", "?") != stage or not _is_number(row.get("step")):
            continue
        for name, value in row.items():
            if name not in _NOT_METRICS and _is_number(value):
                series.setdefault(name, {})[row["step"]] = float(value)
    return {name: sorted(points.items()) for name, points in series.items()}


def _stage_html(stage: str, metrics: Sequence[dict[str, Any]]) -> str:
    heading = f"<h3>{escape(stage_label(stage))}</h3>"
    series = metric_series(metrics, stage)
    if not series:
        return f'{heading}<p class="missing">not run</p>'
    colour = list(STAGES).index(stage) if stage in STAGES else len(STAGES)
    plots = {name: _figure(name, points, colour) for name, points in sorted(series.items(), key=lambda item: _rank(item[0]))}
    first = [html for name, html in plots.items() if name.startswith(_SHOWN)]
    rest = [html for name, html in plots.items() if not name.startswith(_SHOWN)]
    steps = [points[i][0] for points in series.values() for i in (0, -1)]
    note = f"steps {min(steps):g} to {max(steps):g}; faint: each step, bold: running mean; the number is the last step's"
    html = f'{heading}{alarm_html(series)}<p class="note">{note}</p><div class="plots">{"".join(first)}</div>{monitor_html(series)}'
    if rest:
        html += f'<details><summary>Other metrics ({len(rest)})</summary><div class="plots">{"".join(rest)}</div></details>'
    return html


def _figure(name: str, points: Points, colour: int) -> str:
    last = f"{points[-1][1]:.3g}"
    plot = line_plot(points, name, colour)
    return f'<figure class="metric"><figcaption>{escape(name)} <b>{last}</b></figcaption>{plot}</figure>'


def _rank(name: str) -> tuple[int, str]:
    """The total reward first, then its terms, then the loss, then the rest by name."""
    order = (name != "reward/total", not name.startswith("reward/"), name != "loss")
    return order.index(False) if False in order else len(order), name


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
