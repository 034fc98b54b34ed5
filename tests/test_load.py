"""Models by name: the hub's layout, folders that are quantised already, adapters, and what KL is measured against."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from bitsandbytes import cextension
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from datasets import Dataset
from pictures import picture
from safetensors.torch import load_file, save_file
from tiny_model import ask, random_model, show, token_ids
from transformers import AutoModelForImageTextToText, BitsAndBytesConfig, trainer_utils

from codevision_lite.errors import UserError
from codevision_lite.models import backend
from codevision_lite.models.encoding import encode_dialogue, image_inputs
from codevision_lite.models.load import _place, describe, load_adapter, load_base, load_processor, require_bfloat16
from codevision_lite.models.nf4 import count_blocks_through_rows, one_kernel
from codevision_lite.protocol import CHAT_TEMPLATE, RESPONSE_TEMPLATE
from codevision_lite.recipe import ModelConfig
from codevision_lite.train.load import load_for_training, precise_adapter, trl_classes, trl_configs


def config(folder, **changes):
    return replace(ModelConfig(name=str(folder), quantize="none", lora_r=8, lora_alpha=16), **changes)


def seen(processor, *sizes):
    """The inputs of one dialogue with pictures of these sizes, as the training forward gets them."""
    dialogue = ask("What is written here?", picture(*sizes[0]))
    for i, size in enumerate(sizes[1:], 1):
        show(dialogue, picture(*size, seed=i))
    inputs = encode_dialogue(processor, dialogue)
    ids = torch.tensor([token_ids(dialogue)])
    return {
        "input_ids": ids, "attention_mask": torch.ones_like(ids), "mm_token_type_ids": (ids == processor.image_token_id).long(),
        "pixel_values": inputs.pixel_values, "image_grid_thw": inputs.grid_thw,
    }  # fmt: skip


@torch.no_grad()
def logits(model, processor):
    return model(**seen(processor, (84, 84), (130, 60))).logits


def packed(model):
    return {name for name, p in model.named_parameters() if getattr(p, "quant_state", None) is not None}


# ---------------------------------------------------------------- folders


@pytest.fixture(scope="module")
def hub_folder(tmp_path_factory, processor):
    """The random model as the hub has Qwen2.5-VL: one flat config, the older names of the weights, one file for each thing."""
    folder = tmp_path_factory.mktemp("hub") / "Qwen2.5-VL-Tiny-Instruct"
    folder.mkdir()
    model = random_model(processor)
    text, vision = model.config.text_config, model.config.vision_config
    flat = {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"], "model_type": "qwen2_5_vl", "torch_dtype": "bfloat16",
        "transformers_version": "4.41.2", "hidden_act": "silu", "sliding_window": 32768, "use_sliding_window": False,
        "rope_theta": text.rope_parameters["rope_theta"],
        "rope_scaling": {"type": "mrope", "mrope_section": text.rope_parameters["mrope_section"]},
        "bos_token_id": text.bos_token_id, "eos_token_id": text.eos_token_id, "tie_word_embeddings": True,
        **{key: getattr(text, key) for key in (
            "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
            "max_position_embeddings", "rms_norm_eps",
        )},
        **{key: getattr(model.config, key) for key in ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")},
        "vision_config": {"in_chans": 3, "spatial_patch_size": 14, "tokens_per_second": 2, **{key: getattr(vision, key) for key in (
            "depth", "hidden_act", "hidden_size", "intermediate_size", "num_heads", "out_hidden_size", "patch_size", "spatial_merge_size",
            "window_size", "fullatt_block_indexes", "temporal_patch_size",
        )}},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(flat))
    older = {n.replace("model.language_model.", "model.").replace("model.visual.", "visual."): p for n, p in model.state_dict().items()}
    older.pop("lm_head.weight")  # tied
    save_file({n: p.clone() for n, p in older.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    look = {"min_pixels": 3136, "max_pixels": 12845056, "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2}
    look |= {"image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2_5_VLProcessor"}
    look |= {"image_mean": processor.image_processor.image_mean, "image_std": processor.image_processor.image_std}
    (folder / "preprocessor_config.json").write_text(json.dumps(look))
    processor.tokenizer.save_pretrained(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"tokenizer_class": "Qwen2Tokenizer"}))
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": "{{ 'the template of its makers' }}"}))
    return folder


def test_a_folder_as_on_the_hub_loads_to_the_same_numbers(hub_folder, model):
    loaded, its_processor = load_base(str(hub_folder), quantize="none", min_pixels=7056, max_pixels=7056)
    assert torch.allclose(logits(loaded, its_processor), logits(model, its_processor), atol=1e-5)
    assert type(loaded).__name__ == "Qwen2_5_VLForConditionalGeneration"
    assert type(its_processor.tokenizer).__name__ == "Qwen2Tokenizer"


def test_its_processor_has_our_template_left_padding_and_the_recipes_budget(hub_folder):
    as_it_is = load_processor(str(hub_folder))
    assert as_it_is.image_processor.size == {"shortest_edge": 3136, "longest_edge": 12845056}
    bounded = load_processor(str(hub_folder), max_pixels=28 * 28 * 16)
    assert (bounded.chat_template, bounded.tokenizer.chat_template) == (CHAT_TEMPLATE, CHAT_TEMPLATE)
    assert (bounded.tokenizer.response_template, bounded.tokenizer.padding_side) == (RESPONSE_TEMPLATE, "left")
    patches, free = (int(image_inputs(p, [picture(1000, 900)]).grid_thw.prod()) for p in (bounded, as_it_is))
    assert patches <= 16 * 4 < free


def test_nf4_covers_the_language_models_linears_and_nothing_else(hub_folder):
    names = packed(load_base(str(hub_folder), quantize="nf4")[0])
    assert len(names) == 4 * 7
    assert all(name.startswith("model.language_model.layers.") for name in names)


# Lists of unquantised modules as folders have them, from today and from before the language model had a name of its own.
SKIPPED = {
    "today": (["model.visual", "lm_head", "model.language_model.layers.1.mlp"], "model.language_model.layers.1.mlp"),
    "prefixes of before": (["lm_head", "visual", "model.layers.1.mlp"], "model.language_model.layers.1.mlp"),
    "language_model first": (["lm_head", "visual", "language_model.model.layers.2.self_attn"], "model.language_model.layers.2.self_attn"),
}


@pytest.mark.parametrize("kind", SKIPPED)
def test_a_quantised_folder_is_not_quantised_again(tmp_path, tiny_folder, processor, kind):
    written, left_out = SKIPPED[kind]
    quantization = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.float32,
        llm_int8_skip_modules=["model.visual", "lm_head", left_out],
    )  # fmt: skip
    saved = AutoModelForImageTextToText.from_pretrained(tiny_folder, dtype=torch.float32, quantization_config=quantization)
    one_kernel(saved)
    saved.save_pretrained(tmp_path)
    processor.image_processor.save_pretrained(tmp_path)
    processor.tokenizer.save_pretrained(tmp_path)
    its = json.loads((tmp_path / "config.json").read_text())
    its["quantization_config"]["llm_int8_skip_modules"] = written
    (tmp_path / "config.json").write_text(json.dumps(its))
    for quantize in ("nf4", "none"):
        loaded, its_processor = load_base(str(tmp_path), quantize=quantize)
        assert packed(loaded) == packed(saved)
        assert not any(name.startswith((left_out, "model.visual")) for name in packed(loaded))
        assert torch.allclose(logits(loaded, its_processor), logits(saved, processor), atol=1e-4)


def test_weights_that_are_missing_stop_the_load(tmp_path, tiny_folder, processor):
    state = random_model(processor).state_dict()
    state = {n: p.clone() for n, p in state.items() if n != "lm_head.weight" and "layers.1.mlp.up_proj" not in n}
    for path in tiny_folder.iterdir():
        if path.suffix == ".json":
            (tmp_path / path.name).write_text(path.read_text())
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lacks weights: model\.language_model\.layers\.1\.mlp\.up_proj\.weight"):
        load_base(str(tmp_path), quantize="none")


@pytest.mark.parametrize("kind, because", [("qwen2_vl", "kind"), ("qwen3_vl", "deepstack")])
def test_a_model_of_another_kind_is_refused_with_the_reason(tmp_path, tiny_folder, kind, because):
    for path in tiny_folder.iterdir():
        if path.suffix == ".json":
            (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(UserError, match=rf"{kind}.*{because}.*Qwen2\.5-VL") as e:
        load_base(str(tmp_path))
    assert "\n" not in str(e.value)


def test_qwen3_vl_is_refused_before_its_other_files_are_read(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3_vl"}))
    with pytest.raises(UserError, match=r"is a qwen3_vl: its tower also feeds .*deepstack.* Use a Qwen2\.5-VL$"):
        load_base(str(tmp_path))


def realigned(model, processor, monkeypatch):
    """What transformers' trainer says about the special tokens of this pair."""
    said = []
    monkeypatch.setattr(trainer_utils.logger, "warning", said.append)
    trainer_utils.align_special_tokens(model, processor)
    return said


