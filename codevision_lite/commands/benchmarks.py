"""The verbs of benchmarks: run one, compare two runs, score rows again, hand predictions on; and the check of this machine's GPU."""

from __future__ import annotations

import argparse
from pathlib import Path

from codevision_lite.commands.completers import damages
from codevision_lite.commands.parser import Verbs, above_zero, add_json, add_long, add_model, add_out, add_turns, at_least_one
from codevision_lite.errors import UserError

NAMES = {"of a file": ("ocrbench", "chartqapro", "mvtoolbench", "vstar", "hrbench4k", "hrbench8k"), "built in": ("signs", "pages")}
_TEXTS = {
    "bench": "measure a model on a benchmark, upright and damaged, and write a report (docs/EVALUATION.md)",
    "diagnose": "ask a model what was done to 200 turned and mirrored pictures: five options",
    "compare": "two runs of one benchmark, paired by item",
    "rescore": "score the rows of a run again, without the model",
    "export-predictions": "write the predictions of a run in the layout of VLMEvalKit or lmms-eval",
}


def add(verbs: Verbs) -> None:
    subs = {verb: verbs.add_parser(verb, help=text) for verb, text in _TEXTS.items()}
    name = subs["bench"].add_argument("benchmark", metavar="NAME", help="; ".join(f"{k}: {', '.join(v)}" for k, v in NAMES.items()))
    name.completer = lambda prefix, **_: [known for names in NAMES.values() for known in names]
    subs["bench"].add_argument("file", nargs="?", metavar="FILE", help="your copy of the benchmark: TSV, Parquet or JSONL")
    text = "all, orientations, corruptions, or damages: rotate_90,noise:3 (default: none)"
    subs["bench"].add_argument("--damage", default="none", metavar="LIST", help=text).completer = damages
    subs["diagnose"].add_argument("file", nargs="?", metavar="FOLDER", help="your own upright pictures (default: drawn ones)")
    for verb in ("bench", "diagnose"):
        _add_run(subs[verb], tools="off" if verb == "diagnose" else "on")
    for verb, count in (("compare", 2), ("rescore", 1), ("export-predictions", 1)):
        subs[verb].add_argument("folders", nargs=count, type=Path, metavar="FOLDER", help="a run folder of bench or diagnose")
    add_json(subs["compare"])
    _add_switch(subs["rescore"], "another value of a switch; may be repeated")
    subs["export-predictions"].add_argument("--to", required=True, choices=("vlmevalkit", "lmms-eval"), help="whose layout")
    for verb, run in {"compare": _compare, "rescore": _rescore, "export-predictions": _export}.items():
        subs[verb].set_defaults(run=run)
    _add_gpu_check(verbs)


def _add_run(sub: argparse.ArgumentParser, tools: str) -> None:
    sub.set_defaults(run=_bench)
    add_long(sub)
    flag = sub.add_argument
    flag("--n", type=int, metavar="N", help="a subset of N samples, spread over the categories (default: all)")
    flag("--seed", type=int, default=0, metavar="N", help="of the subset (default: 0)")
    _add_switch(sub, "a switch of the benchmark; may be repeated")
    text = f"on, off (direct answers) or blind (returned pictures are grey) (default: {tools})"
    flag("--tools", choices=("on", "off", "blind"), default=tools, help=text)
    add_model(sub, "sample_data/tiny_base", "sample_data/tiny_base")
    flag("--name", default="", help="the model's name in tables (default: from its path)")
    add_out(sub, "FOLDER", "the run folder (default: runs/bench/NAME-MODEL)")
    flag("--sft-rows", metavar="FILE", help="SFT data whose operations don't count as emergent (default: the adapter's own run)")
    flag("--final-answer", action="store_true", help="tell the model to answer when turns or tokens run out")
    add_turns(sub, "an item", 8192)
    for option in ("--min-pixels", "--max-pixels"):
        flag(option, type=at_least_one, metavar="N", help="of the model's view of a picture (default: as the model says)")
    flag("--batch", type=at_least_one, default=16, metavar="N", help="items at once, with a local model (default: 16)")
    flag("--concurrency", type=at_least_one, default=8, metavar="N", help="items at once, with a server (default: 8)")
    flag("--timeout-s", type=above_zero, default=300.0, metavar="N", help="seconds for a request to the server (default: 300)")


