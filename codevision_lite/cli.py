"""The command line: parse, call, print. `codevision-lite VERB ...`; what a verb takes and does is in commands/.

What the user can fix ends with one line on stderr and exit code 2; Ctrl-C with 130 and a word on how to go on; a reader that has seen
enough (`| head`) with 141, in silence.
"""

from __future__ import annotations

import argparse
import errno
import logging
import os
import select
import signal
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress

from codevision_lite.commands import benchmarks, looking, people, training
from codevision_lite.commands.completers import complete
from codevision_lite.commands.parser import MainParser, main_parser
from codevision_lite.errors import UserError

_GROUPS = {
    "Start here": ("doctor", "ask", "demo", "view", "bench"),
    "Ask a model": ("serve", "ui"),
    "Train, stage by stage": ("plan", "synth", "sft", "filter", "rl", "eval", "report"),
    "Data and rewards": ("convert", "inspect", "score"),
    "Measure": ("diagnose", "compare", "rescore", "export-predictions", "miniature"),
    "Use an adapter elsewhere": ("merge", "export-adapter"),
}
_MORE = (
    "codevision-lite VERB --help says what a verb takes.",
    'With TAB completion: eval "$(codevision-lite completion bash)", or zsh, fish.',
    "Before VERB: -v shows the libraries' own messages, --version the version.",
)


def build_parser() -> MainParser:
    parser = main_parser(_GROUPS, _MORE)
    verbs = parser.add_verbs()
    for module in (training, people, benchmarks, looking):
        module.add(verbs)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    try:
        try:
            return _main(argv)
        finally:
            sys.stdout.flush()  # also after --help: what the last lines can't be written to shows here, not at the end of Python
    except BrokenPipeError:
        if not _reader_left():
            raise
        return 141  # 128 + SIGPIPE, as of any command whose reader left


def _main(argv: Sequence[str] | None) -> int:
    parser = build_parser()
    complete(parser)
    args = argparse.Namespace()
    try:
        args = parser.parse_args(argv)
        _quiet(args.verbose)
        return _run(args)
    except UserError as e:
        return _end(str(e), 2)
    except (MemoryError, RuntimeError) as e:  # the trainers say more themselves; this is loading and evaluation
        if (line := _memory_line(e)) is None:
            raise
        return _end(line, 2)
    except OSError as e:
        if e.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return _end(f"{e.strerror}. Free some; what is done is kept, and the same command goes on from there.", 2)
    except KeyboardInterrupt:
        goes_on = getattr(args, "resumes", False)
        after = "What is done is kept; the same command goes on from there." if goes_on else "The same command starts over."
        print(file=sys.stderr)  # behind the terminal's own ^C
        return _end(f"stopped. {after}", 130)


def _run(args: argparse.Namespace) -> int:
    """Run the verb. Once Ctrl-C was pressed, whatever it ends with is a KeyboardInterrupt: code in C or Rust that calls Python may
    raise an error of its own in its place, and cleaning up after it may fail."""
    pressed = False

    def press(*_: object) -> None:
        nonlocal pressed
        pressed = True
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, press)  # also of a shell's background job, which starts with it ignored
    try:
        return args.run(args) or 0
    except Exception as e:
        if not pressed:
            raise
        logging.info("after Ctrl-C: %r", e, exc_info=True)
        raise KeyboardInterrupt from e


def _end(line: str, code: int) -> int:
    sys.stdout.flush()  # so that the line comes last where both go to one file
    print(f"codevision-lite: {line}", file=sys.stderr)
    return code


def _reader_left() -> bool:
    """Whether what reads our output is gone; it is then no longer written to. A broken pipe may be another one: a fault of ours."""
    left = False
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # no file, as in tests
            poll = select.poll()
            poll.register(stream.fileno(), 0)  # an error is told unasked
            if any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
                left = True
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return left


def _memory_line(e: BaseException) -> str | None:
    """What to say where torch or numpy found no memory; None for anything else."""
    if "torch" not in sys.modules:
        return None
    from codevision_lite.train.guard import is_out_of_memory, memory_numbers

    fix = "Lower eval.batch or model.max_pixels, or set model.quantize=nf4; what fits: codevision-lite plan RECIPE"
    return f"out of memory ({memory_numbers(e)}). {fix}" if is_out_of_memory(e) else None


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
