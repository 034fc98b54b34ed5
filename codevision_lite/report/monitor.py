"""The watch over a GRPO stage: the alarm where tool use collapsed, and a table of the signs of reward hacking.

Rules and meanings are those of reward/monitor.py; the plots of the same numbers are training.py's.
"""

from __future__ import annotations

from html import escape

from codevision_lite.reward.monitor import SIGNS, TOOL_USE, collapse_flags

_EDGE = 5  # steps at each end of a run over which the table's numbers are means
_OTHERS = {
    TOOL_USE: "rollouts with a tool turn, on prompts that require tools",
    "rollout/error_rate": "rollouts with a failed run",
    "rollout/recovery_rate": "of those, a later run succeeded",
    "rollout/dropped": "left out of the update: the reward is not known or not finite",
    "reward/zero_variance_groups": "groups in which all rewards are equal: nothing is learned from them",
}

Series = dict[str, list[tuple[float, float]]]


def alarm_html(series: Series) -> str:
    """One line where tool use collapsed, with the steps; nothing where it did not, or is not known."""
    points = series.get(TOOL_USE, [])
    flags = collapse_flags([value for _, value in points])
    collapsed = [step for (step, _), flag in zip(points, flags, strict=True) if flag]
    if not collapsed:
        return ""
    lasts = "to the end" if flags[-1] else f"for {len(collapsed)} steps, and recovered"
    first, last = _mean(points[:_EDGE]), _mean(points[-_EDGE:])
    return (
        f'<p class="wrong" role="alert"><b>Tool use collapsed</b> from step {collapsed[0]:g} {lasts}: {first} of the rollouts on prompts '
        f"that require tools used one at the start, {last} at the end.</p>"
    )


def monitor_html(series: Series) -> str:
    """The table of rates at the start and the end of the stage, with what each means; nothing where none was logged."""
    signs = {f"monitor/{name}": meaning for name, meaning in SIGNS.items()}
    if not any(name in series for name in signs):
        return ""
    rows = "".join(_row(name, meaning, series[name]) for name, meaning in {**_OTHERS, **signs}.items() if name in series)
    columns = ("rate", f"first {_EDGE} steps", f"last {_EDGE} steps", "highest", "what it counts")
    head = "".join(f'<th scope="col">{name}</th>' for name in columns)
    return (
        '<h4>Reward-hacking monitor</h4><div class="scroll" tabindex="0"><table class="monitor">'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _row(name: str, meaning: str, points: list[tuple[float, float]]) -> str:
    cells = "".join(f"<td>{text}</td>" for text in (_mean(points[:_EDGE]), _mean(points[-_EDGE:]), _mean([max(points, key=_value)])))
    return f'<tr><th scope="row">{escape(name.split("/")[1].replace("_", " "))}</th>{cells}<td>{escape(meaning)}</td></tr>'


def _mean(points: list[tuple[float, float]]) -> str:
    return f"{100 * sum(map(_value, points)) / len(points):.1f} %"


def _value(point: tuple[float, float]) -> float:
    return point[1]
