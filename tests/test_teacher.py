"""A teacher behind a real local server: its words and code are verified as the drafts are, nothing is asked twice, and the budget holds."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from codevision_lite.errors import UserError
from codevision_lite.models.server import ChatServer, ServerError
from codevision_lite.recipe import SFT_MIX
from codevision_lite.synth.gold import Gold, Rejected
from codevision_lite.synth.samples import make_items
from codevision_lite.synth.signs_scripts import write_script
from codevision_lite.synth.teacher import Teacher, make_taught_golds


class Server(ThreadingHTTPServer):
    """Rewrites drafts as `rewrite` says; keeps the requests. `statuses`: of the next replies; `reply`: sent whatever is asked."""

    def __init__(self, rewrite):
        self.rewrite, self.requests, self.statuses, self.times, self.reply = rewrite, [], [], [], None
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(body)
        self.server.times.append(time.monotonic())
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        draft = body["messages"][-1]["content"].split("next reply:\n", 1)[1]
        reply = {"choices": [{"message": {"content": self.server.rewrite(draft)}, "finish_reason": "stop"}], "usage": {"total_tokens": 100}}
        payload = json.dumps(reply if self.server.reply is None else self.server.reply).encode()
        self.send_response(status)
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *args):
        pass


def own_words(draft):
    return draft.replace("<think>", "<think>Let me look. ").replace("result = image.", "fixed = image.").replace(
        '", "image_index"', '\\nresult = fixed", "image_index"') if "fixed" not in draft and "result = image." in draft else draft.replace(
        "<think>", "<think>Let me look. ")  # fmt: skip


@pytest.fixture
def serve():
    servers = []

    def start(rewrite=own_words):
        servers.append(Server(rewrite))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def scripts(n=12, seed=0):
    rng = random.Random(seed)
    return [write_script(item, rng, 0.3, 0.5) for item in make_items(seed, "train", n, SFT_MIX)]


def teacher(server, folder, per_minute=100_000, max_tokens=10**9, **more):
    return Teacher(ChatServer(server.url, "big", **more), folder / "teacher.jsonl", per_minute, max_tokens)


def test_the_teachers_words_and_code_are_run_and_kept(serve, sandbox, tmp_path):
    server = serve()
    made = list(make_taught_golds(scripts(), sandbox, teacher(server, tmp_path)))
    assert all(isinstance(m, Gold) for m in made), [m.reason for m in made if isinstance(m, Rejected)]
    assert [m.item.sample.id for m in made] == [s.item.sample.id for s in scripts()], "in order"
    assert all("Let me look." in t.text for m in made for t in m.trajectory.turns)
    assert any("fixed = image." in t.text for m in made for t in m.trajectory.turns)
    first = server.requests[0]["messages"]
    assert first[0]["role"] == "system" and first[1]["content"][0]["type"] == "image_url"
    assert all("<|" not in json.dumps(r) for r in server.requests), "chat markers are the server's business"


def test_nothing_is_asked_twice_and_the_same_rows_come_out(serve, sandbox, tmp_path):
    server = serve()
    first = list(make_taught_golds(scripts(), sandbox, teacher(server, tmp_path)))
    n = len(server.requests)
    again = list(make_taught_golds(scripts(), sandbox, teacher(server, tmp_path)))
    assert len(server.requests) == n
    assert [m.trajectory.turns for m in first] == [m.trajectory.turns for m in again]


@pytest.mark.parametrize(
    ("rewrite", "reason"),
    [
        (lambda draft: draft.replace("rotate(90", "rotate(180").replace("ROTATE_90", "ROTATE_180"), "not upright"),
        (lambda draft: draft.replace("<answer>", "<answer>not "), "answer"),
        (lambda draft: "I would rather talk about the weather.", "ended with|in place of|came back"),
        (lambda draft: "<think>I know.</think>\n<answer>42</answer>", "answer|in place of"),
    ],
)
def test_what_the_teacher_gets_wrong_is_rejected_with_its_text(serve, sandbox, tmp_path, rewrite, reason):
    items = make_items(0, "train", 6, {"rotate_270": 1.0})
    drafts = [write_script(item, random.Random(0), 0.0, 0.5) for item in items if item.sample.required_ops]
    made = list(make_taught_golds(drafts, sandbox, teacher(serve(rewrite), tmp_path)))
    assert made and all(isinstance(m, Rejected) for m in made)
    assert all(re.search(reason, m.reason) for m in made), [m.reason for m in made]
    written = {reply.text for m in made for reply in m.script.replies}
    assert written.isdisjoint({reply.text for s in drafts for reply in s.replies if rewrite(reply.text) != reply.text})


def test_the_budget_stops_the_run_and_what_is_paid_for_is_kept(serve, sandbox, tmp_path):
    server = serve()
    with pytest.raises(UserError, match="teacher_max_tokens"):
        list(make_taught_golds(scripts(), sandbox, teacher(server, tmp_path, max_tokens=500)))
    used = len(server.requests)
    assert 5 <= used <= 5 + 8, "at most what was under way goes over"
    made = list(make_taught_golds(scripts(), sandbox, teacher(server, tmp_path)))
    assert len(made) == 12 and len(server.requests) == sum(len(s.replies) for s in scripts()), "none of the paid replies is asked for again"


def test_the_pace_is_kept(serve, sandbox, tmp_path):
    server = serve()
    list(make_taught_golds(scripts(3), sandbox, teacher(server, tmp_path, per_minute=1200)))
    gaps = [b - a for a, b in zip(server.times, server.times[1:], strict=False)]
    assert sum(gaps) >= 0.05 * len(gaps) * 0.8


def test_a_server_that_fails_is_named_and_costs_no_data(serve, sandbox, tmp_path):
    server = serve()
    server.statuses = [404] * 100
    with pytest.raises(UserError, match=r"HTTP 404.*data\.teacher"):
        list(make_taught_golds(scripts(), sandbox, teacher(server, tmp_path)))
    server.statuses = [503]
    made = make_taught_golds(scripts(), sandbox, teacher(server, tmp_path))
    assert all(isinstance(m, Gold) for m in made), "a busy server is asked again"


@pytest.mark.parametrize("reply", [{}, {"choices": []}, {"choices": [{"message": {"content": None}}]}, [], "text"])
def test_what_is_no_reply_is_a_server_error(serve, reply):
    server = serve()
    server.reply = reply
    with pytest.raises(ServerError, match=r"127\.0\.0\.1"):
        ChatServer(server.url, "m", max_retries=0).complete([{"role": "user", "content": "next reply:\nx"}], max_tokens=5)
