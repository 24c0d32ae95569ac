"""Prices of runs: the TPU's compiler on a small model, and predictions against this machine."""

import dataclasses
import json
import time
from importlib import util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1_jax.core import trees
from r1_jax.models import config as model_config
from r1_jax.models import lora
from r1_jax.pipeline import (
    abstract,
    chips,
    experiment,
    plan,
    plan_sweep,
    plan_table,
    program_cost,
    program_text,
    traced,
)
from r1_jax.sampling import logits as sampling_logits
from r1_jax.sharding import mesh as meshes
from r1_jax.training import optim, supervised, switches

needs_libtpu = pytest.mark.skipif(util.find_spec("libtpu") is None, reason="make plan-deps")
KEYS = ("name", "hbm_gib", "limit_gib", "fits", "tflop", "collective_gib", "roofline_seconds",
        "bound_by")  # fmt: skip


def _config(**changes):
    small = model_config.ModelConfig(vocab_size=64, num_layers=2, embed_dim=64, mlp_dim=128)
    found = experiment.ExperimentConfig(
        model=small,
        mesh=experiment.MeshConfig(fsdp=2, tensor=2),
        grpo=switches.GRPOConfig(
            num_steps=16,
            prompts_per_rollout=4,
            group_size=2,
            num_minibatches=1,
            num_microbatches=2,
            max_prompt=8,
            max_response=24,
        ),
        sft=supervised.SupervisedConfig(batch_rows=4, row_length=32),
    )
    return dataclasses.replace(found, **changes)


def test_a_mesh_that_does_not_divide_names_the_value_and_the_choices():
    with pytest.raises(ValueError, match=r"fsdp=3.*makes .* devices.*use "):
        config = _config(mesh=experiment.MeshConfig(data=1, fsdp=3))
        plan.run(config, chips.Slice("four", chips.CHIPS["v5e"], jax.devices()[:4]))


def test_the_programs_are_the_runs_own_and_no_array_is_made():
    config = _config()
    mesh = meshes.make_mesh(fsdp=2, tensor=2, devices=jax.devices()[:4])
    before = len(jax.live_arrays())
    lowered = plan.lower_rl(config, mesh, 16)
    assert list(lowered["phases"]) == ["relayout", "generate", "reference scoring", "update"]
    with meshes.activate(mesh):
        text = lowered["phases"]["update"][0]().as_text()
    assert "dot_general" in text
    assert len(jax.live_arrays()) == before
    # float32 parameters, two moments and a reference; a quarter of what is split over both axes
    held = abstract.bytes_of(abstract.params(config, mesh))
    assert lowered["saved"] == pytest.approx(4 * held, rel=1e-3)
    assert held < lowered["resident"] < 4 * held


def test_what_samples_next_is_one_more_copy_in_memory_and_in_a_checkpoint():
    config, mesh = _config(), meshes.make_mesh(fsdp=2, tensor=2, devices=jax.devices()[:4])
    off = dataclasses.replace(config.grpo, one_step_off=True, importance_cap=2.0)
    plain = plan.lower_rl(config, mesh, 16)
    found = plan.lower_rl(dataclasses.replace(config, grpo=off), mesh, 16)
    params = abstract.params(config, mesh)
    per_chip = abstract.bytes_per_chip(params)
    assert found["saved"] - plain["saved"] == pytest.approx(abstract.bytes_of(params))
    assert found["resident"] - plain["resident"] == pytest.approx(per_chip)
    for name, (_, beside) in plain["phases"].items():
        assert found["phases"][name][1] - beside == pytest.approx(per_chip), name


def test_of_adapters_the_state_is_small_and_their_base_stays_where_it_is():
    plain, config = _config(), _config(lora=lora.LoraConfig(rank=2))
    mesh = meshes.make_mesh(fsdp=2, tensor=2, devices=jax.devices()[:4])
    before = len(jax.live_arrays())
    lowered = plan.lower_rl(config, mesh, 16)
    base = abstract.params(plain, mesh)
    _, fresh = abstract.beside(config, base, mesh)
    mine = jax.eval_shape(lambda: lora.init(config.model, config.lora, jax.random.key(0)))
    assert trees.num_params(fresh) == trees.num_params(mine) < trees.num_params(base) / 4
    # three copies as a state, one as a reference; the base lies there once, and is not saved
    assert lowered["saved"] == pytest.approx(4 * abstract.bytes_of(mine), rel=1e-2)
    per_chip = abstract.bytes_per_chip(base) + 4 * abstract.bytes_per_chip(fresh)
    assert lowered["resident"] == pytest.approx(per_chip, rel=1e-2)
    of_scoring = lowered["phases"]["reference scoring"][1]  # the base is an argument of it
    assert of_scoring == pytest.approx(3 * abstract.bytes_per_chip(fresh), rel=1e-2)
    with meshes.activate(mesh):
        update = lowered["phases"]["update"][0]()
        sampled = lowered["phases"]["relayout"][0]().out_info
        tuned = plan.lower_supervised(config, config.sft, mesh)["phases"]["update"][0]()
    # what comes out of an update: adapters, two moments of them, steps and metrics
    results = sum(x.size for x in jax.tree.leaves((update.out_info[0], tuned.out_info[0])))
    assert results == pytest.approx(6 * trees.num_params(mine), rel=1e-2)
    assert trees.num_params(sampled) == trees.num_params((base, mine))
    assert len(jax.live_arrays()) == before


