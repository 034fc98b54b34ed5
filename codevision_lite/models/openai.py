"""A ChatModel over any OpenAI-compatible server (vLLM, SGLang, llama.cpp, a hosted model): our dialogue as chat messages.

Our own system message with the tool's schema goes as text and tool results as user turns, so that the chat template of a Qwen
server renders what protocol.py renders; the server's own tool calling is not used. Does not count tokens before the server does,
and does not hold a conversation: every turn is sent whole, and a server with a prefix cache makes that cheap.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from codevision_lite.models import Dialogue, Segment
from codevision_lite.models.server import ChatServer, Completion, image_part
from codevision_lite.protocol import IMAGE

_MESSAGE = re.compile(r"<\|im_start\|>(\w+)\n(.*?)<\|im_end\|>", re.S)


@dataclass
class ServerReply(Segment):
    """A reply without token ids, with the numbers of tokens that the server counted (0: it does not tell)."""

    n_tokens: int = 0
    n_with_prompt: int = 0  # the whole conversation up to its end, pictures included


class ServerModel:
    """A ChatModel that asks a server. Safe to share between threads; one dialogue at a time in each."""

    batch_size = 1  # so that one slow or failing request holds up nothing else: run episodes in threads

    def __init__(self, server: ChatServer, *, temperature: float = 0.0):
        self.server, self.temperature = server, temperature

    def reply(self, dialogues: Sequence[Dialogue], max_new_tokens: int) -> list[Segment]:
        """See ChatModel. Raises models.server.ServerError where the server fails for good."""
        return [self._reply(dialogue, max_new_tokens) for dialogue in dialogues]

    def _reply(self, dialogue: Dialogue, max_new_tokens: int) -> ServerReply:
        done = self.server.complete(chat_messages(dialogue), max_tokens=max_new_tokens, temperature=self.temperature)
        return ServerReply("reply", _text(done), finished=done.finished, n_tokens=done.n_reply_tokens, n_with_prompt=done.n_tokens)


def chat_messages(dialogue: Dialogue) -> list[dict[str, Any]]:
    """OpenAI-style messages with the dialogue's pictures in their places; a Qwen template renders them to the dialogue's text."""
    messages: list[dict[str, Any]] = []
    for segment in dialogue.segments:
        if segment.role == "reply":
            messages.append({"role": "assistant", "content": segment.text})
            continue
        pictures = iter(segment.images)
        for role, text in _MESSAGE.findall(segment.text):
            messages.append({"role": role, "content": _parts(text, pictures) if IMAGE in text else text})
    return messages


def _parts(text: str, pictures: Any) -> list[dict[str, Any]]:
    first, *rest = text.split(IMAGE)
    parts = [{"type": "text", "text": first}] if first else []
    for after in rest:
        parts.append(image_part(next(pictures)))
        parts += [{"type": "text", "text": after}] if after else []
    return parts


def _text(done: Completion) -> str:
    """The reply as the model wrote it: servers may take its thoughts out, or begin them in the prompt."""
    text = done.text.removesuffix("<|im_end|>").strip()
    if done.reasoning and "</think>" not in text:
        return f"<think>{done.reasoning.strip()}</think>\n{text}"
    return f"<think>{text}" if "</think>" in text and "<think>" not in text else text
