"""The verbs that look at files and at this machine, and convert data: view, inspect, score, convert, doctor, completion."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from codevision_lite.commands.completers import SHELLS, print_completion
from codevision_lite.commands.parser import Verbs, add_json, add_limit, add_out
from codevision_lite.datasets.formats import AMBIGUOUS_BOX, FORMATS, TARGETS, TRANSFORM_IS
from codevision_lite.errors import UserError


def add(verbs: Verbs) -> None:
    _add_view(verbs)
    _add_inspect(verbs)
    _add_score(verbs)
    _add_convert(verbs)
    text = "will this work here? Python, packages, GPU, disk, the sandbox and the tiny model, each with what to do"
    sub = verbs.add_parser("doctor", help=text, description=f"{text[0].upper()}{text[1:]}. Exit code 1 where there is a problem.")
    sub.set_defaults(run=_doctor)
    add_json(sub)
    text = "print what lets a shell complete verbs, flags, recipes and their keys with TAB"
    how = 'bash and zsh: eval "$(codevision-lite completion bash)" in ~/.bashrc or ~/.zshrc (with zsh in place of bash there); '
    how += "fish: codevision-lite completion fish | source"
    sub = verbs.add_parser("completion", help=text, description=f"{text[0].upper()}{text[1:]}. {how}")
    sub.set_defaults(run=lambda args: print_completion(args.shell))
    sub.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))


def _add_view(verbs: Verbs) -> None:
    text = "look at every trajectory of a run, or at two runs side by side: one HTML page to filter, search and step through"
    sub = verbs.add_parser("view", help=text, description=f"{text[0].upper()}{text[1:]}. Needs no server.")
    sub.set_defaults(run=_view)
    what = "a run folder, such as runs/demo or runs/demo/grpo (its rollouts), or a JSONL of trajectories; a second one is compared with it"
    sub.add_argument("runs", nargs="+", type=Path, metavar="RUN", help=what)
    sub.add_argument("--compare", metavar="A,B", help="two stages on the same items, such as base,grpo")
    add_out(sub, "FILE", "the HTML file to write (default: view.html in the run)")
    add_limit(sub, "only N rows, spread over the file")
    sub.add_argument("--embed", action="store_true", help="put the pictures into the page, so that it can be sent to others by itself")


def _add_inspect(verbs: Verbs) -> None:
    sub = verbs.add_parser("inspect", help="look at a data file: counts and a contact sheet")
    sub.set_defaults(run=_inspect)
    sub.add_argument("rows", type=Path, metavar="ROWS", help="a JSONL of samples or trajectories, such as runs/demo/data/sft.jsonl")
    add_out(sub, "FILE", "the HTML file to write (default: beside the rows)")
    add_limit(sub, "only the first N rows on the sheet", 120)


def _add_score(verbs: Verbs) -> None:
    text = "explain the reward of saved trajectories, term by term"
    sub = verbs.add_parser("score", help=text, description=f"{text[0].upper()}{text[1:]}; several presets are compared side by side.")
    sub.set_defaults(run=_score)
    sub.add_argument("file", type=Path, metavar="ROWS", help="JSONL with samples and trajectories, such as runs/demo/trajectories.jsonl")
    presets = "dense (the default), paper, outcome_only, no_strategy, no_penalty or curriculum (as it starts); may be repeated"
    sub.add_argument("--preset", action="append", metavar="NAME", help=presets)
    sub.add_argument("--id", metavar="ID", help="only this sample")
    add_limit(sub, "only the first N trajectories")
    add_json(sub)


def _add_convert(verbs: Verbs) -> None:
    sub = verbs.add_parser("convert", help="read a data set of any known format and write it in another one (docs/DATA.md)")
    sub.set_defaults(run=_convert)
    sub.add_argument("input", type=Path, metavar="INPUT", help="a file, or a folder of files")
    sub.add_argument("output", type=Path, metavar="OUTPUT", help="the file to write; a folder gets train.<suffix>")
    sub.add_argument("--to", required=True, choices=tuple(TARGETS), help="the format to write")
    sub.add_argument("--from", dest="source", default="auto", choices=("auto", *FORMATS), help="the format to read (default: auto)")
    add_limit(sub, "only the first N good rows")
    transform = f"what `transform` of a released row names (default: {TRANSFORM_IS[0]})"
    sub.add_argument("--transform-is", default=TRANSFORM_IS[0], choices=TRANSFORM_IS, help=transform)
    box = f"the frame of a box that can't be told (default: {AMBIGUOUS_BOX[0]})"
    sub.add_argument("--ambiguous-box", default=AMBIGUOUS_BOX[0], choices=AMBIGUOUS_BOX, help=box)


def _view(args: argparse.Namespace) -> None:
    from codevision_lite.report.view import write_view

    stages = args.compare.split(",") if args.compare else None
    if len(args.runs) > 2:
        raise UserError(f"view: one run, or two to compare, got {len(args.runs)}")
    if stages is not None and (len(stages) != 2 or not all(stages)):
        raise UserError(f"--compare {args.compare}: write two stages, such as base,grpo")
    path, n = write_view(args.runs, args.out, stages=tuple(stages) if stages else None, limit=args.limit, embed=args.embed)
    print(f"viewer: {path} ({n} {'items' if stages or len(args.runs) == 2 else 'trajectories'}, {path.stat().st_size / 2**20:.1f} MiB)")


def _inspect(args: argparse.Namespace) -> None:
    from codevision_lite.report.sheet import write_sheet

    path, counts = write_sheet(args.rows, args.out or args.rows.with_suffix(".html"), limit=args.limit)
    for name, counter in counts.items():
        print(f"{name}: " + ", ".join(f"{value} {n}" for value, n in counter.most_common()))
    print(f"contact sheet: {path}")


def _score(args: argparse.Namespace) -> None:
    from codevision_lite.reward.explain import explain_file, explained_json, explained_text

    presets = list(dict.fromkeys(args.preset or ["dense"]))
    explained = explain_file(args.file, presets, sample_id=args.id, limit=args.limit)
    text = json.dumps(explained_json(explained), indent=1) if args.json else explained_text(explained)
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))


def _convert(args: argparse.Namespace) -> None:
    from codevision_lite.datasets.convert import Reading, convert

    reading = Reading(args.transform_is, args.ambiguous_box)
    summary = convert(args.input, args.output, args.to, source=args.source, limit=args.limit, reading=reading)
    print("\n".join(summary.lines()))


def _doctor(args: argparse.Namespace) -> int:
    from codevision_lite import doctor

    return doctor.main(as_json=args.json)
