"""The viewer: every trajectory of a run in one static HTML file, to filter, search and step through; or two runs side by side.

    codevision-lite view runs/demo                            # runs/demo/view.html
    codevision-lite view runs/demo --compare base,grpo        # the same items by two stages
    codevision-lite view runs/bench/a runs/bench/b            # ... or by two runs

The page needs no server and no network. Its data is JSON inside it; view_draw.js and view.js draw what is looked at, the rest is not in
the document. Pictures stay files beside the run, loaded when they are seen, unless they are asked to be embedded.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from codevision_lite.errors import UserError
from codevision_lite.files import write_atomic
from codevision_lite.progress import Progress
from codevision_lite.report.view_data import view_data
from codevision_lite.report.view_rows import Entry, Pairs, of_stage, pair, read_entries, rows_file, spread

NAME = "view.html"
# Only the page's own script runs, whatever a model wrote; pictures come from this disk or the page's server, never from elsewhere.
_POLICY = "default-src 'none'; img-src data: file: 'self'; style-src 'unsafe-inline'; script-src 'sha256-{}'"


def write_view(
    runs: Sequence[Path], out: Path | None = None, *, stages: tuple[str, str] | None = None, limit: int | None = None, embed: bool = False
) -> tuple[Path, int]:
    """Write the page; returns its path and the number of rows (trajectories, or pairs of them).

    `runs`: one run, or two to compare: folders, or JSONL files of trajectories. `stages`: two to compare, of the one run or of the
    first and the second. `limit`: of the rows, spread over the file. `embed`: put the pictures into the page, at most 512 pixels wide.
    Raises UserError where a run, a stage or a common item is missing or a row is broken."""
    paths = [rows_file(run) for run in runs]
    out = out or paths[0].parent / NAME
    if out.is_dir():
        raise UserError(f"{out}: this is a folder, a file is needed. Write: --out {out / NAME}")
    entries = [read_entries(path) for path in paths]
    title = " and ".join(_name(run) for run in runs)
    if len(runs) == 1 and stages is None:
        shown: Any = spread(entries[0], limit)
    else:
        shown = _pairs(runs, paths, entries, stages, limit)
        title = f"{title}: {shown.names[0]} and {shown.names[1]}" if len(runs) == 1 else title
    progress = Progress("view", len(shown.entries if isinstance(shown, Pairs) else shown), "rows")
    data = view_data(shown, None if embed else out.resolve().parent, progress.update)
    write_atomic(out, _document(title, data))
    return out, len(data["rows"])


def _pairs(
    runs: Sequence[Path], paths: Sequence[Path], entries: Sequence[list[Entry]], stages: tuple[str, str] | None, limit: int | None
) -> Pairs:
    if stages is None:
        pairs = pair(entries[0], entries[1], (str(runs[0]), str(runs[1])))
    else:
        sides = [of_stage(entries[i % len(entries)], stage, paths[i % len(paths)]) for i, stage in enumerate(stages)]
        names = stages if len(runs) == 1 else tuple(f"{run} {stage}" for run, stage in zip(runs, stages, strict=True))
        pairs = pair(*sides, (names[0], names[1]))
    return replace(pairs, entries=tuple(spread(pairs.entries, limit)))


def _name(run: Path) -> str:
    """The last two parts of its path: runs/demo, demo/grpo, data/sft.jsonl."""
    return "/".join(run.resolve().parts[-2:])


def _document(title: str, data: dict[str, Any]) -> str:
    """The page: the report's style and the viewer's own, the data, and one script."""
    names = ("page.css", "view.css", "view_draw.js", "view.js", "view_body.txt")
    page, style, draw, choose, body = ((files(__package__) / name).read_text(encoding="utf-8") for name in names)
    script = draw + choose
    policy = _POLICY.format(base64.b64encode(hashlib.sha256(script.encode()).digest()).decode())
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    text = text.replace("</", "<\\/").replace("<!--", "<\\u0021--")  # what a model wrote must not end the script element
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"><style>{page}{style}</style></head>\n'
        f'<body class="view">{body.replace("TITLE", escape(title))}'
        f'<script type="application/json" id="data">{text}</script><script>{script}</script></body></html>\n'
    )
