"""Answer matching: tables of (prediction, references, expected), and the judge behind it."""

import contextlib
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codevision_lite.errors import UserError
from codevision_lite.models.server import Completion, ServerError
from codevision_lite.records import Sample, Trajectory, Turn
from codevision_lite.reward import score
from codevision_lite.reward.answer import anls, levenshtein, match, normalise
from codevision_lite.reward.judge import Judge, JudgeConfig
from codevision_lite.reward.quantities import parse_quantity

RIGHT = [
    # text
    ("STOP", "STOP"), ("stop", "STOP"), ("  Stop. ", "STOP"), ("**STOP**", "stop"), ('"STOP"', "STOP"),
    ("“STOP”", "STOP"),
    ("the Eiffel Tower", "Eiffel Tower"), ("ＳＴＯＰ", "STOP"), ("ice-cream", "ice cream"),
    ("rock & roll", "rock and roll"),
    ("don't walk", "DONT WALK"), ("don’t walk", "don't walk"), ("St. John's", "St Johns"), ("café", "CAFÉ"), ("?", "?"),
    ("A", "A"), ("e", "e"), ("<answer>STOP</answer>", "STOP"), (r"\boxed{STOP}", "STOP"), ("東京", "東京"),
    ("Straße", "STRASSE"),
    # lead-ins
    ("The answer is STOP.", "STOP"), ("Answer: STOP", "stop"), ("The final answer is: STOP", "STOP"),
    ("It says STOP", "STOP"),
    ("The sign reads STOP", "STOP"), ("The symbol is F", "F"), ("So the answer is 7", "7"),
    ("The small label says ?", "?"),
    ("It's blue", "blue"), ("There are 5 symbols", "5"), ("There are five symbols.", "5"),
    # numbers
    ("5", "5"), ("5.0", "5"), ("five", "5"), ("Five apples", "5"), ("5 apples", "5"), ("twenty-one", "21"),
    ("1,200", "1200"),
    ("1200", "1,200"), ("1,234,567.50", "1234567.5"), ("-5", "-5"), ("−5", "-5"), ("+5", "5"), (".5", "0.5"),
    ("0.50", ".5"),
    ("1/2", "0.5"), ("½", "0.5"), ("1 1/2", "1.5"), ("12,5", "12.5"), ("1.2 million", "1200000"),
    ("1.2M", "1.2 million"),
    ("3k", "3000"), ("1e3", "1000"), ("about 40", "40"), ("~40", "40"), ("2016", "2016"), ("007", "007"),
    ("555-1234", "555-1234"),
    # units, percent, currency
    ("12.5%", "12.5"), ("12.5", "12.5%"), ("12.5 percent", "12.5 %"), ("0.125", "12.5%"), ("12.5\\%", "12.5%"),
    ("$5", "5"),
    ("5 dollars", "$5"), ("$1,200.00", "1200"), ("USD 5", "$5"), ("-$5", "-5"), ("$-5", "-5"), ("5 km", "5"),
    ("5000 m", "5 km"),
    ("5 kilometers", "5 km"), ("90 min", "1.5 h"), ("20 °C", "20°C"), ("3.5kg", "3500 g"), ("7 Eleven", "7-eleven"),
    ("5 apples", "5 apple"), ("five apples", "5 apples"), ("$5$", "5"),
    # yes / no
    ("Yes", "yes"), ("Yes, it is.", "yes"), ("True", "true"), ("Yes", "True"), ("No.", "no"), ("false", "No"),
    # options without a list of options
    ("B", "B"), ("(B)", "B"), ("B.", "B"), ("b)", "B"), ("Option B", "B"), ("The answer is (B).", "B"),
    ("B) Paris", "B"),
    ("**C**", "C"),
    # lists
    ("red, green", "red, green"), ("green and red", "red, green"), ("green, red, and blue", "red; green; blue"),
    ("['a', 'b']", "a, b"),
    ('["a", "b"]', "['a', 'b']"), ("3, 5", "3, 5"), ("[3, 5]", "3, 5"), ("(3, 5)", "[3, 5]"), ("three, five", "3, 5"),
    ("A and B", "A, B"),
    ("1,200, 1,300", "1200, 1300"), ("red\ngreen", "red, green"),
    # more of each
    ("5 kilometres", "5 km"), ("5km", "5 km"), ("5 KM", "5 km"), ("100 cm", "1 m"), ("1,5 km", "1.5 km"),
    ("2.5 hours", "2.5 h"), ("150 min", "2.5 hours"), ("$1.5M", "1.5 million dollars"), ("$ 5", "$5"), ("5 USD", "$5"),
    ("US$5", "$5"), ("5€", "€5"), ("€1,000", "1000 euros"), ("50 cents", "$0.50"), ("£3.20", "3.20 pounds"),
    ("7%", "7 percent"), ("7 per cent", "7%"), ("0.07", "7%"), ("45 degrees", "45°"), ("45 degrees", "45"),
    ("-3.5 °C", "-3.5°C"), ("1 000", "1000"), ("1 000 000", "1,000,000"), ("1’000", "1000"), ("3.0e2", "300"),
    ("three hundred", "300"), ("one hundred and five", "105"), ("two thousand", "2000"), ("zero", "0"), ("3/4", "0.75"),
    ("75%", "3/4"), ("twenty one", "21"), ("5 people", "5"), ("approx. 5", "5"), ("exactly 5", "5"), ("5.", "5"),
    ("5!", "5"), ("The total is 42.", "42"), ("The answer is $42", "42"), ("Final answer: 42 km", "42 km"),
    ("Answer - 42", "42"), ("It's 5 km", "5 km"), ("x = 5", "5"), ("= 5", "5"), ("\\frac{1}{2}", "1/2"),
    ("$\\frac{1}{2}$", "0.5"), ("\\(5\\)", "5"), ("\\boxed{5}", "5"), ("\\boxed{\\text{STOP}}", "STOP"),
    ("\\text{STOP}", "STOP"), ("March 5, 2020", "March 5, 2020"), ("5 March 2020", "5 March 2020"), ("12:30", "12:30"),
    ("12:30 PM", "12:30 pm"), ("12:30 p.m.", "12:30 pm"), ("2020-03-05", "2020-03-05"), ("+1 555 1234", "+1 555 1234"),
    ("#42", "#42"), ("No. 7", "No. 7"), ("Room 12B", "room 12b"), ("A-12", "A-12"), ("A 12", "A-12"), ("Yes", "Yes."),
    ("yes", "YES"), ("Yes!", "yes"), ("yes, the light is green", "yes"), ("No, it isn't", "no"), ("no", "No."),
    ("That is correct", "yes"), ("Nope", "no"), ("The answer is yes", "yes"), ("The answer is: no.", "No"),
    ("It is true", "true"), ("(C)", "C"), ("C: Paris", "C"), ("choice C", "C"), ("The correct answer is C", "C"),
    ("The correct option is C", "C"), ("Option (C)", "C"), ("c", "C"), ("[C]", "C"), ("{C}", "C"), ("C - Paris", "C"),
    ("red; green", "red, green"), ("red/green", "red, green"), ("red & green", "red and green"),
    ("- red\n- green", "red, green"), ("1. red\n2. green", "red, green"), ("red green", "red green"),
    ("['red', 'green']", '["red", "green"]'), ('["red","green"]', "red, green"), ("{red, green}", "red, green"),
    ("red, green.", "red, green"), ("green,red", "red,green"), ("1, 2 and 3", "1, 2, 3"), ("(1, 2)", "1, 2"),
    ("1; 2; 3", "[1, 2, 3]"), ("10%, 20%", "10, 20"), ("$5, $6", "5, 6"), ("Coca-Cola", "Coca Cola"),
    ("coca cola", "Coca-Cola"), ("McDonald's", "McDonalds"), ("Dr. Smith", "Dr Smith"), ("U.S.A.", "USA"),
    ("naïve", "naïve"), ("  multiple   spaces ", "multiple spaces"), ("“Hello”", "Hello"), ("‘Hello’", "Hello"),
    ("'Hello'.", "Hello"), ("Hello!", "Hello"), ("Hello, world", "Hello world"), ("*Hello*", "Hello"),
    ("__Hello__", "Hello"), ("`Hello`", "Hello"), ("The word is STOP", "STOP"), ('The text says "STOP"', "STOP"),
    ("It reads: STOP", "STOP"), ("I see STOP", "STOP"),
]  # fmt: skip

