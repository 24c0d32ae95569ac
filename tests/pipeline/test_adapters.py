"""Runs with adapters: the base stays, resumes are exact, what leaves a run is a plain model."""

import dataclasses
import json
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1_jax.checkpoints import store, weights
from r1_jax.core import build, interrupt, keys, trees
from r1_jax.data import packing
from r1_jax.metrics import log as metrics_log
from r1_jax.models import lora, scoring, transformer
from r1_jax.pipeline import adapters, assemble, base, experiment, policy, r1_zero, supervised
from r1_jax.sharding import mesh as meshes
from r1_jax.sharding import place
from r1_jax.training import losses, optim
from r1_jax.training import step as train_step
from r1_jax.training import supervised as supervised_loop

CONFIG = {
    "seed": 3,
    "task": {"num_train": 24, "num_validation": 4, "num_test": 6, "min_target": 10},
    "model": {
        "vocab_size": 400, "num_layers": 1, "embed_dim": 16, "num_heads": 2, "num_kv_heads": 2,
        "head_dim": 8, "mlp_dim": 16,
    },
    "lora": {"rank": 2, "alpha": 8.0},
    "mesh": {"fsdp": 2, "tensor": 2},
    "optim": {"learning_rate": 0.01},
    "corpus": {"num_documents": 200, "max_value": 60},
    "sampling": {"num_slots": 16},
    "grpo": {
        "num_steps": 4, "prompts_per_rollout": 4, "group_size": 8, "num_minibatches": 1,
        "kl_coef": 0.01, "reference_every": 2, "max_prompt": 64, "max_response": 24,
    },
    "reward": {
        "custom": "tests.toy_rewards:digits", "custom_weight": 1.0, "accuracy_weight": 0.1,
    },
    "eval": {"num_problems": 4, "num_problems_between": 2, "num_samples": 8, "every": 4},
    "checkpoint": {"every": 1},
}  # fmt: skip


class Killed(BaseException):
    """Stands in for a SIGKILL where a test stays in its own process."""


def _config(folder, **changes) -> experiment.ExperimentConfig:
    mapping = CONFIG | {"base": str(folder / "base.safetensors")}
    mapping = build.merge(mapping, "task.data_dir", str(folder / "data"))
    for name, value in changes.items():
        mapping = build.merge(mapping, name.replace("__", "."), value)
    return build.build(experiment.ExperimentConfig, mapping)


def _save_base(folder, seed):
    config = _config(folder)
    tokens = assemble.load_tokenizer(config)
    params = jax.tree.map(lambda x: 5 * x, transformer.init(config.model, keys.root(seed)))
    record = supervised.weights_record(config, tokens.digest, {})
    weights.save_weights(folder / "base.safetensors", params, record)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a base of noise, its tokenizer and, later, a task's problems."""
    folder = tmp_path_factory.mktemp("lora")
    config = dataclasses.replace(_config(folder), lora=None, base="")
    base.train_tokenizer(config, folder / "base.model")
    _save_base(folder, 0)
    return folder


@pytest.fixture(scope="module")
def run(folder):
    """A run of four rollouts, killed after the third and started again."""
    workdir, save = folder / "run", store.Store.save

    def dies(self, step, arrays, host):
        save(self, step, arrays, host)
        self.wait()
        if step == 3:
            raise Killed

    store.Store.save = dies
    try:
        with pytest.raises(Killed):
            r1_zero.run(_config(folder), workdir)
    finally:
        store.Store.save = save
    assert r1_zero.run(_config(folder), workdir)
    return workdir


def _rows(workdir, name="metrics"):
    rows = [json.loads(line) for line in (workdir / f"{name}.jsonl").read_text().splitlines()]
    return [
        {k: v for k, v in row.items() if not k.startswith(("seconds/", "speed/", "compilations"))}
        for row in rows
    ]


def _moved(before, after):
    """Names of the arrays that differ."""
    return {k for k, x in trees.paths(after).items() if np.any(x != trees.paths(before)[k])}


