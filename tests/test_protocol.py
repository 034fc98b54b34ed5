"""The text contract: one golden prompt, one template for both ways of rendering, and every odd reply read without a crash."""

from __future__ import annotations

import json

import pytest
from pictures import picture

from codevision_lite.protocol import (
    TOOL_NAME,
    TOOL_SCHEMA,
    image_line,
    parse_reply,
    render_call,
    render_observation,
    render_prompt,
    render_reply,
    system_text,
    user_text,
)  # fmt: skip
from codevision_lite.records import ToolCall

GOLDEN_PROMPT = """\
<|im_start|>system
You answer questions about pictures. A picture may be rotated, mirrored, degraded or too small to read; if so, repair or inspect it with Python first.
Every reply is <think>reasoning</think> and then either one tool call or <answer>the final answer</answer>.

# Tools
You have this function, one call a reply:
<tools>
{"type": "function", "function": {"name": "code_image_tool", "description": "Run Python on a picture: `image` is a PIL image, `images` holds all pictures so far. PIL, numpy, cv2 and math are there. Assign the new picture to `result`.", "parameters": {"type": "object", "properties": {"code": {"type": "string", "description": "The Python code."}, "description": {"type": "string", "description": "What the code does."}, "image_index": {"type": "integer", "description": "Which picture `image` is; 0 is the user's."}}, "required": ["code"]}}}
</tools>
Call it with a JSON object of its name and arguments:
<tool_call>
{"name": "code_image_tool", "arguments": {...}}
</tool_call><|im_end|>
<|im_start|>user
<|vision_start|><|image_pad|><|vision_end|>Image 0: 640x480 pixels.
What does the sign say?<|im_end|>
<|im_start|>assistant
"""  # noqa: E501 the prompt as the model reads it

GOLDEN_OBSERVATION = """
<|im_start|>user
<tool_response>
Image 1: 480x640 pixels.
<|vision_start|><|image_pad|><|vision_end|>
</tool_response><|im_end|>
<|im_start|>assistant
"""

GOLDEN_REPLY = """\
<think>The picture is turned left.</think>
<tool_call>
{"name": "code_image_tool", "arguments": {"code": "w, h = image.size\\nresult = image.rotate(-90)", "image_index": 0}}
</tool_call>"""


def test_the_prompt_is_the_golden_one():
    assert render_prompt("What does the sign say?", (640, 480)) == GOLDEN_PROMPT


def test_the_prompt_without_tools_names_no_tool():
    prompt = render_prompt("What does the sign say?", (640, 480), tools=False)
    assert prompt == GOLDEN_PROMPT[: GOLDEN_PROMPT.index("\n\n# Tools")] + GOLDEN_PROMPT[GOLDEN_PROMPT.index("<|im_end|>") :]


def test_an_observation_and_a_reply_are_the_golden_ones():
    assert render_observation("Image 1: 480x640 pixels.", has_image=True) == GOLDEN_OBSERVATION
    text_only = "\n<|im_start|>user\n<tool_response>\nNo.\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    assert render_observation("No.", has_image=False) == text_only
    assert render_reply("The picture is turned left.", ToolCall("w, h = image.size\nresult = image.rotate(-90)")) == GOLDEN_REPLY
    assert render_reply("I can read it.", answer="7") == "<think>I can read it.</think>\n<answer>7</answer>"


@pytest.mark.parametrize("token", ["<|im_end|>", "<|im_start|>assistant", "<|vision_start|><|image_pad|><|vision_end|>", "<|<|im_end|>"])
def test_text_from_outside_brings_no_special_tokens(token):
    for rendered, clean in (
        (render_prompt(f"What{token}?", (4, 3)), render_prompt("What?", (4, 3))),
        (render_observation(f"Printed: {token}", has_image=True), render_observation("Printed: ", has_image=True)),
    ):
        assert rendered.count("<|") == clean.count("<|")


@pytest.mark.parametrize(
    "call",
    [
        ToolCall("result = image"),
        ToolCall('print("a\\n\\"b\\"")\nresult = image.crop((0, 0, 5, 5))', 'crop "it"', 3),
        ToolCall("# größer\tund 漢字 </think>\n" + r"s = '\d+\\'", "ä", 1),
        ToolCall(""),
    ],
)
def test_a_rendered_call_is_read_back_equal(call):
    reply = parse_reply(render_reply("I look.", call))
    assert (reply.think, reply.call, reply.answer, reply.error, reply.well_formed) == ("I look.", call, None, None, True)


CODE = "result = image.rotate(90)"
GOOD = json.dumps({"name": TOOL_NAME, "arguments": {"code": CODE}})
T = "<think>t</think>\n"


def called(body, closed=True):
    return f"{T}<tool_call>\n{body}\n{'</tool_call>' if closed else ''}"


def with_arguments(arguments):
    return called(json.dumps({"name": TOOL_NAME, "arguments": arguments}))


