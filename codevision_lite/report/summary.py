"""The one sentence on top of the report, computed from the numbers: what changed, by how much, and what was not run."""

from __future__ import annotations

from codevision_lite.report.load import Results, StageResult, stage_label


def conclusion(results: Results) -> str:
    """One sentence. A gain whose intervals overlap is said to be within them; a stage without numbers is "not run"."""
    measured = [s for s in results.stages if s.damaged_mean is not None]
    missing = [stage_label(n) for n in results.stage_names if results.stage(n) is None]
    if not measured:
        return "Nothing has been evaluated in this run yet."
    parts = [f"On {_count(measured)} damaged pictures, {_list([_accuracy(s, measured[:i]) for i, s in enumerate(measured)])}"]
    turns = [s.damaged_tool_turns for s in measured]
    if len(measured) > 1 and None not in turns:
        parts.append(f"tool turns per picture: {' → '.join(f'{t:.2f}' for t in turns)}")
    upright = [r.accuracy for s in measured if (r := s.row("upright"))]
    if upright:
        parts.append(f"upright accuracy: {' → '.join(percent(a) for a in upright)}")
    if missing:
        parts.append(f"{_list(missing)}: not run")
    return "; ".join(parts) + "."


def percent(share: float | None, digits: int = 0) -> str:
    """0.613 -> "61 %"; a dash for None."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def _accuracy(stage: StageResult, before: list[StageResult]) -> str:
    label = stage_label(stage.name)
    if not before:
        who = "the base model" if stage.name == "base" else label
        return f"{who} answers {percent(stage.damaged_mean)} correctly"
    last = before[-1]
    points = round(100 * stage.damaged_mean) - round(100 * last.damaged_mean)  # of the numbers that are shown
    change = f"{points:+d} points".replace("-", "−") if points else "no change"
    if points and _overlap(stage, last):
        change += ", within the 95 % intervals"
    return f"{label} {percent(stage.damaged_mean)} ({change})"


def _overlap(a: StageResult, b: StageResult) -> bool:
    bounds = (a.damaged_low, a.damaged_high, b.damaged_low, b.damaged_high)
    return None not in bounds and a.damaged_low <= b.damaged_high and b.damaged_low <= a.damaged_high


def _count(stages: list[StageResult]) -> str:
    counts = sorted({s.damaged_n for s in stages})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def _list(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