def test_a_trainer_finds_the_tokenizers_special_tokens_in_the_model(hub_folder, monkeypatch):
    loaded, its_processor = load_base(str(hub_folder), quantize="none")
    assert realigned(loaded, its_processor, monkeypatch) == []
    assert loaded.generation_config.eos_token_id[0] == its_processor.tokenizer.eos_token_id
    as_it_is = AutoModelForImageTextToText.from_pretrained(hub_folder)
    assert "pad_token_id" in realigned(as_it_is, its_processor, monkeypatch)[0]


# ---------------------------------------------------------------- machines


def on_a_gpu(monkeypatch, capability=(8, 9), count=1):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


def test_a_gpu_without_bfloat16_is_refused_in_one_line(tiny_folder, monkeypatch):
    on_a_gpu(monkeypatch, (7, 5))
    with pytest.raises(UserError, match=r"Tesla T4 has compute capability 7\.5 and no bfloat16\. Use a GPU of 8\.0") as e:
        load_base(str(tiny_folder), backend="transformers")
    assert "\n" not in str(e.value)
    on_a_gpu(monkeypatch, (8, 0))
    require_bfloat16()


@pytest.mark.parametrize("broken", ["missing", "without its library"])
def test_a_bitsandbytes_that_does_not_load_is_one_line_with_what_to_do(tiny_folder, monkeypatch, broken):
    if broken == "missing":
        monkeypatch.setitem(sys.modules, "bitsandbytes", None)
        why = "import of bitsandbytes halted"
    else:
        monkeypatch.setattr(cextension, "lib", cextension.ErrorHandlerMockBNBNativeLibrary("libcudart.so.13: no such file\n and so on"))
        why = r"CUDA part does not load: libcudart\.so\.13: no such file\."
        on_a_gpu(monkeypatch)
    fix = r"pip install .*bitsandbytes; or set model\.quantize=none"
    with pytest.raises(UserError, match=rf"in 4 bits needs bitsandbytes.*{why}.*{fix}") as e:
        load_base(str(tiny_folder), quantize="nf4", backend="transformers")
    assert "\n" not in str(e.value)