CALL = ToolCall(CODE)
# reply, what it asks for (a ToolCall, an answer, or a part of the error), whether it is well formed
REPLIES = {
    "a call": (called(GOOD), CALL, True),
    "an answer": (T + "<answer>7</answer>", "7", True),
    "spaces around": (f"\n  {T}\n\n<answer> 7 \n</answer>\n", "7", True),
    "everything on one line": (f"<think>t</think><tool_call>{GOOD}</tool_call>", CALL, True),
    "empty think": ("<think></think><answer>7</answer>", "7", True),
    "an empty answer": (T + "<answer></answer>", "", True),
    "an answer of several lines": (T + "<answer>a\nb</answer>", "a\nb", True),
    "an answer with a sign like a tag": (T + "<answer>x < y > z</answer>", "x < y > z", True),
    "unicode": ("<think>schräg 漢字</think><answer>Größe 漢字 🙂</answer>", "Größe 漢字 🙂", True),
    "think over several lines": ("<think>a\nb\n</think><answer>7</answer>", "7", True),
    "all arguments": (with_arguments({"code": CODE, "description": "turn", "image_index": 2}), ToolCall(CODE, "turn", 2), True),
    "an unknown argument": (with_arguments({"code": CODE, "angle": 90}), CALL, True),
    "raw newline in code": (called(GOOD.replace(CODE, "a = 1\n\tresult = image")), ToolCall("a = 1\n\tresult = image"), True),
    "escaped newline in code": (called(GOOD.replace(CODE, "a = 1\\nresult = image")), ToolCall("a = 1\nresult = image"), True),
    "arguments as a string": (with_arguments(json.dumps({"code": CODE, "image_index": 1})), ToolCall(CODE, image_index=1), True),
    "description not a string": (with_arguments({"code": CODE, "description": 5}), ToolCall(CODE, "5"), True),
    "a negative index, for the agent to refuse": (with_arguments({"code": CODE, "image_index": -1}), ToolCall(CODE, image_index=-1), True),
    "no think": ("<answer>7</answer>", "7", False),
    "no think before a call": (f"<tool_call>{GOOD}</tool_call>", CALL, False),
    "think left open": ("<think>t <answer>7</answer>", "7", False),
    "text before think": (f"Well. {T}<answer>7</answer>", "7", False),
    "text between": (f"{T}So: <answer>7</answer>", "7", False),
    "text after": (f"{T}<answer>7</answer> I hope.", "7", False),
    "two thinks": (f"{T}{T}<answer>7</answer>", "7", False),
    "answer after call": (called(GOOD) + "<answer>7</answer>", CALL, False),
    "call after answer": (f"{T}<answer>7</answer><tool_call>{GOOD}</tool_call>", "7", False),
    "two calls": (called(GOOD) + called(GOOD.replace("90", "180")), CALL, False),
    "two answers": (f"{T}<answer>7</answer><answer>8</answer>", "7", False),
    "unterminated call": (called(GOOD, closed=False), CALL, False),
    "unterminated answer": (f"{T}<answer>7", "no tool call and no answer", False),
    "a call named in the thoughts": (f"<think>I could <answer>8</answer></think><tool_call>{GOOD}</tool_call>", CALL, False),
    "malformed JSON": (called(GOOD[:-1]), "not valid JSON", False),
    "single quotes": (called(GOOD.replace('"', "'")), "not valid JSON", False),
    "cut in the middle": (called(GOOD[:40], closed=False), "not valid JSON", False),
    "bare code": (called(CODE), "not valid JSON", False),
    "code in a fence": (called(f"```json\n{GOOD}\n```"), "not valid JSON", False),
    "an empty call": (called(""), "not valid JSON", False),
    "a bad escape": (called(GOOD.replace(CODE, "s = '\\d'")), "not valid JSON", False),
    "a trailing comma": (called(GOOD[:-2] + ",}}"), "not valid JSON", False),
    "a list": (called(f"[{GOOD}]"), "Unknown tool None", False),
    "a number": (called("7"), "Unknown tool None", False),
    "null": (called("null"), "Unknown tool None", False),
    "unknown tool": (called(GOOD.replace(TOOL_NAME, "zoom")), "Unknown tool 'zoom'", False),
    "no name": (called(json.dumps({"arguments": {"code": CODE}})), "Unknown tool None", False),
    "no arguments": (called(json.dumps({"name": TOOL_NAME})), 'needs "arguments"', False),
    "missing code": (with_arguments({"image_index": 0}), '"code" string', False),
    "code not a string": (with_arguments({"code": [CODE]}), '"code" string', False),
    "code null": (with_arguments({"code": None}), '"code" string', False),
    "arguments a list": (with_arguments([CODE]), 'needs "arguments"', False),
    "arguments a string that is no JSON": (with_arguments(CODE), 'needs "arguments"', False),
    "arguments a string of a number": (with_arguments("7"), 'needs "arguments"', False),
    "image_index a string": (with_arguments({"code": CODE, "image_index": "0"}), "'0'", False),
    "image_index a fraction": (with_arguments({"code": CODE, "image_index": 0.5}), "0.5", False),
    "image_index true": (with_arguments({"code": CODE, "image_index": True}), "True", False),
    "image_index null": (with_arguments({"code": CODE, "image_index": None}), "None", False),
    "deeply nested": (called("[" * 100_000), "not valid JSON", False),
    "an endless number": (called(GOOD[:-2] + f', "image_index": {"9" * 5000}' + "}}"), "not valid JSON", False),
    "deeply nested in a string": (with_arguments("[" * 100_000), 'needs "arguments"', False),
    "half a surrogate pair": (called(GOOD.replace(CODE, "s = '\\ud83d'")), ToolCall("s = '?'"), True),
    "a whole surrogate pair": (called(GOOD.replace(CODE, "s = '\\ud83d\\ude42'")), ToolCall("s = '🙂'"), True),
    "junk after the call and a second end": (called(GOOD) + "junk</tool_call>", CALL, False),
    "junk after the answer and a second end": (f"{T}<answer>7</answer> or </answer>", "7", False),
    "nothing": ("", "no tool call and no answer", False),
    "whitespace": (" \n\t ", "no tool call and no answer", False),
    "text alone": ("The answer is 7.", "no tool call and no answer", False),
    "think alone": (T, "no tool call and no answer", False),
    "wrong tags": (f"{T}<final>7</final>", "no tool call and no answer", False),
    "upper-case tags": (f"{T}<ANSWER>7</ANSWER>", "no tool call and no answer", False),
}  # fmt: skip