def _add_switch(sub: argparse.ArgumentParser, text: str) -> None:
    sub.add_argument("--switch", action="append", default=[], metavar="NAME=VALUE", help=text)


def _add_gpu_check(verbs: Verbs) -> None:
    text = "train models of the true 3B and 7B shapes on this machine's GPU: memory beside the plan's, speed, and that it learns"
    sub = verbs.add_parser("gpu-check", help=text, description=f"{text[0].upper()}{text[1:]}. Random weights; downloads nothing.")
    sub.set_defaults(run=_gpu_check)
    sub.add_argument("--list", action="store_true", help="the pieces, with the minutes expected")
    sub.add_argument("--piece", action="append", default=[], metavar="NAME", help="only this one; may be repeated").completer = _pieces
    add_out(sub, "FOLDER", "the result files (default: benchmarks/gpu; with --cpu: runs/gpu-check-cpu)")
    work = "weights and checkpoints, 10 GB (default: runs/gpu-check)"
    sub.add_argument("--work", type=Path, default=Path("runs/gpu-check"), metavar="FOLDER", help=work)
    sub.add_argument("--cpu", action="store_true", help="the same pieces in small, without a GPU")
    sub.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)  # this process is the piece
    add_long(sub)


def _pieces(prefix: str, **_: object) -> list[str]:
    from codevision_lite.train.gpu_check import PIECES

    return [piece.name for piece in PIECES]


def _bench(args: argparse.Namespace) -> None:
    from codevision_lite.bench.settings import BenchConfig
    from codevision_lite.bench.variants import read_damages

    given = {name: value for name, value in vars(args).items() if name in BenchConfig.__dataclass_fields__}
    given |= {"switches": _switches(args)}
    given |= {"benchmark": "orientation"} if args.verb == "diagnose" else {"damages": read_damages(args.damage)}
    try:
        config = BenchConfig(**given)
    except ValueError as e:
        raise UserError(f"{args.verb}: {e}") from e
    folder = args.out or config.default_folder
    if args.dry_run:
        from codevision_lite.commands.dry_run import show_bench

        return show_bench(config, folder)
    from codevision_lite.bench import jobs

    jobs.run_benchmark(config, folder)
    return None


def _switches(args: argparse.Namespace) -> dict[str, str]:
    switches = {}
    for given in args.switch:
        name, equals, value = given.partition("=")
        if not equals:
            raise UserError(f"--switch {given}: write NAME=VALUE")
        switches[name] = value
    return switches


def _compare(args: argparse.Namespace) -> None:
    import json

    from codevision_lite.bench.compare import compare, comparison_text

    result = compare(*args.folders)
    print(json.dumps(result, indent=1) if args.json else comparison_text(result))


def _rescore(args: argparse.Namespace) -> None:
    from codevision_lite.bench import jobs

    jobs.rescore(args.folders[0], _switches(args))


def _export(args: argparse.Namespace) -> None:
    from codevision_lite.bench.export import export

    print(export(args.folders[0], args.to))


def _gpu_check(args: argparse.Namespace) -> None:
    from codevision_lite.train import gpu_check

    args.out = args.out or Path("runs/gpu-check-cpu" if args.cpu else "benchmarks/gpu")
    if args.list:
        print(gpu_check.list_text())
    elif args.dry_run:
        from codevision_lite.commands.dry_run import show_gpu_check

        show_gpu_check(args.piece, args.out, args.work, args.cpu)
    elif args.inside:
        gpu_check.run_inside(args.piece[0], args.out, args.work, args.cpu)
    elif not gpu_check.check(args.piece, args.out, args.work, args.cpu):
        raise UserError(f"gpu-check: a piece failed; its error is above, and the same command runs it again. Results: {args.out}")
