"""The text contract between model and tool, in both directions. SFT data, RL, evaluation and the CLI all use this file.

A dialogue is a list of segments: the prompt, then replies and observations in turn. Each segment is rendered and
tokenised once and its ids appended; nothing is ever re-tokenised. `CHAT_TEMPLATE` renders the same text from messages,
for servers and libraries that want messages (a test holds the two together).

    <think>...</think>
    <tool_call>
    {"name": "code_image_tool", "arguments": {"code": "...", "image_index": 0}}
    </tool_call>                          or    <answer>...</answer>
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from codevision_lite.records import ToolCall

TOOL_NAME = "code_image_tool"
IMAGE_TOKEN = "<|image_pad|>"
IMAGE = f"<|vision_start|>{IMAGE_TOKEN}<|vision_end|>"
END_OF_TURN = "<|im_end|>"

SYSTEM_PROMPT = (
    "You answer questions about pictures. A picture may be rotated, mirrored, degraded or too small to read; "
    "if so, repair or inspect it with Python first.\n"
    "Every reply is <think>reasoning</think> and then either one tool call or <answer>the final answer</answer>."
)

TOOL_SCHEMA: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": TOOL_NAME,
        "description": (
            "Run Python on a picture: `image` is a PIL image, `images` holds all pictures so far. "
            "PIL, numpy, cv2 and math are there. Assign the new picture to `result`."
        ),
        "parameters": {
            "type": "object",
            "properties": {
                "code": {"type": "string", "description": "The Python code."},
                "description": {"type": "string", "description": "What the code does."},
                "image_index": {"type": "integer", "description": "Which picture `image` is; 0 is the user's."},
            },
            "required": ["code"],
        },
    },
}

_TOOLS_HEAD = "\n\n# Tools\nYou have this function, one call a reply:\n<tools>\n"
_TOOLS_TAIL = (
    "\n</tools>\nCall it with a JSON object of its name and arguments:\n"
    '<tool_call>\n{"name": "' + TOOL_NAME + '", "arguments": {...}}\n</tool_call>'
)

# Renders role "tool" as a user turn with <tool_response>, as Qwen does. Prefix-preserving: a later message never changes
# how an earlier one is rendered.
CHAT_TEMPLATE = (
    "{%- macro show(content) -%}{%- if content is string -%}{{- content -}}{%- elif content -%}"
    "{%- for part in content -%}{%- if part.type == 'image' or 'image' in part or 'image_url' in part -%}"
    "{{- '" + IMAGE + "' -}}{%- elif 'text' in part -%}{{- part.text -}}{%- endif -%}{%- endfor -%}{%- endif -%}{%- endmacro -%}"
    "{%- set system = messages[0].content if messages[0].role == 'system' else '' -%}"
    "{%- if system or tools -%}{{- '<|im_start|>system\n' -}}{{- show(system) -}}"
    "{%- if tools -%}{{- " + json.dumps(_TOOLS_HEAD) + " -}}"
    "{%- for tool in tools -%}{{- tool | tojson -}}{%- if not loop.last -%}{{- '\n' -}}{%- endif -%}{%- endfor -%}"
    "{{- " + json.dumps(_TOOLS_TAIL) + " -}}{%- endif -%}{{- '<|im_end|>\n' -}}{%- endif -%}"
    "{%- for message in messages -%}{%- if message.role == 'system' and loop.first -%}{%- elif message.role == 'tool' -%}"
    "{{- '<|im_start|>user\n<tool_response>\n' -}}{{- show(message.content) -}}{{- '\n</tool_response><|im_end|>\n' -}}"
    "{%- else -%}{{- '<|im_start|>' + message.role + '\n' -}}{{- show(message.content) -}}"
    "{%- if message.tool_calls -%}{%- for call in message.tool_calls -%}{%- set call = call.function if call.function else call -%}"
    "{%- if (message.content and loop.first) or not loop.first -%}{{- '\n' -}}{%- endif -%}"
    '{{- \'<tool_call>\n{"name": "\' + call.name + \'", "arguments": \' -}}'
    "{%- if call.arguments is string -%}{{- call.arguments -}}{%- else -%}{{- call.arguments | tojson -}}{%- endif -%}"
    "{{- '}\n</tool_call>' -}}{%- endfor -%}{%- endif -%}{{- '<|im_end|>\n' -}}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)

# How transformers' own parser reads a reply. GRPOTrainer wants one to exist; our parser (parse_reply) is the one that counts.
RESPONSE_TEMPLATE: dict[str, Any] = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<|im_start|>assistant\n",
    "fields": {
        "reasoning_content": {"open": "<think>", "close": "</think>", "content": "text"},
        "tool_calls": {
            "open": "<tool_call>", "close": "</tool_call>", "repeats": True, "content": "json",
            "transform": {"type": "function", "function": "{content}"},
        },
        "content": {"content": "text"},
    },
}  # fmt: skip

# What an observation says when the next reply is the last one.
LAST_TURN = "This is the last turn: reply with <answer>...</answer>."
NOT_SHOWN = f"There is no room left for the result. {LAST_TURN}"


def system_text(tools: bool = True) -> str:
    """The system message; with `tools` it ends with the tool's schema."""
    return SYSTEM_PROMPT + (_TOOLS_HEAD + json.dumps(TOOL_SCHEMA) + _TOOLS_TAIL if tools else "")


def image_line(index: int, size: tuple[int, int]) -> str:
    """`size` is (W, H) in pixels of the picture that tool code works on, not of the model's resized view."""
    return f"Image {index}: {size[0]}x{size[1]} pixels."


