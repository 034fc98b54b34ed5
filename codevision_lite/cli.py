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
}

BENCH_VERBS = {
    "bench": "measure a model on a benchmark, upright and damaged, and write a report (docs/EVALUATION.md)",
    "diagnose": "ask a model what was done to 200 turned and mirrored pictures: five options",
    "compare": "two runs of one benchmark, paired by item",
    "rescore": "score the rows of a run again, without the model",
    "export-predictions": "write the predictions of a run in the layout of VLMEvalKit or lmms-eval",
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
    _add_plan(verbs)
    _add_people(verbs)
    _add_gpu_check(verbs)
    _add_export(verbs)
    _add_bench(verbs)
    _add_view(verbs)
    _add_doctor(verbs)
    return parser


def _add_plan(verbs: argparse._SubParsersAction) -> None:
    text = "will it fit? the peak GPU memory of every stage of a recipe, part by part, and which key to turn if not"
    sub = verbs.add_parser("plan", help=text, description=f"{text[0].upper()}{text[1:]}. Loads no weights and needs no GPU.")
    sub.add_argument("recipe", type=Path, help="a recipe file, such as recipes/qwen2.5-vl-3b-24gb.yaml")
    sub.add_argument("overrides", nargs="*", metavar="key=value", help="values that replace the recipe's, such as sft.micro_batch=1")
    sub.add_argument("--gpu-gib", type=float, metavar="N", help="the card (default: this machine's, else the recipe's gpu_gib)")
    sub.add_argument("--json", action="store_true", help="print JSON")


def _add_export(verbs: argparse._SubParsersAction) -> None:
    merge, adapter = "base and adapter as one 16-bit model, for vLLM and others", "the adapter as a PEFT folder that needs nothing of ours"
    for verb, text in (("merge", merge), ("export-adapter", adapter)):
        sub = verbs.add_parser(verb, help=text, description=f"{text[0].upper()}{text[1:]} (docs/TRAINING.md).")
        sub.add_argument("recipe", type=Path, help="the recipe of the run, such as recipes/demo.yaml")
        sub.add_argument("overrides", nargs="*", metavar="key=value", help="values that replace the recipe's, such as run_folder=runs/b")
        sub.add_argument("--stage", choices=("sft", "grpo"), help="whose adapter (default: the last that is trained)")
        if verb == "merge":
            weights = "the base's weights: its own (default), or its NF4 ones, which the adapter was trained on"
            sub.add_argument("--from", dest="weights", choices=("unquantised", "nf4"), default="unquantised", help=weights)
        where = "a new folder" if verb == "export-adapter" else "a new folder (default: STAGE/merged in the run)"
        sub.add_argument("--out", type=Path, metavar="FOLDER", help=where, required=verb == "export-adapter")


def _add_view(verbs: argparse._SubParsersAction) -> None:
    text = "look at every trajectory of a run, or at two runs side by side: one HTML page to filter, search and step through"
    sub = verbs.add_parser("view", help=text, description=f"{text[0].upper()}{text[1:]}. Needs no server.")
    what = "a run folder, such as runs/demo or runs/demo/grpo (its rollouts), or a JSONL of trajectories; a second one is compared with it"
    sub.add_argument("runs", nargs="+", type=Path, metavar="RUN", help=what)
    sub.add_argument("--compare", metavar="A,B", help="two stages on the same items, such as base,grpo")
    sub.add_argument("--out", type=Path, metavar="FILE", help="the HTML file to write (default: view.html in the run)")
    sub.add_argument("--limit", type=int, metavar="N", help="only N rows, spread over the file (default: all)")
    sub.add_argument("--embed", action="store_true", help="put the pictures into the page, so that it can be sent to others by itself")


def _add_doctor(verbs: argparse._SubParsersAction) -> None:
    text = "will this work here? Python, packages, GPU, disk, the sandbox and the tiny model, each with what to do"
    sub = verbs.add_parser("doctor", help=text, description=f"{text[0].upper()}{text[1:]}. Exit code 1 where there is a problem.")
    sub.add_argument("--json", action="store_true", help="print JSON")


def _add_people(verbs: argparse._SubParsersAction) -> None:
    """The verbs by which people ask a model: ask, serve, ui."""
    texts = {
        "ask": "ask a question about your pictures, and see how it is answered (options come before the pictures or after the question)",
        "serve": "an OpenAI-compatible chat server whose replies come from the whole agent loop (docs/SERVING.md)",
        "ui": "an app in the browser: damage a picture, ask with and without tools, watch the turns",
    }
    subs = {verb: verbs.add_parser(verb, help=text, description=f"{text[0].upper()}{text[1:]}.") for verb, text in texts.items()}
    subs["ask"].add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="one or more; each is turned upright by its EXIF data")
    subs["ask"].add_argument("question", metavar="QUESTION", help='in quotes: "What is written here?"')
    subs["ask"].add_argument("--json", action="store_true", help="print one JSON object at the end")
    subs["ask"].add_argument("--out", type=Path, default=Path("runs/ask"), metavar="FOLDER", help="pictures and rows (default: runs/ask)")
    for verb, sub in subs.items():
        add = sub.add_argument
        model = "local folder, hub name, or the server's name of the model (default: sample_data/tiny_base, newest adapter of runs/demo)"
        add("--model", "--server-model", metavar="NAME", help=model)
        add("--adapter", metavar="FOLDER", help="a LoRA adapter on top, such as runs/demo/grpo/adapter")
        add("--server", metavar="URL", help="an OpenAI-compatible server, up to /v1; the key is read from OPENAI_API_KEY")
        add("--quantize", choices=("nf4", "none"), default="nf4")
        add("--backend", choices=("auto", "unsloth", "transformers"), default="auto")
        add("--max-pixels", type=_positive, metavar="N", help="of the model's view of a picture (default: its own, at most 1003520)")
        add("--max-turns", type=_positive, default=6, metavar="N", help="replies (default: 6)")
        add("--max-reply-tokens", type=_positive, default=512, metavar="N", help="of one reply (default: 512)")
        add("--max-tokens", type=_positive, default=16384, metavar="N", help="of a whole conversation (default: 16384)")
        if verb != "ui":
            add("--no-tools", action="store_true", help="the model answers at once: no code is run")
        if verb != "ask":
            port = {"serve": 8000, "ui": 7860}[verb]
            add("--port", type=int, default=port, metavar="N", help=f"(default: {port})")
    add = subs["serve"].add_argument
    add("--host", default="127.0.0.1", help="another than 127.0.0.1 needs a key")
    add("--api-key-env", metavar="NAME", help="the environment variable that holds the key that clients must send")
    add("--name", help="what clients call the model (default: from its path)")
    add("--concurrency", type=_positive, default=4, metavar="N", help="questions at once; more get HTTP 429 (default: 4)")
    add("--max-request-mb", type=_positive, default=32, metavar="N", help="of a request with its pictures (default: 32)")
    add("--timeout-s", type=float, default=300.0, metavar="N", help="seconds for a question (default: 300)")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number > 0, got {text!r}")
    return int(text)


