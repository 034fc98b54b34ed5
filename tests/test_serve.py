"""The chat server: what OpenAI clients send and read, what is refused and how, and what one client can't take from the others."""

from __future__ import annotations

import base64
import http.client
import importlib.util
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from chat_server import chat_server, completion, n_replies
from pictures import picture, same
from PIL import Image

from codevision_lite import serve as serving
from codevision_lite.agent import AgentLimits, run_episode
from codevision_lite.chat_api import ApiError, read_request
from codevision_lite.cli import main
from codevision_lite.errors import UserError
from codevision_lite.models import ScriptedModel
from codevision_lite.models.openai import ServerModel
from codevision_lite.models.server import ChatServer
from codevision_lite.models.shared import SharedModel, shared
from codevision_lite.protocol import render_reply
from codevision_lite.records import Sample, ToolCall
from codevision_lite.serve import AgentServer, ServeConfig

TURN = render_reply("Turn it.", ToolCall("result = image.rotate(90, expand=True)"))
ANSWER = render_reply("I see.", answer="F")


def data_url(image=None, kind="PNG", **options):
    buffer = io.BytesIO()
    (image or picture()).save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def user(text="What?", *urls):
    shown = [{"type": "image_url", "image_url": {"url": url}} for url in urls or (data_url(),)]
    return {"role": "user", "content": [*shown, {"type": "text", "text": text}]}


def body(**more):
    return {"model": "tiny", "messages": [user()], **more}


@contextmanager
def running(sandbox, model=None, **config):
    """The server in a thread; gives a function that sends a request."""
    server = AgentServer(ServeConfig("tiny", port=0, **config), model or ScriptedModel([TURN, ANSWER]), sandbox)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def send(method="POST", path="/v1/chat/completions", content=None, raw=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
        data = raw if raw is not None else None if content is None else json.dumps(content).encode()
        headers = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, data, headers)
        reply = connection.getresponse()
        text = reply.read().decode()
        connection.close()
        return reply.status, text if "event-stream" in reply.headers["Content-Type"] else json.loads(text)

    send.server = server
    try:
        yield send
    finally:
        server.shutdown()
        server.server_close()


def test_the_answer_of_the_whole_loop_is_the_reply(sandbox):
    with running(sandbox) as send:
        status, reply = send(content=body())
    choice = reply["choices"][0]
    assert (status, reply["object"], reply["model"], choice["finish_reason"]) == (200, "chat.completion", "tiny", "stop")
    assert choice["message"]["content"] == "F"
    for said in ("Turn it.", "```python\nresult = image.rotate(90, expand=True)\n```", "Ran rotate(90, True): picture 1, 84x84", "I see."):
        assert said in choice["message"]["reasoning_content"]
    assert reply["codevision"]["end_reason"] == "answer" and reply["codevision"]["turns"] == 2


def test_a_stream_sends_the_steps_then_the_answer_then_done(sandbox):
    with running(sandbox) as send:
        status, text = send(content=body(stream=True, stream_options={"include_usage": True}))
    events = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert status == 200 and events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    assert {c["object"] for c in chunks} == {"chat.completion.chunk"} and len({c["id"] for c in chunks}) == 1
    deltas = [c["choices"][0]["delta"] for c in chunks if c["choices"]]
    assert deltas[0]["role"] == "assistant" and "".join(d.get("content", "") for d in deltas) == "F"
    assert "Turn it." in deltas[1]["reasoning_content"] and any("Ran rotate" in d.get("reasoning_content", "") for d in deltas)
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"] is None, "a scripted model counts nothing"


def test_the_usage_is_what_the_models_own_server_counted(sandbox):
    """It says 100 tokens of prompt and 40 of reply, then 240 and 9: of the conversation, 249 tokens, 49 were written."""
    counts = [(100, 40, TURN), (240, 9, ANSWER)]

    def reply(asked):
        prompt, written, text = counts[n_replies(asked)]
        return completion(text) | {"usage": {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}}

    wanted = {"prompt_tokens": 200, "completion_tokens": 49, "total_tokens": 249}
    with chat_server(reply) as upstream, running(sandbox, ServerModel(ChatServer(upstream.url, "m"))) as send:
        assert send(content=body())[1]["usage"] == wanted
        _, text = send(content=body(stream=True, stream_options={"include_usage": True}))
    assert json.loads(text.split("\n\n")[-3].removeprefix("data: "))["usage"] == wanted


