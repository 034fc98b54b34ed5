"""Draw one episode of a run as an SVG: the picture, each thought with its code, the pictures that came back, the answer.

    python docs/figures/episode.py runs/demo                     # docs/figures/episode.svg, the figure of README.md
    python docs/figures/episode.py runs/demo --id ID --out FILE  # another item, such as one seen in `codevision-lite view runs/demo`

Everything in the figure is read from the run's files; nothing is drawn by hand. Without --id it takes the first item of the last
trained stage that needed turning and cropping, was answered right with the highest reward, and was answered wrong by the base model.
The file needs no other one, has its own background, and follows the reader's light or dark mode.
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from html import escape
from pathlib import Path

from codevision_lite.errors import UserError
from codevision_lite.files import write_atomic
from codevision_lite.records import Turn
from codevision_lite.report.highlight import highlight
from codevision_lite.report.load import Attempt, Run, load_run, stage_label
from codevision_lite.report.pictures import embed

OUT = Path(__file__).parent / "episode.svg"
MARGIN, GAP, CODE_WIDTH, ANSWER_WIDTH, PICTURE, TOP = 16, 30, 324, 176, 170, 44  # px of the figure
CHAR, LINE = 7.25, 18  # px of a character of code at 12 px, and from line to line
MAX_CALLS = 3  # more do not fit beside each other
STYLE = """
svg { --page: #ffffff; --line: #d0d7de; --text: #1f2328; --soft: #59636e; --code: #f3f5f8; --right: #1a7f37;
  --k: #7a3ea8; --s: #17693a; --c: #5f6875; --n: #a03d00; --b: #1f5fb4; }
@media (prefers-color-scheme: dark) { svg { --page: #0d1117; --line: #3d444d; --text: #f0f6fc; --soft: #9198a1; --code: #171d26;
  --right: #57d977; --k: #d0a3ff; --s: #8fd9a8; --c: #98a3b3; --n: #ffb07a; --b: #85b8ff; } }
text { fill: var(--text); font: 13px -apple-system, "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif; }
.head { font-weight: 600; } .soft { fill: var(--soft); } .think { font-style: italic; }
.answer { font-size: 44px; font-weight: 700; fill: var(--right); }
.code { font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; white-space: pre; }
.k { fill: var(--k); } .s { fill: var(--s); } .c { fill: var(--c); } .n { fill: var(--n); } .b { fill: var(--b); }
.page { fill: var(--page); stroke: var(--line); } .box { fill: var(--code); } .frame { fill: none; stroke: var(--line); }
.arrow { fill: none; stroke: var(--soft); stroke-width: 2; stroke-linecap: round; stroke-linejoin: round; }
"""


def choose(run: Run, wanted: str | None) -> tuple[Attempt, Attempt | None]:
    """The attempt to draw, and the base model's at the same item. Raises UserError where the run holds none that fits."""
    base = {a.sample.id: a for a in run.attempts if a.stage == "base"}
    trained = [a for a in run.attempts if a.stage != "base"]
    last = [a for a in trained if a.stage == trained[-1].stage]
    if wanted is not None:
        found = [a for a in last if a.sample.id == wanted]
        if not found:
            raise UserError(f"{run.folder}: no item {wanted!r} in its last trained stage. codevision-lite view {run.folder} shows the ids")
        if not is_drawable(found[0]):
            raise UserError(f"{wanted}: the figure holds 1 to {MAX_CALLS} calls that each gave a picture, and an answer. Take another item")
        return found[0], base.get(wanted)
    fits = [a for a in last if a.correct and len(a.sample.required_ops) > 1 and "crop" in a.sample.required_ops and is_drawable(a)]
    fits = [a for a in fits if a.sample.id in base and not base[a.sample.id].correct]
    if not fits:
        raise UserError(f"{run.folder}: no right answer after turning and cropping to draw. Name an item with --id, or finish the run")
    best = max(fits, key=lambda a: a.reward.get("total") or 0.0)  # the first of equals
    return best, base[best.sample.id]


def is_drawable(attempt: Attempt) -> bool:
    turns = attempt.trajectory.turns
    calls = [t for t in turns[:-1] if t.observation is not None and t.observation.image_index is not None]
    return 1 <= len(calls) <= MAX_CALLS and len(calls) == len(turns) - 1 and attempt.trajectory.answer is not None


def draw(run: Run, attempt: Attempt, base: Attempt | None) -> str:
    """The SVG."""
    turns = attempt.trajectory.turns
    columns = [_column(attempt, number) for number in range(len(turns))]
    height = TOP + PICTURE + max(h for _, h in columns) + 42
    width = 2 * MARGIN + (len(turns) - 1) * (CODE_WIDTH + GAP) + ANSWER_WIDTH
    parts = [f'<rect class="page" x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="8"/>']
    for number, (column, _) in enumerate(columns):
        x = MARGIN + number * (CODE_WIDTH + GAP)
        parts.append(f'<g transform="translate({x} 0)">{column}</g>')
        if number:
            y = TOP + PICTURE / 2
            parts.append(f'<path class="arrow" d="M{x - GAP + 4} {y}h{GAP - 12}m-6 -6l6 6l-6 6"/>')
    parts.append(_text(MARGIN, height - 14, _footer(run, attempt, base), "soft"))
    words = escape(describe(attempt, base))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-labelledby="words"><desc id="words">{words}</desc><style>{STYLE}</style>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def describe(attempt: Attempt, base: Attempt | None) -> str:
    """The figure in words, for those who don't see it."""
    codes = [_one_line(t.call.code) for t in attempt.trajectory.turns if t.call]
    said = f"; the base model had said {base.trajectory.answer!r}" if base else ""
    steps = ", then ".join(codes)
    return f"{attempt.sample.question} The model runs {steps} and answers {attempt.trajectory.answer!r}{said}."


def _one_line(code: str) -> str:
    return "; ".join(line.strip() for line in code.splitlines() if line.strip())


def _column(attempt: Attempt, number: int) -> tuple[str, int]:
    """One turn: the picture that the model had before it, and what it wrote; and the height below the picture."""
    turns, images = attempt.trajectory.turns, attempt.trajectory.images
    turn, seen = turns[number], turns[number - 1].observation if number else None
    path = str(images[seen.image_index if seen else 0])
    embedded = embed(path)
    if embedded is None:
        raise UserError(f"{path}: this picture can't be read. Evaluate again: make eval")
    uri, w, h = embedded
    scale = PICTURE / max(w, h)
    shown_w, shown_h = round(w * scale), round(h * scale)
    parts = [_text(0, 28, f"{f'Picture {seen.image_index}' if seen else 'The user’s picture'} ({w}×{h})", "head")]
    parts += [
        f'<image x="0" y="{TOP}" width="{shown_w}" height="{shown_h}" href="{uri}"/>'
        f'<rect class="frame" x="0" y="{TOP}" width="{shown_w}" height="{shown_h}"/>'
    ]
    if number == 0:
        question = textwrap.wrap(f"“{attempt.sample.question}”", 20)
        parts += [_text(shown_w + 12, TOP + 16 + LINE * i, line) for i, line in enumerate(question)]
    below, height = _reply(turn, TOP + PICTURE + 26)
    return "".join([*parts, *below]), height + 26


def _reply(turn: Turn, y: int) -> tuple[list[str], int]:
    """The thought and the code or the answer, from `y` down, and their height."""
    width = CODE_WIDTH if turn.call else ANSWER_WIDTH
    thought = textwrap.wrap(turn.think, int(width / 6.6))
    parts = [_text(0, y + LINE * i, line, "think") for i, line in enumerate(thought)]
    top = LINE * len(thought) - 6
    if turn.call is None:
        return [*parts, _text(0, y + top + 46, turn.answer or "", "answer")], top + 52
    lines = [part for line in turn.call.code.splitlines() for part in _wrap(line)]
    parts.append(f'<rect class="box" x="0" y="{y + top}" width="{width}" height="{LINE * len(lines) + 12}" rx="6"/>')
    for i, line in enumerate(lines):
        coloured = re.sub(r"<(/?)span", r"<\1tspan", highlight(line))
        parts.append(f'<text class="code" xml:space="preserve" x="9" y="{y + top + 19 + LINE * i}">{coloured}</text>')
    return parts, top + LINE * len(lines) + 12


def _wrap(line: str) -> list[str]:
    """A line of code in pieces that fit, the later ones indented."""
    return textwrap.wrap(line, int((CODE_WIDTH - 18) / CHAR), subsequent_indent="    ", drop_whitespace=False) or [""]


def _footer(run: Run, attempt: Attempt, base: Attempt | None) -> str:
    context = run.results.context
    before = f"The base model's answer to it: {base.trajectory.answer!r}. " if base else ""
    return f"{before}{stage_label(attempt.stage)} model, held-out item {attempt.sample.id}, commit {context.get('commit', 'unknown')}"


def _text(x: float, y: float, text: str, css: str = "") -> str:
    return f'<text{f" class={chr(34)}{css}{chr(34)}" if css else ""} x="{x}" y="{y}">{escape(text)}</text>'


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Draw one episode of a run as an SVG.")
    parser.add_argument("run", type=Path, help="a run folder, such as runs/demo")
    parser.add_argument("--id", help="the item (default: the first right answer after turning and cropping that the base got wrong)")
    parser.add_argument("--out", type=Path, default=OUT, help="the SVG to write (default: the README's)")
    args = parser.parse_args(argv)
    try:
        run = load_run(args.run)
        attempt, base = choose(run, args.id)
        path = write_atomic(args.out, draw(run, attempt, base))
    except UserError as e:
        print(f"episode.py: {e}", file=sys.stderr)
        return 2
    print(f"figure: {path} ({path.stat().st_size / 1024:.0f} KB)\nalt text: {describe(attempt, base)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
