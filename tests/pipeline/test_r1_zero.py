"""R1-Zero, the stage: what a run leaves, how it goes on, what it refuses."""

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import pytest

from r1_jax.checkpoints import store
from r1_jax.core import trees
from r1_jax.metrics import log as metrics_log
from r1_jax.metrics import names
from r1_jax.pipeline import flat_reward, policy, r1_zero
from r1_jax.training import state as train_state
from r1_jax.training import switches
from tests.pipeline.conftest import TEACHER, files, final_digest, rows, toy_task


class Killed(BaseException):
    """Stands in for a SIGKILL where a test stays in its own process."""


def kill_at(phase: str, at: int):
    """A Toy.before that dies in `phase` at step (or, in evaluate, at problem count) `at`."""

    def before(name, step):
        if (name, step) == (phase, at):
            raise Killed

    return before


def like(toy, **changes):
    config = toy.config(**changes)
    state = toy.add_critic(config, toy.setup(config, 8)).state
    held = {"state": state}
    if config.keeps_reference:
        held["reference"] = state.params
    return held | ({"behind": state.params} if config.grpo.one_step_off else {})


# --- what a run leaves --------------------------------------------------------------------------


def test_a_run_leaves_what_other_tools_rely_on(toy, tmp_path, capsys):
    assert toy.run(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["grpo"]["kl_coef"] == 0.05
    assert (tmp_path / "tokenizer.model").read_bytes() == b"a tokenizer's file"
    metrics, evals = rows(tmp_path), rows(tmp_path, "eval")
    assert [row["step"] for row in metrics] == [0, 2, 4, 6]
    assert [(row["step"], row["num_problems"]) for row in evals] == [(0, 6), (4, 5), (8, 6)]
    first = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])
    assert names.ROW.keys() <= first.keys() and names.EVAL_ROW.keys() <= evals[0].keys()
    for row in metrics:
        samples = rows(tmp_path, f"samples/step_{row['step']:06d}")
        assert len(samples) == 16
        mean = sum(sample["reward"] for sample in samples) / 16
        assert row["reward/mean"] == pytest.approx(mean)
        assert {sample["stop"] for sample in samples} <= {"stop", "length"}
        assert sum(sample["gap"] is not None for sample in samples) == 8  # the first minibatch's
    for row in evals:
        samples = rows(tmp_path, f"samples/eval_step_{row['step']:06d}")
        assert len(samples) == 4 * row["num_problems"]
        right = sum(sample["outcome"] == "right" for sample in samples)
        assert row["pass@1"] == pytest.approx(right / len(samples))
        assert {sample["uid"] for sample in samples} <= {p.uid for p in toy.task.splits["test"]}
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert {"commit", "versions", "devices", "seed", "config_digest"} <= manifest.keys()
    assert manifest["parents"] == {"tokenizer": "d" * 64}
    assert {"preflight", "rollout", "score", "update", "eval"} <= manifest["seconds"].keys()
    assert set(manifest["preflight"]) == {
        "pass_rate",
        "truncated_share",
        "zero_spread_share",
        "gap",
    }
    assert any((tmp_path / "tensorboard").iterdir())
    shown = capsys.readouterr().err
    assert "pre-flight: pass_rate" in shown
    assert "shapes: 4 prompts of 4 tokens, 4 completions each in 16 slots, 6 tokens a" in shown
    assert re.search(r"eval at step 4: pass@1 0\.\d+ \[.*\], cons@16 -, length .*, n 5", shown)


def test_a_second_call_says_that_it_is_done_and_touches_nothing(toy, tmp_path):
    assert toy.run(tmp_path)
    before = files(tmp_path)
    assert not toy.run(tmp_path)
    assert files(tmp_path) == before