def test_where_the_models_own_server_counts_nothing_no_number_is_made_up(sandbox):
    silent = completion(ANSWER) | {"usage": None}
    with chat_server(lambda asked: silent) as upstream, running(sandbox, ServerModel(ChatServer(upstream.url, "m"))) as send:
        assert send(content=body())[1]["usage"] is None


def test_each_step_is_sent_when_it_happens(sandbox):
    go = threading.Event()

    class Model(ScriptedModel):
        def reply(self, dialogues, max_new_tokens=0):
            assert len(dialogues[0].segments) == 1 or go.wait(20)
            return super().reply(dialogues)

    with running(sandbox, Model([TURN, ANSWER])) as send:
        connection = http.client.HTTPConnection("127.0.0.1", send.server.server_port, timeout=20)
        connection.request("POST", "/v1/chat/completions", json.dumps(body(stream=True)), {"Content-Type": "application/json"})
        reply, seen = connection.getresponse(), ""
        while "Ran rotate" not in seen:
            seen += reply.readline().decode()
        assert not go.is_set() and '"F"' not in seen
        go.set()
        assert '"F"' in reply.read().decode()


def test_models_and_health(sandbox):
    with running(sandbox) as send:
        assert send("GET", "/v1/models")[1]["data"][0]["id"] == "tiny"
        assert send("GET", "/health")[1]["status"] == "ok"


@pytest.mark.skipif(importlib.util.find_spec("openai") is None, reason="the package openai is not installed")
def test_the_openai_client_reads_it(sandbox):
    import openai

    with running(sandbox, api_key="secret") as send:
        client = openai.OpenAI(base_url=send.server.url, api_key="secret", max_retries=0)
        assert [m.id for m in client.models.list()] == ["tiny"]
        done = client.chat.completions.create(model="tiny", messages=[user()])
        assert done.choices[0].message.content == "F" and "Turn it." in done.choices[0].message.reasoning_content
        parts = list(client.chat.completions.create(model="tiny", messages=[user()], stream=True))
        assert "".join(p.choices[0].delta.content or "" for p in parts) == "F" and parts[-1].choices[0].finish_reason == "stop"
        with pytest.raises(openai.NotFoundError, match="no model 'gpt'"):
            client.chat.completions.create(model="gpt", messages=[user()])
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=send.server.url, api_key="wrong", max_retries=0).models.list()


def test_our_own_client_reads_it(sandbox):
    """A server behind a server: the outer loop takes the inner one's answer as a reply without tags, and says so."""
    with running(sandbox) as send:
        model = ServerModel(ChatServer(send.server.url, "tiny", max_retries=0))
        sample = Sample("s", "What?", picture(), ())
        trajectory = run_episode(model, sandbox, sample, AgentLimits(max_turns=1))
    assert trajectory.turns[0].text.endswith("F")


FIRST = "messages[0].content[0]"
BAD = {
    "not an object": ([], "a JSON object", None),
    "no messages": (body(messages=[]), "at least one message", "messages"),
    "a role of another": (body(messages=[{"role": "tool", "content": "x"}]), "a role of", "messages[0]"),
    "no picture": (body(messages=[{"role": "user", "content": "What?"}]), "0 pictures", "messages"),
    "too many pictures": (body(messages=[user("What?", *[data_url()] * 8)]), "8 pictures", "messages"),
    "no question": (body(messages=[user(" ")]), "with a question", "messages"),
    "an answer last": (body(messages=[user(), {"role": "assistant", "content": "F"}]), "last message", "messages"),
    "a sound": (body(messages=[{"role": "user", "content": [{"type": "input_audio"}]}]), "type text or image_url", FIRST),
    "a URL to fetch": (body(messages=[user("What?", "http://127.0.0.1:1/x.png")]), "fetches nothing", FIRST),
    "a file": (body(messages=[user("What?", "file:///etc/passwd")]), "fetches nothing", FIRST),
    "not base64": (body(messages=[user("What?", "data:image/png;base64,@@@")]), "not base64", FIRST),
    "no picture in it": (body(messages=[user("What?", "data:image/png;base64,aGVsbG8=")]), "not a readable picture", FIRST),
    "PostScript, which Pillow runs": (body(messages=[user("What?", data_url(kind="EPS"))]), "not a readable picture", FIRST),
    "a thin picture": (body(messages=[user("What?", data_url(Image.new("RGB", (4000, 3))))]), "aspect", FIRST),
    "several replies": (body(n=2), "one reply", "n"),
    "the client's tools": (body(tools=[{"type": "function"}]), "its own tool", "tools"),
    "JSON wanted": (body(response_format={"type": "json_object"}), "only text", "response_format"),
    "no tokens": (body(max_tokens=0), "whole number > 0", "max_tokens"),
    "a stream of words": (body(stream="yes"), "true or false", "stream"),
}  # fmt: skip