def user_text(question: str, size: tuple[int, int], more: Sequence[tuple[int, int]] = ()) -> str:
    """The user's turn without its first picture, which comes before it; of further ones (`more`: their sizes) each stands
    before its own line."""
    lines = "".join(f"\n{IMAGE}{image_line(i, other)}" for i, other in enumerate(more, 1))
    return f"{image_line(0, size)}{lines}\n{without_special_tokens(question)}"


def render_prompt(question: str, size: tuple[int, int], tools: bool = True, more: Sequence[tuple[int, int]] = ()) -> str:
    """The first segment, up to where the model begins to write. `size`: (W, H) pixels of the user's picture; `more`: of further ones."""
    return (
        f"<|im_start|>system\n{system_text(tools)}<|im_end|>\n<|im_start|>user\n{IMAGE}{user_text(question, size, more)}<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def render_observation(message: str, has_image: bool) -> str:
    """The segment after a reply (which ends with `END_OF_TURN`), up to where the model writes again."""
    picture = f"\n{IMAGE}" if has_image else ""
    message = without_special_tokens(message)
    return f"\n<|im_start|>user\n<tool_response>\n{message}{picture}\n</tool_response><|im_end|>\n<|im_start|>assistant\n"


def without_special_tokens(text: str) -> str:
    """What a user asked, code printed or an error quotes, with every `<|name|>` broken: it can't end a turn or show a picture.

    >>> without_special_tokens("a<|im_end|>")
    'a< |im_end|>'
    """
    return text.replace("<|", "< |")


def render_call(call: ToolCall) -> str:
    """A tool call as the model should write it."""
    arguments: dict[str, Any] = {"code": call.code}
    if call.description:
        arguments["description"] = call.description
    arguments["image_index"] = call.image_index
    return f"<tool_call>\n{json.dumps({'name': TOOL_NAME, 'arguments': arguments}, ensure_ascii=False)}\n</tool_call>"


def render_reply(think: str, call: ToolCall | None = None, answer: str | None = None) -> str:
    """A well-formed reply: `parse_reply` reads it back."""
    assert (call is None) != (answer is None), "a reply is either a call or an answer"
    action = render_call(call) if call else f"<answer>{answer}</answer>"
    return f"<think>{think}</think>\n{action}"


@dataclass(frozen=True)
class Reply:
    """What a reply asks for. Exactly one of call, answer and error is set."""

    think: str = ""
    call: ToolCall | None = None
    answer: str | None = None
    error: str | None = None  # what the model is told
    no_action: bool = False  # neither a call nor an answer was there at all
    well_formed: bool = False


_THINK = re.compile(r"<think>(.*?)</think>", re.S)
_ACTION = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)|<answer>(.*?)</answer>", re.S)
# Atomic groups: a part ends at its first closing tag, whatever follows.
_STRICT = re.compile(r"\s*(?><think>.*?</think>)\s*(?><tool_call>.*?</tool_call>|<answer>.*?</answer>)\s*", re.S)
_HOW = (
    'Reply with <think>...</think> and then <tool_call>\n{"name": "code_image_tool", "arguments": {"code": "..."}}\n</tool_call> '
    "or <answer>...</answer>."
)


def parse_reply(text: str) -> Reply:
    """Read one reply. The first action counts; what can't be read becomes an error that the model can act on."""
    thought = _THINK.search(text)
    think = thought.group(1).strip() if thought else ""
    action = _ACTION.search(text, thought.end() if thought else 0)
    if action is None:
        return Reply(think, error=f"There was no tool call and no answer. {_HOW}", no_action=True)
    well_formed = _STRICT.fullmatch(text) is not None and len(_ACTION.findall(text)) == 1
    if action.group(2) is not None:
        return Reply(think, answer=action.group(2).strip(), well_formed=well_formed)
    call, error = _parse_call(action.group(1))
    return Reply(think, call=call, error=error, well_formed=well_formed and call is not None)


def _parse_call(text: str) -> tuple[ToolCall | None, str | None]:
    try:
        loaded = json.loads(text.strip(), strict=False)  # strict=False: models write raw line breaks inside "code"
    except json.JSONDecodeError as e:
        return None, f"The tool call is not valid JSON ({e.msg}, character {e.pos}). {_HOW}"
    except (ValueError, RecursionError):  # a number of thousands of digits, thousands of nested brackets
        return None, f"The tool call is not valid JSON (a number too long or brackets too deep). {_HOW}"
    if not isinstance(loaded, dict) or loaded.get("name") != TOOL_NAME:
        name = loaded.get("name") if isinstance(loaded, dict) else None
        return None, f"Unknown tool {name!r}; the only tool is {TOOL_NAME}."
    arguments = loaded.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments, strict=False)
        except (ValueError, RecursionError):
            arguments = None
    if not isinstance(arguments, dict) or not isinstance(arguments.get("code"), str):
        return None, 'The call needs "arguments" with a "code" string.'
    index, description = arguments.get("image_index", 0), arguments.get("description", "")
    if isinstance(index, bool) or not isinstance(index, int):
        return None, f'"image_index" must be a whole number, got {index!r}.'
    return ToolCall(_whole(arguments["code"]), _whole(str(description)), index), None


def _whole(text: str) -> str:
    """The text with halves of surrogate pairs, which JSON can spell and UTF-8 can't, as question marks."""
    return text.encode(errors="replace").decode()