def test_a_reference_is_kept_with_a_kl_term_only(toy, tmp_path):
    toy.run(tmp_path / "with", grpo__num_steps=2)
    toy.run(tmp_path / "without", grpo__num_steps=2, grpo__kl_coef=0.0)
    assert final_digest(tmp_path / "with", like(toy), step=2)
    with pytest.raises(ValueError, match="has no reference"):
        final_digest(tmp_path / "without", like(toy), step=2)
    assert rows(tmp_path / "without")[0]["kl/reference"] is None
    assert final_digest(tmp_path / "without", like(toy, grpo__kl_coef=0.0), step=2)


def test_two_seeds_are_two_runs_and_one_seed_is_one(toy, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        toy.run(tmp_path / name, seed=seed, grpo__num_steps=4)
    assert rows(tmp_path / "a") == rows(tmp_path / "b") != rows(tmp_path / "c")
    uids = [[s["uid"] for s in rows(tmp_path / n, "samples/step_000000")] for n in "ac"]
    assert uids[0] != uids[1]  # not only the noise, the order of the prompts too


def test_training_teaches_what_is_paid_for(toy, tmp_path):
    # Not the task's accuracy: one answer, then the end, is more than one table for all positions
    # can learn (at most 1 in 4).
    paid = {"accuracy_weight": 0.0, "format_weight": 0.0, "custom_weight": 1.0}
    custom = {"custom": "tests.toy_rewards:bad", **paid}
    toy.run(tmp_path, reward=custom, grpo__num_steps=60, eval__every=0, checkpoint__every=0)
    rewards = [row["reward/mean"] for row in rows(tmp_path)]
    assert sum(rewards[:5]) / 5 < 0.4 and sum(rewards[-5:]) / 5 > 0.7


# --- on-policy distillation ----------------------------------------------------------------------

BY_TEACHER = {
    "teacher": "theirs", "grpo__advantage": "none", "grpo__kl_coef": 1.0,
    "grpo__kl_estimator": "k2", "grpo__reference_every": 0,
}  # fmt: skip


def _divergence(table) -> float:
    """KL(policy || teacher) of one token, exactly."""
    ours, theirs = (jax.nn.log_softmax(t["table"]) for t in (table, TEACHER))
    return float(jnp.sum(jnp.exp(ours) * (ours - theirs)))


def _last_table(workdir, toy, step: int, changes):
    held = like(toy, **changes)
    with store.Store(workdir / "checkpoints", read_only=True) as checkpoints:
        return checkpoints.restore(step, held)[0]["state"].params


def test_a_teacher_is_learnt_from_its_student_s_own_samples(toy, tmp_path):
    before = _divergence(toy.table)
    changes = BY_TEACHER | {"grpo__num_steps": 40, "eval__every": 0, "checkpoint__every": 0}
    toy.run(tmp_path, **changes)
    after = _divergence(_last_table(tmp_path, toy, 40, changes))
    assert before > 0.8 and after < 0.15 * before
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["parents"]["teacher"] == "t" * 64


def test_a_teacher_is_no_part_of_checkpoints_and_going_on_needs_none(toy, tmp_path):
    toy.run(tmp_path / "whole", **BY_TEACHER)
    toy.before = kill_at("update", 5)
    with pytest.raises(Killed):
        toy.run(tmp_path / "killed", **BY_TEACHER)
    toy.before = lambda name, step: None
    toy.run(tmp_path / "killed", **BY_TEACHER)
    assert rows(tmp_path / "whole") == rows(tmp_path / "killed")
    whole, killed = (_last_table(tmp_path / n, toy, 8, BY_TEACHER) for n in ("whole", "killed"))
    assert trees.digest(whole) == trees.digest(killed)


@pytest.mark.parametrize("change", [{"grpo__kl_coef": 0.0}, {"grpo__reference_every": 4}])
def test_a_teacher_that_is_not_the_reference_throughout_is_refused(change, toy):
    with pytest.raises(ValueError, match="teacher='theirs' is the reference of every update"):
        toy.config(**BY_TEACHER | {"grpo__advantage": "zscore"} | change)


# --- going on -----------------------------------------------------------------------------------


@pytest.fixture
def whole(toy, tmp_path):
    """An uninterrupted run."""
    toy.run(tmp_path / "whole")
    return tmp_path / "whole"


@pytest.mark.parametrize(
    ("phase", "at"),
    [
        ("generate", 0), ("generate", 4), ("update", 5), ("update", 6), ("save", 4), ("saved", 6),
        ("evaluate", 5), ("saved", 8),
    ],
)  # fmt: skip
def test_killed_at_any_moment_and_started_again_it_is_the_uninterrupted_run(
    phase, at, toy, whole, tmp_path
):
    toy.before = kill_at(phase, at)
    with pytest.raises(Killed):
        toy.run(tmp_path / "cut")
    toy.before = lambda name, step: None
    assert toy.run(tmp_path / "cut")
    cut = tmp_path / "cut"
    assert rows(cut) == rows(whole)
    assert rows(cut, "eval") == rows(whole, "eval")
    samples = [
        {n: b for n, b in files(d).items() if n.startswith("samples/")} for d in (cut, whole)
    ]
    assert samples[0] == samples[1]
    assert final_digest(cut, like(toy), step=8) == final_digest(whole, like(toy), step=8)


def test_killed_in_the_last_evaluation_it_is_not_done_yet(toy, whole, tmp_path):
    calls = []

    def before(name, step):
        if name == "evaluate":
            calls.append(step)
            if len(calls) == 3:
                raise Killed

    toy.before = before
    with pytest.raises(Killed):
        toy.run(tmp_path / "cut")
    assert [row["step"] for row in rows(tmp_path / "cut", "eval")] == [0, 4]
    assert toy.run(tmp_path / "cut")
    assert rows(tmp_path / "cut", "eval") == rows(whole, "eval")
    assert not toy.run(tmp_path / "cut")


def test_wall_seconds_add_up_over_starts(toy, tmp_path):
    toy.before = kill_at("generate", 4)
    with pytest.raises(Killed):
        toy.run(tmp_path)
    toy.before = lambda name, step: None
    first = json.loads((tmp_path / "manifest.json").read_text())["seconds"]
    toy.run(tmp_path)
    second = json.loads((tmp_path / "manifest.json").read_text())["seconds"]
    assert second["rollout"] > first["rollout"] and second["preflight"] >= first["preflight"] > 0


def test_a_half_written_checkpoint_is_removed_and_the_one_before_used(toy, whole, tmp_path):
    toy.before = kill_at("generate", 6)
    with pytest.raises(Killed):
        toy.run(tmp_path / "cut")
    toy.before = lambda name, step: None
    checkpoints = tmp_path / "cut" / "checkpoints"
    torn = checkpoints / "step_00000006.orbax-checkpoint-tmp-7"
    (checkpoints / "step_00000006").rename(torn)
    (torn / "record").rename(torn / "gone")
    assert toy.run(tmp_path / "cut")
    assert rows(tmp_path / "cut") == rows(whole)
    assert not torn.exists()


def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_used(toy, whole, tmp_path):
    cut = tmp_path / "cut"
    toy.before = kill_at("generate", 4)
    with pytest.raises(Killed):
        toy.run(cut)
    toy.before = lambda name, step: None
    record = next((cut / "checkpoints" / "step_00000004" / "record").iterdir())
    record.write_bytes(record.read_bytes()[:20])
    assert toy.run(cut)
    assert rows(cut) == rows(whole)
    assert (cut / "checkpoints" / "step_00000004.damaged").is_dir()
    assert final_digest(cut, like(toy), step=8) == final_digest(whole, like(toy), step=8)


def test_without_a_sound_checkpoint_the_run_is_refused_and_nothing_is_lost(toy, tmp_path):
    toy.before = kill_at("generate", 2)
    with pytest.raises(Killed):
        toy.run(tmp_path)
    toy.before = lambda name, step: None
    record = next((tmp_path / "checkpoints" / "step_00000002" / "record").iterdir())
    record.write_bytes(record.read_bytes()[:20])
    before = files(tmp_path)
    with pytest.raises(ValueError, match=r"step_00000002.*no older checkpoint is left"):
        toy.run(tmp_path)
    assert files(tmp_path) == before


def test_a_checkpoint_of_another_vocabulary_is_an_error_and_nothing_is_lost(toy, tmp_path):
    toy.before = kill_at("generate", 4)
    with pytest.raises(Killed):
        toy.run(tmp_path)
    toy.before = lambda name, step: None
    before = files(tmp_path)
    toy.table = {"table": jnp.zeros(9)}
    with pytest.raises(ValueError, match=r"/table is float32\[6\] in the checkpoint and .*\[9\]"):
        toy.run(tmp_path)
    assert files(tmp_path) == before


def test_a_failed_save_stops_the_run(toy, tmp_path, monkeypatch):
    def fail(self, *args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.ocp.AsyncCheckpointer, "save", fail)
    with pytest.raises(store.SaveError, match="the disk is full"):
        toy.run(tmp_path)
    assert [row["step"] for row in rows(tmp_path)] == [0]


def assert_goes_on_to_the_same_end(toy, tmp_path, **changes):
    """Started again, the run in "cut" has the rows and the last checkpoint of that in "whole"."""
    toy.before = lambda name, step: None
    assert toy.run(tmp_path / "cut", **changes)
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")
    digests = [final_digest(tmp_path / n, like(toy, **changes), step=8) for n in ("cut", "whole")]
    assert digests[0] == digests[1]


OFF = {"grpo__one_step_off": True, "grpo__importance_cap": 2.0}


def test_one_step_off_killed_and_started_again_is_the_uninterrupted_run(toy, tmp_path):
    toy.run(tmp_path / "whole", **OFF)
    assert [row["policy/lag"] for row in rows(tmp_path / "whole")] == [0, 2, 2, 2]
    last = json.loads((tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()[-1])
    assert names.ROW.keys() <= last.keys() and last["seconds/rollout"] == 0  # nothing follows
    for phase, at in (("generate", 2), ("update", 5)):
        toy.before = kill_at(phase, at)
        with pytest.raises(Killed):
            toy.run(tmp_path / "cut", **OFF)
    assert_goes_on_to_the_same_end(toy, tmp_path, **OFF)
    for name in ("samples/step_000004", "samples/step_000006"):
        assert rows(tmp_path / "cut", name) == rows(tmp_path / "whole", name)
    assert not toy.run(tmp_path / "cut", **OFF)
    assert policy.restore(tmp_path / "cut", toy.config(**OFF), None)[2] == 8  # to be evaluated


def test_a_run_older_than_a_switch_that_is_off_goes_on(toy, tmp_path):
    toy.run(tmp_path, grpo__num_steps=2)
    path = tmp_path / "config.json"
    made_with = json.loads(path.read_text())
    del made_with["grpo"]["one_step_off"]
    path.write_text(json.dumps(made_with))
    assert not toy.run(tmp_path, grpo__num_steps=2)
    with pytest.raises(ValueError, match=r"grpo.one_step_off=None there, True now"):
        toy.run(tmp_path, grpo__num_steps=2, **OFF)


# --- with a critic ------------------------------------------------------------------------------

PPO = {"ppo": {"learning_rate": 0.1, "gae_lambda": 0.9}}


@pytest.mark.parametrize(("phase", "at"), [("update", 5), ("save", 4), ("saved", 6)])
def test_ppo_killed_and_started_again_is_the_uninterrupted_run(phase, at, toy, tmp_path):
    toy.run(tmp_path / "whole", **PPO)
    toy.before = kill_at(phase, at)
    with pytest.raises(Killed):
        toy.run(tmp_path / "cut", **PPO)
    assert_goes_on_to_the_same_end(toy, tmp_path, **PPO)
    assert not toy.run(tmp_path / "cut", **PPO)


def test_ppo_is_another_run_than_grpo_and_logs_its_critic(toy, tmp_path):
    toy.run(tmp_path / "ppo", **PPO)
    metrics = rows(tmp_path / "ppo")
    assert [row["step"] for row in metrics] == [0, 2, 4, 6]
    assert names.ROW.keys() <= metrics[0].keys() | {"seconds/rollout", "seconds/score"} | {
        "seconds/update", "compilations"
    }  # fmt: skip
    first = json.loads((tmp_path / "ppo" / "metrics.jsonl").read_text().splitlines()[0])
    assert names.ACCOUNTS.keys() <= first.keys() and 0 < first["speed/rollout_share"]
    assert all(row["value/loss"] > 0 and row["value/skipped"] == 0 for row in metrics)
    explained = [row["value/explained_variance"] for row in metrics]
    assert abs(explained[0]) < 1e-5 < abs(explained[1])  # it said 0 to all, and then no longer
    with pytest.raises(ValueError, match=r"another config .*ppo.* there"):
        toy.run(tmp_path / "ppo")
    toy.run(tmp_path / "grpo")
    ways = [[row["reward/mean"] for row in rows(tmp_path / name)] for name in ("ppo", "grpo")]
    assert ways[0][0] == ways[1][0] and ways[0] != ways[1]  # one start, two ways on


def test_an_advantage_of_groups_is_refused_beside_a_critic(toy):
    with pytest.raises(ValueError, match=r"grpo.advantage='mean_only' would change nothing"):
        toy.config(grpo__advantage="mean_only", **PPO)


def test_a_rollout_drawn_ahead_is_refused_beside_a_critic(toy):
    with pytest.raises(ValueError, match=r"grpo.one_step_off=True beside ppo"):
        toy.config(**OFF, **PPO)


# --- refusals -----------------------------------------------------------------------------------


def test_a_workdir_of_another_config_is_refused_and_left_as_it_is(toy, tmp_path):
    toy.run(tmp_path, grpo__num_steps=2)
    before = files(tmp_path)
    with pytest.raises(ValueError) as error:
        toy.run(tmp_path, grpo__num_steps=2, grpo__clip_low=0.5, optim__b1=0.8)
    text = str(error.value)
    assert "holds a run of another config" in text and "use another --workdir" in text
    assert "grpo.clip_low=10.0 there, 0.5 now" in text and "optim.b1=0.9 there, 0.8 now" in text
    assert files(tmp_path) == before


def test_a_run_begun_with_another_tokenizer_is_refused_and_left_as_it_is(toy, tmp_path):
    toy.before = kill_at("generate", 2)
    with pytest.raises(Killed):
        toy.run(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"another")
    before = files(tmp_path)
    with pytest.raises(ValueError, match="not the tokenizer of this config"):
        toy.run(tmp_path)
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda toy: setattr(toy, "error", 0.2), "disagree by up to 0.2 nats"),
        (lambda toy: setattr(toy, "task", _badly_answered(toy.task)), "ideal answer does not earn"),
        (lambda toy: setattr(toy, "table", {"table": jnp.full(6, -99.0).at[0].set(0)}), "cut off"),
    ],
)
def test_a_run_that_cannot_learn_is_refused_before_anything_is_written(
    spoil, message, toy, tmp_path
):
    spoil(toy)
    with pytest.raises(ValueError, match=message):
        toy.run(tmp_path / "run")
    assert not (tmp_path / "run").exists() or not files(tmp_path / "run")