def _record(workdir, step=4):
    path = workdir / "checkpoints" / f"step_{step:08d}" / "record" / "metadata"
    return json.loads(path.read_text())


def test_killed_and_resumed_is_bit_identical_to_uninterrupted(folder, run):
    assert r1_zero.run(_config(folder), folder / "whole")
    for name in ("metrics", "eval"):
        assert _rows(run, name) == _rows(folder / "whole", name)
    assert _record(run)["digest"] == _record(folder / "whole")["digest"]


def test_rl_moves_adapters_away_from_a_reference_that_follows(run):
    rows = _rows(run)
    assert [row["step"] for row in rows] == list(range(4))
    assert max(row["gap/sampler_learner_max"] for row in rows) < 1e-4
    distance = [row["kl/reference"] for row in rows]
    assert distance[0] == pytest.approx(0, abs=1e-9)  # fresh adapters are the base
    assert distance[2] == pytest.approx(0, abs=1e-9)  # refreshed after two
    assert distance[1] > 0.01 and distance[3] > 0.01


def test_a_checkpoint_holds_adapters_and_names_its_base(folder, run):
    record = _record(run)
    of_params = {name for name in record["leaves"] if "step" not in name and "count" not in name}
    assert of_params and all(name.endswith(("lora_in", "lora_out")) for name in of_params)
    assert {name.split("/")[0] for name in of_params} == {"state", "reference"}
    _, manifest = weights.load_weights(folder / "base.safetensors")
    assert record["host_state"]["base"] == manifest["digest"]


def test_what_is_exported_is_a_plain_model_that_computes_the_same(folder, run):
    path = policy.export(run, folder / "exported.safetensors")
    params, manifest = weights.load_weights(path)
    whole, _ = weights.load_weights(folder / "base.safetensors")
    assert jax.tree.structure(params) == jax.tree.structure(whole)
    assert _moved(whole, params) == {k for k in trees.paths(whole) if k.endswith("kernel")}
    assert (
        manifest["parents"]["base"]
        == weights.load_weights(folder / "base.safetensors")[1]["digest"]
    )
    stage = assemble.setup(_config(folder), 4)
    with store.Store(run / "checkpoints", read_only=True) as checkpoints:
        like = {"state": stage.state, "reference": stage.state.params}
        arrays, _ = checkpoints.restore(4, like)
    model, tokens_BT = _config(folder).model, jnp.arange(24).reshape(2, 12)
    mine = place.to_host(lora.join(stage.frozen, arrays["state"].params))
    logps = [
        scoring.token_scores(model, p, tokens_BT, adjust=lambda x: x)[0]
        for p in (mine, params, whole)
    ]
    np.testing.assert_allclose(logps[0], logps[1], rtol=1e-4, atol=1e-5)
    assert np.abs(logps[0] - logps[2]).max() > 0.01
    plain = _config(folder, base=str(path))
    started = assemble.setup(dataclasses.replace(plain, lora=None), 1)  # a base for what comes next
    assert trees.digest(started.state.params) == trees.digest(params)


def test_adapters_are_put_beside_no_other_base(folder, run, tmp_path):
    for name in ("base.model", "base.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    _save_base(tmp_path, 1)
    config = dataclasses.replace(policy.open_config(run), base=str(tmp_path / "base.safetensors"))
    with pytest.raises(ValueError, match=r"holds adapters of the base with digest .* bring"):
        policy.restore(run, config, None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base": ""}, "base='' is a random one; name a base"),
        ({"lora__layers": ("attention/querry",)}, r"lora\.layers: 'attention/querry' names what"),
        ({"ppo": {}}, "ppo trains a critic whole, lora none"),
        ({"grpo__reference_mix": 0.5}, "would mix the factors of adapters"),
    ],
)
def test_what_adapters_cannot_do_is_refused(folder, changes, message):
    with pytest.raises(ValueError, match=message):
        assemble.setup(_config(folder, tokenizer__path=str(folder / "base.model"), **changes), 1)


