"""A model behind a server: it is asked exactly what a local one is, its replies come back whole, and its failures are named."""

from __future__ import annotations

import email.utils
import time
from datetime import UTC, datetime, timedelta

import jinja2
import pytest
from chat_server import chat_server, completion, n_replies, pictures_of
from pictures import picture, same, sample

from codevision_lite.agent import AgentLimits, run_episode, run_episodes
from codevision_lite.models import ScriptedModel
from codevision_lite.models.openai import ServerModel, chat_messages
from codevision_lite.models.server import ChatServer, ServerError
from codevision_lite.protocol import CHAT_TEMPLATE, END_OF_TURN, render_reply
from codevision_lite.records import ToolCall

TURN = render_reply("Turn.", ToolCall("result = image.rotate(90, expand=True)\nprint('turned')"))
BROKEN = render_reply("Try.", ToolCall("result = nothing"))
RIGHT = render_reply("I see.", answer="F")


def model(url, **options):
    return ServerModel(ChatServer(url, "served", **{"timeout_s": 0.4, "max_retries": 2} | options))


def played(sandbox, *replies, tools=True):
    """A dialogue as the agent loop leaves it."""
    return run_episodes(ScriptedModel(replies), sandbox, [sample()], AgentLimits(tools=tools))[0].dialogue


@pytest.mark.parametrize("replies, tools", [((TURN, BROKEN, RIGHT), True), ((RIGHT,), False), (("no tags at all", RIGHT), True)])
def test_a_qwen_template_renders_the_messages_to_the_text_that_a_local_model_reads(sandbox, replies, tools):
    dialogue = played(sandbox, *replies, tools=tools)
    text = "".join(s.text + (END_OF_TURN if s.role == "reply" else "") for s in dialogue.segments)
    rendered = jinja2.Environment().from_string(CHAT_TEMPLATE).render(messages=chat_messages(dialogue))
    assert rendered == text + "\n"  # a template ends every turn with a line break; ours writes it with the next one


def test_pictures_go_in_their_places_and_lose_nothing(sandbox):
    dialogue = played(sandbox, TURN, RIGHT)
    messages = chat_messages(dialogue)
    sent = pictures_of({"messages": messages})
    assert [p.size for p in sent] == [(84, 84), (84, 84)]
    assert same(sent[0].convert("RGB"), picture()) and same(sent[1].convert("RGB"), dialogue.segments[2].images[0])
    assert [part["type"] for part in messages[3]["content"]] == ["text", "image_url", "text"]
    assert messages[3]["content"][0]["text"].startswith("<tool_response>\nImage 1: 84x84 pixels.\nPrinted: turned")


def test_an_episode_runs_over_the_server(sandbox):
    with chat_server(lambda body: [TURN, RIGHT][n_replies(body)]) as served:
        trajectory = run_episode(model(served.url), sandbox, sample(), AgentLimits(max_reply_tokens=33))
    assert (trajectory.answer, trajectory.end_reason, trajectory.n_tool_turns) == ("F", "answer", 1)
    assert [(r["model"], r["max_tokens"], r["temperature"]) for r in served.requests] == [("served", 33, 0.0)] * 2
    assert [m["role"] for m in served.requests[1]["messages"]] == ["system", "user", "assistant", "user"]
    assert served.requests[1]["messages"][2]["content"] == TURN


def reply_to(answer, **options):
    """(reply, seconds, number of requests) of one turn, the server answering as `answer` says."""
    with chat_server(answer) as served:
        started = time.perf_counter()
        dialogue = run_prompt()
        segment = model(served.url, **options).reply([dialogue], 20)[0]
        return segment, time.perf_counter() - started, len(served.requests)


def run_prompt():
    from codevision_lite.agent import start_episode

    return start_episode(sample(), AgentLimits()).dialogue


def test_tokens_are_the_servers_and_a_cut_reply_is_unfinished():
    segment, _, _ = reply_to(lambda body: completion("<think>a long", finish="length", n_tokens=20))
    assert (segment.finished, segment.n_tokens, segment.token_ids) == (False, 20, None)


