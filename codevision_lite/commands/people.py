"""The verbs by which people ask a model: ask, serve, ui."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from codevision_lite.commands.parser import Verbs, above_zero, add_json, add_model, add_out, add_turns, at_least_one
from codevision_lite.errors import UserError

_TEXTS = {
    "ask": "ask a question about your pictures, and see how it is answered",
    "serve": "an OpenAI-compatible chat server whose replies come from the whole agent loop (docs/SERVING.md)",
    "ui": "an app in the browser: damage a picture, ask with and without tools, watch the turns",
}
_PORTS = {"serve": 8000, "ui": 7860}


def add(verbs: Verbs) -> None:
    subs = {verb: verbs.add_parser(verb, help=text) for verb, text in _TEXTS.items()}
    subs["ask"].add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="one or more; each is turned upright by its EXIF data")
    subs["ask"].add_argument("question", metavar="QUESTION", help='in quotes: "What is written here?"')
    add_json(subs["ask"], "print one JSON object at the end")
    add_out(subs["ask"], "FOLDER", "pictures and rows (default: runs/ask)", default=Path("runs/ask"))
    for verb, sub in subs.items():
        sub.set_defaults(run=_people)
        add_model(sub, None, "sample_data/tiny_base, newest adapter of runs/demo")
        sub.add_argument("--max-pixels", type=at_least_one, metavar="N",
                         help="of the model's view of a picture (default: its own, at most 1003520)")  # fmt: skip
        add_turns(sub, "a question", 16384)
        if verb != "ui":
            sub.add_argument("--no-tools", action="store_true", help="the model answers at once: no code is run")
        if verb != "ask":
            sub.add_argument("--port", type=int, default=_PORTS[verb], metavar="N", help=f"(default: {_PORTS[verb]})")
    add_flag = subs["serve"].add_argument
    add_flag("--host", default="127.0.0.1", metavar="ADDRESS", help="another than 127.0.0.1 (the default) needs a key")
    add_flag("--api-key-env", metavar="NAME", help="the environment variable that holds the key that clients must send")
    add_flag("--name", help="what clients call the model (default: from its path)")
    add_flag("--concurrency", type=at_least_one, default=4, metavar="N", help="questions at once; more get HTTP 429 (default: 4)")
    add_flag("--max-request-mb", type=at_least_one, default=32, metavar="N", help="of a request with its pictures (default: 32)")
    add_flag("--timeout-s", type=above_zero, default=300.0, metavar="N", help="seconds for a question (default: 300)")


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
