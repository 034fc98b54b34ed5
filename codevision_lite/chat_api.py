"""The JSON of OpenAI's chat API, both directions: a request to a question with pictures, an episode to a completion."""

from __future__ import annotations

import base64
import binascii
import io
import re
import time
import warnings
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image, ImageOps

from codevision_lite.agent import AgentLimits, Episode
from codevision_lite.ask import Step
from codevision_lite.imaging import MAX_ASPECT, MAX_SOURCE_PIXELS, open_image
from codevision_lite.models.openai import ServerReply

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")  # no EPS: Pillow opens it by running another program
_DATA_URL = re.compile(r"data:image/[\w.+-]+;base64,(.*)", re.S)
_ROLES = ("system", "developer", "user", "assistant")


class ApiError(Exception):
    """What a client is told instead of an answer."""

    def __init__(self, status: int, message: str, kind: str = "invalid_request_error", param: str | None = None, code: str | None = None):
        super().__init__(message)
        self.status, self.message, self.kind, self.param, self.code = status, message, kind, param, code

    def to_json(self) -> dict[str, Any]:
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


@dataclass(frozen=True)
class Request:
    """What a client asks."""

    question: str
    pictures: tuple[Image.Image, ...]  # RGB, upright
    limits: AgentLimits
    stream: bool = False
    include_usage: bool = False  # of a stream: a last chunk with the usage


def read_request(body: Any, model: str, limits: AgentLimits) -> Request:
    """The question that a request's body asks of `model`, within `limits`. Raises ApiError saying which field is wrong."""
    if not isinstance(body, dict):
        raise ApiError(400, "the request must be a JSON object")
    if body.get("model") != model:
        raise ApiError(404, f"no model {_short(body.get('model'))} here; there is: {model}", param="model", code="model_not_found")
    if body.get("n") not in (None, 1):
        raise _bad("n", "one reply to a request: leave out 'n', or send 1")
    for name in ("tools", "functions"):
        if body.get(name):
            raise _bad(name, f"the model has its own tool, which runs on the server: leave out {name!r}")
    if (body.get("response_format") or {"type": "text"}) != {"type": "text"}:
        raise _bad("response_format", "only text is answered: leave out 'response_format'")
    stream, options = body.get("stream") or False, body.get("stream_options") or {}
    if not isinstance(stream, bool) or not isinstance(options, dict):
        raise _bad("stream", "'stream' is true or false, 'stream_options' an object")
    question, pictures = _read_messages(body.get("messages"), limits.max_images - 1)
    return Request(question, pictures, _lowered(limits, body), stream, options.get("include_usage") is True)


def _lowered(limits: AgentLimits, body: dict[str, Any]) -> AgentLimits:
    """The tokens that a client allows count for each reply of the model; it can't raise what the server allows."""
    for name in ("max_completion_tokens", "max_tokens"):
        if (given := body.get(name)) is not None:
            if isinstance(given, bool) or not isinstance(given, int) or given < 1:
                raise _bad(name, f"{name!r} must be a whole number > 0, got {_short(given)}")
            limits = replace(limits, max_reply_tokens=min(limits.max_reply_tokens, given))
    return limits


def _read_messages(messages: Any, max_pictures: int) -> tuple[str, tuple[Image.Image, ...]]:
    """The last message is the question; earlier ones are quoted before it, and the pictures of all are shown."""
    if not isinstance(messages, list) or not messages:
        raise _bad("messages", "'messages' must be a list of at least one message")
    said: list[tuple[str, str]] = []
    urls: list[tuple[str, str]] = []  # where it stands, the URL
    for i, message in enumerate(messages):
        where = f"messages[{i}]"
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            raise _bad(where, f"{where} must be an object with a role of {', '.join(_ROLES)}")
        text, shown = _read_content(message.get("content"), where)
        said.append((message["role"], text))
        urls += shown
    if said[-1][0] != "user" or not said[-1][1].strip():
        raise _bad("messages", "the last message must be the user's, with a question as its text")
    if not 1 <= len(urls) <= max_pictures:
        raise _bad("messages", f"{len(urls)} pictures in the messages; 1 to {max_pictures} are needed, as image_url parts")
    pictures, room = [], MAX_SOURCE_PIXELS
    for where, url in urls:
        pictures.append(_decode(url, where, room))
        room -= pictures[-1].width * pictures[-1].height
    before = "\n".join(f"{role}: {text}" for role, text in said[:-1] if text.strip())
    question = said[-1][1].strip()
    return (f"The conversation so far:\n{before}\nNow: {question}" if before else question), tuple(pictures)


