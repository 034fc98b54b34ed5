"""The parser: verbs in groups, options wherever they are typed, and the flags that several verbs have, each written once.

A verb is a parser of `Verbs.add_parser` whose default `run` is the function that does it, given the parsed arguments.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from codevision_lite import __version__
from codevision_lite.commands.completers import recipe_files, recipe_keys
from codevision_lite.errors import UserError

INDENT = 21  # columns of a verb's name; the longest has 18 letters


class VerbParser(argparse.ArgumentParser):
    """The parser of one verb: options may stand before, between and behind its other arguments."""

    _nested = False

    def error(self, message: str) -> NoReturn:
        end = "" if message.endswith("?") else "."
        raise UserError(f"{self.prog.split()[-1]}: {message}{end} What it takes: {self.prog} --help")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if "_ARGCOMPLETE" in os.environ:  # what completes a half-typed line looks into the plain parse
            return super().parse_known_args(self._options_first(args), namespace)
        if self._nested:  # the intermixed parse may call this method again
            return super().parse_known_args(args, namespace)
        self._nested = True
        try:
            parsed, unknown = self.parse_known_intermixed_args(args, namespace)
        finally:
            self._nested = False
        if unknown:
            near = get_close_matches(unknown[0], self._option_string_actions, n=1)
            self.error(f"unrecognized arguments: {' '.join(unknown)}{f'; did you mean {near[0]}?' if near else ''}")
        return parsed, unknown

    def _options_first(self, words: Sequence[str]) -> list[str]:
        """The same line with the options in front, but for one whose value is being typed."""
        left, first, rest = list(words), [], []
        while left:
            word = left.pop(0)
            action = self._option_string_actions.get(word)
            needs_value = action is not None and action.nargs is None
            if needs_value and left:
                first += [word, left.pop(0)]
            else:
                (rest if action is None or needs_value else first).append(word)
        return first + rest


class MainParser(argparse.ArgumentParser):
    """The parser of the command line. `groups`: a heading -> its verbs; the other verbs come last, so that none is left out."""

    def __init__(self, groups: Mapping[str, Sequence[str]], more: Sequence[str], **options: Any):
        super().__init__(**options)
        self.groups, self.more = groups, more
        self.texts: dict[str, str] = {}

    def error(self, message: str) -> NoReturn:
        if message.endswith("required: VERB"):
            raise UserError(f'name a verb, such as: {self.prog} ask photo.jpg "What is written here?"; all of them: {self.prog} --help')
        wrong = re.match(r"argument VERB: invalid choice: '(.*?)'", message)
        if wrong is None:
            raise UserError(f"{message}. What there is: {self.prog} --help")
        near = get_close_matches(wrong[1], self.texts, n=1)
        raise UserError(f"there is no verb {wrong[1]!r}; {f'did you mean {near[0]}? ' if near else ''}All of them: {self.prog} --help")

    def add_verbs(self) -> Verbs:
        return Verbs(self.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=VerbParser), self.texts)

    def format_help(self) -> str:
        width = min(shutil.get_terminal_size().columns, 120) - 2
        grouped = {verb for verbs in self.groups.values() for verb in verbs}
        groups = {**self.groups, "More": [verb for verb in self.texts if verb not in grouped]}
        lines = [self.format_usage(), *textwrap.wrap(self.description or "", width)]
        for heading, verbs in groups.items():
            there = [verb for verb in verbs if verb in self.texts]
            lines += ["", f"{heading}:"] if there else []
            for verb in there:
                lines += textwrap.wrap(self.texts[verb], width, initial_indent=f"  {verb:<{INDENT - 2}}", subsequent_indent=" " * INDENT)
        return "\n".join([*lines, "", *self.more]) + "\n"


class Verbs:
    """Adds verbs, and keeps what each is for."""

    def __init__(self, subparsers: Any, texts: dict[str, str]):
        self._subparsers, self._texts = subparsers, texts

    def add_parser(self, verb: str, *, help: str, description: str = "", **options: Any) -> argparse.ArgumentParser:
        """`help`: a line in lower case; without a `description` it is that, too."""
        self._texts[verb] = help
        return self._subparsers.add_parser(verb, help=help, description=description or f"{help[0].upper()}{help[1:]}.", **options)


def main_parser(groups: Mapping[str, Sequence[str]], more: Sequence[str]) -> MainParser:
    text = "Train and measure a model that repairs pictures with Python code."
    parser = MainParser(groups, more, prog="codevision-lite", description=text)
    parser.add_argument("--version", action="version", version=f"codevision-lite {__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="show the libraries' own messages")
    return parser


# ---------------------------------------------------------------- flags


def add_recipe(sub: argparse.ArgumentParser, example: str = "recipes/demo.yaml", override: str = "sft.steps=3") -> None:
    """RECIPE [key=value ...]: `args.recipe` and `args.overrides`."""
    recipe = sub.add_argument("recipe", type=Path, metavar="RECIPE", help=f"a recipe file, such as {example}")
    keys = sub.add_argument("overrides", nargs="*", default=(), metavar="key=value",
                            help=f"values that replace the recipe's, such as {override}")  # fmt: skip
    recipe.completer, keys.completer = recipe_files, recipe_keys


def add_long(sub: argparse.ArgumentParser) -> None:
    """What takes long goes on where it was stopped, and can say first what it would do."""
    text = "say what would be done, downloaded and refused; nothing is written and no model is loaded"
    sub.add_argument("--dry-run", action="store_true", help=text)
    sub.set_defaults(resumes=True)


def add_json(sub: argparse.ArgumentParser, text: str = "print JSON") -> None:
    sub.add_argument("--json", action="store_true", help=text)


def add_out(sub: argparse.ArgumentParser, kind: str, text: str, **options: Any) -> None:
    """`kind`: FILE or FOLDER."""
    sub.add_argument("--out", type=Path, metavar=kind, help=text, **options)


def add_limit(sub: argparse.ArgumentParser, text: str, default: int | None = None) -> None:
    sub.add_argument("--limit", type=at_least_one, default=default, metavar="N", help=f"{text} (default: {default or 'all'})")


def add_model(sub: argparse.ArgumentParser, default: str | None, text: str) -> None:
    """Which model answers, and how it is loaded. `text`: what the default is."""
    add = sub.add_argument
    add("--model", default=default, metavar="NAME", help=f"local folder, hub name, or the server's name of the model (default: {text})")
    add("--adapter", metavar="FOLDER", help="a LoRA adapter on top, such as runs/demo/grpo/adapter")
    add("--server", metavar="URL", help="an OpenAI-compatible server, up to /v1; the key is read from OPENAI_API_KEY")
    add("--quantize", choices=("nf4", "none"), default="nf4", help="how a local model is loaded: in 4 bits (default: nf4), or as it is")
    backend = "what loads a local model (default: auto, which is unsloth where it and a CUDA GPU are there)"
    add("--backend", choices=("auto", "unsloth", "transformers"), default="auto", help=backend)


def add_turns(sub: argparse.ArgumentParser, of: str, max_tokens: int) -> None:
    """How much the agent loop may take. `of`: what the turns are counted for."""
    sub.add_argument("--max-turns", type=at_least_one, default=6, metavar="N", help=f"replies for {of} (default: 6)")
    sub.add_argument("--max-reply-tokens", type=at_least_one, default=512, metavar="N", help="of one reply (default: 512)")
    text = f"of a whole conversation (default: {max_tokens})"
    sub.add_argument("--max-tokens", type=at_least_one, default=max_tokens, metavar="N", help=text)


def at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number > 0, got {text!r}")
    return int(text)


def above_zero(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number > 0, got {text!r}")
    return value
