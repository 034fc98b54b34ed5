"""Answer matching: tables of (prediction, references, expected), and the judge behind it."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codevision_lite.errors import UserError
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
    ],
)  # fmt: skip
def test_options(prediction, reference, options, expected):
    assert match(prediction, [reference], choices=options).value == expected


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [("105", "100", 1), ("106", "100", 0), ("95", "100", 1), ("2017", "2016", 0), ("103 km", "100 km", 1), ("0", "0", 1),
     ("0.01", "0", 0),
     ("13%", "12.5%", 1), ("1,050", "1000.0", 1), ("-100", "100", 0)],
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
    assert match("Invoice number 20417 of March", ["Invoice number 20418 of March"]).value == 0.0


def test_several_references_give_the_best():
    assert match("7", ["eight", "seven"]).value == 1.0
    assert match("STOP", ["HALT", "stop"]).value == 1.0
    assert match("STOP", "stop").value == 1.0
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


class ScriptedJudge(Judge):
    """Replies from a list, without a server; an exception in the list is raised."""

    def __init__(self, *replies, retries=0):
        super().__init__(JudgeConfig("http://localhost/v1", "m", max_retries=retries, timeout_s=0.01))
        self.replies, self.n_asked = list(replies), 0

    def _post(self, body):
        self.n_asked += 1
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply


class TestJudge:
    def test_verdicts_are_remembered(self):
        judge = ScriptedJudge('{"correct": true}', '```json\n{"correct": false}\n```')
        assert judge("q", "p", ["a"]).value == judge("q", "p", ["a"]).value == 1.0
        assert judge("q", "other", ["a"]).value == 0.0
        assert judge.n_asked == 2

    @pytest.mark.parametrize("reply", [OSError("down"), TimeoutError(), "yes", '{"correct": 1}', '{"correct": "true"}', "[]", "{}", ""])
    def test_a_failing_judge_gives_none_and_is_counted(self, reply):
        judge = ScriptedJudge(reply)
        assert judge("q", "p", ["a"]) is None and judge.n_failed == 1

    def test_a_passing_failure_is_retried_and_not_remembered_as_a_verdict(self):
        judge = ScriptedJudge(OSError("busy"), '{"correct": true}', retries=1)
        assert judge("q", "p", ["a"]).value == 1.0

    def test_over_http(self):
        seen = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                seen.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                body = json.dumps({"choices": [{"message": {"content": '<think>hm</think>{"correct": true}'}}]}).encode()
                self.send_response(200 if "bad" not in seen[-1]["messages"][1]["content"] else 400)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            judge = Judge(JudgeConfig(f"http://127.0.0.1:{server.server_port}/v1", "m", max_retries=0))
            assert judge("q", "p", ["a"]).value == 1.0
            assert judge("q", "bad", ["a"]) is None
        finally:
            server.shutdown()
            server.server_close()
        assert json.loads(seen[0]["messages"][1]["content"])["accepted_answers"] == ["a"]