def test_unquantised_weights_need_no_bitsandbytes(tiny_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    assert not packed(load_base(str(tiny_folder), quantize="none")[0])


def test_where_the_model_is_and_how_many_gpus_there_are_is_said(monkeypatch):
    model = SimpleNamespace(device=torch.device("cuda:0"))
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    on_a_gpu(monkeypatch)
    assert _place(model) == "on cuda:0 Tesla T4"
    on_a_gpu(monkeypatch, count=2)
    assert _place(model) == "on cuda:0 Tesla T4, one of 2 GPUs (all of them: accelerate launch, docs/TRAINING.md)"
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert _place(model) == "on cuda:0 Tesla T4"


def test_a_note_that_nothing_can_be_done_about_is_left_out_and_no_other(caplog):
    backend.start_backend("transformers")
    said = logging.getLogger("bitsandbytes.backends.cpu.ops")
    said.warning("Failed to load CPU gemm_4bit_forward from kernels-community: %s.", "No module named 'kernels'")
    said.warning("something real")
    assert [record.getMessage() for record in caplog.records if record.name == said.name] == ["something real"]


# ---------------------------------------------------------------- adapters


@pytest.fixture(scope="module")
def adapter(tmp_path_factory, tiny_folder):
    """An adapter that changes what the model says, as SFT leaves one."""
    folder = tmp_path_factory.mktemp("adapter")
    model, _ = load_for_training(config(tiny_folder), seed=0)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B" in name:
                p.normal_(std=0.03)
    model.save_pretrained(folder)
    return folder


def lora(model):
    return {name: p.detach().clone() for name, p in model.named_parameters() if "lora_" in name}


@pytest.mark.parametrize("quantize", ["none", "nf4"])
def test_an_adapter_goes_on_as_it_was_saved_with_its_own_rank(tiny_folder, adapter, quantize):
    saved = lora(load_for_training(config(tiny_folder), adapter=str(adapter))[0])
    model, _ = load_for_training(config(tiny_folder, quantize=quantize, lora_r=32), adapter=str(adapter))
    assert (model.peft_config["default"].r, model.peft_config["default"].lora_alpha) == (8, 16)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == set(saved) == set(lora(model))
    assert all(torch.equal(p, saved[name]) and p.dtype == torch.float32 for name, p in lora(model).items())
    assert any(p.abs().sum() > 0 for name, p in saved.items() if "lora_B" in name)


def test_for_evaluation_the_same_adapter_answers_alike_and_is_frozen(tiny_folder, adapter, processor):
    trained, _ = load_for_training(config(tiny_folder), adapter=str(adapter))
    loaded, _ = load_base(str(tiny_folder), adapter=str(adapter), quantize="none")
    base, _ = load_base(str(tiny_folder), quantize="none")
    assert not any(p.requires_grad for name, p in loaded.named_parameters() if "lora_" in name)
    assert torch.equal(logits(loaded, processor), logits(trained.eval(), processor))
    assert not torch.allclose(logits(loaded, processor), logits(base, processor), atol=1e-2)


@pytest.mark.parametrize("wrong", ["width", "modules"])
def test_an_adapter_of_another_model_is_refused_in_one_line(tmp_path, tiny_folder, adapter, wrong):
    state = load_file(adapter / "adapter_model.safetensors")
    if wrong == "width":
        state = {name: torch.cat([p, p], dim=1) if "lora_A" in name else p for name, p in state.items()}
    else:
        state = {name.replace("layers.3.", "layers.9."): p for name, p in state.items()}
    save_file(state, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text((adapter / "adapter_config.json").read_text())
    base, _ = load_base(str(tiny_folder), quantize="none")
    with pytest.raises(UserError, match="Was it trained on another base") as e:
        load_adapter(base, str(tmp_path), trainable=True)
    assert "\n" not in str(e.value)


def kl_of_first_step(folder, tiny, adapter, quantize, reference=True):
    """KL that TRL's own trainer logs in its first step, before any weight has moved."""
    model, processor = load_for_training(config(tiny, quantize=quantize), adapter=str(adapter))
    (_, trainer_class), (_, config_class) = trl_classes(), trl_configs()
    args = config_class(
        output_dir=str(folder), max_steps=1, per_device_train_batch_size=2, num_generations=2, max_completion_length=6, beta=0.1,
        use_cpu=True, report_to="none", disable_tqdm=True, logging_steps=1, bf16=quantize == "nf4", save_strategy="no", seed=0,
        generation_kwargs={"suppress_tokens": list(range(8))}, dataloader_pin_memory=False, gradient_checkpointing=False,
    )  # fmt: skip
    with precise_adapter(model, args.beta):
        trainer = trainer_class(
            model=model, args=args, processing_class=processor, reward_funcs=lambda completions, **_: [0.0] * len(completions),
            train_dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": "What is written here?"}]}] * 2),
        )  # fmt: skip
    before = lora(model)
    if not reference:
        model.delete_adapter("ref")
    trainer.train()
    return SimpleNamespace(kl=trainer.state.log_history[0]["kl"], model=model, before=before)


@pytest.mark.parametrize("quantize", ["none", "nf4"])
def test_kl_starts_at_zero_from_an_sft_adapter(tmp_path, tiny_folder, adapter, quantize):
    """The reference is the SFT policy, in the same precision."""
    run = kl_of_first_step(tmp_path, tiny_folder, adapter, quantize)
    assert abs(run.kl) < 1e-6
    reference = {name: p for name, p in run.model.named_parameters() if ".ref." in name}
    assert len(reference) == len(run.before) // 2
    for name, p in reference.items():
        assert torch.equal(p, run.before[name.replace(".ref.", ".default.")]) and p.dtype == torch.float32 and not p.requires_grad
    assert all(p.requires_grad for name, p in run.model.named_parameters() if ".default." in name)


def test_kl_against_the_bare_base_would_not_be_zero(tmp_path, tiny_folder, adapter):
    assert kl_of_first_step(tmp_path, tiny_folder, adapter, "none", reference=False).kl > 1e-3


# ---------------------------------------------------------------- which library, and what is said


@pytest.mark.parametrize(
    "wanted, gpu, installed, chosen",
    [
        ("auto", False, False, "transformers"), ("auto", False, True, "transformers"), ("auto", True, False, "transformers"),
        ("auto", True, True, "unsloth"), ("unsloth", True, True, "unsloth"), ("transformers", True, True, "transformers"),
        ("unsloth", False, True, UserError), ("unsloth", True, False, UserError),
    ],
)  # fmt: skip
def test_which_library_is_chosen(monkeypatch, wanted, gpu, installed, chosen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(backend.importlib.util, "find_spec", lambda name: installed or None)
    if chosen is UserError:
        with pytest.raises(UserError, match=r"^model\.backend: "):
            backend.choose_backend(wanted)
    else:
        assert backend.choose_backend(wanted)[0] == chosen


def test_plain_transformers_are_refused_where_unsloth_has_changed_them(monkeypatch):
    monkeypatch.setitem(sys.modules, "unsloth", SimpleNamespace(__spec__="as a module has"))
    with pytest.raises(UserError, match="this process has loaded Unsloth"):
        backend.start_backend("transformers")


def test_training_says_in_one_line_what_it_loaded_and_why(tiny_folder, capsys):
    load_for_training(config(tiny_folder, quantize="nf4"))
    (line,) = [text for text in capsys.readouterr().out.splitlines() if text.startswith("model: ")]
    said = ("by transformers (no CUDA GPU); on the CPU", "NF4 in 28 linears, vision tower float32", "attention eager", "LoRA r=8 alpha=16",
            "99,328 of ", "(2.", "7056 to 7056 pixels")  # fmt: skip
    assert [part for part in said if part not in line] == []


def test_a_tower_that_came_quantised_is_said(tiny_folder, nf4_model, processor):
    line = describe(nf4_model, processor, "it")
    assert "vision tower float32" in line
    weight = nf4_model.model.visual.blocks[0].attn.proj.weight
    weight.quant_state = "as a 4-bit weight has"
    assert "vision tower in part quantised" in describe(nf4_model, processor, "it")
    del weight.quant_state


@pytest.mark.parametrize("training", [True, False])
def test_generation_mode_is_undone(training):
    model = torch.nn.Linear(2, 2).train(training)
    with backend.generation_mode(model):
        assert not model.training
    assert model.training is training


def test_generation_mode_goes_through_unsloths_switches():
    calls = []

    class Model(torch.nn.Linear):
        _unsloth_gradient_checkpointing = "unsloth"

        def for_inference(self):
            calls.append("inference")

        def for_training(self, use_gradient_checkpointing):
            calls.append(use_gradient_checkpointing)
            self.train()

    model = Model(2, 2).train()
    with pytest.raises(RuntimeError), backend.generation_mode(model):
        assert not model.training
        raise RuntimeError("a rollout fails")
    assert calls == ["inference", "unsloth"] and model.training


@pytest.mark.parametrize("shape", [(448, 160), (160, 448), (160, 160), (96, 33)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nf4_on_a_cpu_is_as_exact_for_narrow_matrices(shape, dtype):
    """bitsandbytes' kernel takes every row for the start of a block: 160 wide, the weights came out 25 % wrong."""
    count_blocks_through_rows()
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    packed, state = quantize_4bit(weight.to(dtype), quant_type="nf4", compress_statistics=True)
    got = dequantize_4bit(packed, state)
    assert got.shape == shape and got.dtype == dtype
    assert (got.float() - weight).norm() / weight.norm() < 0.1


def test_loading_repairs_the_nf4_kernel(tiny_folder):
    exact, _ = load_base(str(tiny_folder), quantize="none")
    rounded, _ = load_base(str(tiny_folder), quantize="nf4")
    assert count_blocks_through_rows.cache_info().currsize == 1
    name = "model.language_model.layers.0.self_attn.q_proj"
    weight, other = exact.get_submodule(name).weight, rounded.get_submodule(name).weight
    assert (dequantize_4bit(other.data, other.quant_state).float() - weight).norm() / weight.norm() < 0.1