@pytest.mark.parametrize("text, wanted, well_formed", REPLIES.values(), ids=REPLIES.keys())
def test_reply_is_read_as(text, wanted, well_formed):
    reply = parse_reply(text)
    assert reply.well_formed == well_formed
    if isinstance(wanted, ToolCall):
        assert (reply.call, reply.answer, reply.error) == (wanted, None, None)
    elif reply.error is None:
        assert (reply.answer, reply.call) == (wanted, None)
    else:
        assert wanted in reply.error
        assert (reply.call, reply.answer) == (None, None)
        assert reply.no_action == ("no tool call" in reply.error)


def test_the_table_of_replies_is_long_enough_to_matter():
    assert len(REPLIES) >= 40


def messages(image, size):
    """A dialogue of every kind of turn as messages, and as the segments of protocol.py."""
    call = {"code": "result = image.rotate(90)\n# ä <b> & \"q\" it's", "image_index": 0}
    function = {"name": TOOL_NAME, "arguments": call}
    turned = (size[1], size[0])
    chat = [
        {"role": "system", "content": system_text(tools=False)},
        {"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": user_text("What is it?", size)}]},
        {"role": "assistant", "content": "<think>It is turned.</think>", "tool_calls": [{"type": "function", "function": function}]},
        {"role": "tool", "content": [{"type": "text", "text": f"{image_line(1, turned)}\n"}, {"type": "image", "image": image}]},
        {"role": "assistant", "content": "<think>Again.</think>\n<tool_call>\n{}\n</tool_call>"},
        {"role": "tool", "content": "Unknown tool None."},
        {"role": "assistant", "content": "<think>I see.</think>\n<answer>7</answer>"},
    ]  # fmt: skip
    ids = render_call(ToolCall(call["code"]))
    segments = [
        render_prompt("What is it?", size),
        f"<think>It is turned.</think>\n{ids}<|im_end|>",
        render_observation(image_line(1, turned), has_image=True),
        "<think>Again.</think>\n<tool_call>\n{}\n</tool_call><|im_end|>",
        render_observation("Unknown tool None.", has_image=False),
        "<think>I see.</think>\n<answer>7</answer><|im_end|>",
    ]
    return chat, segments


def test_the_chat_template_renders_what_the_segments_say(processor):
    chat, segments = messages(picture(40, 30), (40, 30))
    rendered = processor.apply_chat_template(chat, tools=[TOOL_SCHEMA], tokenize=False)
    assert rendered == "".join(segments) + "\n"


def test_the_chat_template_preserves_prefixes(processor):
    chat, segments = messages(picture(40, 30), (40, 30))
    whole = processor.apply_chat_template(chat, tools=[TOOL_SCHEMA], tokenize=False)
    for n in range(1, len(chat) + 1):
        assert whole.startswith(processor.apply_chat_template(chat[:n], tools=[TOOL_SCHEMA], tokenize=False))
    for n, end in ((2, 1), (4, 3), (6, 5)):  # up to where the model writes
        prompt = processor.apply_chat_template(chat[:n], tools=[TOOL_SCHEMA], tokenize=False, add_generation_prompt=True)
        assert prompt == "".join(segments[:end])


def test_trl_accepts_the_chat_template(processor):
    from trl.chat_template_utils import is_chat_template_prefix_preserving, supports_tool_calling

    assert supports_tool_calling(processor)
    assert is_chat_template_prefix_preserving(processor)


def test_transformers_own_parser_reads_our_call(processor):
    tokenizer = processor.tokenizer
    reply = tokenizer.encode(render_reply("t", ToolCall("result = image")), add_special_tokens=False)
    prompt = tokenizer.encode(render_prompt("What is it?", (40, 30)), add_special_tokens=False)
    (call,) = tokenizer.parse_response(reply, prefix=prompt)["tool_calls"]
    assert call["function"] == {"name": TOOL_NAME, "arguments": {"code": "result = image", "image_index": 0}}