WRONG = [
    ("", "STOP"), ("   ", "STOP"), ("GO", "STOP"), ("STOP or GO", "STOP"), ("STOP GO", "STOP"), ("not STOP", "STOP"),
    ("?", "F"), ("F?", "?"),
    ("It is not STOP", "STOP"), ("A7K2", "A7K3"), ("C", "C++"), ("cafe", "café"), ("ST", "STOP"), ("the", "a"),
    ("unknown", "STOP"),
    # accidents with numbers
    ("15", "5"), ("5 or 6", "5"), ("5, 6", "5"), ("between 4 and 6", "5"), ("5-6", "5"), ("not 5", "5"),
    ("less than 5", "5"),
    ("On page 3 I count symbols, 5", "5"), ("I see 3 cats and 5 dogs", "5"), ("step 1: count 5", "5"),
    ("room 5", "5"), ("5, maybe 6", "5"),
    ("5 minus 1", "5"), ("I cannot read it, sorry, 5", "5"), ("-5", "5"), ("5", "-5"), ("50", "5.0%"), ("5.1", "5"),
    ("2017", "2016"),
    ("7", "007"), ("7", "7 Eleven"), ("1", "one way"), ("12", "1/2"), ("1.2", "12"), ("1 2", "12"),
    ("5 million", "5"), ("five six", "5"),
    ("3:45", "345"), ("1/0", "1"), ("1,20", "120"), ("5 5", "55"), ("100%", "1"),
    # units and currency
    ("5 m", "5 km"), ("€5", "$5"), ("5%", "5 km"), ("500%", "5%"), ("5 min", "5 h"), ("5 kg", "5 km"),
    # yes / no
    ("No", "yes"), ("Yes and no", "yes"), ("maybe", "yes"), ("not yes", "yes"), ("Yes. No.", "no"),
    ("yesterday", "yes"),
    # options
    ("A or B", "B"), ("A", "B"), ("A B", "B"), ("Both A and B", "B"), ("A man", "A"), ("AB", "B"), ("B", "A"),
    ("not B", "B"),
    # lists
    ("red", "red, green"), ("red, green, blue", "red, green"), ("red, red", "red, green"), ("5, 3", "3, 5"),
    ("3, 5, 7", "3, 5"), ("[1, 2", "3, 5"),
    ("a, b", "ab"), ("1, 2", "1.2"),
    # more of each
    ("5 lb", "5 kg"), ("5 miles", "5 km"), ("5 hours", "5 min"), ("$5", "€5"), ("5 million", "5 billion"),
    ("50%", "0.05"), ("5%", "50%"), ("5", "5.5"), ("-5 °C", "5 °C"), ("20 °F", "20 °C"), ("4-5", "4"), ("4 to 5", "5"),
    ("5±1", "5"), ("≈4 or 5", "5"), ("more than 5", "5"), (">5", "5"), ("≥5", "5"), ("at least 5", "5"), ("5+", "5"),
    ("no more than 5", "5"), ("5 x 5", "25"), ("2+3", "5"), ("In 2019 it was 12", "12"),
    ("There are 3 red and 2 blue, total 5", "5"), ("Figure 5", "5"), ("5th", "5"), ("page 5", "5"), ("5a", "5"),
    ("version 5", "5"), ("5.5.5", "5"), ("1/2/3", "1"), ("5 out of 10", "5"), ("5/10", "5"), ("2020", "2021"),
    ("2020s", "2020"), ("1e5", "5"), ("five hundred", "5"), ("fifteen", "5"), ("fifty", "5"), ("one two", "12"),
    ("half", "1"), ("5, or possibly 7", "5"), ("5 not 6", "5"), ("not 5 but 6", "6"), ("12:30", "12.30"),
    ("12:30", "1230"), ("12:30 am", "12:30 pm"), ("March 5", "March 6"), ("2020-03-05", "2020-03-06"),
    ("555-1234", "555-1235"), ("0042", "42"), ("#42", "#43"), ("A7K2", "A7KZ"), ("O0", "00"), ("l1", "11"),
    ("Room 12A", "Room 12B"), ("STOPS", "STOP"), ("NO STOP", "STOP"), ("STOP STOP", "STOP"), ("POTS", "STOP"),
    ("S T O P", "STOP"), ("Yes", "No"), ("yes or no", "yes"), ("It depends", "yes"), ("Not sure", "no"),
    ("I don't know", "no"), ("Yes, no", "yes"), ("untrue", "true"), ("not true", "true"), ("no idea", "no"),
    ("No clue", "no"), ("Not correct", "yes"), ("incorrect", "yes"), ("A, B", "A"), ("A/B", "A"), ("A and C", "C"),
    ("A or maybe B", "A"), ("neither A nor B", "A"), ("none of the above", "A"), ("B, not A", "A"), ("A?", "B"),
    ("All of A, B and C", "C"), ("Apple", "A"), ("D", "C"), ("C or D", "C"), ("red, green, green", "red, green"),
    ("red", "red, red"), ("green, blue", "red, green"), ("1, 2, 3", "1, 3, 2"), ("1, 2", "1, 2, 3"),
    ("[1, 2, 4]", "[1, 2, 3]"), ("unreadable", "STOP"), ("I can't read it", "STOP"), ("STOP? or SLOP?", "STOP"),
    ("either STOP or SLOP", "STOP"), ("SLOP", "STOP"), ("It does not say STOP", "STOP"), ("It's not blue", "blue"),
    ("This is not a 5", "5"),
]  # fmt: skip


