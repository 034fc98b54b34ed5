"""The report of a run: one HTML file with everything inside it, readable from a disk without a network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from codevision_lite.files import write_atomic
from codevision_lite.report.accuracy import accuracy_html
from codevision_lite.report.load import Run, load_run
from codevision_lite.report.summary import conclusion
from codevision_lite.report.training import training_html
from codevision_lite.report.trajectories import trajectories_html

# Nothing may be fetched and no script but page.js may run, whatever a model wrote into its replies.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{}'"


def write_report(run_folder: str | Path) -> Path:
    """Write `run_folder`/report.html from the run's files and return its path. Raises UserError if there is no run."""
    run = load_run(run_folder)
    return write_atomic(run.folder / "report.html", page_html(run))


def page_html(run: Run) -> str:
    """The whole page."""
    sections = {
        "Accuracy on held-out pictures": accuracy_html(run.results),
        "Training": training_html(run.metrics),
        "Trajectories": trajectories_html(run.attempts),
    }
    body = "".join(
        f'<section aria-labelledby="s{i}"><h2 id="s{i}">{name}</h2>{html}</section>'
        for i, (name, html) in enumerate(sections.items())
    )
    lead = f'<p class="conclusion">{escape(conclusion(run.results))}</p>'
    return document(f"CodeVision run: {run.folder.resolve().name}", lead, f"<main>{body}</main>\n{_footer(run)}")


def document(title: str, lead: str, body: str) -> str:
    """A self-contained page in the report's style; `lead` and `body` are HTML."""
    style, script = ((files(__package__) / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    policy = _POLICY.format(base64.b64encode(hashlib.sha256(script.encode()).digest()).decode())
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"><style>{style}</style></head>\n'
        f"<body><header><h1>{escape(title)}</h1>{lead}</header>\n{body}<script>{script}</script></body></html>\n"
    )


def _footer(run: Run) -> str:
    results = run.results
    facts: dict[str, Any] = {"config": results.context.get("config_hash"), "commit": results.context.get("commit")}
    if results.wall_s is not None:
        facts["wall time"] = f"{results.wall_s / 60:.1f} min"
    if results.peak_rss_gib is not None:
        facts["peak memory"] = f"{results.peak_rss_gib:.1f} GiB"
    facts.update((k.replace("_", " "), v) for k, v in results.context.items() if k not in ("config_hash", "commit", "versions"))
    for name, version in (results.context.get("versions") or {}).items():
        facts[name] = version
    items = "".join(f"<div><dt>{escape(str(k))}</dt><dd>{_fact(v)}</dd></div>" for k, v in facts.items() if v is not None)
    recipe = f'<details><summary>The resolved recipe</summary><pre tabindex="0">{escape(run.config)}</pre></details>'
    return f'<footer><h2>How these numbers were made</h2><dl class="facts">{items}</dl>{recipe}</footer>'


def _fact(value: Any) -> str:
    if isinstance(value, Mapping):
        return escape(", ".join(f"{k} {v}" for k, v in value.items()))
    return escape(str(value))