def _add_gpu_check(verbs: argparse._SubParsersAction) -> None:
    text = "train models of the true 3B and 7B shapes on this machine's GPU: memory beside the plan's, speed, and that it learns"
    sub = verbs.add_parser("gpu-check", help=text, description=f"{text[0].upper()}{text[1:]}. Random weights; downloads nothing.")
    sub.add_argument("--list", action="store_true", help="the pieces, with the minutes expected")
    sub.add_argument("--piece", action="append", default=[], metavar="NAME", help="only this one; may be repeated")
    sub.add_argument("--out", type=Path, default=Path("benchmarks/gpu"), help="folder of the result files (default: benchmarks/gpu)")
    sub.add_argument("--work", type=Path, default=Path("runs/gpu-check"), help="folder of weights and checkpoints, 10 GB (runs/gpu-check)")
    sub.add_argument("--cpu", action="store_true", help="the same pieces in small, without a GPU")
    sub.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)  # this process is the piece


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


def _add_bench(verbs: argparse._SubParsersAction) -> None:
    subs = {verb: verbs.add_parser(verb, help=text, description=f"{text[0].upper()}{text[1:]}.") for verb, text in BENCH_VERBS.items()}
    names = "ocrbench, chartqapro, mvtoolbench, vstar, hrbench4k, hrbench8k; built in: signs, pages"
    subs["bench"].add_argument("benchmark", metavar="NAME", help=names)
    subs["bench"].add_argument("file", nargs="?", metavar="FILE", help="your copy of the benchmark: TSV, Parquet or JSONL")
    damages = "all, orientations, corruptions, or damages: rotate_90,noise:3 (default: none)"
    subs["bench"].add_argument("--damage", default="none", metavar="LIST", help=damages)
    subs["diagnose"].add_argument("file", nargs="?", metavar="FOLDER", help="your own upright pictures (default: drawn ones)")
    for verb in ("bench", "diagnose"):
        add = subs[verb].add_argument
        add("--n", type=int, metavar="N", help="a subset of N samples, spread over the categories (default: all)")
        add("--seed", type=int, default=0, help="of the subset (default: 0)")
        add("--switch", action="append", default=[], metavar="NAME=VALUE", help="a switch of the benchmark; may be repeated")
        tools = "on, off (direct answers) or blind (returned pictures are grey)"
        add("--tools", choices=("on", "off", "blind"), default="off" if verb == "diagnose" else "on", help=tools)
        add("--model", default="sample_data/tiny_base", help="local folder, hub name, or the server's name of the model")
        add("--adapter", metavar="FOLDER", help="a LoRA adapter on top, such as runs/demo/grpo/adapter")
        add("--quantize", choices=("nf4", "none"), default="nf4")
        add("--backend", choices=("auto", "unsloth", "transformers"), default="auto")
        add("--server", metavar="URL", help="an OpenAI-compatible server, up to /v1; the key is read from OPENAI_API_KEY")
        add("--out", type=Path, metavar="FOLDER", help="the run folder (default: runs/bench/NAME-MODEL)")
        add("--name", default="", help="the model's name in tables")
        add("--sft-rows", metavar="FILE", help="SFT data whose operations don't count as emergent (default: the adapter's own run)")
        add("--final-answer", action="store_true", help="tell the model to answer when turns or tokens run out")
        for option, value, text in _BENCH_NUMBERS:
            kind, default = (type(value), value) if value else (int, "as the model says")
            add(option, type=kind, default=value, metavar="N", help=f"{text} (default: {default})")
    for verb, count in (("compare", 2), ("rescore", 1), ("export-predictions", 1)):
        subs[verb].add_argument("folders", nargs=count, type=Path, metavar="FOLDER", help="a run folder of bench or diagnose")
    subs["compare"].add_argument("--json", action="store_true", help="print JSON")
    subs["rescore"].add_argument("--switch", action="append", default=[], metavar="NAME=VALUE", help="another value of a switch")
    subs["export-predictions"].add_argument("--to", required=True, choices=("vlmevalkit", "lmms-eval"))


