"""Files of any size: a list is read item by item, memory stays small, and a run that was killed starts over to the same bytes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from dataset_rows import own_row, png, rl_row, sft_row, write_rows
from PIL import Image

from codevision_lite.datasets import json_list
from codevision_lite.datasets.convert import convert
from codevision_lite.datasets.json_list import list_items

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "-c", "import sys; from codevision_lite.cli import main; sys.exit(main())", "convert"]

# ---------------------------------------------------------------- JSON lists


def random_value(rng, depth=0):
    kind = rng.randrange(7 if depth < 3 else 5)
    if kind == 0:
        return rng.choice([0, -1.5, 1e30, True, False, None])
    if kind < 5:
        return "".join(rng.choice('ab"\\{}[],: \n\té漢\u2028\U0001f600') for _ in range(rng.randrange(30)))
    if kind == 5:
        return [random_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {random_value(rng, 9) if rng.random() < 0.5 else f"k{n}": random_value(rng, depth + 1) for n in range(rng.randrange(4))}


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64, 1 << 20])
def test_every_item_comes_out_wherever_the_chunks_end(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(json_list, "CHUNK_BYTES", chunk)
    rng = random.Random(f"lists/{chunk}")
    path = tmp_path / "rows.json"
    for number in range(30):
        rows = [random_value(rng) for _ in range(rng.randrange(6))]
        coded = json.dumps(rows, ensure_ascii=rng.random() < 0.5, indent=rng.choice([None, 1]))
        path.write_bytes((b"\xef\xbb\xbf" if number % 3 == 0 else b"") + coded.encode() + b"\n" * (number % 2))
        items = list(list_items(path))
        assert [item.problem for item in items] == [""] * len(rows), coded
        assert [json.loads(item.data) for item in items] == [json.loads(json.dumps(row)) for row in rows]
        assert all(item.position <= path.stat().st_size for item in items)


@pytest.mark.parametrize("chunk", [5, 1 << 20])
@pytest.mark.parametrize("fault", ['"', "{", "}", "[", "]", "\\", "\x00", ",", '"}', '\\"'])
def test_one_fault_costs_one_item(tmp_path, monkeypatch, fault, chunk):
    monkeypatch.setattr(json_list, "CHUNK_BYTES", chunk)
    rng = random.Random(fault)
    path = tmp_path / "rows.json"
    for _ in range(20):
        rows = [json.dumps({"id": n, "turns": [{"from": "a", "value": 'x "y" {z}'}], "n": n}) for n in range(6)]
        at = rng.randrange(8, len(rows[2]))
        rows[2] = rows[2][:at] + fault + rows[2][at:]
        path.write_text("[" + ", ".join(rows) + "]")
        found = []
        for item in list_items(path):
            try:
                found.append(json.loads(item.data)["id"])
            except (ValueError, TypeError):
                continue
        assert [n for n in found if n != 2] == [0, 1, 3, 4, 5], rows[2]


@pytest.mark.parametrize(
    "text, problem",
    [("", "a JSON list"), ("{}", "a JSON list"), ("[1, 2", "cut"), ("[1, ", "ends in the middle"), ("[", "ends in the middle")],
)
def test_what_is_no_whole_list_says_so(tmp_path, text, problem):
    (tmp_path / "rows.json").write_text(text)
    assert problem in list(list_items(tmp_path / "rows.json"))[-1].problem


def test_an_item_that_never_ends_does_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(json_list, "MAX_ITEM_BYTES", 100_000)
    good = json.dumps({"a": 1})
    (tmp_path / "rows.json").write_text('[{"a": "' + "x" * 500_000 + f", {good}, {good}]")
    items = list(list_items(tmp_path / "rows.json"))
    assert "more than" in items[0].problem or "cut" in items[0].problem
    assert [json.loads(item.data) for item in items[1:3]] == [{"a": 1}, {"a": 1}]


# ---------------------------------------------------------------- killed runs


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("to, name", [("jsonl", "x.jsonl"), ("hf", "x.parquet"), ("sharegpt", "x.json")])
def test_a_run_killed_with_9_starts_over_to_the_same_bytes(tmp_path, to, name):
    rows = [sft_row(n, tmp_path) for n in range(150)]
    rows[3]["conversations"] = None
    path = write_rows(tmp_path / "codevision_sft.json", rows)
    convert(path, tmp_path / "whole" / name, to)

    out = tmp_path / "killed" / name
    process = subprocess.Popen([*COMMAND, str(path), str(out), "--to", to], cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True)
    part = out.with_name(f"{name}.part")
    deadline = time.monotonic() + 60
    while process.poll() is None and not part.exists() and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.03)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was done before it could be killed"
    assert part.exists() and not out.exists()  # never half a file under the final name
    subprocess.run([*COMMAND, str(path), str(out), "--to", to], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert f"{name}.rejects.jsonl" in contents(tmp_path / "killed")


# ---------------------------------------------------------------- memory


def peak_mib(argv):
    """Peak resident memory of a command, in MiB."""
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code, *argv], cwd=ROOT, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def noisy_png(seed):
    """190 KiB that no compression makes smaller: a row of the released data has 178 KB on average (6.21 GB, 34,795 rows)."""
    return png(Image.fromarray(np.random.default_rng(seed).integers(0, 256, (250, 260, 3), dtype=np.uint8)))


@pytest.mark.slow
@pytest.mark.parametrize("group_rows, limit_mib", [(100, 400), (1_000_000, 700)], ids=["as datasets writes", "as pandas writes"])
def test_a_large_parquet_file_is_read_in_little_memory(tmp_path, group_rows, limit_mib):
    """A quarter of a GiB. `datasets` ends a row group after 100 rows with pictures; pandas puts all rows into one, whose pages
    hold 1,024 rows. A page is what has to be in memory, so the peak is the same for a file of any size."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pictures = [noisy_png(n) for n in range(8)]
    path = tmp_path / "train_group_1.parquet"
    rows = [rl_row(n, images=[{"bytes": pictures[n % 8]}]) for n in range(1300)]
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=group_rows, use_dictionary=False)  # eight pictures, over and over
    size = path.stat().st_size / 2**20
    for to in ("verl", "jsonl"):
        peak = peak_mib([*COMMAND, str(path), str(tmp_path / to), "--to", to])
        print(f"row groups of {group_rows}, --to {to}: file {size:.0f} MiB, peak {peak:.0f} MiB")
        assert size > 230
        assert peak < limit_mib


@pytest.mark.slow
def test_a_large_json_list_is_read_in_little_memory(tmp_path):
    own_row(0, tmp_path)
    path = tmp_path / "codevision_sft.json"
    row = sft_row(0, tmp_path)
    row["conversations"][1]["value"] = row["conversations"][1]["value"].replace("It is turned.", "so " * 30_000)
    with open(path, "w") as file:
        for n in range(1300):
            row["metadata"] = json.dumps({"sample_id": n})
            row["conversations"][0]["value"] = f"<image>What is bar {n}?"
            file.write(("[\n" if n == 0 else ",\n") + json.dumps(row))
        file.write("\n]")
    size = path.stat().st_size / 2**20
    peak = peak_mib([*COMMAND, str(path), str(tmp_path / "out"), "--to", "jsonl"])
    print(f"file {size:.0f} MiB, peak {peak:.0f} MiB")
    assert size > 100
    assert peak < 150