@pytest.mark.parametrize(("prediction", "reference"), RIGHT)
def test_right(prediction, reference):
    assert match(prediction, [reference]).value == 1.0


@pytest.mark.parametrize(("prediction", "reference"), WRONG)
def test_wrong(prediction, reference):
    assert match(prediction, [reference]).value == 0.0


OPTIONS = ["red", "blue", "dark blue"]


@pytest.mark.parametrize(
    ("prediction", "reference", "options", "expected"),
    [
        ("B", "B", OPTIONS, 1), ("blue", "B", OPTIONS, 1), ("B", "blue", OPTIONS, 1), ("B) blue", "B", OPTIONS, 1),
        ("(b) Blue.", "blue", OPTIONS, 1), ("The answer is B", "B", OPTIONS, 1), ("dark blue", "B", OPTIONS, 0),
        ("B) red", "B", OPTIONS, 0), ("D", "B", OPTIONS, 0), ("A, B", "B", OPTIONS, 0),
        ("red or blue", "B", OPTIONS, 0),
        ("green", "B", OPTIONS, 0), ("B", "A", ["A", "B"], 0), ("B", "A", ["B", "A"], 0), ("A", "A", ["B", "A"], 1),
        ("12", "12", ["10", "12"], 1), ("B. 12", "12", ["10", "12"], 1), ("blue", "blue", ["blue", "blue"], 0),
        ("B - blue", "B", OPTIONS, 1), ("(C) dark blue", "C", OPTIONS, 1), ("C: dark blue", "dark blue", OPTIONS, 1),
        ("The correct option is B", "blue", OPTIONS, 1), ("It is blue.", "B", OPTIONS, 1), ("**B**", "B", OPTIONS, 1),
        ("B. dark blue", "B", OPTIONS, 0), ("B or C", "B", OPTIONS, 0), ("not B", "B", OPTIONS, 0), ("A. B", "A", OPTIONS, 0),
        ("Blue, I think", "B", OPTIONS, 0), ("", "B", OPTIONS, 0), ("3 red, 2 blue: B", "B", OPTIONS, 0), ("2", "B", OPTIONS, 0),
        ("10", "B", ["10", "100"], 0), ("yes", "A", ["Yes", "No"], 1), ("a", "A", ["Yes", "No"], 1), ("No.", "A", ["Yes", "No"], 0),
    ],
)  # fmt: skip
def test_options(prediction, reference, options, expected):
    assert match(prediction, [reference], choices=options).value == expected


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [("105", "100", 1), ("106", "100", 0), ("95", "100", 1), ("2017", "2016", 0), ("103 km", "100 km", 1), ("0", "0", 1),
     ("0.01", "0", 0),
     ("13%", "12.5%", 1), ("1,050", "1000.0", 1), ("-100", "100", 0), ("0.96 km", "1000 m", 1), ("0.94 km", "1000 m", 0),
     ("$97", "100 dollars", 1), ("€97", "$100", 0), ("about 104", "100", 1), ("100 or 104", "100", 0), ("2016.0", "2016", 1),
     ("98, 203", "100, 200", 1), ("90, 200", "100, 200", 0), ("95 to 105", "100", 0), ("4", "five", 0), ("19.9", "twenty", 1)],
)  # fmt: skip
def test_relative_tolerance_spares_years(prediction, reference, expected):
    assert match(prediction, [reference], tolerance=0.05).value == expected


