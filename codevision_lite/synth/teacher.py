"""A teacher model writes the replies of a script again: its own words about what it sees, its own code with the same effect.

The teacher is told each turn's draft (as the paper's teacher is told the tools and the box; section 3.1) and shown the
pictures so far. What it writes is run and verified exactly as the drafts are; what fails is rejected. Replies are kept on disk,
so a stopped run asks for none of them twice.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from codevision_lite.agent import run_episodes
from codevision_lite.errors import UserError
from codevision_lite.files import append_jsonl, read_jsonl
from codevision_lite.models import Dialogue, Segment
from codevision_lite.models.server import ChatServer, ServerError, image_part
from codevision_lite.protocol import IMAGE, system_text
from codevision_lite.synth.gold import LIMITS, Gold, Rejected, Script, ScriptedReply, timeless, verify

CONCURRENCY = 8  # episodes at a time
_MAX_REPLY_TOKENS = 1024
_TASK = (
    "You write training examples for an assistant that answers questions about pictures with Python. Its instructions are:\n"
    "<<<\n{system}\n>>>\n"
    "Each turn you get the conversation so far and a correct but wooden draft of the assistant's next reply. Write that reply again: "
    "think in your own words about what you see in the picture and why this step comes next, and write the code in your own way. Your code "
    "must have exactly the same effect as the draft's (the same operation, the same box in pixels, the same image_index; if the draft's "
    "code has a mistake, keep a mistake of that kind). Keep an <answer> as it is. Don't mention the draft. Output the reply alone, in the "
    "same tags."
)


class Teacher:
    """The server with its memory on disk, its pace and its budget. Safe to share between threads."""

    def __init__(self, server: ChatServer, memory: Path, requests_per_minute: int, max_tokens: int):
        self.server, self.memory, self.max_tokens = server, memory, max_tokens
        self._pause_s = 60.0 / requests_per_minute
        self._lock, self._next = threading.Lock(), 0.0
        rows = read_jsonl(memory, cut_tail=True) if memory.exists() else []
        self._known: dict[str, str] = {row["key"]: row["text"] for row in rows}
        self.n_tokens = sum(row["n_tokens"] for row in rows)  # over stopped runs too
        self.n_failed = 0

    def write(self, messages: list[dict[str, Any]], key: str) -> str:
        """The teacher's reply. Raises UserError when the budget is used up, ServerError when the server fails."""
        with self._lock:
            if key in self._known:
                return self._known[key]
            if self.n_tokens >= self.max_tokens:
                raise UserError(
                    f"data.teacher_max_tokens: {self.n_tokens:,} tokens are used of {self.max_tokens:,}. What is done is kept; raise it "
                    "and run again"
                )
            start = max(self._next, time.monotonic())
            self._next = start + self._pause_s
        time.sleep(max(0.0, start - time.monotonic()))
        done = self.server.complete(messages, max_tokens=_MAX_REPLY_TOKENS, temperature=0.7)
        with self._lock:
            self._known[key] = done.text
            self.n_tokens += done.n_tokens
            append_jsonl(self.memory, {"key": key, "text": done.text, "n_tokens": done.n_tokens})
        return done.text


def make_taught_golds(scripts: Iterable[Script], sandbox: Any, teacher: Teacher) -> Iterator[Gold | Rejected]:
    """As gold.make_golds, with the teacher's words and code; order is kept.

    Raises UserError when the budget is used up, and when the server fails for one script after another."""
    failures = 0
    with ThreadPoolExecutor(CONCURRENCY) as threads:
        for made in threads.map(lambda script: _taught(script, sandbox, teacher), scripts):
            failures = failures + 1 if isinstance(made, Rejected) and made.reason.startswith("teacher:") else 0
            if failures >= 5:
                threads.shutdown(wait=False, cancel_futures=True)
                raise UserError(f"{made.reason}. Start the server or correct data.teacher, and run again: what is done is kept")
            yield made


def _taught(script: Script, sandbox: Any, teacher: Teacher) -> Gold | Rejected:
    model = _TaughtModel(script, teacher)
    try:
        (episode,) = run_episodes(model, sandbox, [script.item.sample], LIMITS)
    except ServerError as e:
        return Rejected(script, f"teacher: {e}")
    n, wanted = len(episode.turns), len(script.replies)
    problem = verify(script, episode) if n == wanted else f"{n} replies in place of {wanted}"
    if problem is not None:
        written = tuple(ScriptedReply(turn.text) for turn in episode.turns)
        return Rejected(replace(script, replies=written), problem)
    return Gold(script.item, script.type, timeless(episode.trajectory()), tuple(r.trained for r in script.replies))


class _TaughtModel:
    """A ChatModel for one script: asks the teacher for each reply of its dialogue."""

    batch_size = 1

    def __init__(self, script: Script, teacher: Teacher):
        self.script, self.teacher = script, teacher

    def reply(self, dialogues: Sequence[Dialogue], max_new_tokens: int) -> list[Segment]:
        return [self._reply(dialogue) for dialogue in dialogues]

    def _reply(self, dialogue: Dialogue) -> Segment:
        turn = sum(s.role == "reply" for s in dialogue.segments)
        draft = self.script.replies[min(turn, len(self.script.replies) - 1)].text
        messages: list[dict[str, Any]] = [{"role": "system", "content": _TASK.format(system=system_text())}]
        for segment in dialogue.segments:
            messages.append(_message(segment))
        messages.append({"role": "user", "content": f"The draft of the assistant's next reply:\n{draft}"})
        text = "\n".join([self.script.item.sample.id, *(s.text for s in dialogue.segments), draft, self.teacher.server.model])
        return Segment("reply", self.teacher.write(messages, hashlib.sha256(text.encode()).hexdigest()[:24]).strip())


def _message(segment: Segment) -> dict[str, Any]:
    """A segment of our dialogue as an OpenAI-style message; chat markers are the server's business."""
    if segment.role == "reply":
        return {"role": "assistant", "content": segment.text}
    text = segment.text.split("<|im_start|>user\n")[-1].split("<|im_end|>")[0].replace(IMAGE, "")
    return {"role": "user", "content": [*map(image_part, segment.images), {"type": "text", "text": text.strip()}]}

