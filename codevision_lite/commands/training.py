"""The verbs that take a recipe: the stages of a run, what it needs of a GPU, and its adapter for use elsewhere."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from codevision_lite.commands.parser import Verbs, add_json, add_long, add_out, add_recipe, at_least_one
from codevision_lite.errors import UserError

RECIPE_VERBS = {
    "demo": "base, SFT and GRPO, each evaluated, and the report",
    "synth": "draw the pictures and write the SFT, RL and held-out rows",
    "sft": "supervised fine-tuning of a LoRA adapter",
    "rl": "GRPO from the SFT adapter",
    "eval": "measure base, sft and grpo on held-out pictures (those that are trained), or --stage",
    "filter": "keep the RL samples that a model gets right sometimes, not always",
    "report": "write report.html again from the run's files",
}
STAGES = ("base", "sft", "grpo")


def add(verbs: Verbs) -> None:
    for verb, text in RECIPE_VERBS.items():
        sub = verbs.add_parser(verb, help=text)
        sub.set_defaults(run=_stage)
        add_recipe(sub)
        if verb == "eval":
            sub.add_argument("--stage", choices=STAGES, help="only this one (default: all that are trained)")
        if verb == "filter":
            sub.add_argument("--stage", choices=STAGES, default="sft", help="whose model rolls out (default: sft)")
            sub.add_argument("--rollouts", type=at_least_one, default=8, metavar="N", help="of each sample (default: 8, as in GRPO)")
        if verb != "report":
            add_long(sub)
    sub = verbs.add_parser("tiny-base", help="train the tiny base model again, from its seed")
    sub.set_defaults(run=_tiny_base)
    add_recipe(sub, "recipes/tiny_base.yaml", "seed=1")
    add_long(sub)
    _add_miniature(verbs)
    _add_plan(verbs)
    _add_export(verbs)


def _add_miniature(verbs: Verbs) -> None:
    text = "the paper's claims with the tiny model: one RL run for each reward and seed, verdicts with intervals, and a report"
    sub = verbs.add_parser("miniature", help=text, description=f"{text[0].upper()}{text[1:]} (docs/MINIATURE.md).")
    sub.set_defaults(run=_miniature)
    add_recipe(sub, "recipes/miniature.yaml", "recipe.rl.steps=20")
    sub.add_argument("--report-only", action="store_true", help="write the report again from what is there, and run nothing")
    add_long(sub)


def _add_plan(verbs: Verbs) -> None:
    text = "will it fit? the peak GPU memory of every stage of a recipe, part by part, and which key to turn if not"
    sub = verbs.add_parser("plan", help=text, description=f"{text[0].upper()}{text[1:]}. Loads no weights and needs no GPU.")
    sub.set_defaults(run=_plan)
    add_recipe(sub, "recipes/qwen2.5-vl-3b-24gb.yaml", "sft.micro_batch=1")
    sub.add_argument("--gpu-gib", type=float, metavar="N", help="the card (default: this machine's, else the recipe's gpu_gib)")
    add_json(sub)


def _add_export(verbs: Verbs) -> None:
    merge, adapter = "base and adapter as one 16-bit model, for vLLM and others", "the adapter as a PEFT folder that needs nothing of ours"
    for verb, text in (("merge", merge), ("export-adapter", adapter)):
        sub = verbs.add_parser(verb, help=text, description=f"{text[0].upper()}{text[1:]} (docs/TRAINING.md).")
        sub.set_defaults(run=_export)
        add_recipe(sub, override="run_folder=runs/b")
        sub.add_argument("--stage", choices=STAGES[1:], help="whose adapter (default: the last that is trained)")
        if verb == "merge":
            weights = "the base's weights: its own (default), or its NF4 ones, which the adapter was trained on"
            sub.add_argument("--from", dest="weights", choices=("unquantised", "nf4"), default="unquantised", help=weights)
        where = "a new folder" if verb == "export-adapter" else "a new folder (default: STAGE/merged in the run)"
        add_out(sub, "FOLDER", where, required=verb == "export-adapter")


def _stage(args: argparse.Namespace) -> None:
    from codevision_lite.config import load_recipe
    from codevision_lite.recipe import Recipe

    recipe = load_recipe(args.recipe, args.overrides, cls=Recipe)
    if getattr(args, "dry_run", False):
        from codevision_lite.commands.dry_run import show_run

        return show_run(recipe, args.verb, getattr(args, "stage", None), getattr(args, "rollouts", None))
    from codevision_lite import pipeline

    if args.verb not in ("demo", "synth", "report"):
        pipeline.check_run(recipe)  # first: another run in the folder is the likelier mistake
        pipeline.require_inputs(recipe, args.verb, getattr(args, "stage", None))
    if args.verb != "report":
        pipeline.open_run(recipe)
    if args.verb == "eval":
        for stage in [args.stage] if args.stage else pipeline.trained_stages(recipe):
            pipeline.evaluate_stage(recipe, stage)
        pipeline.report(recipe)
    elif args.verb == "filter":
        pipeline.difficulty(recipe, args.stage, args.rollouts)
    else:
        getattr(pipeline, args.verb)(recipe)  # demo, synth, sft, rl, report
    return None


def _tiny_base(args: argparse.Namespace) -> None:
    from codevision_lite.config import load_recipe
    from codevision_lite.recipe import PretrainConfig

    config = load_recipe(args.recipe, args.overrides, cls=PretrainConfig)
    if args.dry_run:
        from codevision_lite.commands.dry_run import show_tiny_base

        return show_tiny_base(config)
    from codevision_lite.train.pretrain import build

    build(config)
    return None


def _miniature(args: argparse.Namespace) -> None:
    from codevision_lite.config import load_recipe
    from codevision_lite.miniature.plan import Miniature
    from codevision_lite.miniature.results import miniature

    plan = load_recipe(args.recipe, args.overrides, cls=Miniature)
    if args.dry_run:
        from codevision_lite.commands.dry_run import show_miniature

        return show_miniature(plan)
    miniature(plan, args.report_only)
    return None


def _plan(args: argparse.Namespace) -> None:
    from codevision_lite.config import load_recipe
    from codevision_lite.recipe import Recipe
    from codevision_lite.train.plan import make_plan, plan_text

    if args.gpu_gib is not None and not args.gpu_gib > 0:
        raise UserError(f"--gpu-gib must be > 0, got {args.gpu_gib:g}")
    plan = make_plan(load_recipe(args.recipe, args.overrides, cls=Recipe), args.gpu_gib)
    print(json.dumps(plan.to_json(), indent=1) if args.json else plan_text(plan))


def _export(args: argparse.Namespace) -> None:
    from codevision_lite.config import load_recipe
    from codevision_lite.recipe import Recipe

    recipe = load_recipe(args.recipe, args.overrides, cls=Recipe)
    run = Path(recipe.run_folder)
    stage = args.stage or ("grpo" if (run / "grpo" / "adapter").is_dir() else "sft")
    from codevision_lite.train import export

    if args.verb == "export-adapter":
        export.export_adapter(recipe, stage, args.out)
        print(f"adapter: {args.out}")
        return
    out = args.out or run / stage / "merged"
    exact, quantised = export.merge(recipe, stage, out, args.weights)
    print(f"merged vs the adapter on {args.weights} weights: {exact}")
    if quantised and args.weights != "nf4":
        print(f"merged vs the adapter on NF4 weights, as it was trained: {quantised}")
        if quantised.relative > export.MEAN_TOLERANCE:
            print("The second is what quantisation had done. Measure the merged model, or keep what was trained: merge --from nf4")
    print(f"merged model: {out}")
