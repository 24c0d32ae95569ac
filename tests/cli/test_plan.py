"""`plan` as a command: both kinds of configuration, its JSON, and what cannot be priced."""

import json

import pytest

from r1_jax.cli import plan as command
from r1_jax.pipeline import chips, plan

PHASE = {
    "name": "update", "hbm_gib": 1.0, "limit_gib": 16.0, "fits": True, "memory": {}, "advice": "",
    "tflop": 1.0, "hbm_traffic_gib": 1.0, "collective_gib": {}, "roofline_seconds": 1.0,
    "bound_by": "hbm", "checkpoint_gib": 1.0, "host_gib": 1.0,
}  # fmt: skip


@pytest.fixture
def asked(monkeypatch):
    """What `plan.run` is asked for; nothing is compiled."""
    calls = []

    def run(config, where, kind, num_steps, *_):
        calls.append((config, kind, num_steps))
        return {
            "topology": where.name, "num_chips": 4, "mesh": {"data": 4}, "kind": kind,
            "phases": [dict(PHASE)], "num_steps": 1, "hours": 1.0, "chip_hours": 4.0,
            "tokens_per_second": 1.0,
        }  # fmt: skip

    monkeypatch.setattr(plan, "run", run)
    monkeypatch.setattr(chips, "describe", lambda name: chips.Slice(name, chips.CHIPS["v5e"], []))
    return calls


def test_one_experiment_is_one_report(asked, tmp_path):
    path = tmp_path / "plan.json"
    words = ["--config=configs/r1_zero_countdown.py", "--topology=v5e:2x2", f"--json={path}"]
    assert command.main(["plan", *words, "--config.seed=3"]) == 0
    ((config, kind, _),) = asked
    assert (config.seed, kind) == (3, "rl")
    assert json.loads(path.read_text())["topology"] == "v5e:2x2"


def test_the_whole_of_r1_is_priced_stage_by_stage(asked):
    assert command.main(["plan", "--config=configs/r1_paper.py", "--topology=v5e:2x2"]) == 0
    kinds = [kind for _, kind, _ in asked]
    assert kinds == ["rl", "sft", "rl", "sft", "rl", "sft", "rl"]
    # 10,000 demonstrations, at most one a row, 128 rows an update, two epochs
    assert asked[1][2] == 10_000 // 128 * 2


def test_what_does_not_fit_is_an_exit_status(asked, monkeypatch):
    monkeypatch.setitem(PHASE, "fits", False)
    words = ["--config=configs/r1_zero_countdown.py", "--topology=v5e:2x2"]
    assert command.main(["plan", *words]) == 1


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ([], "--topology is required"),
        (["--topology=v7:2x2"], "one of v4, v5e, v5p, v6e"),
        (["--topology=v5e:2x2x2"], "v5e is a torus of 2 dimensions"),
    ],
)
def test_what_cannot_be_priced_is_one_line(words, what, capsys):
    with pytest.raises(SystemExit) as exit:
        command.main(["plan", "--config=configs/r1_zero_countdown.py", *words])
    assert exit.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert what in line
