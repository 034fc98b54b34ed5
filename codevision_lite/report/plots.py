"""Small SVG plots as text: grouped bars with error bars, and lines over steps. page.css colours them (class s0, s1, ...)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Bar:
    """A value in [0, 1] with its interval; `note` is what a mouse over the bar shows."""

    value: float
    low: float
    high: float
    note: str


def grouped_bars(groups: Sequence[str], series: Sequence[Sequence[Bar | None]], title: str) -> str:
    """Bars of 0 to 100 %: `series[k][g]` is bar k of group g, None where there is no number."""
    width, height, left, top, bottom = 960, 300, 44, 12, 52
    plot_height = height - top - bottom
    group_width = (width - left - 8) / max(1, len(groups))
    bar_width = min(34.0, 0.8 * group_width / max(1, len(series)))

    def y(share: float) -> float:
        return top + (1 - min(1.0, max(0.0, share))) * plot_height

    parts = [_y_tick(y(t / 100), left, width - 8, f"{t} %") for t in (0, 25, 50, 75, 100)]
    for g, name in enumerate(groups):
        middle = left + (g + 0.5) * group_width
        parts += _wrapped_label(name, middle, height - bottom + 20)
        for k, bars in enumerate(series):
            if (bar := bars[g]) is not None:
                x = middle + (k - len(series) / 2) * bar_width
                parts.append(_bar(bar, x, bar_width, k, (y(bar.value), y(bar.low), y(bar.high), y(0))))
    return _svg(width, height, title, parts)


def line_plot(points: Sequence[tuple[float, float]], title: str, series: int = 0) -> str:
    """One value over steps: the raw points faint, their running mean bold. `points` are (step, value), sorted by step."""
    width, height, left, right, top, bottom = 300, 150, 54, 10, 10, 22
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    ticks = nice_ticks(min(ys), max(ys))
    low, high = min(ticks[0], min(ys)), max(ticks[-1], max(ys))
    first, last = min(xs), max(xs)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - first) / (last - first) if last > first else 0.5
        return left + across * (width - left - right), top + (high - y) / (high - low) * (height - top - bottom)

    parts = [_y_tick(place(first, t)[1], left, width - right, f"{t:g}") for t in ticks]
    for x, anchor in ((first, "start"), (last, "end")) if last > first else ((first, "middle"),):
        parts.append(f'<text class="tick" x="{place(x, low)[0]:.1f}" y="{height - 6}" text-anchor="{anchor}">{x:g}</text>')
    smooth = running_mean(ys, max(1, len(ys) // 12))
    if len(points) > 1:
        parts.append(_path([place(*p) for p in points], f"raw s{series}"))
        parts.append(_path([place(x, y) for x, y in zip(xs, smooth, strict=True)], f"line s{series}"))
    else:
        cx, cy = place(*points[0])
        parts.append(f'<circle class="dot s{series}" cx="{cx:.1f}" cy="{cy:.1f}" r="3"/>')
    said = f"{title}: {ys[0]:.3g} at step {xs[0]:g}, {ys[-1]:.3g} at step {xs[-1]:g}"
    return _svg(width, height, said, parts)


def nice_ticks(low: float, high: float) -> list[float]:
    """Three to six round values that cover [low, high].

    >>> nice_ticks(0.0, 0.93)
    [0.0, 0.5, 1.0]
    """
    if high - low < 1e-9 * max(1.0, abs(high)):
        pad = 0.5 * abs(high) or 0.5
        low, high = low - pad, high + pad
    rough = (high - low) / 3
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * (1 - 1e-9))
    start, end = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(start, end + 1)]


def running_mean(values: Sequence[float], reach: int) -> list[float]:
    """Each value's mean with up to `reach` neighbours on each side; the ends use what is there."""
    windows = (values[max(0, i - reach) : i + reach + 1] for i in range(len(values)))
    return [sum(w) / len(w) for w in windows]


def _bar(bar: Bar, x: float, width: float, k: int, ys: tuple[float, float, float, float]) -> str:
    """`ys`: the y of the value, of the low and high end of its interval, and of zero."""
    y, low, high, zero = ys
    middle, cap = x + width / 2, min(5.0, width / 4)
    return (
        f'<g><title>{escape(bar.note)}</title><rect class="bar s{k}" x="{x + 1:.1f}" y="{y:.1f}" width="{width - 2:.1f}" '
        f'height="{max(1.0, zero - y):.1f}"/><path class="whisker" d="M{middle:.1f} {high:.1f}V{low:.1f}'
        f'M{middle - cap:.1f} {high:.1f}h{2 * cap:.1f}M{middle - cap:.1f} {low:.1f}h{2 * cap:.1f}"/></g>'
    )


def _y_tick(y: float, left: float, right: float, label: str) -> str:
    return (
        f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="tick" x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
    )


def _wrapped_label(text: str, x: float, y: float) -> list[str]:
    """A label on up to two lines, broken at the space nearest to its middle."""
    spaces = [i for i, c in enumerate(text) if c == " "]
    cut = min(spaces, key=lambda i: abs(i - len(text) / 2)) if len(text) > 12 and spaces else len(text)
    lines = [text[:cut], text[cut + 1 :]]
    return [
        f'<text class="label" x="{x:.1f}" y="{y + 15 * i:.1f}" text-anchor="middle">{escape(line)}</text>'
        for i, line in enumerate(lines)
        if line
    ]


def _path(points: Sequence[tuple[float, float]], css: str) -> str:
    return f'<path class="{css}" d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y in points)}"/>'


def _svg(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    return f'<svg class="plot" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