def _badly_answered(task):
    return dataclasses.replace(task, ideal=lambda prompt: "bad")


def test_an_ideal_answer_that_is_too_long_to_be_given_is_refused(toy, tmp_path):
    with pytest.raises(ValueError, match=r"takes 3 tokens, but a completion may have 2"):
        toy.run(tmp_path, grpo__max_response=2)


def test_a_checkpoint_of_another_config_is_refused_though_config_json_is_gone(toy, tmp_path):
    toy.before = kill_at("generate", 4)
    with pytest.raises(Killed):
        toy.run(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ValueError, match=r"step_00000004 holds .*grpo.kl_coef=0.05 there, 0.1 now"):
        toy.run(tmp_path, grpo__kl_coef=0.1)


def test_a_refused_run_may_be_mended_in_the_same_workdir(toy, tmp_path):
    toy.error = 0.2
    with pytest.raises(ValueError, match=r"bound 0\.05"):
        toy.run(tmp_path, grpo__num_steps=2)
    assert toy.run(tmp_path, grpo__num_steps=2, grpo__gap_bound=0.5)


def test_max_prompt_is_the_longest_prompt_taken(toy, tmp_path):
    toy.run(tmp_path / "a", grpo__max_prompt=2, grpo__num_steps=2)
    with pytest.raises(ValueError, match=r"prompt of problem 0 has 2 tokens; max_prompt=1"):
        toy.run(tmp_path / "b", grpo__max_prompt=1, grpo__num_steps=2)


