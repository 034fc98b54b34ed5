"""`codevision-lite score`: saved trajectories are explained term by term, presets are compared, mistakes are one line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from reward_builders import TARGET, Play, sample

from codevision_lite.cli import main
from codevision_lite.datasets.rows import trajectory_row
from codevision_lite.files import append_jsonl
from codevision_lite.reward import RewardConfig, score, score_group
from codevision_lite.reward.explain import WIDTH, explain_file

ROOT = Path(__file__).parent.parent
ROTATE, CROP, NOTHING = sample("rotate_90"), sample("crop"), sample(target=None)
LOOK = Play().run(("crop", (0.0, 0.0, 90.0, 90.0)))


def write(path, *rows):
    """`rows`: (id, sample, trajectory, extra fields)."""
    for sample_id, task, trajectory, extra in rows:
        row = trajectory_row(path.parent, task, trajectory, **extra)
        row["sample"]["id"] = sample_id
        append_jsonl(path, row)
    return path


@pytest.fixture
def saved(tmp_path):
    """Two stages over two samples, as evaluation writes them."""
    return write(
        tmp_path / "trajectories.jsonl",
        ("turned", ROTATE, Play().answer("no"), {"stage": "base"}),
        ("small", CROP, Play().answer("no"), {"stage": "base"}),
        ("turned", ROTATE, Play().run("rotate_90").answer(), {"stage": "sft"}),
        ("small", CROP, Play().fail().run(("crop", TARGET)).answer("F\x1b[31m8"), {"stage": "sft"}),
    )


def run(capsys, *argv):
    code = main(["score", *map(str, argv)])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out


def test_every_term_is_shown_with_value_weight_and_reason(capsys, saved):
    out = run(capsys, saved)
    wanted = score(ROTATE, Play().run("rotate_90").answer(), RewardConfig.preset("dense"))
    block = out[out.index("turned (sft)") :].split("\n\n")[0]
    for name, term in wanted.terms.items():
        (line,) = [line for line in block.splitlines() if line.split()[:1] == [name]]
        assert line.endswith(term.reason) and f"{term.value:.2f}" in line and f"{term.weight:.2f}" in line
    assert "answer 'F7', wanted 'F7'; needs rotate_90; 1 tool turn" in block
    assert block.splitlines()[-1].split() == ["total", "+1.90"]
    assert max(map(len, out.splitlines())) <= WIDTH + 50  # headings hold the whole answer


def test_means_end_the_table_for_each_stage(capsys, saved):
    end = run(capsys, saved).split("\n\n")[-1].splitlines()
    assert end[1].split() == ["base", "n=2", "sft", "n=2"]
    assert end[-1].split() == ["total", "+0.10", "+1.15"]  # sft: 1.9, and 0.1 + 0.6 / 2 of a wrong answer after a repaired error


def test_what_a_model_wrote_can_not_move_the_cursor(capsys, saved):
    assert "\x1b" not in run(capsys, saved) and "\x1b" not in run(capsys, saved, "--preset", "dense", "--preset", "paper")


def test_presets_are_compared_side_by_side(capsys, saved):
    out = run(capsys, saved, "--preset", "dense", "--preset", "paper", "--preset", "outcome_only", "--preset", "dense").splitlines()
    assert out[0].split() == ["trajectory", "dense", "paper", "outcome_only"]
    assert out[3].split() == ["turned", "(sft)", "+1.90", "+2.20", "+1.10"]
    assert [line.split()[:4] for line in out[-3:]] == [s.split() for s in ("mean of 2, base", "mean of 2, sft", "mean of 4 +0.62")]


def test_json_holds_the_breakdowns_and_their_means(capsys, saved):
    found = json.loads(run(capsys, saved, "--json", "--preset", "paper"))
    assert [row["id"] for row in found["rows"]] == ["turned", "small", "turned", "small"]
    wanted = score(ROTATE, Play().run("rotate_90").answer(), RewardConfig.preset("paper")).to_json()
    assert found["rows"][2]["presets"]["paper"] == wanted
    summary = found["summary"]["paper"]
    assert summary["n"] == 4 and summary["n_unknown"] == 0 and summary["terms"]["accuracy"] == {"value": 0.25, "adds": 0.25}


def test_rollouts_of_a_prompt_and_step_are_a_group_also_where_few_are_shown(tmp_path):
    right, wrong = LOOK.answer(), Play().answer("no")
    rollouts = [right, right, right, LOOK.answer("no"), wrong, wrong, wrong, wrong]
    rows = [("a", NOTHING, t, {"step": step}) for step in (0, 1) for t in rollouts]
    path = write(tmp_path / "rollouts.jsonl", *rows, ("b", NOTHING, right, {"step": 0}))
    explained = explain_file(path, ["dense"])
    group = score_group(NOTHING, rollouts, RewardConfig.preset("dense"))
    assert [e.breakdowns["dense"].terms["suggested"] for e in explained[:8]] == [b.terms["suggested"] for b in group]
    assert explained[0].breakdowns["dense"].terms["suggested"].value == 0.75
    assert [e.n_group for e in explained] == [8] * 16 + [1]
    first = explain_file(path, ["dense"], sample_id="a", limit=1)
    assert [e.breakdowns for e in first] == [explained[0].breakdowns]
    assert len(explain_file(path, ["dense"], sample_id="b")) == 1


def spoil(path, change):
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    change(rows[1])
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


MISTAKES = {
    "no trajectory": (lambda row: row.pop("trajectory"), ["line 2", "'trajectory' is missing"]),
    "no answers": (lambda row: row["sample"].pop("answers"), ["line 2", "'answers' is missing"]),
    "answers as a text": (lambda row: row["sample"].update(answers="F7"), ["line 2", "'sample.answers' must be a list"]),
    "required_ops as a text": (lambda row: row["sample"].update(required_ops="crop"), ["line 2", "required_ops"]),
    "a box of three numbers": (lambda row: row["sample"].update(target_box=[1, 2, 3]), ["line 2", "four numbers"]),
    "a box of words": (lambda row: row["sample"].update(target_box=["a", 2, 3, 4]), ["line 2", "four numbers"]),
    "meta as a list": (lambda row: row["sample"].update(meta=[1]), ["line 2", "meta"]),
    "a number for an answer": (lambda row: row["trajectory"].update(answer=7), ["line 2", "'trajectory.answer'"]),
    "no such picture": (lambda row: row["trajectory"].update(images=["images/gone.png"]), ["line 2", "gone.png"]),
    "turns of another shape": (lambda row: row["trajectory"].update(turns=[{"text": "x"}]), ["line 2"]),
    "an unknown field in a turn": (lambda row: row["trajectory"]["turns"][0].update(mood="good"), ["line 2", "mood"]),
    "a trajectory that is null": (lambda row: row.update(trajectory=None), ["line 2"]),
    "a sample that is a text": (lambda row: row.update(sample="small"), ["line 2"]),
}


def refused(capsys, *argv):
    code = main(["score", *map(str, argv)])
    captured = capsys.readouterr()
    assert (code, captured.out, captured.err.count("\n")) == (2, "", 1), captured
    return captured.err


@pytest.mark.parametrize("change, words", MISTAKES.values(), ids=MISTAKES.keys())
def test_a_broken_row_is_one_line_with_its_number_and_field(capsys, saved, change, words):
    spoil(saved, change)
    line = refused(capsys, saved)
    assert line.startswith(f"codevision-lite: {saved} ") and all(word in line for word in words)


def test_what_can_not_be_scored_is_one_line(capsys, saved, tmp_path):
    assert "no such file" in refused(capsys, tmp_path / "gone.jsonl")
    assert "did you mean 'paper'" in refused(capsys, saved, "--preset", "papr")
    assert "did you mean 'turned'" in refused(capsys, saved, "--id", "turnd")
    assert "--limit: must be a whole number > 0" in refused(capsys, saved, "--limit", "0")
    (tmp_path / "empty.jsonl").write_text("")
    assert "no trajectories" in refused(capsys, tmp_path / "empty.jsonl")
    (tmp_path / "metrics.jsonl").write_text('{"stage": "sft", "loss": 1.0}\n')
    assert "'sample' is missing" in refused(capsys, tmp_path / "metrics.jsonl")


def test_score_loads_no_torch_and_ends_well_when_the_reader_has_seen_enough(saved):
    code = (
        "import sys; from codevision_lite.cli import main\n"
        f"code = main(['score', {str(saved)!r}])\nprint(code, {{'torch', 'transformers', 'datasets'}} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == "0 set()\n" and "total" in done.stdout
    piped = subprocess.run(
        ["bash", "-c", f'"{sys.executable}" -c "{code.splitlines()[0]}; main([\'score\', \'{saved}\'])" | true'],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert piped.stderr == ""
    ascii_only = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, env={"PYTHONIOENCODING": "ascii"})
    assert ascii_only.stderr == b"0 set()\n"
