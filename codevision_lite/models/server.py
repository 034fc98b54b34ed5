"""A client for OpenAI-compatible chat servers (vLLM and others), with the standard library alone.

Retries what may pass (busy, time-out, server error) with growing pauses, or after the one that the server asks for (Retry-After);
everything else raises ServerError at once. The key is read from an environment variable, so that it never stands in a recipe.
"""

from __future__ import annotations

import base64
import email.utils
import io
import json
import os
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from PIL import Image

_RETRIED = frozenset((408, 409, 425, 429, 500, 502, 503, 504))
_SAYS_WHEN = frozenset((429, 503))  # whose Retry-After is kept to (RFC 9110, section 10.2.3; RFC 6585, section 4)
_MAX_REPLY = 8_000_000  # bytes


class ServerError(Exception):
    """The server could not be asked or understood; the message says what happened."""


@dataclass(frozen=True)
class Completion:
    """What the server said, and how many tokens it counted (0 where it does not tell)."""

    text: str
    n_tokens: int  # prompt and reply
    n_reply_tokens: int = 0
    finished: bool = True  # False: cut at max_tokens
    reasoning: str = ""  # what a reasoning parser of the server took out of the text


@dataclass(frozen=True)
class ChatServer:
    """One model of one server. Safe to share between threads."""

    url: str  # up to and including /v1
    model: str
    api_key_variable: str = "OPENAI_API_KEY"
    timeout_s: float = 120.0  # for one attempt
    max_retries: int = 3  # after the first attempt
    max_pause_s: float = 60.0  # a server that asks for a longer pause is not asked again

    def complete(self, messages: list[dict[str, Any]], *, max_tokens: int, temperature: float = 0.0) -> Completion:
        """One reply to OpenAI-style messages. Raises ServerError."""
        body = {"model": self.model, "messages": messages, "max_tokens": max_tokens, "temperature": temperature}
        problem, pause_s = "", 0.0
        for attempt in range(self.max_retries + 1):
            time.sleep(pause_s)
            pause_s = min(1.0 * 2**attempt, self.timeout_s)
            try:
                return _completion(self._post(body))
            except urllib.error.HTTPError as e:
                problem = f"HTTP {e.code} {e.reason}{_detail(e)}"
                if e.code not in _RETRIED:
                    break
                asked_s = _asked_pause_s(e) if e.code in _SAYS_WHEN else None
                if asked_s is not None and asked_s > self.max_pause_s:
                    problem += f" (it asks for a pause of {asked_s:.0f} s; more than {self.max_pause_s:.0f} s are not waited)"
                    break
                pause_s = pause_s if asked_s is None else asked_s
            except (OSError, ValueError, LookupError, TypeError) as e:  # network, time-out, a reply that is none
                problem = f"{type(e).__name__}: {e}"
        raise ServerError(f"{self.url}: {problem}")

    def _post(self, body: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(self.api_key_variable):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(f"{self.url.rstrip('/')}/chat/completions", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=self.timeout_s) as reply:
            return json.loads(reply.read(_MAX_REPLY))


def _completion(reply: Any) -> Completion:
    choice = reply["choices"][0]
    text, finished = choice["message"]["content"], choice.get("finish_reason") != "length"
    reasoning = choice["message"].get("reasoning_content") or choice["message"].get("reasoning") or ""
    if text is None and reasoning and not finished:
        text = ""  # cut while the model was thinking
    if not isinstance(text, str) or not isinstance(reasoning, str):
        raise TypeError("the reply has no text")
    usage = reply.get("usage") or {}
    return Completion(text, int(usage.get("total_tokens") or 0), int(usage.get("completion_tokens") or 0), finished, reasoning)


def _detail(error: urllib.error.HTTPError) -> str:
    """The first words of what the server says about an error: a context that is too long and a wrong model name are both HTTP 400."""
    try:
        words = " ".join(error.read(400).decode(errors="replace").split())
    except (OSError, ValueError):
        return ""
    return f": {words}" if words else ""


def _asked_pause_s(error: urllib.error.HTTPError) -> float | None:
    """Seconds of its Retry-After, which holds seconds or a date; None without one that can be read."""
    text = (error.headers.get("Retry-After") or "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def image_part(image: Image.Image) -> dict[str, Any]:
    """A picture as a part of a message."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=3)
    uri = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return {"type": "image_url", "image_url": {"url": uri}}