@pytest.mark.parametrize(("split", "num", "holds"), [("test", 9, 8), ("validation", 10, 9)])
def test_more_held_out_problems_than_there_are_is_an_error(split, num, holds, toy, tmp_path):
    with pytest.raises(
        ValueError, match=f"num_problems={num}, but toy's {split} split holds {holds}"
    ):
        toy.run(tmp_path, eval__num_problems=num, eval__split=split)


def test_too_few_problems_for_one_step_are_an_error(toy, tmp_path):
    toy.task = toy_task(num_train=3)
    with pytest.raises(ValueError, match="batch_size=4 prompts cannot be drawn from 3 problems"):
        toy.run(tmp_path)


# --- switches -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, [(0, 6, 4), (4, 5, 4), (8, 6, 4)]),
        ({"eval__every": 0}, [(0, 6, 4), (8, 6, 4)]),
        ({"eval__every": 2}, [(0, 6, 4), (2, 5, 4), (4, 5, 4), (6, 5, 4), (8, 6, 4)]),
        ({"eval__every": 3}, [(0, 6, 4), (4, 5, 4), (6, 5, 4), (8, 6, 4)]),
        ({"eval__num_problems": 8}, [(0, 8, 4), (4, 5, 4), (8, 8, 4)]),
        ({"eval__num_problems_between": 1}, [(0, 6, 4), (4, 1, 4), (8, 6, 4)]),
        ({"eval__num_samples": 2}, [(0, 6, 2), (4, 5, 2), (8, 6, 2)]),
    ],
)
def test_evaluations_are_those_asked_for(change, expected, toy, tmp_path):
    toy.run(tmp_path, **change)
    evals = rows(tmp_path, "eval")
    assert [(r["step"], r["num_problems"], r["num_samples"]) for r in evals] == expected
    for step, num_problems, num_samples in expected:
        samples = rows(tmp_path, f"samples/eval_step_{step:06d}")
        assert len(samples) == num_problems * num_samples