def _read_content(content: Any, where: str) -> tuple[str, list[tuple[str, str]]]:
    """(text, URLs of pictures with their places) of a message."""
    if content is None or isinstance(content, str):
        return content or "", []
    if not isinstance(content, list):
        raise _bad(f"{where}.content", f"{where}.content must be a text or a list of parts")
    texts, urls = [], []
    for j, part in enumerate(content):
        place = f"{where}.content[{j}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind == "image_url":
            url = part.get("image_url")
            url = url.get("url") if isinstance(url, dict) else url
            if not isinstance(url, str):
                raise _bad(place, f"{place}.image_url needs a 'url'")
            urls.append((place, url))
        else:
            raise _bad(place, f"{place} must be of type text or image_url, got {_short(kind)}")
    return "\n".join(texts), urls


def _decode(url: str, where: str, max_pixels: int) -> Image.Image:
    found = _DATA_URL.fullmatch(url)
    if found is None:
        raise _bad(where, f"{where}: pictures come as data URLs (data:image/png;base64,...); this server fetches nothing")
    try:
        data = base64.b64decode(found.group(1), validate=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
            opened = Image.open(io.BytesIO(data), formats=FORMATS)
        width, height = opened.size
        if width * height <= max_pixels and max(width, height) < MAX_ASPECT * min(width, height):
            return open_image(ImageOps.exif_transpose(opened))
    except binascii.Error as e:
        raise _bad(where, f"{where}: not base64 ({e})") from e
    except Exception as e:  # a broken file can raise nearly anything
        raise _bad(where, f"{where}: not a readable picture ({', '.join(FORMATS)})") from e
    limits = f"{MAX_SOURCE_PIXELS:,} pixels in all, aspect {MAX_ASPECT}"
    raise _bad(where, f"{where}: {width}x{height} pixels is outside the limits of a request ({limits})")


def step_text(step: Step) -> str:
    """A step as Markdown, for `reasoning_content`."""
    if step.kind == "code":
        return f"```python\n{step.text}\n```\n"
    if step.kind == "result":
        return f"Ran {step.text}: picture {step.image_index}, {step.image.width}x{step.image.height} pixels.\n\n"
    return f"{'Problem: ' if step.kind == 'problem' else ''}{step.text}\n\n"


def completion(identity: str, model: str, episode: Episode, reasoning: str) -> dict[str, Any]:
    """A chat.completion object. Without an answer its content is what the model said last, and the reason says why it ended."""
    last = "" if not episode.turns else episode.turns[-1].text.partition("</think>")[2].strip() or episode.turns[-1].text
    content = episode.answer if episode.answer is not None else last
    finish = "stop" if episode.end_reason in ("answer", "no_action") else "length"
    return {
        "id": identity, "object": "chat.completion", "created": int(time.time()), "model": model,
        "choices": [{
            "index": 0, "finish_reason": finish, "logprobs": None,
            "message": {"role": "assistant", "content": content, "reasoning_content": reasoning, "refusal": None},
        }],
        "usage": _usage(episode),
        "codevision": {"end_reason": episode.end_reason, "turns": len(episode.turns), "seconds": round(episode.seconds, 2)},
    }  # fmt: skip


def _usage(episode: Episode) -> dict[str, int] | None:
    """Tokens of the whole conversation, each counted once, and of the replies in it: our own count, or that of the server that was
    asked. None where it does not tell."""
    replies = [segment for segment in episode.dialogue.segments if segment.role == "reply"]
    asked = [reply for reply in replies if isinstance(reply, ServerReply)]
    written = sum(reply.n_tokens for reply in asked) if asked else sum(turn.n_tokens for turn in episode.turns)
    total = max(asked[-1].n_with_prompt if asked else episode.dialogue.n_tokens, written)
    if not total or any(not reply.n_with_prompt for reply in asked):
        return None
    return {"prompt_tokens": total - written, "completion_tokens": written, "total_tokens": total}


def chunk(identity: str, created: int, model: str, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    """A chat.completion.chunk object."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
    return {"id": identity, "object": "chat.completion.chunk", "created": created, "model": model, "choices": [choice]}


def _bad(param: str, message: str) -> ApiError:
    return ApiError(400, message, param=param)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