def test_a_base_and_a_reward_model_are_trained_whole(folder, tmp_path):
    with pytest.raises(ValueError, match="a base itself is trained whole"):
        base.run(_config(folder), tmp_path)


# --- fine-tuning --------------------------------------------------------------------------------


LOOP = supervised_loop.SupervisedConfig(epochs=12, batch_rows=8, row_length=16)


def _packed(pad_id):
    rng = np.random.default_rng(0)
    start_B = rng.integers(3, 380, 16)
    documents = [list(range(start, start + 14)) for start in start_B]  # each token is the last + 1
    return packing.pack(documents, row_length=16, pad_id=pad_id)


def test_fine_tuning_learns_resumes_and_leaves_a_plain_model(folder, tmp_path, monkeypatch):
    config = _config(folder, optim__learning_rate=0.03, checkpoint__every=10)
    pad_id = assemble.load_tokenizer(config).pad_id

    def run(name):
        supervised.run(
            config, LOOP, _packed(pad_id), tmp_path / name, tmp_path / f"{name}.safetensors",
            claimed=config,
        )  # fmt: skip

    run("whole")
    losses_seen = [row["loss"] for row in _rows(tmp_path / "whole")]
    assert losses_seen[-1] < losses_seen[0] - 1
    save = store.Store.save

    def dies(self, step, arrays, host):
        save(self, step, arrays, host)
        self.wait()
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(store.Store, "save", dies)
        run("killed")
    row = metrics_log.MetricsLog.row

    def told(self, step, mapping):
        row(self, step, mapping)
        if step == 13:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched, interrupt.heeded():
        patched.setattr(metrics_log.MetricsLog, "row", told)
        with pytest.raises(interrupt.Interrupted, match="step 14 of 24 is kept"):
            run("killed")
    assert (tmp_path / "killed" / "checkpoints" / "step_00000014").is_dir()
    run("killed")
    (whole, manifest), (again, _) = (
        weights.load_weights(tmp_path / f"{name}.safetensors") for name in ("whole", "killed")
    )
    assert trees.digest(whole) == trees.digest(again)
    assert _rows(tmp_path / "whole") == _rows(tmp_path / "killed")
    before, _ = weights.load_weights(folder / "base.safetensors")
    assert jax.tree.structure(whole) == jax.tree.structure(before)
    assert _moved(before, whole) == {k for k in trees.paths(before) if k.endswith("kernel")}
    assert manifest["config"]["lora"]["rank"] == 2


def test_an_update_over_a_mesh_is_that_of_one_device(folder):
    config = _config(folder)
    stage = assemble.setup(config, 10)
    assert stage.frozen is not None and stage.frozen.scale == 8.0 / 2  # alpha over rank
    placed = trees.paths(stage.state.params)["layers/block/mlp/up/lora_out"].sharding
    assert placed.spec == jax.P(None, None, "tensor")
    rows = _packed(stage.tokens.pad_id)
    rows = packing.Packed(*(x[:8] for x in rows))
    rng = np.random.default_rng(1)
    drawn = jax.tree.map(
        lambda x: (0.1 * rng.normal(size=x.shape)).astype(np.float32), stage.state.params
    )
    state = dataclasses.replace(stage.state, params=jax.device_put(drawn, stage.shardings.params))
    frozen, alone = place.to_host((stage.frozen, state))
    with meshes.activate(stage.mesh):
        update = assemble.make_supervised_update(
            config, LOOP, stage.tokens, stage.tx, stage.shardings, stage.frozen
        )
        new, metrics = update(state, assemble.put(rows, stage.mesh))
    tx = optim.make_optimizer(config.optim, 10)
    loss = adapters.beside(frozen, losses.make_next_token(config.model))
    expected, expected_metrics = jax.jit(train_step.make_update(loss, tx))(alone, rows)
    assert float(metrics["gradient/norm"]) == pytest.approx(
        float(expected_metrics["gradient/norm"]), rel=1e-4
    )
    for one, other in zip(jax.tree.leaves(new), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
