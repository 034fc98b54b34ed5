"""The files of sample_data/ are the ones of the manifest, small, and the tiny base does what its card says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from codevision_lite.agent import AgentLimits, run_batch
from codevision_lite.datasets.rows import load_samples, load_training_rows
from codevision_lite.models import load_model
from codevision_lite.synth.gold import replay
from codevision_lite.synth.samples import make_items

SAMPLE_DATA = Path(__file__).parent.parent / "sample_data"
TINY_BASE = SAMPLE_DATA / "tiny_base"


def test_every_file_has_the_checksum_of_the_manifest():
    sums = json.loads((SAMPLE_DATA / "manifest.json").read_text())["sha256"]
    assert {name: hashlib.sha256((SAMPLE_DATA / name).read_bytes()).hexdigest() for name in sums} == sums
    assert {f"tiny_base/{p.name}" for p in TINY_BASE.iterdir()} - set(sums) == {"tiny_base/README.md"}


def test_the_tiny_base_is_at_most_12_mb():
    assert sum(p.stat().st_size for p in TINY_BASE.iterdir()) <= 12_000_000


def test_the_sample_pictures_can_be_read():
    samples = load_samples(SAMPLE_DATA / "pictures.jsonl")
    assert len(samples) == 16
    assert len({s.meta["condition"] for s in samples}) == 8


def test_the_sample_trajectories_replay_in_the_sandbox(sandbox):
    rows = load_training_rows(SAMPLE_DATA / "pages.jsonl")
    assert len(rows) == 5
    assert [replay(row.sample, row.trajectory, sandbox) for row in rows] == [None] * 5


def test_the_tiny_base_reads_upright_pictures_and_is_lost_on_turned_ones(sandbox):
    model = load_model(str(TINY_BASE))
    right = {}
    for condition in ("upright", "rotate_90"):
        samples = [item.sample for item in make_items(11, "test", 40, {condition: 1.0})]
        trajectories = run_batch(model, sandbox, samples, AgentLimits(max_turns=2, max_reply_tokens=24))
        right[condition] = sum(t.answer in s.answers for t, s in zip(trajectories, samples, strict=True)) / len(samples)
    assert right["upright"] >= 0.85
    assert right["rotate_90"] <= 0.45
