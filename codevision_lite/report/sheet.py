"""A contact sheet of a data file: counts, and the first rows of every kind with their pictures, code and words, in one HTML file."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from html import escape
from pathlib import Path

from codevision_lite.datasets.rows import load_samples, load_training_rows
from codevision_lite.files import read_jsonl, write_atomic
from codevision_lite.records import Sample, Trajectory, Turn
from codevision_lite.report.highlight import highlight
from codevision_lite.report.load import condition_label
from codevision_lite.report.page import document
from codevision_lite.report.pictures import box_outline, outline_in_result, picture_html

_RESULT_PX = 150  # long side of a returned picture on the sheet, about


def write_sheet(rows: Path, out: Path, *, limit: int = 120) -> tuple[Path, dict[str, Counter]]:
    """Write the sheet of a JSONL of samples or of trajectories. At most `limit` rows are shown, spread over kinds and conditions.

    Returns the path and the counts by type, condition, kind and damage of ALL rows. Raises UserError naming file, row and field.
    """
    entries = _load(rows)
    counts = {
        "type": Counter(t for t, _, _ in entries if t), "condition": Counter(s.meta.get("condition", s.damage) for _, s, _ in entries),
        "kind": Counter(s.meta.get("kind", s.source) or "?" for _, s, _ in entries),
        "tool turns": Counter(str(t.n_tool_turns) for _, _, t in entries if t),
    }  # fmt: skip
    counts = {name: counter for name, counter in counts.items() if counter}
    chosen = _spread(entries, limit)
    lead = f'<p class="note">{len(chosen)} of them, spread over kinds and conditions. The orange outline is the target of the question.</p>'
    tables = "".join(_table(name, counter) for name, counter in counts.items())
    cards = "".join(_card(n, *entry) for n, entry in enumerate(chosen, 1))
    body = f'<main><div class="counts">{tables}</div><div class="sheet">{cards}</div></main>'
    page = document(f"{rows.name}: {len(entries)} rows", lead, body)
    return write_atomic(out, page), counts


def _load(rows: Path) -> list[tuple[str, Sample, Trajectory | None]]:
    raw = read_jsonl(rows)
    if raw and "trajectory" in raw[0]:
        return [(row.get("type", ""), t.sample, t.trajectory) for row, t in zip(raw, load_training_rows(rows), strict=True)]
    return [("", sample, None) for sample in load_samples(rows)]


def _spread(entries: Sequence[tuple[str, Sample, Trajectory | None]], limit: int) -> list[tuple[str, Sample, Trajectory | None]]:
    """Up to `limit` entries, taken in turn from every (kind, type, condition)."""
    groups: dict[tuple, list] = defaultdict(list)
    for entry in entries:
        kind, sample = entry[0], entry[1]
        groups[(sample.meta.get("kind", ""), kind, sample.meta.get("condition", ""))].append(entry)
    chosen: list = []
    depth = 0
    while len(chosen) < min(limit, len(entries)):
        layer = [group[depth] for _, group in sorted(groups.items()) if depth < len(group)]
        step = max(1, len(layer) // max(1, limit - len(chosen)))
        chosen += layer[::step]
        depth += 1
    return sorted(chosen[:limit], key=lambda e: (e[0], e[1].meta.get("kind", "")))


def _table(name: str, counter: Counter) -> str:
    total = sum(counter.values())
    rows = "".join(
        f'<tr><th scope="row">{escape(str(value))}</th><td>{n}</td><td>{100 * n / total:.1f} %</td></tr>'
        for value, n in counter.most_common()
    )
    return f"<table><caption>{escape(name)}</caption><tbody>{rows}</tbody></table>"


def _card(number: int, kind: str, sample: Sample, trajectory: Trajectory | None) -> str:
    chips = "".join(f'<span class="chip">{escape(c)}</span>' for c in (kind, sample.meta.get("kind", ""), _damage(sample)) if c)
    outline = box_outline(sample.target_box) if sample.target_box else None
    alt = f"The picture as shown, {_damage(sample)}; the answer is {sample.answers[0]}"
    needs = " → ".join(sample.required_ops) or "nothing"
    turns = "".join(_turn(t, sample, trajectory) for t in trajectory.turns) if trajectory else ""
    return (
        f'<article class="card" id="row-{number}"><header><h2 class="small">{number}. {escape(sample.question)}</h2><p>{chips}</p></header>'
        f"{picture_html(str(sample.image), 'shown', alt, outline)}"
        f'<p>Answer: <b>{escape(" | ".join(sample.answers))}</b>; needs {escape(needs)}</p>{turns}</article>'
    )


def _damage(sample: Sample) -> str:
    return condition_label(sample.damage)


def _turn(turn: Turn, sample: Sample, trajectory: Trajectory) -> str:
    parts = [f'<p class="think">{escape(turn.think)}</p>']
    if turn.call:
        parts.append(f'<pre tabindex="0"><code>{highlight(turn.call.code)}</code></pre>')
    seen = turn.observation
    if seen and seen.status != "ok":
        parts.append(f'<p class="flaw">{escape(seen.message)}</p>')
    if seen and seen.image_index is not None:
        outline = outline_in_result(sample.target_box, seen.frame) if sample.target_box else None
        path = str(trajectory.images[seen.image_index])
        parts.append(picture_html(path, f"picture {seen.image_index}", f"Picture {seen.image_index}", outline, long_side=_RESULT_PX))
    return f'<div class="turn">{"".join(parts)}</div>'
