"""One local model for episodes in several threads: their dialogues are decoded together, in one thread that owns the model."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from typing import Any

from codevision_lite.models import ChatModel, Dialogue, Segment, StreamingModel, reply_in_step, streaming

_Job = Callable[[StreamingModel], None]


def shared(model: ChatModel) -> ChatModel:
    """The model as one that threads may share; a model that does not stream (a server) is that already."""
    return SharedModel(model) if isinstance(model, StreamingModel) else model


class SharedModel:
    """A StreamingModel over another one, safe to share between threads; each thread has one `generating` open at a time.

    What fails in the model is raised in every thread that waits for a reply, and the model starts afresh.
    """

    batch_size = 1  # of one thread; the model's own bounds how many threads are of use

    def __init__(self, model: StreamingModel):
        self._model = model
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._asked: dict[int, Future[tuple[Dialogue, Segment]]] = {}  # by id of the dialogue; of the model's thread
        self._local = threading.local()
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the model's thread once what it decodes is done."""
        self._jobs.put(None)
        self._thread.join()

    @contextmanager
    def generating(self) -> Iterator[None]:
        """See StreamingModel. Dialogues that the thread leaves unfinished are dropped at the end."""
        mine: dict[int, tuple[Dialogue, Future[tuple[Dialogue, Segment]]]] = {}
        self._local.mine = mine
        try:
            yield
        finally:
            for dialogue, _ in mine.values():
                self._do(lambda model, dialogue=dialogue: model.drop(dialogue))

    def reply(self, dialogues: list[Dialogue], max_new_tokens: int) -> list[Segment]:
        return reply_in_step(self, dialogues, max_new_tokens)

    def encode(self, segment: Segment) -> int:
        return self._do(lambda model: model.encode(segment))

    def add(self, dialogue: Dialogue, max_new_tokens: int) -> None:
        reply: Future[tuple[Dialogue, Segment]] = Future()

        def ask(model: StreamingModel) -> None:
            model.add(dialogue, max_new_tokens)
            self._asked[id(dialogue)] = reply

        self._do(ask)
        self._local.mine[id(dialogue)] = dialogue, reply

    def advance(self) -> list[tuple[Dialogue, Segment]]:
        """The replies to this thread's dialogues that are finished next."""
        waiting = [reply for _, reply in self._local.mine.values() if reply is not None]
        done = [reply.result() for reply in wait(waiting, return_when=FIRST_COMPLETED).done] if waiting else []
        for dialogue, _ in done:
            self._local.mine[id(dialogue)] = dialogue, None
        return done

    def drop(self, dialogue: Dialogue) -> None:
        self._local.mine.pop(id(dialogue), None)
        self._do(lambda model: model.drop(dialogue))

    def _do(self, job: Callable[[StreamingModel], Any]) -> Any:
        """Let the model's thread do it between two of its steps; gives what it returns, raises what it raises."""
        done: Future[Any] = Future()

        def run(model: StreamingModel) -> None:
            try:
                done.set_result(job(model))
            except Exception as e:
                done.set_exception(e)

        self._jobs.put(run)
        return done.result()

    def _work(self) -> None:
        with streaming(self._model) as model:
            while True:
                while not self._asked or not self._jobs.empty():
                    if (job := self._jobs.get()) is None:
                        return
                    job(model)
                try:
                    for dialogue, reply in model.advance():
                        self._asked.pop(id(dialogue)).set_result((dialogue, reply))
                except Exception as e:  # memory, most likely: whoever waits is told
                    for future in self._asked.values():
                        future.set_exception(e)
                    self._asked.clear()
                    self._model.forget()