@pytest.mark.parametrize("content, words, param", BAD.values(), ids=BAD.keys())
def test_a_malformed_request_is_told_what_is_wrong(content, words, param):
    with pytest.raises(ApiError) as raised:
        read_request(content, "tiny", AgentLimits())
    error = raised.value.to_json()["error"]
    assert (raised.value.status, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert words in error["message"]


def test_a_picture_of_many_pixels_is_refused_before_it_is_decoded(monkeypatch):
    request = body(messages=[user("What?", data_url(Image.new("1", (11_000, 10_000))))])
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(ApiError, match="11000x10000 pixels is outside"):
        read_request(request, "tiny", AgentLimits())


def test_pixels_are_counted_over_all_pictures(monkeypatch):
    monkeypatch.setattr("codevision_lite.chat_api.MAX_SOURCE_PIXELS", 10_000)
    urls = [data_url(picture(80, 80)), data_url(picture(80, 80))]
    assert read_request(body(messages=[user("What?", urls[0])]), "tiny", AgentLimits()).pictures[0].size == (80, 80)
    with pytest.raises(ApiError, match="outside the limits of a request"):
        read_request(body(messages=[user("What?", *urls)]), "tiny", AgentLimits())


def test_a_request_becomes_a_question_with_upright_pictures():
    exif = Image.Exif()
    exif[0x0112] = 6
    first = user("What is this?", data_url(picture(40, 30), "JPEG", exif=exif))
    messages = [{"role": "system", "content": "Be brief."}, first, {"role": "assistant", "content": "A sign."}, user("And this?")]
    request = read_request(body(messages=messages, max_tokens=99_999, max_completion_tokens=7), "tiny", AgentLimits())
    assert [p.size for p in request.pictures] == [(30, 40), (84, 84)] and same(request.pictures[1], picture())
    assert request.question == (
        "The conversation so far:\nsystem: Be brief.\nuser: What is this?\nassistant: A sign.\nNow: And this?"
    )
    assert request.limits == replace(AgentLimits(), max_reply_tokens=7)
    single = read_request(body(max_tokens=99_999), "tiny", AgentLimits())
    assert single.question == "What?" and single.limits == AgentLimits(), "a client can't raise a limit"


REFUSED = {
    "another model": ({"content": body(model="gpt-4")}, 404, "model_not_found"),
    "no such path": ({"path": "/v1/embeddings", "content": {}}, 404, None),
    "GET of a POST": ({"method": "GET"}, 404, None),
    "another method": ({"method": "PUT", "content": {}}, 501, None),
    "not JSON": ({"raw": b"{"}, 400, None),
    "brackets without end": ({"raw": b"[" * 100_000}, 400, None),
    "a form of a web page": ({"content": body(), "Content_Type": "text/plain"}, 415, None),
    "too large": ({"raw": b" " * 300_001}, 413, None),
    "another host's name": ({"method": "GET", "path": "/v1/models", "Host": "evil.example:8000"}, 403, None),
}  # fmt: skip


@pytest.mark.parametrize("given, status, code", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused_says_so_as_openai_does(sandbox, given, status, code):
    with running(sandbox, max_request_bytes=300_000) as send:
        got, reply = send(**given)
        assert (got, set(reply["error"]), reply["error"]["code"]) == (status, {"message", "type", "param", "code"}, code)
        assert send("GET", "/health")[0] == 200


def test_a_body_without_a_length_is_refused(sandbox):
    with running(sandbox) as send, socket.create_connection(("127.0.0.1", send.server.server_port), timeout=10) as client:
        client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\r\n")
        assert b" 411 " in client.recv(4096)


def test_a_key_is_asked_for(sandbox):
    with running(sandbox, api_key="secret") as send:
        assert send("GET", "/v1/models")[0] == send("GET", "/v1/models", Authorization="Bearer wrong")[0] == 401
        assert send("GET", "/v1/models", Authorization="Bearer secret")[0] == 200
        assert send("GET", "/v1/models", Authorization="Bearer secret", Host="box.example")[0] == 200
        assert send(content=body())[1]["error"]["code"] == "invalid_api_key"
        assert send("GET", "/health")[0] == 200


def test_other_machines_need_a_key():
    with pytest.raises(UserError, match="--api-key-env"):
        ServeConfig("tiny", host="0.0.0.0")
    assert ServeConfig("tiny", host="0.0.0.0", api_key="k").host == "0.0.0.0"


def test_a_key_that_is_not_set_is_one_line(capsys, monkeypatch):
    monkeypatch.delenv("NO_KEY", raising=False)
    assert main(["serve", "--server", "http://127.0.0.1:9/v1", "--model", "m", "--api-key-env", "NO_KEY"]) == 2
    assert "this variable is not set. Set it: export NO_KEY=" in capsys.readouterr().err


def test_a_port_that_is_taken_is_one_line(capsys):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        assert main(["serve", "--server", "http://127.0.0.1:9/v1", "--model", "m", "--port", str(port)]) == 2
    assert f"127.0.0.1:{port}: Address already in use. Choose another" in capsys.readouterr().err


class Waits(ScriptedModel):
    """Replies once it is let go."""

    def __init__(self):
        super().__init__([TURN] * 6)
        self.go, self.n_asked, self.asked = threading.Event(), 0, threading.Event()

    def reply(self, dialogues, max_new_tokens=0):
        self.n_asked += 1
        self.asked.set()
        self.go.wait(20)
        return super().reply(dialogues)


def eventually(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def slot_is_free(server):
    if free := server.slots.acquire(blocking=False):
        server.slots.release()
    return free


def test_more_questions_than_fit_get_429_and_the_slot_comes_back(sandbox):
    model = Waits()
    with running(sandbox, model, concurrency=1) as send:
        first = threading.Thread(target=send, kwargs={"content": body()})
        first.start()
        assert model.asked.wait(10)
        status, reply = send(content=body())
        assert (status, reply["error"]["code"]) == (429, "rate_limit_exceeded")
        model.go.set()
        first.join(10)
        eventually(lambda: slot_is_free(send.server))
        assert send(content=body())[0] == 200


def test_a_question_that_takes_too_long_ends_with_504_and_stops(sandbox):
    model = Waits()
    with running(sandbox, model, timeout_s=0.3) as send:
        status, reply = send(content=body())
        assert (status, reply["error"]["type"]) == (504, "timeout_error")
        text = send(content=body(stream=True))[1]
        assert '"timeout_error"' in text and text.endswith("data: [DONE]\n\n")
        model.go.set()
        eventually(lambda: slot_is_free(send.server))
    assert model.n_asked == 2, "neither went on after its reply"


def test_a_client_that_leaves_ends_its_question(sandbox, monkeypatch):
    monkeypatch.setattr(serving, "KEEP_ALIVE_S", 0.05)
    model = Waits()
    with running(sandbox, model, concurrency=1) as send:
        client = socket.create_connection(("127.0.0.1", send.server.server_port))
        data = json.dumps(body()).encode()
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        client.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        assert model.asked.wait(10)
        client.close()
        time.sleep(0.3)
        model.go.set()
        eventually(lambda: slot_is_free(send.server))
    assert model.n_asked == 1


def test_a_stream_that_waits_shows_signs_of_life(sandbox, monkeypatch):
    monkeypatch.setattr(serving, "KEEP_ALIVE_S", 0.05)
    model = Waits()
    with running(sandbox, model, timeout_s=0.4) as send:
        assert send(content=body(stream=True))[1].count(": waiting\n\n") >= 2
        model.go.set()
        eventually(lambda: slot_is_free(send.server))


def test_too_many_connections_are_closed(sandbox, monkeypatch):
    monkeypatch.setattr(serving, "SPARE_CONNECTIONS", 1)
    with running(sandbox, concurrency=1) as send:
        held = [socket.create_connection(("127.0.0.1", send.server.server_port), timeout=10) for _ in range(2)]
        time.sleep(0.2)
        with socket.create_connection(("127.0.0.1", send.server.server_port), timeout=10) as third:
            assert third.recv(1) == b""
        for client in held:
            client.close()
        eventually(lambda: _reachable(send))


def _reachable(send):
    try:
        return send("GET", "/health")[0] == 200
    except OSError:
        return False


def test_what_fails_inside_is_500_without_its_secrets(sandbox, capsys):
    with running(sandbox, ScriptedModel([])) as send:  # raises IndexError
        status, reply = send(content=body())
    assert (status, reply["error"]["message"]) == (500, "the server failed; its log says why")
    assert "IndexError" in capsys.readouterr().err


def test_a_model_server_that_fails_is_502(sandbox):
    with chat_server(lambda _: (404, "gone")) as upstream:
        model = ServerModel(ChatServer(upstream.url, "m", max_retries=0))
        with running(sandbox, model) as send:
            status, reply = send(content=body())
    assert status == 502 and "404" in reply["error"]["message"]


ENDS = {"no_action": (["It is F."] * 2, "stop", "It is F."), "max_turns": ([TURN] * 2, "length", TURN.partition("</think>")[2].strip())}


@pytest.mark.parametrize("end", ENDS)
def test_without_an_answer_the_last_words_are_the_content(sandbox, end):
    replies, finish, content = ENDS[end]
    with running(sandbox, ScriptedModel(replies), limits=AgentLimits(max_turns=2 if end == "max_turns" else 6)) as send:
        reply = send(content=body())[1]
    choice = reply["choices"][0]
    assert (choice["finish_reason"], choice["message"]["content"], reply["codevision"]["end_reason"]) == (finish, content, end)


class Streams(ScriptedModel):
    """A StreamingModel that decodes one dialogue a step and notes how many were under way."""

    def __init__(self, replies):
        super().__init__(replies)
        self.asked, self.at_once, self.dropped, self.threads, self.forgot = [], [], [], set(), 0
        self.broken = False

    @contextmanager
    def generating(self):
        self.threads.add(threading.get_ident())
        yield

    def encode(self, segment):
        segment.token_ids = [1, 2, 3]
        return 3

    def add(self, dialogue, max_new_tokens):
        self.threads.add(threading.get_ident())
        self.asked.append(dialogue)

    def advance(self):
        time.sleep(0.02)
        self.threads.add(threading.get_ident())
        self.at_once.append(len(self.asked))
        if self.broken:
            raise RuntimeError("out of memory")
        dialogue = self.asked.pop(0)
        (reply,) = self.reply([dialogue])
        self.encode(reply)
        return [(dialogue, reply)]

    def drop(self, dialogue):
        self.dropped.append(dialogue)

    def forget(self):
        self.asked, self.broken, self.forgot = [], False, self.forgot + 1


def test_questions_share_a_local_model_which_one_thread_owns(sandbox):
    inner = Streams([TURN, TURN, ANSWER])
    model = shared(inner)
    assert isinstance(model, SharedModel)
    with running(sandbox, model, concurrency=4) as send:
        replies = []
        threads = [threading.Thread(target=lambda: replies.append(send(content=body()))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    model.close()
    assert [r[1]["choices"][0]["message"]["content"] for r in replies] == ["F"] * 4
    assert max(inner.at_once) > 1 and len(inner.threads) == 1 and len(inner.dropped) == 4
    assert replies[0][1]["usage"]["completion_tokens"] == 9 and replies[0][1]["usage"]["prompt_tokens"] == 6


def test_a_model_that_breaks_is_told_to_all_who_wait_and_starts_afresh(sandbox):
    inner = Streams([ANSWER])
    inner.broken = True
    model = SharedModel(inner)
    with running(sandbox, model) as send:
        assert send(content=body())[0] == 500
        assert send(content=body())[1]["choices"][0]["message"]["content"] == "F"
    model.close()
    assert inner.forgot == 1


def test_a_model_that_threads_may_share_is_left_as_it_is():
    model = ScriptedModel([])
    assert shared(model) is model


@pytest.mark.slow
def test_the_command_serves_until_it_is_told_to_stop(tmp_path):
    with chat_server(lambda given: [TURN, ANSWER][n_replies(given)]) as upstream:
        argv = ["serve", "--server", upstream.url, "--model", "m", "--port", "0", "--concurrency", "1", "--api-key-env", "THE_KEY"]
        code = f"import sys; from codevision_lite.cli import main; sys.exit(main({argv!r}))"
        more = {"env": os.environ | {"THE_KEY": "k"}, "cwd": Path(__file__).parent.parent}
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, **more)
        try:
            lines = [process.stdout.readline(), process.stdout.readline()]
            port = int(lines[1].split("127.0.0.1:")[1].split("/")[0])
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            headers = {"Content-Type": "application/json", "Authorization": "Bearer k"}
            connection.request("POST", "/v1/chat/completions", json.dumps(body(model="m")), headers)
            assert json.loads(connection.getresponse().read())["choices"][0]["message"]["content"] == "F"
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=20) == 0 and process.stdout.read() == "stopped\n"
        finally:
            process.kill()
            process.stdout.close()
