"""Merged models and exported adapters: loaded by transformers and PEFT alone they answer as the run's own model does."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from codevision_lite.cli import main
from codevision_lite.datasets.rows import trajectory_row
from codevision_lite.files import append_jsonl
from codevision_lite.models import load_model
from codevision_lite.protocol import SYSTEM_PROMPT, TOOL_SCHEMA
from codevision_lite.recipe import SFT_MIX, ModelConfig
from codevision_lite.synth.gold import make_golds
from codevision_lite.synth.samples import make_items
from codevision_lite.synth.signs_scripts import write_script
from codevision_lite.train.export import LogitDifference, logit_difference, sha256
from codevision_lite.train.load import load_for_training

# Runs the code of a model card in a process that can't import this project, and prints the reply.
PLAIN = """\
import importlib.util, re, sys
from pathlib import Path

folder, path, question = sys.argv[1:]
code = re.search(r"```python\\n(.*?)```", Path(folder, "README.md").read_text(), re.S).group(1)
if importlib.util.find_spec("torchvision") is None:
    code = code.replace("AutoImageProcessor", "Qwen2VLImageProcessorPil")
code = code.replace('dtype="auto"', 'dtype="float32"').replace("max_new_tokens=512", "max_new_tokens=24")
exec(code)
assert not [name for name in sys.modules if name.startswith("codevision_lite")]
print(reply)
"""


ON_NF4 = "merged vs adapter on NF4 weights, as it was trained"


def ask_plainly(folder: Path, image: Path, question: str, cwd: Path) -> str:
    # -I: no current folder and no PYTHONPATH in sys.path; the project's own entry is removed as well.
    root = str(Path(__file__).parent.parent)
    code = f"import sys; sys.path = [p for p in sys.path if p != {root!r}]\n{PLAIN}"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, str(folder), str(image), question],
        cwd=cwd, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.rstrip("\n")


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_folder, sandbox):
    """A run folder with data, results and an adapter that changes what is answered; its recipe; a picture."""
    folder = tmp_path_factory.mktemp("run")
    rng = random.Random(0)
    scripts = [write_script(item, rng, error_share=0.0, second_style=0.3) for item in make_items(0, "train", 4, SFT_MIX)]
    for gold in make_golds(scripts, sandbox):
        append_jsonl(folder / "data" / "sft.jsonl", trajectory_row(folder / "data", gold.item.sample, gold.trajectory))
    model, _ = load_for_training(ModelConfig(name=str(tiny_folder), quantize="none", lora_r=8, lora_alpha=8), seed=0)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    model.save_pretrained(folder / "grpo" / "adapter")
    rows = [{"condition": "upright", "n": 60, "correct": 57, "accuracy": 0.95}]
    results = {"stages": [{"name": name, "rows": rows} for name in ("base", "grpo")], "context": {"commit": "0123abc", "quantize": "nf4"}}
    (folder / "results.json").write_text(json.dumps(results))
    recipe = folder / "small.yaml"
    recipe.write_text(f"run_folder: {folder}\nmodel: {{name: {tiny_folder}, lora_r: 8}}\n")
    picture = folder / "picture.png"
    Image.effect_noise((120, 80), 60).convert("RGB").save(picture)
    return SimpleNamespace(folder=folder, recipe=recipe, base=tiny_folder, picture=picture)


@pytest.fixture(scope="module")
def merged(run):
    assert main(["merge", str(run.recipe)]) == 0
    return run.folder / "grpo" / "merged"


def our_reply(name, picture, adapter=None):
    from tiny_model import ask

    model = load_model(str(name), adapter=adapter and str(adapter), quantize="none")
    return model.reply([ask("What is it?", Image.open(picture).convert("RGB"))], 24)[0].text


@pytest.mark.slow
def test_a_merged_model_answers_the_same_without_any_code_of_ours(run, merged, tmp_path):
    ours = our_reply(merged, run.picture)
    assert ask_plainly(merged, run.picture, "What is it?", tmp_path).removesuffix("<|im_end|>") == ours
    assert ours != our_reply(run.base, run.picture), "the adapter does something"


@pytest.mark.slow
def test_an_exported_adapter_answers_the_same_without_any_code_of_ours(run, tmp_path):
    out = tmp_path / "adapter"
    assert main(["export-adapter", str(run.recipe), "--out", str(out)]) == 0
    ours = our_reply(run.base, run.picture, run.folder / "grpo" / "adapter")
    assert ask_plainly(out, run.picture, "What is it?", tmp_path).removesuffix("<|im_end|>") == ours
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "preprocessor_config.json"} <= {
        p.name for p in out.iterdir()
    }
    assert sha256(out / "adapter_model.safetensors") == sha256(run.folder / "grpo" / "adapter" / "adapter_model.safetensors")
    assert 'library_name: "peft"' in (out / "README.md").read_text()


@pytest.mark.slow
def test_a_merge_is_bfloat16_under_the_names_of_the_base_and_says_its_differences(run, merged, capsys, tmp_path):
    with safe_open(merged / "model.safetensors", "pt") as ours, safe_open(run.base / "model.safetensors", "pt") as theirs:
        assert set(ours.keys()) == set(theirs.keys())
    assert {tensor.dtype for tensor in load_file(merged / "model.safetensors").values()} == {torch.bfloat16}
    assert {oct(p.stat().st_mode & 0o777) for p in merged.iterdir()} == {"0o644"}
    facts = json.loads((merged / "provenance.json").read_text())
    exact, quantised = (facts["checks"][name] for name in ("merged vs adapter on unquantised weights", ON_NF4))
    assert 0 < exact["relative"] < 0.02 and exact["agreement"] > 0.97 and exact["n"] == quantised["n"] > 50
    assert quantised["relative"] > 3 * exact["relative"], "what NF4 does to the weights is much more than rounding"
    assert main(["merge", str(run.recipe), "model.quantize=none", "--out", str(tmp_path / "again")]) == 0
    said = capsys.readouterr().out
    assert "merged vs the adapter on unquantised weights: mean |dlogit| " in said and "NF4" not in said
    assert sha256(tmp_path / "again" / "model.safetensors") == facts["sha256"]["model.safetensors"]


@pytest.mark.slow
def test_a_merge_into_the_nf4_weights_is_what_was_trained(run, tmp_path, capsys):
    assert main(["merge", str(run.recipe), "--from", "nf4", "--out", str(tmp_path / "out")]) == 0
    assert "merged vs the adapter on nf4 weights: " in capsys.readouterr().out
    check = json.loads((tmp_path / "out" / "provenance.json").read_text())["checks"][ON_NF4]
    assert 0 < check["relative"] < 0.02 and check["agreement"] > 0.97, "rounding to 16 bits alone"
    assert "quantization_config" not in json.loads((tmp_path / "out" / "config.json").read_text())
    assert main(["merge", str(run.recipe), "model.quantize=none", "--from", "nf4", "--out", str(tmp_path / "no")]) == 2
    assert "trained on unquantised weights" in capsys.readouterr().err


@pytest.mark.slow
def test_the_card_has_the_data_the_numbers_the_hashes_and_no_path_of_the_run(run, merged):
    card = (merged / "README.md").read_text()
    for text in ("| upright | 95.0% | 95.0% | 60 |", "commit 0123abc", sha256(run.folder / "data" / "sft.jsonl"), "| sft.jsonl | 4 |"):
        assert text in card
    assert sha256(merged / "model.safetensors") in card and sha256(run.base / "model.safetensors") in card
    assert str(run.folder) not in card and "the merged model itself was not evaluated" in card
    protocol = json.loads((merged / "protocol.json").read_text())
    assert protocol == {"system": SYSTEM_PROMPT, "tools": [TOOL_SCHEMA]}


@pytest.mark.slow
def test_a_merge_that_lost_the_adapter_is_refused_and_leaves_nothing(run, tmp_path, monkeypatch, capsys):
    from peft import PeftModel

    monkeypatch.setattr(PeftModel, "merge_and_unload", lambda self, safe_merge: self.unload(), raising=False)
    assert main(["merge", str(run.recipe), "model.quantize=none", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert re.search(r"out: the merged model is not the adapter's: mean \|dlogit\| .* at most 5% and at least 97% are rounding", said)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_disk_without_room_is_named_before_the_weights_are_written(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=2**20))
    assert main(["merge", str(run.recipe), "model.quantize=none", "--out", str(tmp_path / "out")]) == 2
    assert re.search(r"the merged model needs about \d+ MiB, 1 MiB are free there", capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["merge", "export-adapter"])
def test_a_folder_that_is_taken_and_a_stage_that_is_not_trained_are_named(run, tmp_path, capsys, verb):
    assert main([verb, str(run.recipe), "--out", str(tmp_path)]) == 2
    assert f"{tmp_path} is there already. Choose another --out" in capsys.readouterr().err
    assert main([verb, str(run.recipe), "--stage", "sft", "--out", str(tmp_path / "new")]) == 2
    assert "is not there yet. Make it, with the same recipe, by: make sft" in capsys.readouterr().err


def test_the_difference_of_logits_is_what_it_says():
    a = torch.tensor([[0.0, 2.0, 4.0], [0.0, 2.0, 4.0]])
    b = a + torch.tensor([[0.0, 0.0, 0.0], [6.0, 0.0, 0.0]])
    assert logit_difference(a, b) == LogitDifference(n=2, mean=1.0, max=6.0, relative=0.5, agreement=0.5)
    assert logit_difference(a, a).agreement == 1.0 and logit_difference(a, a).mean == 0.0
