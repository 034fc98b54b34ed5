"""The table that ends a run in the terminal: aligned, plain ASCII, at most 100 columns."""

from __future__ import annotations

from typing import Any

from codevision_lite.report.load import DAMAGED_MEAN, ConditionRow, Results, StageResult, parse_results, stage_label

STAGES_IN_A_BLOCK = 3  # 18 + 6 + 3 x 24 columns = 96


def print_table(results: dict[str, Any]) -> str:
    """The text of the table for the object of results.json: accuracy in percent, its 95 % interval, tool turns per item."""
    parsed = parse_results(results)
    names = parsed.stage_names
    blocks = [names[i : i + STAGES_IN_A_BLOCK] for i in range(0, len(names), STAGES_IN_A_BLOCK)]
    lines = ["Accuracy in % [95 % interval], and tool turns per item"]
    for block in blocks:
        lines += _block(parsed, block)
    context = [f"{k} {parsed.context[k]}" for k in ("seed", "config_hash", "commit", "hardware") if k in parsed.context]
    if parsed.wall_s is not None:
        context.insert(0, f"{parsed.wall_s / 60:.1f} min")
    if parsed.peak_rss_gib is not None:
        context.insert(1, f"peak RSS {parsed.peak_rss_gib:.1f} GiB")
    return "\n".join([*lines, *_wrapped(context)])


def _block(results: Results, names: list[str]) -> list[str]:
    stages = [results.stage(name) for name in names]
    head = f"{'condition':<18}{'n':>6}" + "".join(f"  {stage_label(name):<22}" for name in names)
    rule = "-" * 18 + " " + "-" * 5 + ("  " + "-" * 22) * len(names)
    rows = [head, rule]
    for condition in results.conditions:
        found = [s.row(condition) if s else None for s in stages]
        rows.append(_line(condition, {r.n for r in found if r}, [_cell(r) for r in found]))
    rows.append(rule)
    counts = {s.damaged_n for s in stages if s}
    rows.append(_line(DAMAGED_MEAN, counts, [_mean_cell(s) for s in stages]))
    return [row.rstrip() for row in rows]


def _line(name: str, counts: set[int], cells: list[str]) -> str:
    n = "/".join(map(str, sorted(counts))) if counts else "-"
    return f"{name[:18]:<18}{n:>6}" + "".join(f"  {cell:<22}" for cell in cells)


def _cell(row: ConditionRow | None) -> str:
    return _numbers(row.accuracy, row.low, row.high, row.tool_turns) if row else "not run"


def _mean_cell(stage: StageResult | None) -> str:
    if stage is None or stage.damaged_mean is None:
        return "not run"
    return _numbers(stage.damaged_mean, stage.damaged_low, stage.damaged_high, stage.damaged_tool_turns)


def _numbers(accuracy: float, low: float | None, high: float | None, turns: float | None) -> str:
    interval = f"[{100 * low:4.1f}-{100 * high:5.1f}]" if low is not None and high is not None else ""
    return f"{100 * accuracy:5.1f} {interval:<12} {turns if turns is None else format(turns, '.2f')}"


def _wrapped(words: list[str], width: int = 100) -> list[str]:
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + 3 + len(word) <= width:
            lines[-1] += f" | {word}"
        else:
            lines.append(word[:width])
    return lines