_BENCH_NUMBERS = (
    ("--max-turns", 6, "replies for an item"), ("--max-reply-tokens", 512, "of one reply"), ("--max-tokens", 8192, "of a whole trajectory"),
    ("--min-pixels", None, "of the model's view"), ("--max-pixels", None, "of the model's view"), ("--batch", 16, "items at once"),
    ("--concurrency", 8, "items at once, with a server"), ("--timeout-s", 300.0, "seconds for a request to the server"),
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    args = build_parser().parse_args(argv)
    _quiet(args.verbose)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with it ignored
    try:
        if args.verb == "doctor":
            return _doctor(args)
        _run(args)
    except UserError as e:
        print(f"codevision-lite: {e}", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as e:  # the trainers say more themselves; this is loading and evaluation
        if (line := _memory_line(e)) is None:
            raise
        print(f"codevision-lite: {line}", file=sys.stderr)
        return 2
    except OSError as e:
        if e.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(f"codevision-lite: {e.strerror}. Free some; what is done is kept, and the same command goes on from there.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        starts_over = args.verb in ("convert", "ask")
        after = "The same command starts over." if starts_over else "What is done is kept; the same command goes on from there."
        print(f"\ncodevision-lite: stopped. {after}", file=sys.stderr)
        return 130
    return 0


def _memory_line(e: BaseException) -> str | None:
    """What to say where torch or numpy found no memory; None for anything else."""
    if "torch" not in sys.modules:
        return None
    from codevision_lite.train.guard import is_out_of_memory, memory_numbers

    fix = "Lower eval.batch or model.max_pixels, or set model.quantize=nf4; what fits: codevision-lite plan RECIPE"
    return f"out of memory ({memory_numbers(e)}). {fix}" if is_out_of_memory(e) else None


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


def _bench(args: argparse.Namespace) -> None:
    if args.verb == "compare":
        import json

        from codevision_lite.bench.compare import compare, comparison_text

        result = compare(*args.folders)
        return print(json.dumps(result, indent=1) if args.json else comparison_text(result))
    if args.verb == "export-predictions":
        from codevision_lite.bench.export import export

        return print(export(args.folders[0], args.to))
    from codevision_lite.bench import jobs

    switches = {}
    for given in args.switch:
        name, equals, value = given.partition("=")
        if not equals:
            raise UserError(f"--switch {given}: write NAME=VALUE")
        switches[name] = value
    if args.verb == "rescore":
        jobs.rescore(args.folders[0], switches)
        return
    from codevision_lite.bench.settings import BenchConfig
    from codevision_lite.bench.variants import read_damages

    given = {name: value for name, value in vars(args).items() if name in BenchConfig.__dataclass_fields__}
    given |= {"switches": switches}
    given |= {"benchmark": "orientation"} if args.verb == "diagnose" else {"damages": read_damages(args.damage)}
    try:
        config = BenchConfig(**given)
    except ValueError as e:
        raise UserError(f"{args.verb}: {e}") from e
    jobs.run_benchmark(config, args.out or config.default_folder)


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


def _people(args: argparse.Namespace) -> None:
    from codevision_lite.agent import AgentLimits
    from codevision_lite.ask import ModelChoice, ask

    choice = ModelChoice(args.model, args.adapter, args.server, args.quantize, args.backend, args.max_pixels)
    tools = not getattr(args, "no_tools", False)
    limits = AgentLimits(args.max_turns, args.max_reply_tokens, args.max_tokens, tools=tools, final_answer=True)
    if args.verb == "ask":
        ask(choice, args.photos, args.question, limits, args.out, as_json=args.json)
        return
    choice = choice.resolved()
    if args.verb == "ui":
        from codevision_lite.app import run_app

        return run_app(choice, limits, args.port)
    from codevision_lite.serve import ServeConfig, serve

    key = os.environ.get(args.api_key_env) if args.api_key_env else None
    if args.api_key_env and not key:
        raise UserError(f"--api-key-env {args.api_key_env}: this variable is not set. Set it: export {args.api_key_env}=...")
    config = ServeConfig(
        args.name or choice.name, args.host, args.port, key, args.concurrency, args.max_request_mb * 2**20, args.timeout_s, limits
    )
    serve(choice, config)


def _gpu_check(args: argparse.Namespace) -> None:
    from codevision_lite.train import gpu_check

    if args.list:
        print(gpu_check.list_text())
    elif args.inside:
        gpu_check.run_inside(args.piece[0], args.out, args.work, args.cpu)
    elif not gpu_check.check(args.piece, args.out, args.work, args.cpu):
        raise UserError(f"gpu-check: a piece failed; its error is above, and the same command runs it again. Results: {args.out}")


def _plan(args: argparse.Namespace) -> None:
    import json

    from codevision_lite.config import load_recipe
    from codevision_lite.recipe import Recipe
    from codevision_lite.train.plan import make_plan, plan_text

    if args.gpu_gib is not None and not args.gpu_gib > 0:
        raise UserError(f"--gpu-gib must be > 0, got {args.gpu_gib:g}")
    plan = make_plan(load_recipe(args.recipe, args.overrides, cls=Recipe), args.gpu_gib)
    print(json.dumps(plan.to_json(), indent=1) if args.json else plan_text(plan))


def _view(args: argparse.Namespace) -> None:
    from codevision_lite.report.view import write_view

    stages = args.compare.split(",") if args.compare else None
    if len(args.runs) > 2:
        raise UserError(f"view: one run, or two to compare, got {len(args.runs)}")
    if stages is not None and (len(stages) != 2 or not all(stages)):
        raise UserError(f"--compare {args.compare}: write two stages, such as base,grpo")
    if args.limit is not None and args.limit < 1:
        raise UserError(f"--limit must be >= 1, got {args.limit}")
    path, n = write_view(args.runs, args.out, stages=tuple(stages) if stages else None, limit=args.limit, embed=args.embed)
    print(f"viewer: {path} ({n} {'items' if stages or len(args.runs) == 2 else 'trajectories'}, {path.stat().st_size / 2**20:.1f} MiB)")


def _doctor(args: argparse.Namespace) -> int:
    from codevision_lite import doctor

    try:
        return doctor.main(as_json=args.json)
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(args: argparse.Namespace) -> None:
    if args.verb == "view":
        return _view(args)
    if args.verb == "plan":
        return _plan(args)
    if args.verb in ("ask", "serve", "ui"):
        return _people(args)
    if args.verb == "gpu-check":
        return _gpu_check(args)
    if args.verb in ("merge", "export-adapter"):
        return _export(args)
    if args.verb == "score":
        _print_scores(args)
        return
    if args.verb == "inspect":
        return _inspect(args)
    if args.verb == "convert":
        return _convert(args)
    if args.verb in BENCH_VERBS:
        return _bench(args)
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
