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
    tiny = verbs.add_parser("tiny-base", help="train the tiny base model again, from its seed")
    tiny.add_argument("recipe", type=Path, help="recipes/tiny_base.yaml")
    tiny.add_argument("overrides", nargs="*", metavar="key=value")
    return parser


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
        print("\ncodevision-lite: stopped. What is done is kept; the same command goes on from there.", file=sys.stderr)
        return 130
    return 0


def _run(args: argparse.Namespace) -> None:
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
    else:
        {"demo": pipeline.demo, "synth": pipeline.synth, "sft": pipeline.sft, "rl": pipeline.rl, "report": pipeline.report}[args.verb](
            recipe
        )


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
