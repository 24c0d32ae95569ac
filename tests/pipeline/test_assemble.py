"""Configuration to mesh, tokenizer, parameters and programs; what does not fit is named."""

import dataclasses
import json
import shutil
import types as python_types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from r1_jax.checkpoints import folder as weights_folder
from r1_jax.checkpoints import weights
from r1_jax.core import build, keys, masked, trees, types
from r1_jax.data import packing
from r1_jax.data.tasks import task as tasks
from r1_jax.interop import convert
from r1_jax.models import config as model_config
from r1_jax.models import scoring, transformer
from r1_jax.pipeline import assemble, experiment, r1_zero, shapes, traced
from r1_jax.rl import diagnostics
from r1_jax.sampling import logits as sampling_logits
from r1_jax.sharding import mesh as meshes
from r1_jax.sharding import place
from r1_jax.text import hf_tokenizer
from r1_jax.text import tokenizer as text_tokenizer
from r1_jax.training import by_length, grpo, losses, optim, rollout, supervised
from tests.interop import tiny

MODEL = {
    "vocab_size": 300, "num_layers": 1, "embed_dim": 16, "num_heads": 2, "num_kv_heads": 2,
    "head_dim": 8, "mlp_dim": 16,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with two tokenizers and the weights of a base, base.safetensors."""
    folder = tmp_path_factory.mktemp("base")
    texts = ["the quick brown fox jumps over the lazy dog " * 3, "pack my box with five dozen jugs"]
    tokens = text_tokenizer.train_sentencepiece(texts, folder / "base.model", 300)
    others = ["sphinx of black quartz judge my vow " * 3, "how vexingly quick daft zebras jump"]
    text_tokenizer.train_sentencepiece(others, folder / "other.model", 300)
    config = _config(base="")
    params = transformer.init(config.model, keys.root(5))
    manifest = {
        "commit": "c", "config": build.to_dict(config), "seed": 5, "tokenizer_digest": tokens.digest
    }  # fmt: skip
    weights.save_weights(folder / "base.safetensors", params, manifest)
    return folder


def _config(**changes) -> experiment.ExperimentConfig:
    mapping = {"model": MODEL}
    for name, value in changes.items():
        mapping = build.merge(mapping, name.replace("__", "."), value)
    return build.build(experiment.ExperimentConfig, mapping)


def _base(folder, **changes):
    return _config(base=str(folder / "base.safetensors"), **changes)


# --- meshes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "shape"),
    [
        ({}, (8, 1, 1)),
        ({"fsdp": 2}, (4, 2, 1)),
        ({"tensor": 4}, (2, 1, 4)),
        ({"data": 2, "fsdp": 2, "tensor": 2}, (2, 2, 2)),
    ],
)
def test_data_takes_what_the_other_axes_leave(sizes, shape):
    mesh = assemble.make_mesh(experiment.MeshConfig(**sizes))
    assert tuple(mesh.shape[axis] for axis in ("data", "fsdp", "tensor")) == shape


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (
            {"tensor": 3},
            r"data=2\*fsdp=1\*tensor=3 makes 6 devices, but there are 8; use data=2 ",
        ),
        ({"tensor": 16}, r"tensor=16 makes 16 devices, but there are 8; use"),
        ({"data": 5}, r"data=5\*fsdp=1\*tensor=1 makes 5 devices, but there are 8; use data=8"),
        ({"fsdp": 0}, "mesh axis fsdp=0 must be at least 1"),
        ({"tensor": -2}, "mesh axis tensor=-2 must be at least 1"),
    ],
)
def test_an_impossible_mesh_is_named_with_one_that_works(sizes, message):
    with pytest.raises(ValueError, match=message):
        assemble.make_mesh(experiment.MeshConfig(**sizes))


def test_a_model_that_does_not_split_over_the_mesh_is_named(folder):
    config = _config(tokenizer__path=str(folder / "base.model"), mesh__tensor=4)
    with pytest.raises(
        ValueError, match=r"dimension 'act_heads' of size 2 does not divide over tensor=4"
    ):
        assemble.setup(config, 1)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"grpo__prompts_per_rollout": 12}, "grpo.prompts_per_rollout=12"),
        ({"sampling__num_slots": 4}, "sampling.num_slots=4"),
        ({"grpo__num_microbatches": 8}, "group_size / num_minibatches / num_microbatches=4"),
        ({}, None),
        ({"mesh__tensor": 2, "sampling__num_slots": 4}, None),
    ],
)
def test_rows_that_do_not_split_over_the_mesh_are_named(changes, name):
    config = _config(
        **{"grpo__prompts_per_rollout": 8, "grpo__group_size": 4, "grpo__num_minibatches": 1}
        | changes
    )
    mesh = assemble.make_mesh(config.mesh)
    if name is None:
        shapes.rows_that_split(config, mesh)
        return
    with pytest.raises(ValueError, match=rf"{name} does not split over data\*fsdp=8 .*multiple"):
        shapes.rows_that_split(config, mesh)


# --- tokenizers ---------------------------------------------------------------------------------


def test_the_tokenizer_lies_beside_the_base_unless_a_path_is_given(folder):
    assert assemble.tokenizer_path(_base(folder)) == folder / "base.model"
    other = _base(folder, tokenizer__path=str(folder / "other.model"))
    assert assemble.tokenizer_path(other) == folder / "other.model"
    relative = _config(tokenizer__path="bases/x.model")
    assert assemble.tokenizer_path(relative) == assemble.PROJECT / "bases" / "x.model"
    with pytest.raises(ValueError, match=r"tokenizer.path='' stands for the one beside base, but"):
        assemble.tokenizer_path(_config())


def test_a_vocabulary_that_is_not_the_tokenizer_s_is_named(folder):
    with pytest.raises(ValueError, match=r"vocab_size=99, .*/base.model has 300 pieces; give"):
        assemble.load_tokenizer(_base(folder, model__vocab_size=99))
    with pytest.raises(ValueError, match="cannot be read"):
        assemble.load_tokenizer(_base(folder, tokenizer__path=str(folder / "no.model")))


# --- parameters ---------------------------------------------------------------------------------


def test_a_base_is_loaded_to_the_bit_and_placed(folder):
    config = _base(folder, mesh__fsdp=2, mesh__tensor=2)
    stage = assemble.setup(config, 10)
    expected, manifest = weights.load_weights(folder / "base.safetensors")
    assert trees.digest(stage.state.params) == trees.digest(expected)
    assert stage.parents == {"base": manifest["digest"], "tokenizer": stage.tokens.digest}
    up = stage.state.params["layers"]["block"]["mlp"]["up"]["kernel"]
    assert up.sharding.spec == jax.P(None, "fsdp", "tensor")
    # The optimiser's moments lie like their parameters; scalars everywhere.
    for name, leaf in trees.paths(stage.state.opt_state).items():
        if "mlp/up" in name:
            assert leaf.sharding.is_equivalent_to(up.sharding, leaf.ndim), name
    assert sum("mlp/up" in name for name in trees.paths(stage.state.opt_state)) == 2
    assert stage.state.step.sharding.is_fully_replicated


def test_without_a_base_the_start_is_a_function_of_the_seed(folder):
    path = str(folder / "base.model")
    digests = [
        trees.digest(assemble.setup(_config(tokenizer__path=path, seed=seed), 1).state.params)
        for seed in (0, 0, 1)
    ]
    assert digests[0] == digests[1] != digests[2]


def test_a_missing_base_is_an_error(folder):
    path = str(folder / "base.model")
    with pytest.raises(ValueError, match=r"no.safetensors: no weights there; .*make base"):
        assemble.setup(_config(base=str(folder / "no.safetensors"), tokenizer__path=path), 1)


def test_a_base_of_another_tokenizer_is_refused(folder):
    config = _base(folder, tokenizer__path=str(folder / "other.model"))
    with pytest.raises(ValueError, match="use the one it was trained with"):
        assemble.setup(config, 1)


@pytest.mark.parametrize(
    ("name", "value"), [("mlp_dim", 32), ("num_layers", 2), ("qkv_bias", False)]
)
def test_a_base_of_another_model_is_refused(name, value, folder):
    with pytest.raises(
        ValueError, match=rf"model.{name}=\S+ the config says {value}; set model.{name}"
    ):
        assemble.setup(_base(folder, **{f"model__{name}": value}), 1)


def test_numerics_may_differ_from_the_base_s(folder):
    free = {"model__compute_dtype": "bfloat16", "model__remat": "full", "model__init_std": 0.5}
    params = assemble.setup(_base(folder, **free), 1).state.params
    expected, _ = weights.load_weights(folder / "base.safetensors")
    assert trees.digest(params) == trees.digest(expected)


def test_a_base_from_before_a_model_switch_existed_is_refused_by_name(folder, tmp_path):
    params, manifest = weights.load_weights(folder / "base.safetensors")
    manifest["config"] = json.loads(json.dumps(manifest["config"]))
    del manifest["config"]["model"]["qkv_bias"]
    weights.save_weights(tmp_path / "base.safetensors", params, manifest)
    config = _base(tmp_path, tokenizer__path=str(folder / "base.model"))
    with pytest.raises(ValueError, match=r"model.qkv_bias=None, the config says True"):
        assemble.setup(config, 1)


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """(a folder of `convert`, the configuration to start there)."""
    folder = tmp_path_factory.mktemp("converted")
    tiny.qwen2(folder / "hf", tied=False)
    manifest = convert.from_hf(folder / "hf", folder / "base")
    return folder / "base", {"model": manifest["config"]["model"], "base": str(folder / "base")}


def test_a_folder_of_convert_is_a_base_with_its_tokenizer_inside(converted):
    path, mapping = converted
    config = build.build(experiment.ExperimentConfig, mapping | {"mesh": {"fsdp": 2}})
    stage = assemble.setup(config, 10)
    assert isinstance(stage.tokens, hf_tokenizer.HuggingFaceTokenizer)
    assert (stage.tokens.vocab_size, stage.tokens.stop_ids) == (301, (2, 0))
    opened = weights_folder.Folder(path)
    assert stage.parents["base"] == opened.manifest["digest"]
    for name, x in trees.paths(stage.state.params).items():
        assert x.dtype == jnp.float32
        np.testing.assert_array_equal(np.asarray(x), opened.read(name).astype(np.float32))
    kernel = stage.state.params["layers"]["block"]["mlp"]["gate"]["kernel"]
    assert kernel.sharding.spec == jax.P(None, "fsdp", "tensor")


def test_a_folder_of_another_model_or_tokenizer_is_refused(converted):
    path, mapping = converted
    other = build.merge(mapping, "model.num_layers", 2)
    with pytest.raises(
        ValueError, match=r"base was made for model\.num_layers=3, the config says 2"
    ):
        assemble.setup(build.build(experiment.ExperimentConfig, other), 10)
    own = json.loads((path / convert.THEIRS / "generation_config.json").read_text())
    elsewhere = path.parent / "elsewhere"
    shutil.copytree(path / convert.THEIRS, elsewhere)
    own["eos_token_id"] = [2]
    (elsewhere / "generation_config.json").write_text(json.dumps(own))
    other = build.merge(mapping, "tokenizer.path", str(elsewhere))
    with pytest.raises(ValueError, match="base was trained with tokenizer"):
        assemble.setup(build.build(experiment.ExperimentConfig, other), 10)


# --- the critic ---------------------------------------------------------------------------------


def test_without_ppo_there_is_no_critic(folder):
    stage = assemble.setup(_base(folder), 1)
    assert assemble.add_critic(_base(folder), stage) is stage


def test_a_critic_begins_as_the_policy_and_is_placed_as_it(folder):
    config = _base(folder, mesh__fsdp=2, mesh__tensor=2, ppo__learning_rate=0.5)
    alone = assemble.setup(config, 10)
    stage = assemble.add_critic(config, alone)
    policy, critic = stage.state.policy, stage.state.critic
    assert policy is alone.state and stage.state.params is policy.params
    read = {name: leaf for name, leaf in policy.params.items() if name != "head"}
    assert trees.digest(critic.params["transformer"]) == trees.digest(read)
    assert not np.any(critic.params["scalar"]["kernel"])
    assert critic.params["scalar"]["kernel"].sharding.spec == jax.P("fsdp")
    ups = [
        p["layers"]["block"]["mlp"]["up"]["kernel"] for p in (read, critic.params["transformer"])
    ]
    assert ups[0].sharding == ups[1].sharding
    pointers = [up.addressable_shards[0].data.unsafe_buffer_pointer() for up in ups]
    assert pointers[0] != pointers[1]  # an update donates both
    placed = jax.tree.map(
        lambda x, s: x.sharding.is_equivalent_to(s, x.ndim), stage.state, stage.shardings
    )
    assert jax.tree.all(placed)


def test_the_critic_has_a_learning_rate_of_its_own(folder):
    config = _base(folder, optim__learning_rate=0.25, ppo__learning_rate=0.5)
    tx = traced.critic_optimizer(config)
    params = {"w": jnp.array(0.0)}
    updates, _ = tx.update({"w": jnp.array(0.1)}, tx.init(params), params)
    assert float(updates["w"]) == pytest.approx(-0.5, rel=1e-4)  # Adam's first step is its rate


def _speaking(first, second):
    """A byte tokenizer whose two stop tokens, and nothing else, are read as one token."""
    named = {first: 257, second: 258}
    return python_types.SimpleNamespace(
        stop_ids=(257, 258), encode=lambda text: [named[text]] if text in named else list(b"..")
    )


def test_a_layout_renders_prompts_and_its_stop_token_is_the_tokenizer_s_first(monkeypatch):
    config = _config(layout="qwen", tokenizer__path="t.json")
    asked = r1_zero.render(config, "1+1?", [("0+1?", "1")])
    assert asked.endswith(
        "<|im_start|>user\n0+1?<|im_end|>\n<|im_start|>assistant\n1<|im_end|>\n"
        "<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n"
    )
    batch = r1_zero.encode(
        _config(layout="qwen", grpo__max_prompt=300),
        text_tokenizer.ByteTokenizer(),
        [tasks.Prompt(3, "1+1?", "2")],
    )
    text = r1_zero.render(config, "1+1?")
    assert batch.length_P.tolist() == [len(text)] and "User:" not in text
    loaded = _speaking("<|im_end|>", "<|endoftext|>")
    monkeypatch.setattr(assemble.text_load, "load", lambda path, vocab_size: loaded)
    assert assemble.load_tokenizer(config) is loaded
    loaded = _speaking("<|endoftext|>", "<|im_end|>")
    with pytest.raises(ValueError, match=r"layout='qwen' ends .*'<\|im_end\|>', which is not the"):
        assemble.load_tokenizer(config)
    assert assemble.load_tokenizer(dataclasses.replace(config, layout=None)) is loaded


# --- programs -----------------------------------------------------------------------------------


@pytest.fixture
def toy_programs(monkeypatch):
    """(make_programs on parameters {"w"}, what the loss was made of and called with)."""
    seen = python_types.SimpleNamespace(rows=[])

    def make_policy(model, config, **given):
        seen.made = given

        def loss(params, batch):
            seen.rows.append(batch["x"].shape[0])
            total = losses.types.WeightedSum(
                jnp.sum(params["w"] * batch["x"]), jnp.float32(batch["x"].shape[0])
            )
            return losses.step.LossOutput(total, {}, {}, {})

        return loss

    monkeypatch.setattr(losses, "make_policy", make_policy)
    ones = by_length.Filled(np.ones(16, np.int32), np.ones(16, np.int32))
    monkeypatch.setattr(assemble.by_length.Filled, "of", lambda batch: ones)
    mesh = meshes.make_mesh(data=8)
    tx = optim.make_optimizer(optim.OptimConfig(learning_rate=0.1), 1)

    def make(**changes):
        config = _config(
            grpo={"prompts_per_rollout": 8, "group_size": 4, "num_minibatches": 1, **changes}
        )
        with meshes.activate(mesh):
            state, shardings = assemble.make_state({"w": jax.device_put(1.0)}, tx, mesh)
        programs = assemble.make_programs(
            config, mesh, text_tokenizer.ByteTokenizer(), tx, shardings
        )
        return programs, state, mesh

    return make, seen


def test_the_update_is_cut_into_microbatches_and_donates_its_state(toy_programs):
    make, seen = toy_programs
    programs, state, mesh = make(num_microbatches=2)
    with meshes.activate(mesh):
        new, row = programs.update(state, {"x": np.ones(16, np.float32)}, np.arange(16))
    assert set(seen.rows) == {8}
    assert state.params["w"].is_deleted() and float(row["gradient/norm"]) == 1.0
    assert float(new.params["w"]) == pytest.approx(0.9)


def test_the_reference_is_mixed_as_configured(toy_programs):
    make, _ = toy_programs
    for mix, expected in ((1.0, 5.0), (0.25, 2.0)):
        programs, _, mesh = make(reference_mix=mix)
        with meshes.activate(mesh):
            mixed = programs.mix({"w": jnp.float32(1.0)}, {"w": jnp.float32(5.0)})
        assert float(mixed["w"]) == expected


def test_moments_of_any_optimiser_lie_like_their_parameters():
    mesh = meshes.make_mesh(data=4, tensor=2)
    sharding = jax.NamedSharding(mesh, jax.P("tensor"))
    params = {
        "a": {"w": jax.device_put(jnp.ones(4), sharding)},
        "b": jax.device_put(jnp.ones(3), place.replicated(mesh)),
    }
    state, shardings = assemble.make_state(params, optax.sgd(0.1, momentum=0.9), mesh)
    assert state.opt_state[0].trace["a"]["w"].sharding.is_equivalent_to(sharding, 1)
    assert shardings.params["a"]["w"] == sharding
    assert dataclasses.is_dataclass(shardings)


def test_a_teacher_is_learnt_from_and_one_with_another_vocabulary_is_refused(folder):
    config = _base(folder, mesh__fsdp=2)
    stage = assemble.setup(config, 1)
    loop = supervised.SupervisedConfig(
        batch_rows=8, row_length=16, teacher=config.base, teacher_weight=0.5
    )
    rows = packing.pack(
        [list(range(3, 15)) for _ in range(8)], row_length=16, pad_id=stage.tokens.pad_id
    )
    with meshes.activate(stage.mesh):
        update = assemble.make_supervised_update(
            config, loop, stage.tokens, stage.tx, stage.shardings
        )
        plain = assemble.make_supervised_update(
            config, dataclasses.replace(loop, teacher=""), stage.tokens, stage.tx, stage.shardings
        )
        other = jax.tree.map(lambda x: x.copy(), stage.state)
        _, metrics = update(stage.state, assemble.put(rows, stage.mesh))
        _, alone = plain(other, assemble.put(rows, stage.mesh))
    assert abs(float(metrics["teacher/divergence"])) < 1e-5  # it is its own teacher
    assert float(metrics["loss"]) == pytest.approx(0.5 * float(alone["loss"]), rel=1e-4)
    stranger = text_tokenizer.SentencePieceTokenizer(folder / "other.model")
    with pytest.raises(ValueError, match="over one vocabulary alone"):
        assemble.make_supervised_update(config, loop, stranger, stage.tx, stage.shardings)


def test_a_teacher_of_another_size_scores_as_the_reference(folder):
    config = _base(folder, grpo__num_minibatches=1, grpo__prompts_per_rollout=4,
                   grpo__group_size=2, grpo__max_prompt=8, grpo__max_response=8,
                   mesh__fsdp=2, mesh__tensor=2)  # fmt: skip
    bigger = build.build(model_config.ModelConfig, MODEL | {"num_layers": 2, "mlp_dim": 24})
    record = {"commit": "c", "config": {"model": build.to_dict(bigger)}, "seed": 6}
    stage = assemble.setup(config, 1)
    record["tokenizer_digest"] = stage.tokens.digest
    params = transformer.init(bigger, keys.root(6))
    weights.save_weights(folder / "bigger.safetensors", params, record)
    tokens_BT = np.arange(8 * 16, dtype=np.int32).reshape(8, 16) % 300
    tokens_BT[1::2, :8] = tokens_BT[::2, :8]  # a prompt's two completions
    lengths_B = np.full(8, 8, np.int32)
    rows = by_length.Rows(tokens_BT, lengths_B, lengths_B)
    with meshes.activate(stage.mesh):
        model, teacher, _ = assemble.load_teacher(
            str(folder / "bigger.safetensors"), stage.mesh, stage.tokens
        )
        programs = assemble.make_programs(
            config, stage.mesh, stage.tokens, stage.tx, stage.shardings, model
        )
        found_BT = programs.reference_logps(teacher, rows)
        expected_BT, _ = scoring.token_scores(
            bigger, params, jnp.asarray(tokens_BT), adjust=lambda logits: logits
        )
        ours_BT = programs.logps(stage.state.params, rows)
    np.testing.assert_allclose(found_BT[:, 8:], expected_BT[:, 8:], rtol=1e-4, atol=1e-5)
    assert np.abs(np.asarray(ours_BT) - np.asarray(found_BT))[:, 8:].max() > 0.05


def test_a_sampler_in_8_bits_is_refused_unless_the_loss_weighs_its_gap(folder):
    config = _base(
        folder, mesh={"data": 1, "tensor": 2, "fsdp": 4},
        sampling={"weights": "int8", "cache": "int8"},
        grpo={"num_minibatches": 1, "prompts_per_rollout": 8, "group_size": 2, "max_prompt": 4,
              "max_response": 4, "kl_coef": 0.0, "importance_cap": 2.0},
    )  # fmt: skip
    stage = assemble.setup(config, 1)
    of_stage = stage.mesh, stage.tokens, stage.tx, stage.shardings
    unweighed = dataclasses.replace(config.grpo, importance_cap=0.0)
    for name in ("weights", "cache"):
        sampling = sampling_logits.SamplingConfig(**{name: "int8"})
        with pytest.raises(ValueError, match=rf"sampling.{name}='int8'.* grpo.importance_cap"):
            assemble.make_programs(
                dataclasses.replace(config, grpo=unweighed, sampling=sampling), *of_stage
            )
    programs = assemble.make_programs(config, *of_stage)
    prompts = types.PromptBatch(
        np.arange(32, dtype=np.int32).reshape(8, 4) + 9,
        np.full(8, 4, np.int32),
        np.arange(8, dtype=np.int32),
    )
    with meshes.activate(stage.mesh):
        wider = jax.tree.map(lambda x: 4 * x, stage.state.params)  # so that rounding is seen
        rollouts = programs.generate(wider, prompts, jax.random.key(0), 0, 4)
        logps_BT, rollouts = place.to_host((programs.logps(wider, rollouts), rollouts))
    mask_BT = masked.completion_mask(rollouts.prompt_length_B, rollouts.length_B, 8)
    gap = float(diagnostics.gap_max(logps_BT, rollouts.logps_BT, mask_BT))
    assert 1e-3 < gap < 0.5
    with pytest.raises(grpo.GapError, match="or the sampler has 8 bits"):
        grpo.check_gap(dataclasses.replace(config.grpo, gap_bound=1e-3), 0, gap)


def test_replay_routing_trains_tokens_with_the_experts_that_the_sampler_chose(folder):
    routed = {"num_routed": 4, "num_chosen": 2, "dim": 8, "first_dense": 0, "scoring": "softmax",
              "num_groups": 1, "groups_kept": 1}  # fmt: skip
    config = _config(
        base="", tokenizer__path=str(folder / "base.model"), model__experts=routed,
        grpo={"num_minibatches": 1, "prompts_per_rollout": 8, "group_size": 2, "max_prompt": 4,
              "max_response": 4, "kl_coef": 0.0},
    )  # fmt: skip
    assert config.replays_routing and not _config().replays_routing  # unless it is told
    told = build.merge({"model": MODEL}, "grpo.replay_routing", True)
    assert build.build(experiment.ExperimentConfig, told).replays_routing
    stage = assemble.setup(config, 1)
    programs = assemble.make_programs(config, stage.mesh, stage.tokens, stage.tx, stage.shardings)
    wider = jax.tree.map(lambda x: 8 * x, stage.state.params)  # so that experts differ
    prompts = types.PromptBatch(
        np.arange(32, dtype=np.int32).reshape(8, 4) + 9,
        np.full(8, 4, np.int32),
        np.arange(8, dtype=np.int32),
    )
    with meshes.activate(stage.mesh):
        rollouts = place.to_host(programs.generate(wider, prompts, jax.random.key(0), 0, 4))
        assert rollouts.chosen_BTLX is not None
        elsewhere = np.roll(rollouts.chosen_BTLX, 1, axis=0)  # what other rows chose
        assert (elsewhere != rollouts.chosen_BTLX).mean() > 0.3

        def gap_when_trained_with(chosen_BTLX):
            scores = types.Scores(
                np.arange(16, dtype=np.float32), {}, np.zeros(16), np.ones(16, bool)
            )
            of_them = dataclasses.replace(rollouts, chosen_BTLX=chosen_BTLX)
            batch, _ = rollout.policy_batch(config.grpo, of_them, scores, None, None, 4)
            state = dataclasses.replace(stage.state, params=wider)
            return float(
                programs.update(jax.tree.map(jnp.copy, state), batch, np.arange(16))[1]["gap"]
            )

        assert gap_when_trained_with(rollouts.chosen_BTLX) < 1e-4
        assert gap_when_trained_with(elsewhere) > 0.01


def test_a_step_over_positions_split_is_the_step_of_rows_split(folder):
    found = []
    for sizes in ({"fsdp": 8}, {"fsdp": 2, "tensor": 2, "context": 2}):
        config = _base(
            folder, mesh=sizes, optim={"learning_rate": 1.0, "epsilon": 1.0},  # as good as SGD
            grpo={"num_minibatches": 1, "prompts_per_rollout": 8, "group_size": 2, "kl_coef": 0.1,
                  "max_prompt": 4, "max_response": 11, "truncated": "soft_penalty",
                  "overlong_buffer": 4},
        )  # fmt: skip
        stage = assemble.setup(config, 1)
        programs = assemble.make_programs(
            config, stage.mesh, stage.tokens, stage.tx, stage.shardings
        )
        prompts = types.PromptBatch(
            np.arange(32, dtype=np.int32).reshape(8, 4) + 9,
            np.full(8, 4, np.int32),
            np.arange(8, dtype=np.int32),
        )
        with meshes.activate(stage.mesh):
            params = jax.tree.map(lambda x: 3 * x, stage.state.params)
            before = trees.paths(place.to_host(params))
            sampled = programs.generate(params, prompts, jax.random.key(0), 0, 11)
            logps_BT = programs.reference_logps(params, sampled)
            rollouts, logps_BT = place.to_host((sampled, logps_BT))
            scores = types.Scores(
                np.arange(16, dtype=np.float32) % 3, {}, np.zeros(16), np.ones(16, bool)
            )
            batch, _ = rollout.policy_batch(config.grpo, rollouts, scores, logps_BT, None, 11)
            state = dataclasses.replace(stage.state, params=params)
            state, metrics = programs.update(state, batch, np.arange(16))
            after = trees.paths(place.to_host(state.params))
        found.append((rollouts.tokens_BT, logps_BT, after))
        assert float(metrics["gap"]) < 1e-4
        assert max(np.abs(after[path] - before[path]).max() for path in after) > 0.05
    (tokens, logps, params), (split_tokens, split_logps, split_params) = found
    np.testing.assert_array_equal(split_tokens, tokens)
    np.testing.assert_allclose(split_logps, logps, atol=1e-5)
    for path, x in params.items():
        np.testing.assert_allclose(split_params[path], x, atol=1e-5, err_msg=path)
