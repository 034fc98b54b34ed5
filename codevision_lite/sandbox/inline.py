"""One run in this process: compile, provide names, execute, choose the result, write the message.

stops: what the policy refuses; loops, calls and comprehensions beyond the deadline; allocations whose size can be told beforehand.
does not stop: a native call that is already running, memory that a library takes inside one call, a crash of a native library.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from codevision_lite.sandbox import catalogue, messages
from codevision_lite.sandbox.budget import Budget
from codevision_lite.sandbox.facade import session
from codevision_lite.sandbox.limits import Limits
from codevision_lite.sandbox.outcome import Outcome, choose
from codevision_lite.sandbox.pixels import PixelRule
from codevision_lite.sandbox.program import compile_code
from codevision_lite.sandbox.run import Run
from codevision_lite.sandbox.stops import LimitReached, Refused
from codevision_lite.sandbox.trace import Registry, frame_of
from codevision_lite.sandbox.virtual import source


def execute(code: str, images: Sequence[Image.Image], image_index: int, limits: Limits, seed: int = 0) -> Run:
    """Run `code` on images[image_index] in this process. Everything that the code does wrong becomes a Run."""
    start = time.perf_counter()
    try:
        program = compile_code(code, limits)
    except (SyntaxError, Refused) as error:
        status = "refused" if isinstance(error, Refused) else "error"
        return Run(status, messages.error_message(error, code, limits), seconds=time.perf_counter() - start)
    budget = open_session(images, image_index, limits, seed)
    namespace = catalogue.hooks(budget)
    try:
        provided = provide(program.names, image_index, len(images))
        namespace.update(provided)
        with np.errstate(all="ignore"):  # a division by zero is the code's affair, not a line on the user's terminal
            exec(program.code, namespace)
        outcome = choose(namespace, provided, limits)
    except BaseException as error:
        outcome = told(error, code, limits)
        error.__traceback__ = None
    finally:
        namespace.clear()
        budget.close()
    return finish(outcome, budget, start)


def open_session(images: Sequence[Image.Image], image_index: int, limits: Limits, seed: int) -> Budget:
    session.budget = budget = Budget(limits)
    session.traces, session.ops, session.ops_limit, session.outputs = Registry(), [], limits.ops, []
    session.sources, session.index, session.quiet = list(images), image_index, 0
    session.encoded, session.files, session.pixels, session.last = {}, {}, PixelRule(), None
    catalogue.seed(seed)
    return budget


def provide(names: frozenset[str], image_index: int, n_images: int) -> dict[str, Any]:
    """The pictures under the names that the program uses, and `draw`; each name is its own copy-on-write picture."""
    provided: dict[str, Any] = {"image_index": image_index}
    if "image" in names or "draw" in names:
        provided["image"] = source(image_index)
    if "img" in names:
        provided["img"] = source(image_index)
    if "images" in names:
        provided["images"] = [source(i) for i in range(n_images)]
    if "draw" in names:
        provided["draw"] = catalogue.draw_on(provided["image"])
    for name in names & {"image_path", "img_path", "input_path"}:  # any path opens the current picture
        provided[name] = "image.png"
    for i in range(n_images):
        if f"image_clue_{i}" in names:  # the name that PyVision's prompt gives to pictures
            provided[f"image_clue_{i}"] = source(i)
    return provided


def told(error: BaseException, code: str, limits: Limits) -> Outcome:
    """failed(), whatever the exception of the code does while it is read."""
    try:
        return failed(error, code, limits)
    except (Exception, LimitReached):
        if not isinstance(error, Exception | LimitReached):
            raise
        return Outcome("error", "The code ended with an exception that can not be shown.")


def failed(error: BaseException, code: str, limits: Limits) -> Outcome:
    if isinstance(error, LimitReached):
        text = messages.error_message(error, code, limits, messages.LIMIT_ADVICE[error.kind])
        return Outcome(error.kind, text)
    if isinstance(error, MemoryError):
        text = messages.error_message(error, code, limits, messages.LIMIT_ADVICE["memory"])
        return Outcome("memory", text)
    if isinstance(error, Exception):
        status = getattr(error, "status", "refused") if isinstance(error, Refused) else "error"
        return Outcome(status, messages.error_message(error, code, limits))
    raise error  # KeyboardInterrupt and the like are not the code's


def finish(outcome: Outcome, budget: Budget, start: float) -> Run:
    stdout = budget.stdout
    message = outcome.message
    if stdout.strip():
        message += f"\nPrinted:\n{stdout.rstrip()}"
    frame = frame_of(outcome.trace)
    run = Run(outcome.status, message, outcome.image, stdout, tuple(session.ops), frame, time.perf_counter() - start)
    session.traces, session.outputs, session.sources, session.encoded, session.files, session.last = Registry(), [], [], {}, {}, None
    return run
