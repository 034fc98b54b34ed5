"""The command line: parse, call, print. `codevision-lite VERB RECIPE [key=value ...]`.

What the user can fix ends with one line on stderr and exit code 2; Ctrl-C with 130 and a word on how to go on.
"""

from __future__ import annotations

import argparse
import errno
import logging
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from codevision_lite import __version__
from codevision_lite.errors import UserError

RECIPE_VERBS = {
    "demo": "base, SFT and GRPO, each evaluated, and the report",
    "synth": "draw the pictures and write the SFT, RL and held-out rows",
    "sft": "supervised fine-tuning of a LoRA adapter",
    "rl": "GRPO from the SFT adapter",
    "eval": "measure base, sft and grpo on held-out pictures (those that are trained), or --stage",
    "filter": "keep the RL samples that a model gets right sometimes, not always",
    "report": "write report.html again from the run's files",
    "gpu-check": "two steps of every stage on this machine's GPU, with the peak memory",
}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="codevision-lite", description="Train and measure a model that repairs pictures with Python code."
    )
    parser.add_argument("--version", action="version", version=f"codevision-lite {__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="show the libraries' own messages")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, text in RECIPE_VERBS.items():
        sub = verbs.add_parser(verb, help=text, description=text)
        sub.add_argument("recipe", type=Path, help="a recipe file, such as recipes/demo.yaml")
        sub.add_argument("overrides", nargs="*", metavar="key=value", help="values that replace the recipe's, such as sft.steps=3")
        if verb == "eval":
            sub.add_argument("--stage", choices=("base", "sft", "grpo"), help="only this one")
        if verb == "filter":
            sub.add_argument("--stage", choices=("base", "sft", "grpo"), default="sft", help="whose model rolls out (default: sft)")
            sub.add_argument("--rollouts", type=int, default=8, help="of each sample (default: 8, as in GRPO)")
    inspect = verbs.add_parser("inspect", help="look at a data file: counts and a contact sheet", description="Counts and a contact sheet.")
    inspect.add_argument("rows", type=Path, help="a JSONL of samples or trajectories, such as runs/demo/data/sft.jsonl")
    inspect.add_argument("--out", type=Path, help="the HTML file to write (default: beside the rows)")
    inspect.add_argument("--limit", type=int, default=120, help="rows on the sheet (default: 120)")
    tiny = verbs.add_parser("tiny-base", help="train the tiny base model again, from its seed")
    tiny.add_argument("recipe", type=Path, help="recipes/tiny_base.yaml")
    tiny.add_argument("overrides", nargs="*", metavar="key=value")
    text = "explain the reward of saved trajectories, term by term"
    explain = verbs.add_parser("score", help=text, description=f"{text[0].upper()}{text[1:]}; several presets are compared side by side.")
    explain.add_argument("file", type=Path, help="JSONL with samples and trajectories, such as runs/demo/trajectories.jsonl")
    presets = "dense (the default), paper, outcome_only, no_strategy, no_penalty or curriculum (as it starts); may be repeated"
    explain.add_argument("--preset", action="append", metavar="NAME", help=presets)
    explain.add_argument("--id", metavar="ID", help="only this sample")
    explain.add_argument("--limit", type=int, metavar="N", help="only the first N trajectories")
    explain.add_argument("--json", action="store_true", help="print JSON")
    _add_convert(verbs)
    return parser


def _add_convert(verbs: argparse._SubParsersAction) -> None:
    from codevision_lite.datasets.formats import AMBIGUOUS_BOX, FORMATS, TARGETS, TRANSFORM_IS

    text = "read a data set of any known format and write it in another one (docs/DATA.md)"
    sub = verbs.add_parser("convert", help=text, description=text)
    sub.add_argument("input", type=Path, help="a file, or a folder of files")
    sub.add_argument("output", type=Path, help="the file to write; a folder gets train.<suffix>")
    sub.add_argument("--to", required=True, choices=tuple(TARGETS))
    sub.add_argument("--from", dest="source", default="auto", choices=("auto", *FORMATS))
    sub.add_argument("--limit", type=int, metavar="N", help="stop after N good rows")
    sub.add_argument("--transform-is", default=TRANSFORM_IS[0], choices=TRANSFORM_IS, help="what `transform` of a released row names")
    sub.add_argument("--ambiguous-box", default=AMBIGUOUS_BOX[0], choices=AMBIGUOUS_BOX, help="the frame of a box that can't be told")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    args = build_parser().parse_args(argv)
    _quiet(args.verbose)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with it ignored
    try:
        _run(args)
    except UserError as e:
        print(f"codevision-lite: {e}", file=sys.stderr)
        return 2
    except OSError as e:
        if e.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(f"codevision-lite: {e.strerror}. Free some; what is done is kept, and the same command goes on from there.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        after = "The same command starts over." if args.verb == "convert" else "What is done is kept; the same command goes on from there."
        print(f"\ncodevision-lite: stopped. {after}", file=sys.stderr)
        return 130
    return 0


def _inspect(args: argparse.Namespace) -> None:
    from codevision_lite.report.sheet import write_sheet

    path, counts = write_sheet(args.rows, args.out or args.rows.with_suffix(".html"), limit=args.limit)
    for name, counter in counts.items():
        print(f"{name}: " + ", ".join(f"{value} {n}" for value, n in counter.most_common()))
    print(f"contact sheet: {path}")


def _convert(args: argparse.Namespace) -> None:
    from codevision_lite.datasets.convert import Reading, convert

    reading = Reading(args.transform_is, args.ambiguous_box)
    summary = convert(args.input, args.output, args.to, source=args.source, limit=args.limit, reading=reading)
    print("\n".join(summary.lines()))


def _run(args: argparse.Namespace) -> None:
    if args.verb == "score":
        _print_scores(args)
        return
    if args.verb == "inspect":
        return _inspect(args)
    if args.verb == "convert":
        return _convert(args)
    from codevision_lite.config import load_recipe

    if args.verb == "tiny-base":
        from codevision_lite.recipe import PretrainConfig

        config = load_recipe(args.recipe, args.overrides, cls=PretrainConfig)
        from codevision_lite.train.pretrain import build

        build(config)
        return
    from codevision_lite import pipeline
    from codevision_lite.recipe import Recipe

    recipe = load_recipe(args.recipe, args.overrides, cls=Recipe)
    if args.verb == "gpu-check":
        pipeline.gpu_check(recipe)
        return
    if args.verb != "report":
        pipeline.open_run(recipe)
    if args.verb == "eval":
        for stage in [args.stage] if args.stage else pipeline.trained_stages(recipe):
            pipeline.evaluate_stage(recipe, stage)
        pipeline.report(recipe)
    elif args.verb == "filter":
        pipeline.difficulty(recipe, args.stage, args.rollouts)
    else:
        {"demo": pipeline.demo, "synth": pipeline.synth, "sft": pipeline.sft, "rl": pipeline.rl, "report": pipeline.report}[args.verb](
            recipe
        )


def _print_scores(args: argparse.Namespace) -> None:
    import json

    from codevision_lite.reward.explain import explain_file, explained_json, explained_text

    presets = list(dict.fromkeys(args.preset or ["dense"]))
    explained = explain_file(args.file, presets, sample_id=args.id, limit=args.limit)
    text = json.dumps(explained_json(explained), indent=1) if args.json else explained_text(explained)
    encoding = sys.stdout.encoding or "utf-8"
    try:
        print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _quiet(verbose: bool) -> None:
    """Keep the libraries' notes out of the way of our own lines."""
    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR, format="%(name)s: %(message)s")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if not verbose:
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        warnings.filterwarnings("ignore")
