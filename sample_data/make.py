"""Draw the sample rows again and write the manifest with the checksum of every file here.

.venv/bin/python sample_data/make.py
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from codevision_lite.datasets.rows import sample_row, trajectory_row
from codevision_lite.files import append_jsonl, write_atomic
from codevision_lite.recipe import FAMILIES, SFT_TYPES
from codevision_lite.sandbox import Sandbox
from codevision_lite.synth.gold import Gold, make_golds
from codevision_lite.synth.pages import chunk_scripts
from codevision_lite.synth.samples import CONDITIONS, make_items
from codevision_lite.synth.sources import weighted

HERE = Path(__file__).parent
SEED = 7
SMALL = {name: weight for name, weight in FAMILIES.items() if name not in ("canvas", "scene_text")}  # large and grainy pictures stay out


def main() -> None:
    for name in ("pictures.jsonl", "pages.jsonl"):
        (HERE / name).unlink(missing_ok=True)
    for old in (HERE / "images").glob("*.png"):
        old.unlink()
    for item in make_items(SEED, "test", 2 * len(CONDITIONS), dict.fromkeys(CONDITIONS, 1.0)):
        append_jsonl(HERE / "pictures.jsonl", sample_row(HERE, item.sample))
    with Sandbox(mode="worker") as sandbox:
        for made in make_golds(chunk_scripts(SEED, "test", 0, list(SFT_TYPES), weighted(SMALL)), sandbox):
            assert isinstance(made, Gold), f"{made.script.item.sample.id}: {made.reason}"
            row = trajectory_row(HERE, made.item.sample, made.trajectory, type=made.type, trained=made.trained)
            append_jsonl(HERE / "pages.jsonl", row)
    files = sorted(p for p in HERE.rglob("*") if p.is_file() and p.suffix in (".png", ".jsonl", ".json", ".safetensors", ".jinja"))
    sums = {str(p.relative_to(HERE)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files if p.name != "manifest.json"}
    manifest = {"made_by": "sample_data/make.py and make tiny-base", "license": "Apache-2.0", "seed": SEED, "sha256": sums}
    write_atomic(HERE / "manifest.json", json.dumps(manifest, indent=1) + "\n")


if __name__ == "__main__":
    main()