@pytest.mark.parametrize("made, text", [
    (completion("<answer>F</answer>", reasoning_content=" I see it. "), "<think>I see it.</think>\n<answer>F</answer>"),
    (completion("<answer>F</answer>", reasoning="Yes."), "<think>Yes.</think>\n<answer>F</answer>"),
    (completion("I see.</think>\n<answer>F</answer>"), "<think>I see.</think>\n<answer>F</answer>"),  # <think> stood in the prompt
    (completion(f"{RIGHT}<|im_end|>"), RIGHT),
    (completion(None, finish="length", reasoning_content="on and on"), "<think>on and on</think>\n"),
])  # fmt: skip
def test_thoughts_that_a_server_split_off_are_put_back(made, text):
    assert reply_to(lambda body: made)[0].text == text


def failing(times, then=RIGHT, failure=(503, "warming up")):
    left = [times]

    def answer(body):
        left[0] -= 1
        return failure if left[0] >= 0 else then

    return answer


@pytest.mark.parametrize("failure", [(503, "busy"), (429, "slow down"), (500, ""), b"not json", b'{"choices": []}', b"[]", b"",
                                     completion(None)])  # fmt: skip
def test_what_may_pass_is_asked_again(failure):
    segment, _, n = reply_to(failing(2, failure=failure))
    assert (segment.text, n) == (RIGHT, 3)


@pytest.mark.parametrize("failure, n, words", [
    ((503, "warming up"), 3, "HTTP 503 Service Unavailable: warming up"),
    ((400, '{"message": "maximum context length is 4096"}'), 1, "maximum context length is 4096"),
    ((404, "no model served"), 1, "HTTP 404"),
    (b"{", 3, "JSONDecodeError"),
])  # fmt: skip
def test_a_failure_that_lasts_says_where_and_what(failure, n, words):
    with chat_server(failing(9, failure=failure)) as served:
        with pytest.raises(ServerError) as raised:
            model(served.url, timeout_s=0.1).reply([run_prompt()], 20)
        assert len(served.requests) == n
    assert words in str(raised.value) and served.url in str(raised.value)


def test_a_server_that_does_not_answer_is_given_up():
    def slow(body):
        time.sleep(0.5)
        return RIGHT

    with chat_server(slow) as served, pytest.raises(ServerError, match="timed out"):
        model(served.url, timeout_s=0.1, max_retries=1).reply([run_prompt()], 20)


def test_no_server_is_a_named_failure():
    with pytest.raises(ServerError, match="refused"):
        model("http://127.0.0.1:9/v1", timeout_s=0.1, max_retries=1).reply([run_prompt()], 20)


def test_the_key_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k-123")
    with chat_server(lambda body: RIGHT) as served:
        model(served.url).reply([run_prompt()], 20)
    assert served.headers[0]["Authorization"] == "Bearer k-123"


# ---------------------------------------------------------------- Retry-After


def busy(seconds, status=429):
    return status, "one moment", {"Retry-After": seconds}


def in_two_seconds():
    return email.utils.format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)


@pytest.mark.parametrize("failure, at_least, at_most", [
    (busy("1"), 1.0, 5.0), (busy("1", 503), 1.0, 5.0),
    (busy("0"), 0.0, 0.35),  # at once: the pause of our own would be 0.4 s here
    (busy("1", 500), 0.4, 0.99),  # says when only with 429 and 503
    (busy("soon"), 0.4, 0.99),
])  # fmt: skip
def test_a_server_is_asked_again_when_it_says(failure, at_least, at_most):
    segment, seconds, n = reply_to(failing(1, failure=failure))
    assert (segment.text, n) == (RIGHT, 2)
    assert at_least <= seconds < at_most


def test_a_date_is_understood():
    segment, seconds, _ = reply_to(failing(1, failure=busy(in_two_seconds())))
    assert segment.text == RIGHT and 0.9 <= seconds < 6  # a date has whole seconds


def test_a_pause_that_is_too_long_is_not_waited():
    with chat_server(failing(1, failure=busy("3600"))) as served:
        started = time.perf_counter()
        with pytest.raises(ServerError, match=r"HTTP 429 .*asks for a pause of 3600 s; more than 60 s are not waited"):
            model(served.url).reply([run_prompt()], 20)
        assert len(served.requests) == 1 and time.perf_counter() - started < 5