def test_turns_over_experts_rows_are_those_of_even_use(monkeypatch):
    routed = model_config.Experts(num_routed=8, num_chosen=2, num_groups=1, groups_kept=1)
    small = dataclasses.replace(_config().model, experts=routed, num_layers=4)
    config = _config(model=small)
    mesh = meshes.make_mesh(fsdp=2, expert=4)
    # 4 * 2 rows of 32 in two pieces; half a piece a device, two choices, one of eight experts
    tokens = plan.tokens_at_once(config, None, "update")
    assert tokens == 4 * 32
    monkeypatch.setattr(plan.expert_rows, "ROWS", 5)
    assert plan.expert_turns(config, mesh, tokens) == 4  # 16 rows in blocks of 5
    assert plan.expert_turns(_config(), mesh, tokens) == 1
    with_context = meshes.make_mesh(fsdp=2, expert=2, context=2)
    assert plan.expert_turns(config, with_context, tokens) == 2  # 8 rows
    assert plan.tokens_at_once(config, config.sft, "update") == 4 * 32
    assert plan.tokens_at_once(config, None, "generate") == 4 * 8
    # and the learner is given the sampler's choices, of the layer that has experts
    batch, _ = abstract.policy_batch(config, mesh)
    assert batch.chosen_BTLX.shape == (8, 32, 1, 2)
    assert abstract.policy_batch(_config(), mesh)[0].chosen_BTLX is None


@needs_libtpu
def test_every_phase_of_a_small_run_is_priced():
    report = plan.run(_config(), chips.describe("v5e:2x2"))
    names = [phase["name"] for phase in report["phases"]]
    assert names == ["relayout", "prefill", "decode", "reference scoring", "update", "save"]
    for phase in report["phases"]:
        assert set(KEYS) <= phase.keys()
        assert phase["fits"] and 0 < phase["hbm_gib"] < phase["limit_gib"] == 15.75
        assert phase["roofline_seconds"] == pytest.approx(max(phase["seconds"].values()))
        assert phase["roofline_seconds"] > 0
    assert report["topology"] == "v5e:2x2" and report["num_chips"] == 4
    assert report["chip_hours"] == pytest.approx(4 * report["hours"])
    # 4 * 2 rows of 32 tokens; three matrix products a weight, and one more in each layer's remat
    weights = 2 * (64 * 32 * (4 + 2 + 2 + 4) + 3 * 64 * 128) + 64 * 64
    update = report["phases"][4]["tflop"] * 1e12 * 4
    assert 2 * 3 * weights * 8 * 32 < update < 2 * 6 * weights * 8 * 32
    assert "update" in plan_table.table(json.loads(json.dumps(report)))


@needs_libtpu
def test_slots_are_filled_layer_by_layer_and_no_chip_holds_all_completions():
    layered = model_config.ModelConfig(
        vocab_size=64, num_layers=16, embed_dim=64, num_heads=2, num_kv_heads=2, head_dim=128,
        mlp_dim=128,
    )  # fmt: skip
    rollout = switches.GRPOConfig(
        num_steps=16, prompts_per_rollout=64, group_size=64, num_minibatches=1,
        num_microbatches=64, max_prompt=1024, max_response=4096,
    )  # fmt: skip
    config = _config(model=layered, mesh=experiment.MeshConfig(fsdp=16), grpo=rollout)
    config = dataclasses.replace(config, sampling=sampling_logits.SamplingConfig(num_slots=64))
    report = plan.run(config, chips.describe("v5e:4x4"), only="generate")
    memory = report["phases"][0]["memory"]
    prompts = 64 * 2 * 1024 * 128 * 4 / 2**30  # of one layer, keys or values, whole
    completions = 4096 * (1024 + 4096) * (4 + 4) / 2**30
    assert memory["results"] == pytest.approx(completions / 16, rel=0.01)
    # a share of every layer's, before and after it is turned; a few layers' whole
    assert memory["temporaries"] < 2 * 32 * prompts / 16 + 12 * prompts + completions / 16


