"""Small SVG charts of the experiment: an effect with its interval beside its limit, and a metric over steps for all arms.

Lines are told apart by colour and by dashes (page.css: .a0, .a1, ...), which repeat after COLOURS arms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from codevision_lite.report.plots import nice_ticks, running_mean

COLOURS = 8
Points = Sequence[tuple[float, float]]  # (step, value), by step


def interval_chart(mean: float, low: float, high: float, limit: float, claims_more: bool, margin: float, text: str) -> str:
    """A dot with its interval, the limit as a line, and the claimed side shaded; `text` says the same. Values in any one unit."""
    width, height, middle, pad = 240, 34, 14, 8
    edge = limit + margin if claims_more else limit - margin
    reach = [low, high, mean, limit, edge]
    span = max(reach) - min(reach) or 1.0
    first, last = min(reach) - 0.08 * span, max(reach) + 0.08 * span

    def x(value: float) -> float:
        return pad + (value - first) / (last - first) * (width - 2 * pad)

    left, right = (x(limit), width - pad) if claims_more else (pad, x(limit))
    parts = [
        f'<rect class="claimed" x="{left:.1f}" y="2" width="{max(0.0, right - left):.1f}" height="24"/>',
        f'<line class="limit" x1="{x(limit):.1f}" x2="{x(limit):.1f}" y1="1" y2="27"/>',
    ]
    if margin:
        parts.append(f'<line class="margin" x1="{x(edge):.1f}" x2="{x(edge):.1f}" y1="4" y2="24"/>')
    parts += [
        f'<path class="reach" d="M{x(low):.1f} {middle}H{x(high):.1f}M{x(low):.1f} {middle - 4}v8M{x(high):.1f} {middle - 4}v8"/>',
        f'<circle class="effect" cx="{x(mean):.1f}" cy="{middle}" r="4"/>',
    ]
    return _svg("interval", width, height, text, parts)


def arms_chart(arms: Mapping[str, Sequence[Points]], title: str, last_step: float) -> str:
    """One metric over steps: of each arm, every seed faint and the running mean over the seeds bold. Keys: arms in their order, all of
    them, so that an arm has the same colour in every chart; an arm without points draws nothing."""
    width, height, left, right, top, bottom = 460, 230, 46, 12, 12, 26
    ys = [y for seeds in arms.values() for points in seeds for _, y in points]
    ticks = nice_ticks(min(ys), max(ys))
    low, high = min(ticks[0], min(ys)), max(ticks[-1], max(ys))

    def place(point: tuple[float, float]) -> str:
        across = (point[0] - 1) / max(1.0, last_step - 1)
        return f"{left + across * (width - left - right):.1f} {top + (high - point[1]) / (high - low) * (height - top - bottom):.1f}"

    parts = []
    for tick in ticks:
        y = top + (high - tick) / (high - low) * (height - top - bottom)
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for x, text, anchor in ((left, "step 1", "start"), (width - right, f"{last_step:g}", "end")):
        parts.append(f'<text class="tick" x="{x}" y="{height - 8}" text-anchor="{anchor}">{text}</text>')
    said = []
    for number, (arm, seeds) in enumerate(arms.items()):
        mean = over_seeds(seeds)
        if not mean:
            continue
        smooth = list(zip([x for x, _ in mean], running_mean([y for _, y in mean], max(1, len(mean) // 12)), strict=True))
        css = f"a{number % COLOURS}"
        lines = "".join(f'<path class="seed {css}" d="M{"L".join(map(place, points))}"/>' for points in seeds if len(points) > 1)
        if len(smooth) > 1:
            lines += f'<path class="line {css}" d="M{"L".join(map(place, smooth))}"/>'
        else:
            cx, cy = place(smooth[0]).split()
            lines += f'<circle class="dot {css}" cx="{cx}" cy="{cy}" r="3"/>'
        parts.append(f'<g class="arm-{number}"><title>{escape(arm)}</title>{lines}</g>')
        said.append(f"{arm} {smooth[0][1]:.3g} to {smooth[-1][1]:.3g}")
    return _svg("plot", width, height, f"{title}, first to last step: {'; '.join(said)}", parts)


def over_seeds(seeds: Sequence[Points]) -> list[tuple[float, float]]:
    """The mean at each step over the seeds that have it.

    >>> over_seeds([[(1, 0.0), (2, 1.0)], [(1, 1.0)]])
    [(1, 0.5), (2, 1.0)]
    """
    columns: dict[float, list[float]] = {}
    for points in seeds:
        for step, value in points:
            columns.setdefault(step, []).append(value)
    return [(step, sum(values) / len(values)) for step, values in sorted(columns.items())]


def _svg(css: str, width: int, height: int, text: str, parts: Sequence[str]) -> str:
    return f'<svg class="{css}" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(text)}">{"".join(parts)}</svg>'