def test_the_split_is_the_one_asked_for(toy, tmp_path):
    toy.run(tmp_path, eval__split="validation", grpo__num_steps=2)
    uids = {sample["uid"] for sample in rows(tmp_path, "samples/eval_step_000000")}
    assert uids == {prompt.uid for prompt in toy.task.splits["validation"][:6]}


@pytest.mark.parametrize(
    ("change", "saved"),
    [
        ({}, [4, 6, 8]),  # evaluated at 4, so the best when 8 was saved
        ({"checkpoint__keep": 9}, [2, 4, 6, 8]),
        ({"checkpoint__keep": 9, "checkpoint__every": 3}, [4, 6, 8]),
        ({"checkpoint__keep": 9, "checkpoint__every": 0}, [8]),
    ],
)
def test_checkpoints_are_those_asked_for(change, saved, toy, tmp_path):
    toy.run(tmp_path, **change)
    with store.Store(tmp_path / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.steps() == saved


@pytest.mark.parametrize("is_resumed", [False, True])
def test_the_best_checkpoint_is_kept_besides(is_resumed, toy, tmp_path, monkeypatch):
    """Evaluated at 4 and 8, saved every 2: the pass@1 that is written decides, a resume's too."""
    write = metrics_log.MetricsLog.eval_row
    monkeypatch.setattr(
        metrics_log.MetricsLog,
        "eval_row",
        lambda self, step, row: write(self, step, row | {"pass@1": 0.9 if step == 4 else 0.1}),
    )
    asked = {"checkpoint__keep": 1, "grpo__num_steps": 12}
    if is_resumed:
        toy.before = kill_at("generate", 6)
        with pytest.raises(Killed):
            toy.run(tmp_path, **asked)
        toy.before = lambda name, step: None
    toy.run(tmp_path, **asked)
    with store.Store(tmp_path / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.steps() == [4, 12]
    assert json.loads((tmp_path / "manifest.json").read_text())["best_step"] == 4


def test_what_is_checkpointed_is_all_that_changes(toy, tmp_path):
    toy.run(tmp_path, grpo__num_steps=6)
    with store.Store(tmp_path / "checkpoints", read_only=True) as checkpoints:
        arrays, host = checkpoints.restore(6, like(toy))
    state = arrays["state"]
    assert isinstance(state, train_state.TrainState) and int(state.step) == 6
    assert (jnp.abs(arrays["reference"]["table"] - toy.table["table"]) > 0).any()  # refreshed at 4
    assert (jnp.abs(arrays["reference"]["table"] - state.params["table"]) > 0).any()
    assert host["batches"]["num_prompts"] == 24 and host["preflight"]["gap"] < 1e-5


# --- live diagnosis -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rewards", "flat"),
    [
        ([0.5] * 20, True),
        ([0.1] * 10 + [0.4] * 10, False),
        ([0.4] * 10 + [0.1] * 10, True),
        ([0.1, 0.5] * 5 + [0.2, 0.6] * 5, True),  # a rise within the noise
        ([0.01 * i for i in range(20)], False),
    ],
)
def test_a_curve_is_flat_unless_it_rises_beyond_its_noise(rewards, flat):
    assert flat_reward.is_flat(rewards) is flat


HEALTHY = {
    "reward/accuracy": 0.4,
    "length/clipped_share": 0.1,
    "groups/zero_spread_share": 0.3,
    "gap/sampler_learner_max": 1e-5,
    "gradient/norm": 0.5,
    "entropy": 0.7,
}


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("reward/accuracy", 0.0, "almost no right answer"),
        ("reward/accuracy", 1.0, "the task is solved"),
        ("length/clipped_share", 0.97, "97% of the completions are cut off"),
        ("groups/zero_spread_share", 0.95, "95% of the groups have equal rewards"),
        ("gap/sampler_learner_max", 0.2, "disagree by up to 0.2 nats"),
        ("gradient/norm", 0.0, "The gradient norm is 0"),
        ("entropy", 0.001, "says the same every time"),
        ("entropy", 0.7, "Nothing measured explains"),
    ],
)
def test_each_cause_has_its_sentence(name, value, sentence):
    assert sentence in flat_reward.explain(switches.GRPOConfig(), HEALTHY | {name: value})


def test_a_flat_reward_is_explained_in_the_log(toy, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(r1_zero, "DIAGNOSE_EVERY", 4)
    toy.run(tmp_path, optim__learning_rate=0.0)
    shown = [line for line in capsys.readouterr().err.splitlines() if "reward is flat" in line]
    assert len(shown) == 1 and shown[0].startswith("step 6: reward is flat. ")


def test_a_flat_reward_of_a_rising_accuracy_is_told_as_such(toy, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(r1_zero, "DIAGNOSE_EVERY", 4)
    verdicts = iter((True, False))  # of the rewards, then of the accuracies
    monkeypatch.setattr(flat_reward, "is_flat", lambda values: next(verdicts))
    toy.run(tmp_path)
    shown = [line for line in capsys.readouterr().err.splitlines() if "reward is flat" in line]
    assert len(shown) == 1 and "Accuracy rises" in shown[0]
