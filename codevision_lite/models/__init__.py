"""What answers: a ChatModel continues dialogues. Backends: hf.py (transformers | Unsloth) and the ScriptedModel of tests.

A Dialogue is the list of segments that protocol.py renders; a backend appends token ids to it and never re-tokenises.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from PIL import Image


@dataclass
class Segment:
    """One piece of a dialogue. `text` holds one protocol.IMAGE for each of `images`."""

    role: Literal["prompt", "reply", "observation"]
    text: str
    images: tuple[Image.Image, ...] = ()
    token_ids: list[int] | None = None  # set by the backend; a reply's include its end-of-turn token
    logprobs: list[float] | None = None  # of a sampled reply's tokens, under the full softmax at the sampling temperature
    finished: bool = True  # False: the reply was cut at the token limit


@dataclass(eq=False)  # identity: two rollouts of one prompt are two dialogues
class Dialogue:
    """A conversation under way."""

    segments: list[Segment] = field(default_factory=list)

    @property
    def n_tokens(self) -> int:
        """Tokens so far, images included; 0 for backends that don't count."""
        return sum(len(s.token_ids or ()) for s in self.segments)

    @property
    def images(self) -> list[Image.Image]:
        return [image for segment in self.segments for image in segment.images]


class ChatModel(Protocol):
    """Anything that can continue dialogues."""

    batch_size: int  # how many dialogues it likes to be given at once

    def reply(self, dialogues: Sequence[Dialogue], max_new_tokens: int) -> list[Segment]:
        """One reply segment for each dialogue, in order; the caller appends them."""
        ...


@runtime_checkable
class StreamingModel(ChatModel, Protocol):
    """A ChatModel whose dialogues need not wait for each other."""

    def generating(self) -> AbstractContextManager[None]:
        """The methods below work inside."""
        ...

    def encode(self, segment: Segment) -> int:
        """How many tokens a segment has, its pictures included; 0 where the model does not count."""
        ...

    def add(self, dialogue: Dialogue, max_new_tokens: int) -> None:
        """Ask for the next reply to a dialogue."""
        ...

    def advance(self) -> list[tuple[Dialogue, Segment]]:
        """The replies that are finished next, of those that were asked for; the caller appends them."""
        ...

    def drop(self, dialogue: Dialogue) -> None:
        """A dialogue that is over."""
        ...


@contextmanager
def streaming(model: ChatModel) -> Iterator[StreamingModel]:
    """The model as a StreamingModel; one that only knows `reply` goes in step and does not count tokens."""
    stream = model if isinstance(model, StreamingModel) else _InStep(model)
    with stream.generating():
        yield stream


def reply_in_step(stream: StreamingModel, dialogues: Sequence[Dialogue], max_new_tokens: int) -> list[Segment]:
    """ChatModel.reply by a StreamingModel: the replies of all, in order, when the last one is finished."""
    replies: dict[int, Segment] = {}
    with stream.generating():
        for dialogue in dialogues:
            stream.add(dialogue, max_new_tokens)
        while len(replies) < len(dialogues):
            replies.update((id(dialogue), reply) for dialogue, reply in stream.advance())
    return [replies[id(dialogue)] for dialogue in dialogues]


class _InStep:
    """A ChatModel as a StreamingModel: all dialogues that wait are replied to at once."""

    def __init__(self, model: ChatModel):
        self.model, self.batch_size = model, model.batch_size
        self._asked: list[Dialogue] = []
        self._max_new_tokens = 0

    def reply(self, dialogues: Sequence[Dialogue], max_new_tokens: int) -> list[Segment]:
        return self.model.reply(dialogues, max_new_tokens)

    @contextmanager
    def generating(self) -> Iterator[None]:
        yield

    def encode(self, segment: Segment) -> int:
        return 0

    def add(self, dialogue: Dialogue, max_new_tokens: int) -> None:
        self._asked.append(dialogue)
        self._max_new_tokens = max_new_tokens

    def advance(self) -> list[tuple[Dialogue, Segment]]:
        asked, self._asked = self._asked, []
        return list(zip(asked, self.reply(asked, self._max_new_tokens), strict=True)) if asked else []

    def drop(self, dialogue: Dialogue) -> None:
        pass


class ScriptedModel:
    """Replies with given texts in turn, the same ones for every dialogue; for gold data and tests."""

    batch_size = 64

    def __init__(self, replies: Sequence[str]):
        self.replies = list(replies)

    def reply(self, dialogues: Sequence[Dialogue], max_new_tokens: int = 0) -> list[Segment]:
        """Raises IndexError when a dialogue outlasts the script."""
        return [Segment("reply", self.replies[sum(s.role == "reply" for s in d.segments)]) for d in dialogues]


def load_model(name: str, **options: Any) -> ChatModel:
    """A model by local folder or hub name, with its adapter where `adapter=FOLDER` is given (see models/hf.py)."""
    from codevision_lite.models.backend import start_backend

    start_backend(options.get("backend", "auto"))  # before what imports transformers
    from codevision_lite.models.hf import HFModel
    from codevision_lite.models.load import load_base

    sampling = {k: options.pop(k) for k in ("temperature", "seed", "batch_size") if k in options}
    model, processor = load_base(name, **options)
    return HFModel(model, processor, **sampling)