@pytest.mark.parametrize(
    ("rule", "prediction", "reference", "expected"),
    [("exact", "stop", "STOP", 0), ("exact", "STOP", "STOP", 1), ("text", "the stop!", "STOP", 1), ("number", "five", "5", 1),
     ("number", "abc", "5", 0), ("contains", "it says stop here", "STOP", 1), ("contains", "nonstop", "STOP", 0),
     ("list", "b, a", "a, b", 1), ("yes_no", "true", "yes", 1), ("choice", "(c)", "C", 1),
     ("anls", "Germny", "Germany", 6 / 7),
     ("anls", "abxy", "abcd", 0)],
)  # fmt: skip
def test_forced_rules(rule, prediction, reference, expected):
    assert match(prediction, [reference], rule=rule).value == pytest.approx(expected)


def test_long_transcriptions_are_graded_but_digits_are_not():
    reference = "The quick brown fox jumps over the lazy dog"
    assert 0.85 < match("The quick brown fox jumps over the lazy dig", [reference]).value < 1.0
    assert match("A slow green fox jumps over the lazy cat", [reference]).value == 0.0
    sentence = "Closed, and open again from Monday on the other side"
    assert match(sentence.replace("side", "sode"), [sentence]).value > 0.9
    assert match("from Monday on the other side, closed and open again", [sentence]).value == 0.0
    assert match("Invoice number 20417 of March", ["Invoice number 20418 of March"]).value == 0.0


