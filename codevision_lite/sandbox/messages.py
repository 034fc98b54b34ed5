"""What the model reads: the kind of the problem, the line and its text, and what to do instead; never a path or a traceback.

Does not decide the status; inline.py does.
"""

from __future__ import annotations

import re
from types import TracebackType

import numpy as np

from codevision_lite.sandbox.limits import Limits
from codevision_lite.sandbox.stops import LimitReached, Refused
from codevision_lite.sandbox.text import exception_args, to_text

CODE_NAME = "<code>"
PATH = re.compile(r"(?:/[\w.\-]+){2,}/?")
LINE_CHARS = 120
NO_RESULT = "No result: the code did not assign an image to `result`. End with e.g. result = image.crop((left, top, right, bottom))."
UNCHANGED = "The result is the same as the input image: no operation changed it. Assign the changed image to `result`."

LIMIT_ADVICE = {
    "timeout": "Use fewer or smaller steps: crop or shrink the image first, and let numpy or cv2 loop over pixels.",
    "memory": "Use smaller images and arrays.",
    "output": "Print less, or return fewer or smaller images.",
}


def wrong_result(name: str, value: object) -> str:
    """`result` was assigned, but not to a picture."""
    shape = f" of shape {value.shape}" if isinstance(value, np.ndarray) else ""
    wanted = "Assign a PIL image or an array of shape (H, W) or (H, W, 3) to `result`."
    return f"No image: `{name}` is a {type(value).__name__[:80]}{shape}. {wanted}"


def no_result(namespace: dict[str, object], provided: dict[str, object]) -> str:
    """Nothing was assigned: name a picture that the code made, if there is one."""
    from PIL import Image

    for name, value in reversed(namespace.items()):
        if isinstance(value, Image.Image) and not any(value is p for p in provided.values()) and not name.startswith("_"):
            return f"No result: `{name[:80]}` ({value.width}x{value.height}) was made but not assigned. End with result = {name[:80]}."
    return NO_RESULT


def error_message(error: BaseException, source: str, limits: Limits, hint: str = "") -> str:
    """One message for an exception that ended the code."""
    line = line_of(error)
    where = ""
    if line is not None:
        lines = source.splitlines()
        text = lines[line - 1].strip() if 0 < line <= len(lines) else ""
        where = f" in line {line}: {text[:LINE_CHARS]}" if text else f" in line {line}"
    kind = "Not allowed" if isinstance(error, Refused) else kind_of(error)
    text = describe(error)
    advice = hint or advice_for(error)
    body = f"{kind}{where}\n{text}" if text else f"{kind}{where}"
    if advice and advice not in body:
        body += f"\n{advice}"
    return without_paths(body[: 4 * limits.message_chars])[: limits.message_chars]


def kind_of(error: BaseException) -> str:
    if isinstance(error, LimitReached):
        return {"timeout": "Timeout", "memory": "Memory limit", "output": "Output limit"}[error.kind]
    return type(error).__name__[:80] if type(error).__name__ != "error" else "cv2.error"


def describe(error: BaseException) -> str:
    """The text of an exception, shortened; OpenCV's own file and line are dropped."""
    if isinstance(error, SyntaxError) and type(error.msg) is str:
        return error.msg[:300]
    args = exception_args(error)
    try:
        text = to_text(args[0])[:2000] if len(args) == 1 else ", ".join(to_text(a)[:200] for a in args[:8])
    except (Exception, LimitReached):
        text = "(no text)"
    if text.startswith("OpenCV("):
        text = re.sub(r"^OpenCV\([^)]*\)\s*\S*\s*error:\s*\([^)]*\)\s*", "", text)
    return text[:400].strip()


def line_of(error: BaseException) -> int | None:
    """The innermost line of the code, from the traceback or the compiler."""
    if isinstance(error, SyntaxError) and type(error.lineno) is int:
        return error.lineno
    if getattr(error, "lineno", None) is not None and isinstance(error, Refused):
        return error.lineno  # type: ignore[attr-defined]
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == CODE_NAME:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def advice_for(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return "Send the complete, corrected code."
    if isinstance(error, NameError) and not isinstance(error, Refused):
        return "Available: image, img, images, image_index, draw, and PIL, numpy (np), cv2, math, json, re and other harmless modules."
    if isinstance(error, RecursionError):
        return "Use a loop instead of deep recursion."
    return ""


def without_paths(text: str) -> str:
    return PATH.sub("<path>", text)


def last_frame(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace
