"""The model card of a merged model or an adapter: what it is, where it comes from, what was measured, how to ask it."""

from __future__ import annotations

import json
from typing import Any

from codevision_lite.protocol import SYSTEM_PROMPT
from codevision_lite.recipe import Recipe

_ASK_MERGED = """\
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

model = AutoModelForImageTextToText.from_pretrained(folder, dtype="auto")
"""
_ASK_ADAPTER = """\
from peft import PeftModel
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

model = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained({base!r}, dtype="auto"), folder)
"""
_ASK = """\
tokenizer, pictures = AutoTokenizer.from_pretrained(folder), AutoImageProcessor.from_pretrained(folder)
protocol = json.load(open(f"{folder}/protocol.json"))  # the system prompt and the tool
image = Image.open(path).convert("RGB")
question = f"Image 0: {image.width}x{image.height} pixels.\\n{question}"
messages = [
    {"role": "system", "content": protocol["system"]},
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]},
]
text = tokenizer.apply_chat_template(messages, tools=protocol["tools"], add_generation_prompt=True, tokenize=False)
seen = pictures(images=[image], return_tensors="pt")
text = text.replace("<|image_pad|>", "<|image_pad|>" * (int(seen["image_grid_thw"].prod()) // pictures.merge_size**2))
tokens = tokenizer(text, return_tensors="pt", add_special_tokens=False)
kinds = (tokens["input_ids"] == tokenizer.convert_tokens_to_ids("<|image_pad|>")).long()
out = model.generate(**tokens, **seen, mm_token_type_ids=kinds, max_new_tokens=512, do_sample=False)
reply = tokenizer.decode(out[0, tokens["input_ids"].shape[1] :])
"""


def model_card(recipe: Recipe, facts: dict[str, Any], results: dict[str, Any]) -> str:
    """`facts`: of provenance.json. `results`: of results.json, whose stages may be none."""
    merged = bool(facts["checks"])
    base, stage = facts["base"], facts["stage"]
    stages = "SFT" if stage == "sft" else "SFT, then GRPO with a dense process reward"
    kind = "the base with the adapter merged in, bfloat16" if merged else f"a LoRA adapter of rank {recipe.model.lora_r}"
    head = {"base_model": base, "library_name": "transformers" if merged else "peft", "pipeline_tag": "image-text-to-text"}
    lines = ["---", *(f"{k}: {json.dumps(v)}" for k, v in head.items()), "tags: [codevision-lite]", "---", ""]
    lines += [f"# {base.rsplit('/', 1)[-1]}, {stage} by codevision-lite", ""]
    lines += [
        f"{stages} on `{base}`: {kind}. It answers questions about pictures, and first repairs or inspects them with Python code, which "
        "the caller runs in a sandbox: a reply holds `<think>`, then one `<tool_call>` or an `<answer>`.",
        "",
    ]  # fmt: skip
    lines += ["## Measured", "", *_numbers(results, stage), ""]
    if merged:
        weights = "NF4" if recipe.model.quantize == "nf4" else "unquantised"
        lines += [
            f"These are the adapter's on {weights} weights; the merged model itself was not evaluated.",
            "",
            "Compared with the adapter, on trajectories of its training data:",
            "",
        ]
        lines += [
            f"- {name}: mean |dlogit| {c['mean']:.2g} ({c['relative']:.2%} of their spread), max {c['max']:.2g}, same first choice at "
            f"{c['agreement']:.1%} of {c['n']} tokens"
            for name, c in facts["checks"].items()
        ]  # fmt: skip
        lines.append("")
    lines += ["## Data", "", "| file | rows | sha256 |", "|---|---|---|"]
    lines += [f"| {name} | {d['rows']} | `{d['sha256']}` |" for name, d in facts["data"].items()]
    lines += ["", f"World `{recipe.data.world}`, drawn with seed {recipe.seed} by `codevision-lite synth`.", ""]
    ask = (_ASK_MERGED if merged else _ASK_ADAPTER.format(base=base)) + _ASK
    lines += ["## Asking it", "", "```python", "import json", "", "from PIL import Image", ask.rstrip(), "```", ""]
    lines += [
        f"System prompt: {SYSTEM_PROMPT!r}. Tool results go back as a message of role `tool`; calls are JSON inside `<tool_call>`.",
        "",
    ]
    lines += ["## Hashes", "", *(f"- {name}: `{digest}`" for name, digest in facts["sha256"].items())]
    lines += [f"- base {name}: `{digest}`" for name, digest in facts["base_sha256"].items()]
    lines += [f"- recipe: `{facts['recipe_hash']}`", "", "The base model's licence holds for what is made from it."]
    return "\n".join(lines) + "\n"


def _numbers(results: dict[str, Any], stage: str) -> list[str]:
    shown = [s for s in results["stages"] if s["name"] in ("base", stage)]
    if stage not in {s["name"] for s in shown}:
        return ["Not measured."]
    context = results.get("context", {})
    lines = ["| condition | " + " | ".join(s["name"] for s in shown) + " | n |", "|---" * (len(shown) + 2) + "|"]
    for row in shown[-1]["rows"]:
        same = [next((r for r in s["rows"] if r["condition"] == row["condition"]), None) for s in shown]
        cells = [f"{r['accuracy']:.1%}" if r else "" for r in same]
        lines.append(f"| {row['condition']} | {' | '.join(cells)} | {row['n']} |")
    known = {k: context[k] for k in ("quantize", "max_pixels", "seed", "config_hash", "commit", "hardware") if k in context}
    return [*lines, "", "Context: " + ", ".join(f"{k} {v}" for k, v in known.items()) + "."]