def test_several_references_give_the_best():
    assert match("7", ["eight", "seven"]).value == 1.0
    assert match("STOP", ["HALT", "stop"]).value == 1.0
    assert match("STOP", "stop").value == 1.0
    assert match("5 km", ["3 miles", "5000 m"]).value == 1.0 and match("4 km", ["3 miles", "5000 m"]).value == 0.0
    assert match("color", ["colour", "color"]).value == 1.0 and match("B", ["A", "C"]).value == 0.0
    assert match("The quick brown fox jumps over the lazy dig", ["STOP", "The quick brown fox jumps over the lazy dog"]).value > 0.85
    assert match("STOP", []).value == 0.0 and match(None, ["x"]).value == 0.0


def test_unknown_rule_is_the_users_mistake():
    with pytest.raises(UserError, match="unknown answer rule"):
        match("a", ["a"], rule="fuzzy")


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_gives_a_score_in_range(prediction, reference):
    score = match(prediction, [reference], tolerance=0.05)
    assert 0.0 <= score.value <= 1.0 and score.reason
    assert 0.0 <= match(prediction, [reference], choices=[reference, "x"]).value <= 1.0


@given(st.text(min_size=1, max_size=30))
def test_every_answer_matches_itself(text):
    if text.strip():
        assert match(text, [text], rule="text").value == 1.0 or not match(text, [text], rule="text").value


@given(st.integers(-(10**9), 10**9))
def test_integers_with_separators_are_equal(number):
    assert match(f"{number:,}", [str(number)]).value == 1.0
    assert match(f"{number + 1:,}", [str(number)]).value == 0.0


@given(st.text("abc", max_size=8), st.text("abc", max_size=8))
def test_levenshtein_is_a_distance(a, b):
    assert levenshtein(a, b) == levenshtein(b, a)
    assert abs(len(a) - len(b)) <= levenshtein(a, b) <= max(len(a), len(b))
    assert (levenshtein(a, b) == 0) == (a == b)


def test_anls_threshold_is_strict():
    assert anls("abcx", "abcd") == 0.75 and anls("abxy", "abcd") == 0.0 and anls("", "") == 1.0


def test_normalise_keeps_what_carries_meaning():
    assert normalise("C#") != normalise("C") and normalise("5 %") == "5 %" and normalise("the") == "the"


def test_quantities_are_whole_texts():
    assert parse_quantity("1.2 million").value == 1.2e6
    assert parse_quantity("5 m").dimension == "length" and parse_quantity("2 km").factor == 1000
    assert all(parse_quantity(text) is None for text in ["", "abc", "room 5", "5-6", "5 or so", "1.2.3", "12:30", "5 5", "--5"])
    assert parse_quantity("two hundred thousand three hundred and five miles").value == 200305
    assert all(parse_quantity(text) is None for text in ["one and two", "ten twenty", "hundred", "5th", "12 5", "nineteen ninety", "2020s"])


class ScriptedServer:
    """Replies from a list, without a network; an exception in the list is raised."""

    def __init__(self, *replies):
        self.replies, self.n_asked = list(replies), 0

    def complete(self, messages, **_):
        self.n_asked += 1
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return Completion(reply, 0)


def scripted_judge(*replies, retries=0):
    judge = Judge(JudgeConfig("http://localhost/v1", "m", max_retries=retries, timeout_s=0.01))
    judge._server = ScriptedServer(*replies)
    return judge


