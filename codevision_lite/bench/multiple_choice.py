"""Multiple choice: which option does a prediction name? VLMEvalKit's rule without a judge ("exact matching"), and its prompt.

Source: VLMEvalKit, vlmeval/utils/matching_util.py and image_mcq.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from codevision_lite.bench.benchmark import Scored, Switch
from codevision_lite.bench.table_rows import TableRow
from codevision_lite.datasets import record
from codevision_lite.records import Sample
from codevision_lite.reward.answer import match

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_SPACED = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_LAST_WORDS = 4  # a letter before them may be the article A
_ANSWER_IS = re.compile(r"answer\s+is\s+\**([ABCD])", re.IGNORECASE)  # no word end: "the answer is black" names B, also officially
_REFUSALS = (
    "Sorry, I can't help with images of people yet.", "I can't process this file.", "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)  # fmt: skip

SWITCHES: dict[str, Switch] = {
    "extraction": Switch(
        "vlmevalkit", ("vlmevalkit", "vlmevalkit_2024", "strict"),
        "vlmevalkit: its rule without a judge; vlmevalkit_2024: before it knew 'answer is X'; strict: this project's reward rule",
    ),
    "prompt": Switch("official", ("official", "plain"), "official: VLMEvalKit's (or the file's own) words; plain: question, options", True),
}  # fmt: skip


def options_of(row: TableRow) -> dict[str, str]:
    """The options A, B, ... of a row, up to the first that is empty. Raises record.BadRow where there are fewer than two."""
    options = {}
    for letter in LETTERS:
        text = row.text(letter.lower(), default="")
        if not text.strip():
            break
        options[letter] = text.strip()
    if len(options) < 2:
        raise record.BadRow("a", f"options A and B are needed, got {', '.join(options) or 'none'}")
    return options


def right_letter(answer: str, options: Mapping[str, str], column: str) -> str:
    """The letter of the right option, given as a letter ("B", "(B)") or as the option's text. Raises record.BadRow."""
    letter = answer.strip().strip("().").upper()
    if letter in options:
        return letter
    named = [k for k, text in options.items() if text == answer.strip()]
    if len(named) != 1:
        raise record.BadRow(column, f"{column!r} {answer[:60]!r} is none of the options {', '.join(options)}")
    return named[0]


def prompt(question: str, options: Mapping[str, str], hint: str = "", official: bool = True) -> str:
    """The question with its options, one a line."""
    lines = [*([f"Hint: {hint}"] if hint else []), f"Question: {question}" if official else question, *(["Options:"] if official else [])]
    lines += [f"{letter}. {text}" for letter, text in options.items()]
    return "\n".join([*lines, *(["Please select the correct answer from the options above."] if official else [])])


def score_option(sample: Sample, prediction: str | None, switches: Mapping[str, str]) -> Scored:
    """1 where the prediction names the right option of sample.meta["options"], by the rule of the switch `extraction`."""
    if prediction is None:
        return Scored(0.0, False, "no answer")
    options, right = sample.meta["options"], sample.meta["answer"]
    if switches["extraction"] == "strict":
        judged = match(prediction, [right], rule="choice", choices=tuple(options.values()))
        return Scored(judged.value, judged.value == 1.0, judged.reason)
    letter, how = infer_option(prediction, options, knows_answer_is=switches["extraction"] == "vlmevalkit")
    return Scored(float(letter == right), letter == right, how)


def infer_option(prediction: str, options: Mapping[str, str], *, knows_answer_is: bool = True) -> tuple[str | None, str]:
    """(the letter that is named, or None; how it was found). First that applies:

    1. a refusal in known words, or the word Z with no option's letter: none
    2. exactly one option's letter among the words, its first place within the last four words
    3. "answer is X", X one of A to D, in any case and also at the start of a longer word
    4. the text of exactly one option in the prediction, if that is no longer than twice all options together

    >>> infer_option("The answer is B.", {"A": "red", "B": "blue"})
    ('B', 'letter B')
    """
    if any(words in prediction for words in _REFUSALS):
        return None, "a refusal"
    words = prediction.translate(_SPACED).split()
    letters = [letter for letter in options if letter in words]
    if len(letters) == 1 and words.index(letters[0]) >= len(words) - _LAST_WORDS:
        return letters[0], f"letter {letters[0]}"
    if not letters and "Z" in words:
        return None, "the letter Z"
    if knows_answer_is and (found := _ANSWER_IS.search(prediction)) and found[1].upper() in options:
        return found[1].upper(), f"answer is {found[1].upper()}"
    said = prediction.lower()
    if len(said) <= 2 * sum(map(len, options.values())):
        named = [letter for letter, text in options.items() if text.lower() in said]
        if len(named) == 1:
            return named[0], f"text of {named[0]}"
    return None, "no option can be inferred"
