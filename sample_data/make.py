"""Draw the sample pictures again and write the manifest with the checksum of every file here.

.venv/bin/python sample_data/make.py
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from codevision_lite.datasets.rows import sample_row
from codevision_lite.files import append_jsonl, write_atomic
from codevision_lite.synth.samples import CONDITIONS, make_items

HERE = Path(__file__).parent
SEED = 7


def main() -> None:
    rows = HERE / "pictures.jsonl"
    rows.unlink(missing_ok=True)
    for old in (HERE / "images").glob("*.png"):
        old.unlink()
    for item in make_items(SEED, "test", 2 * len(CONDITIONS), dict.fromkeys(CONDITIONS, 1.0)):
        append_jsonl(rows, sample_row(HERE, item.sample))
    files = sorted(p for p in HERE.rglob("*") if p.is_file() and p.suffix in (".png", ".jsonl", ".json", ".safetensors", ".jinja"))
    sums = {str(p.relative_to(HERE)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files if p.name != "manifest.json"}
    manifest = {"made_by": "sample_data/make.py and make tiny-base", "license": "Apache-2.0", "seed": SEED, "sha256": sums}
    write_atomic(HERE / "manifest.json", json.dumps(manifest, indent=1) + "\n")


if __name__ == "__main__":
    main()