class TestJudge:
    def test_verdicts_are_remembered(self):
        judge = scripted_judge('{"correct": true}', '```json\n{"correct": false}\n```')
        assert judge("q", "p", ["a"]).value == judge("q", "p", ["a"]).value == 1.0
        assert judge("q", "other", ["a"]).value == 0.0
        assert judge._server.n_asked == 2

    @pytest.mark.parametrize("reply", [ServerError("down"), "yes", '{"correct": 1}', '{"correct": "true"}', "[]", "{}", ""])
    def test_a_failing_judge_gives_none_and_is_counted(self, reply):
        judge = scripted_judge(reply)
        assert judge("q", "p", ["a"]) is None and judge.n_failed == 1

    def test_a_passing_failure_is_retried_and_not_remembered_as_a_verdict(self):
        judge = scripted_judge("Let me think.", '{"correct": true}', retries=1)
        assert judge("q", "p", ["a"]).value == 1.0

    def test_over_http(self, server):
        judge = server.judge(max_retries=0)
        assert judge("q", "p", ["a"]).value == judge("q", "p", ["a"]).value == 1.0
        assert len(server.seen) == 1, "asked once, then remembered"
        assert json.loads(server.seen[0]["messages"][1]["content"]) == {"question": "q", "accepted_answers": ["a"], "prediction": "p"}
        assert judge("q", "wrong", ["a"]).value == 0.0

    def test_a_refusal_over_http_is_none_at_once_and_a_busy_server_is_asked_again(self, server):
        judge = server.judge(max_retries=2)
        server.codes[:] = [400]
        assert judge("q", "p", ["a"]) is None and len(server.seen) == 1
        server.codes[:] = [503, 429]
        assert judge("q", "p", ["a"]).value == 1.0 and len(server.seen) == 4
        server.codes[:] = [500, 500, 500]
        assert judge("q", "other", ["a"]) is None and len(server.seen) == 7
        assert judge.n_failed == 2

    def test_a_server_that_hangs_or_is_gone_is_none_after_its_time(self, server):
        server.delay_s = 4.0
        started = time.monotonic()
        assert server.judge(max_retries=1, timeout_s=0.1)("q", "p", ["a"]) is None
        assert time.monotonic() - started < 3.0
        gone = Judge(JudgeConfig("http://127.0.0.1:9/v1", "m", max_retries=0, timeout_s=0.1))
        assert gone("q", "p", ["a"]) is None

    def test_no_more_requests_at_a_time_than_allowed(self, server):
        server.delay_s = 0.03
        judge = server.judge(concurrency=2, timeout_s=5.0)
        with ThreadPoolExecutor(8) as pool:
            verdicts = list(pool.map(lambda i: judge("q", f"p{i}", ["a"]), range(8)))
        assert [v.value for v in verdicts] == [1.0] * 8
        assert server.most_at_once == 2

    def test_a_judge_that_fails_leaves_the_trajectory_out(self, server):
        server.codes[:] = [400]
        judge = server.judge(max_retries=0)
        trajectory = Trajectory("s", (Turn("", answer="close to it"),), (), "close to it", "answer")
        task = Sample("s", "q", "none.png", ("it",))
        assert score(task, trajectory, judge=judge).total is None
        assert score(task, trajectory, judge=judge).total == pytest.approx(1.1), "a failure is not remembered as a verdict"
        assert score(task, replace(trajectory, answer="it"), judge=judge).total == pytest.approx(1.1) and len(server.seen) == 2


class JudgeServer:
    """An OpenAI-compatible endpoint on this machine. `codes`: the statuses of the next replies; then 200."""

    def __init__(self):
        self.seen, self.codes, self.delay_s = [], [], 0.0
        self.most_at_once, self._now, self._lock = 0, 0, threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                outer.answer(self)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, request):
        with self._lock:
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            code = self.codes.pop(0) if self.codes else 200
        body = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        self.seen.append(body)
        time.sleep(self.delay_s)
        correct = "wrong" not in body["messages"][1]["content"]
        reply = json.dumps({"choices": [{"message": {"content": f'<think>hm</think>{json.dumps({"correct": correct})}'}}]}).encode()
        with self._lock:
            self._now -= 1
        with contextlib.suppress(OSError):  # the judge has hung up
            request.send_response(code)
            request.end_headers()
            request.wfile.write(reply)

    def judge(self, **options):
        return Judge(JudgeConfig(f"http://127.0.0.1:{self.http.server_port}/v1", "m", **{"timeout_s": 0.25, **options}))


@pytest.fixture
def server():
    server = JudgeServer()
    yield server
    server.http.shutdown()
    server.http.server_close()