@needs_libtpu
def test_fine_tuning_is_priced_by_its_update():
    report = plan.run(_config(), chips.describe("v5e:2x2"), "sft", num_steps=10)
    assert [phase["name"] for phase in report["phases"]] == ["update", "save"]
    assert report["num_steps"] == 10


@needs_libtpu
def test_a_phase_that_is_refused_does_not_fit_and_leaves_hours_unknown():
    config = _config(sft=supervised.SupervisedConfig(batch_rows=2**20, row_length=2**10))
    report = plan.run(config, chips.describe("v5e:2x2"), "sft", num_steps=10)
    update, save = report["phases"]
    assert not update["fits"] and update["hbm_gib"] > update["limit_gib"] and save["fits"]
    assert "GiB too much: raise num_microbatches" in update["advice"]
    assert report["hours"] is None and update["tflop"] is None
    assert "hours are not known" in plan_table.table(json.loads(json.dumps(report)))
    assert "hours unknown" in plan_sweep.row(report | {"num_microbatches": 1})


def _measured(f, *arguments, times=3):
    """Processor seconds of the quickest of several calls."""
    found = []
    for _ in range(times):
        start = time.process_time()
        jax.block_until_ready(f(*arguments))
        found.append(time.process_time() - start)
    return min(found)


def _ceilings():
    """(FLOPs, bytes) a processor second that this machine's own products and copies reach."""
    size = 512
    x = jnp.ones((size, size))
    product = jax.jit(lambda x: x @ x)
    product(x)
    flops = 2 * size**3 / _measured(product, x, times=5)
    y = jnp.ones(8 * 2**20)
    copy = jax.jit(lambda y: y + 1)
    copy(y)
    return flops, 2 * y.nbytes / _measured(copy, y, times=5)


TOLERANCE = 5.0  # measured over predicted; the bound ignores all that is neither product nor byte


def test_the_prediction_holds_on_this_machine_within_a_factor():
    wider = model_config.ModelConfig(vocab_size=512, num_layers=2, embed_dim=256, mlp_dim=1024)
    loop = supervised.SupervisedConfig(batch_rows=8, row_length=128)
    config = _config(model=wider, mesh=experiment.MeshConfig(), sft=loop)
    mesh = meshes.make_mesh(devices=jax.devices()[:1])
    params = abstract.params(config, mesh)
    tx = optim.make_optimizer(config.optim, 10)
    state, shardings = abstract.state(params, tx, mesh)
    rows = abstract.packed(loop, mesh)
    with meshes.activate(mesh):
        update = traced.make_next_token(config, loop, tx, shardings)
        compiled = update.lower(state, rows).compile()
        cost, _ = program_cost.of_program(program_text.read(compiled.as_text()), {"data": 1})
        real = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (state, rows))
        flops, bandwidth = _ceilings()
        held = []

        def step():
            state, batch = jax.tree.map(jnp.copy, real)
            held.append(compiled(state, batch))
            return held.pop()

        copying = _measured(lambda: jax.tree.map(jnp.copy, real))
        measured = _measured(step) - copying
    predicted = max(cost.flops / flops, cost.hbm_bytes / bandwidth)
    assert predicted / TOLERANCE < measured < predicted * TOLERANCE
    # Memory: arguments are what lies there, to the byte but for the padding of small arrays.
    given = sum(np.asarray(x).nbytes for x in jax.tree.leaves(real))
    memory = compiled.memory_analysis()
    assert memory.argument_size_in_bytes == pytest.approx(given, rel=0.01)


def test_a_chain_is_priced_stage_by_stage():
    stages = plan_sweep.stages(_config(), "rl", None)
    assert stages == {"": (_config(), "rl", 0)}
    with pytest.raises(ValueError, match="stage=dev1: this configuration is one experiment"):
        plan_sweep.stages(_config(), "rl", "dev1")


def test_the_sweeps_meshes_use_all_chips_and_divide_the_heads():
    found = list(plan_sweep.meshes_of(_config(), 8))
    assert [(m.fsdp, m.tensor) for m in found] == [(8, 1), (4, 2)]  # two key/value heads
