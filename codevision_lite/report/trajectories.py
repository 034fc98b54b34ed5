"""Trajectories as cards: one sample, what each stage's model thought, ran, saw and answered, and what the reward paid for it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from codevision_lite.records import Observation, Trajectory, Turn
from codevision_lite.report.choose import OUTCOMES, Case, choose_cases
from codevision_lite.report.highlight import highlight
from codevision_lite.report.load import Attempt, condition_label, stage_label
from codevision_lite.report.pictures import box_outline, outline_in_result, picture_html

MAX_SIZE = 7_500_000  # characters of HTML with its pictures; cards beyond it are left out
LONG_TEXT = 400  # characters; longer texts are folded
RETURNED_PX = 176  # long side on the page, about, of a picture that code returned


def trajectories_html(attempts: Sequence[Attempt]) -> str:
    """The filter buttons and the cards."""
    cases = choose_cases(attempts)
    if not cases:
        return '<p class="missing">No trajectories have been written yet.</p>'
    cards = [_card(number, case) for number, case in enumerate(cases, 1)]
    while len(cards) > 1 and sum(map(len, cards)) > MAX_SIZE:
        cards.pop()
    cases = cases[: len(cards)]
    shown = sum(len(c.attempts) for c in cases)
    note = (
        f"{len(cases)} samples, {shown} of {len(attempts)} trajectories, chosen over outcomes and conditions, so not in "
        "proportion to how often each happens. The orange outline is the target's box; the model never sees it."
    )
    return f'<p class="note">{note}</p>{_filters(cases)}<div class="cards">{"".join(cards)}</div>'


def _filters(cases: Sequence[Case]) -> str:
    labels = {
        "outcome": {o: label for o, label in OUTCOMES.items() if any(o in c.outcomes for c in cases)},
        "condition": {c.condition: condition_label(c.condition) for c in cases},
    }
    rows = []
    for kind, names in labels.items():
        buttons = "".join(
            f'<button type="button" data-kind="{kind}" data-value="{escape(name)}" aria-pressed="{str(not name).lower()}">'
            f"{escape(label)}</button>"
            for name, label in {"": f"any {kind}", **names}.items()
        )
        rows.append(f'<div role="group" aria-label="Filter by {kind}">{buttons}</div>')
    return f'<div class="filters" hidden>{"".join(rows)}<p class="count" role="status"></p></div>'


def _card(number: int, case: Case) -> str:
    sample = case.sample
    chips = "".join(f'<span class="chip {o}">{escape(OUTCOMES[o])}</span>' for o in case.outcomes)
    gold = " or ".join(sample.answers)
    needs = " → ".join(sample.required_ops) or "nothing"
    outline = box_outline(sample.target_box) if sample.target_box else None
    label = condition_label(case.condition)
    alt = f"The picture that the model is shown, {label}; the answer is {gold}"
    picture = picture_html(str(sample.image), f"shown: {label}", alt, outline)
    columns = "".join(_attempt(a) for a in case.attempts)
    tags = f'data-outcome="{" ".join(case.outcomes)}" data-condition="{escape(case.condition)}"'
    return (
        f'<article class="card" id="case-{number}" {tags}>'
        f'<header><h3>{number}. {escape(sample.question)}</h3><p><span class="chip">{escape(label)}</span>{chips}</p></header>'
        f'<div class="case"><div class="given">{picture}<dl><dt>Gold answer</dt><dd>{escape(gold)}</dd><dt>Needs</dt>'
        f"<dd>{escape(needs)}</dd><dt>Sample</dt><dd>{escape(sample.id)}</dd></dl></div>"
        f'<div class="attempts">{columns}</div></div></article>'
    )


def _attempt(attempt: Attempt) -> str:
    trajectory = attempt.trajectory
    n = trajectory.n_tool_turns
    turns = "".join(f"<li>{_turn(turn, trajectory, attempt)}</li>" for turn in trajectory.turns)
    return (
        f'<section class="attempt"><h4>{escape(stage_label(attempt.stage))} {_verdict(attempt)}'
        f'<span class="turns">{n} tool turn{"" if n == 1 else "s"}</span></h4>'
        f"<ol>{turns}</ol>{_end(attempt)}{_reward(attempt.reward)}</section>"
    )


def _verdict(attempt: Attempt) -> str:
    return '<span class="right">✓ right</span>' if attempt.correct else '<span class="wrong">✗ wrong</span>'


def _end(attempt: Attempt) -> str:
    trajectory = attempt.trajectory
    if trajectory.answer is not None:
        gold = "" if attempt.correct else f", gold: <b>{escape(' or '.join(attempt.sample.answers))}</b>"
        return f'<p class="answer">Answer: <b>{escape(trajectory.answer) or "(empty)"}</b>{gold}</p>'
    return f'<p class="answer">No answer: ended by {escape(trajectory.end_reason)}</p>'


def _turn(turn: Turn, trajectory: Trajectory, attempt: Attempt) -> str:
    parts = []
    if turn.think:
        parts.append(f'<div class="think">{_folded(turn.think)}</div>')
    if not turn.well_formed:
        parts.append('<p class="flaw">not in the agreed format</p>')
    if turn.call is not None:
        parts.append(f'<pre tabindex="0"><code>{highlight(turn.call.code)}</code></pre>')
    elif turn.answer is None:
        parts.append(f'<pre class="raw" tabindex="0">{escape(turn.text)}</pre>')
    if turn.observation is not None:
        parts.append(_observation(turn.observation, trajectory, attempt))
    return "".join(parts)


def _observation(seen: Observation, trajectory: Trajectory, attempt: Attempt) -> str:
    failed = "" if seen.status == "ok" else f' <span class="flaw">{escape(seen.status)}</span>'
    ops = "ran: " + ", ".join(f"<code>{escape(str(op))}</code>" for op in seen.ops) if seen.ops else ""
    picture = ""
    if seen.image_index is not None and seen.image_index < len(trajectory.images):
        box = attempt.sample.target_box
        outline = outline_in_result(box, seen.frame) if box else None
        alt = f"Picture {seen.image_index}, returned by the code: {', '.join(op.name for op in seen.ops) or 'no operation seen'}"
        path = str(trajectory.images[seen.image_index])
        picture = picture_html(path, f"picture {seen.image_index}", alt, outline, long_side=RETURNED_PX)
    return f'<div class="seen"><p>{ops}{failed}</p>{picture}<div class="message">{_folded(seen.message)}</div></div>'


def _reward(reward: dict[str, Any]) -> str:
    terms = reward.get("terms") or {}
    if not terms:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{_number(term.get("value"))}</td><td>{_number(term.get("weight"))}</td>'
        f"<td>{escape(str(term.get('reason') or ''))}</td></tr>"
        for name, term in terms.items()
    )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("term", "value", "weight", "why"))
    total = _number(reward.get("total"))
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f"<details><summary>Reward <b>{total}</b></summary>{table}</details>"


def _number(value: Any) -> str:
    """A dash for None: a term that could not be scored is not a zero."""
    return "–" if value is None else f"{value:.2f}"


def _folded(text: str) -> str:
    if len(text) <= LONG_TEXT:
        return f"<p>{escape(text)}</p>"
    return f"<details><summary>{escape(text[:LONG_TEXT])} …</summary><p>{escape(text[LONG_TEXT:])}</p></details>"
