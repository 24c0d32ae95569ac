"""Configuration -> mesh, tokenizer, parameters and jitted functions: the edge where jit happens."""

import dataclasses
import pathlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from r1_jax.checkpoints import folder, weights
from r1_jax.core import build, keys, types
from r1_jax.interop import convert
from r1_jax.models import config as model_config
from r1_jax.models import critic, heads, lora, transformer
from r1_jax.pipeline import adapters, experiment, pieces, relayout, shapes, traced
from r1_jax.sharding import mesh as meshes
from r1_jax.sharding import place
from r1_jax.text import dialogue
from r1_jax.text import load as text_load
from r1_jax.text import tokenizer as text_tokenizer
from r1_jax.training import actor_critic, by_length, grpo, losses, optim, ppo, supervised
from r1_jax.training import state as train_state
from r1_jax.training import step as train_step

PROJECT = pathlib.Path(__file__).parents[2]  # relative paths in a config start here


def project_path(path: str) -> pathlib.Path:
    """`path`, from the project's folder unless absolute: a config works from any directory."""
    return PROJECT / pathlib.Path(path).expanduser()


def make_mesh(
    config: experiment.MeshConfig, devices: Sequence[Any] | None = None
) -> jax.sharding.Mesh:
    """The mesh over all devices, or those given; data=0 is what the other axes leave."""
    devices = jax.devices() if devices is None else devices
    others = config.fsdp * config.tensor * config.expert * config.context
    rest = len(devices) // max(1, others)
    data = config.data or max(1, rest)  # at least 1, so that an error names the axis at fault
    further = {"expert": config.expert, "context": config.context}
    return meshes.make_mesh(data, config.fsdp, config.tensor, devices, **further)


def gap_that_counts(config: experiment.ExperimentConfig) -> None:
    """Raises ValueError where 8 bits make the sampler another policy, and the loss would not know.

    Its gap to the learner is then no rounding error: each token is weighed by it (importance_cap),
    and how large it may be is for the user to say (gap_bound, which pre-flight and loop hold to).
    """
    sampling = config.sampling
    is_float = sampling.weights == sampling.cache == "float"
    if not is_float and not config.grpo.importance_cap:
        raise ValueError(
            f"sampling.weights={sampling.weights!r} with sampling.cache={sampling.cache!r} samples "
            "from another policy than the one that learns; set grpo.importance_cap, such as 2, so "
            "that a token counts for pi / pi_sampler, at most that, and grpo.gap_bound to the gap "
            "in nats that you accept"
        )


def tokenizer_path(config: experiment.ExperimentConfig) -> pathlib.Path:
    """Where the experiment's tokenizer lies: its own path, or beside (or in) the base."""
    if config.tokenizer.path:
        return project_path(config.tokenizer.path)
    if not config.base:
        raise ValueError("tokenizer.path='' stands for the one beside base, but base='' too")
    base = project_path(config.base)
    return base / convert.THEIRS if base.is_dir() else base.with_suffix(".model")


def load_tokenizer(config: experiment.ExperimentConfig) -> text_load.Loaded:
    """The tokenizer, checked against the model, whose embedding is as high as its vocabulary, and
    against the layout: how that ends an answer must be its first stop token, which SFT teaches."""
    path = tokenizer_path(config)
    tokens = text_load.load(path, config.model.vocab_size)
    if config.layout:
        stop = dialogue.LAYOUTS[config.layout].stop
        if tokens.encode(stop) != [tokens.stop_ids[0]]:
            raise ValueError(
                f"layout={config.layout!r} ends an answer with {stop!r}, which is not the first "
                f"stop token of {path}; name it as eos_token in tokenizer_config.json, or take "
                "another layout"
            )
    return tokens


def initial_params(
    config: experiment.ExperimentConfig,
    mesh: jax.sharding.Mesh,
    tokens: text_tokenizer.Tokenizer,
) -> tuple[Any, dict[str, str]]:
    """(parameters, born sharded; digests of what they came from): the base's, or fresh ones.

    Raises ValueError when the base was made for another model or another tokenizer.
    """
    init = partial(transformer.init_boxed, config.model)
    key = keys.at(keys.root(config.seed), "init")
    boxed = jax.eval_shape(init, key)
    shardings = place.shardings(boxed, mesh)
    if not config.base:
        # On a CPU it compiles for longer than it runs, at full optimisation twice as long.
        cheaply = {"xla_backend_optimization_level": 1} if meshes.is_of_cpus() else None
        fresh = jax.jit(
            partial(transformer.init, config.model),
            out_shardings=shardings,
            compiler_options=cheaply,
        )
        return fresh(key), {}
    path = project_path(config.base)
    opened = folder.Folder(path) if path.is_dir() else None
    loaded, manifest = (None, opened.manifest) if opened else weights.load_weights(path)
    if manifest["tokenizer_digest"] != tokens.digest:
        raise ValueError(
            f"{path} was trained with tokenizer {manifest['tokenizer_digest'][:12]}, but "
            f"{tokenizer_path(config)} is {tokens.digest[:12]}; use the one it was trained with"
        )
    made_for = manifest["config"]["model"]
    wanted = build.to_dict(config.model)
    numeric = ("compute_dtype", "remat", "init_std")  # free to differ: they shape no parameter
    for name in wanted:
        # a switch younger than the base was off (False or None) when it was made
        if name not in numeric and (made_for.get(name) or None) != (wanted[name] or None):
            raise ValueError(
                f"{path} was made for model.{name}={made_for.get(name)}, the config says "
                f"{wanted[name]}; set model.{name} to the former or choose another base"
            )
    if opened:
        return opened.load(shardings), {"base": manifest["digest"]}
    params = jax.tree.map(lambda x: np.asarray(x, np.float32), loaded)
    return jax.device_put(params, shardings), {"base": manifest["digest"]}


def state_shardings(params: Any, tx, mesh: jax.sharding.Mesh) -> tuple[Any, Any]:
    """(the TrainState of `params` as shapes, its shardings): moments lie like their parameters.

    params: arrays, or shapes with shardings; nothing is allocated.
    """
    by_path = {
        jax.tree_util.keystr(path): leaf.sharding
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }

    def like(path, leaf):
        # A moment's path ends in its parameter's path.
        name = jax.tree_util.keystr(path)
        found = [s for p, s in by_path.items() if name.endswith(p)]
        return found[0] if found and leaf.ndim else place.replicated(mesh)

    shapes = jax.eval_shape(partial(train_state.create, tx=tx), params)
    return shapes, jax.tree_util.tree_map_with_path(like, shapes)


def make_state(params: Any, tx, mesh: jax.sharding.Mesh) -> tuple[train_state.TrainState, Any]:
    """(TrainState on fresh optimiser state, its shardings)."""
    _, shardings = state_shardings(params, tx, mesh)
    create = partial(train_state.create, tx=tx)
    return jax.jit(create, out_shardings=shardings)(params), shardings


def put(tree: Any, mesh: jax.sharding.Mesh) -> Any:
    """Rows of `tree`, which every host has, on the mesh's data axes; arrays on devices stay."""
    spec = place.batch_sharding(mesh).spec

    def one(x):
        return x if isinstance(x, jax.Array) else place.from_host(x, mesh, spec)

    return jax.tree.map(one, tree)


def make_generate(
    config: experiment.ExperimentConfig,
    mesh: jax.sharding.Mesh,
    tokens: text_tokenizer.Tokenizer,
    group_size: int,
    *,
    keep_routing: bool = False,
    frozen: lora.Frozen | None = None,
):
    """generate(params, host PromptBatch, key, step, limit), compiled at its first call.

    frozen: what params are adapters of, if they are.
    """
    compiled = traced.make_generate(
        config,
        group_size,
        stop_ids=tokens.stop_ids,
        pad_id=tokens.pad_id,
        keep_routing=keep_routing,
    )
    relaid = relayout.make_relayout(config.model, config.sampling.weights)

    def generate(params, batch: types.PromptBatch, key, step: int, limit: int) -> types.Rollouts:
        whole = relaid(lora.join(frozen, params))
        return compiled(whole, put(batch, mesh), key, np.int32(step), np.asarray(limit, np.int32))

    return generate


def make_programs(
    config: experiment.ExperimentConfig,
    mesh: jax.sharding.Mesh,
    tokens: text_tokenizer.Tokenizer,
    tx,
    shardings: Any,
    reference_model: model_config.ModelConfig | None = None,
    frozen: lora.Frozen | None = None,
) -> grpo.Programs:
    """The loop's jitted functions; `shardings` of the state, so that it never moves.

    With config.ppo the update is of policy and critic. reference_model: where it is not the
    policy's own. frozen: what parameters, also of its reference, are adapters of, if they are.
    """
    shapes.rows_that_split(config, mesh)
    gap_that_counts(config)
    replay = config.replays_routing
    of_reference = None if reference_model else frozen
    cfg = config.grpo
    lengths, shared = shapes.of(config).lengths, shapes.of(config).shared

    def make_logps(model: model_config.ModelConfig):
        score, num_pieces = traced.make_score(config, model), cfg.num_minibatches
        num_pieces *= cfg.num_microbatches
        group = pieces.group_that_shares(config, mesh, model)
        return pieces.make_logps(
            score, mesh, num_pieces, lengths, group_size=group, shared_lengths=shared
        )

    def scored(logps, params, rollouts, *, replay: bool):
        rows = by_length.Rows.of(rollouts, replay=replay)
        return logps(params, put(rows, mesh), by_length.Filled.of(rows))

    logps = make_logps(config.model)
    reference_logps = make_logps(reference_model) if reference_model else logps
    parts = traced.make_parts(config, tx)
    group = 1 if config.ppo else pieces.group_that_shares(config, mesh, config.model)
    update = pieces.make_update(
        parts,
        mesh,
        shardings,
        cfg.num_microbatches,
        lengths,
        group_size=group,
        shared_lengths=shared,
    )
    return grpo.Programs(
        generate=make_generate(
            config, mesh, tokens, config.grpo.group_size, keep_routing=replay, frozen=frozen
        ),
        logps=lambda params, rollouts: scored(
            logps, lora.join(frozen, params), rollouts, replay=replay
        ),
        reference_logps=lambda params, rollouts: scored(
            reference_logps, lora.join(of_reference, params), rollouts, replay=False
        ),
        update=lambda state, batch, order: update(
            state, put(batch, mesh), by_length.Filled.of(batch), np.asarray(order), frozen
        ),
        mix=traced.make_mix(config, shardings),
    )


def make_critic(config: experiment.ExperimentConfig, mesh: jax.sharding.Mesh) -> ppo.Critic:
    """The functions of PPO's loop that GRPO's does not have, jitted."""
    assert config.ppo is not None
    cfg = config.grpo
    values = pieces.make_logps(
        lambda params, rows, shared: critic.values(config.model, params, rows.tokens_BT),
        mesh,
        cfg.num_minibatches * cfg.num_microbatches,
        shapes.of(config).lengths,
    )
    traced_batch = jax.jit(actor_critic.make_batch(config.grpo, config.ppo))

    def batch(rollouts, reward_B, include_B, *rest):
        mine = put((rollouts, np.asarray(reward_B), np.asarray(include_B)), mesh)
        return traced_batch(*mine, *rest)

    def of_rollouts(params, rollouts):
        rows = by_length.Rows.of(rollouts)
        return values(params, put(rows, mesh), by_length.Filled.of(rows))

    return ppo.Critic(values=of_rollouts, batch=batch)


def make_supervised_update(
    config: experiment.ExperimentConfig,
    loop: supervised.SupervisedConfig,
    tokens: text_tokenizer.Tokenizer,
    tx,
    shardings,
    frozen: lora.Frozen | None = None,
):
    """update(state, Packed) of next-token training, jitted; `shardings` of the state.

    With loop.teacher also of that policy's distributions. Its weights, and `frozen` ones of which
    the state's are adapters, are arguments of the traced function and no part of it. Raises
    ValueError for a teacher with another tokenizer.
    """
    mesh = shardings.step.mesh
    for name in ("balance_coef", "bias_rate"):
        if getattr(loop, name) and (config.model.experts is None or loop.teacher):
            raise ValueError(
                f"{name}={getattr(loop, name)} would change nothing: it is of a model with experts "
                "that learns from tokens (model.experts is None, or a teacher is set); use 0"
            )
    if loop.mtp_schedule and (not config.model.mtp_layers or loop.teacher):
        raise ValueError(
            f"mtp_schedule={loop.mtp_schedule} would change nothing: it is of a model with "
            "model.mtp_layers=1 that learns from tokens; use ()"
        )
    if not loop.teacher:
        by_tokens = traced.make_next_token(config, loop, tx, shardings)
        return lambda state, batch: by_tokens(state, batch, frozen)
    out = (shardings, place.replicated(mesh))
    model, teacher, _ = load_teacher(loop.teacher, mesh, tokens)

    def update_by(state, batch, frozen, teacher):
        loss = losses.make_distillation(
            config.model,
            model,
            teacher,
            weight=loop.teacher_weight,
            temperature=loop.teacher_temperature,
        )
        beside = adapters.beside(frozen, loss)
        update = train_step.make_update(beside, tx, num_microbatches=loop.num_microbatches)
        return update(state, batch)

    compiled = jax.jit(update_by, donate_argnums=0, out_shardings=out)
    return lambda state, batch: compiled(state, batch, frozen, teacher)


def load_teacher(
    path: str, mesh: jax.sharding.Mesh, tokens: text_tokenizer.Tokenizer
) -> tuple[model_config.ModelConfig, Any, str]:
    """(model, parameters on the mesh, digest) of a policy to learn from, of any size.

    Raises ValueError for one with another tokenizer than the student's.
    """
    loaded, manifest = weights.load_weights(project_path(path))
    if manifest["tokenizer_digest"] != tokens.digest:
        raise ValueError(
            f"teacher={path} speaks tokenizer {manifest['tokenizer_digest'][:12]}, the "
            f"student {tokens.digest[:12]}; distributions can be compared over one vocabulary alone"
        )
    model = build.build(model_config.ModelConfig, manifest["config"]["model"])
    boxed = jax.eval_shape(partial(transformer.init_boxed, model), keys.root(0))
    return model, jax.device_put(loaded, place.shardings(boxed, mesh)), manifest["digest"]


@dataclasses.dataclass(frozen=True)
class Setup:
    """What every stage starts from."""

    mesh: jax.sharding.Mesh
    tokens: text_load.Loaded
    tx: Any
    state: Any  # TrainState; with a critic added, actor_critic.State
    shardings: Any
    parents: dict[str, str]
    frozen: lora.Frozen | None = None  # with config.lora: what the state's adapters stand beside


def setup(config: experiment.ExperimentConfig, num_steps: int) -> Setup:
    """Mesh, tokenizer and a TrainState for a run of num_steps updates. Enter its mesh to use it."""
    mesh = make_mesh(config.mesh)
    tokens = load_tokenizer(config)
    with meshes.activate(mesh):
        params, parents = initial_params(config, mesh, tokens)
        frozen = None
        if config.lora is not None:
            frozen, params = adapters.begin(config, config.lora, params, mesh)
        tx = optim.make_optimizer(config.optim, num_steps)
        state, shardings = make_state(params, tx, mesh)
    parents |= {"tokenizer": tokens.digest}
    return Setup(mesh, tokens, tx, state, shardings, parents, frozen)


def add_critic(config: experiment.ExperimentConfig, stage: Setup) -> Setup:
    """`stage` itself for GRPO; for PPO with a critic beside the policy, begun from its weights."""
    if config.ppo is None:
        return stage
    with meshes.activate(stage.mesh):
        boxed = jax.eval_shape(lambda: {"scalar": heads.init_scalar_boxed(config.model)})
        params = critic.from_policy(config.model, stage.state.params)
        head = jax.device_put({"scalar": params["scalar"]}, place.shardings(boxed, stage.mesh))
        state, shardings = make_state(params | head, traced.critic_optimizer(config), stage.mesh)
    return dataclasses.replace(
        stage,
        state=actor_critic.State(stage.state, state),
        shardings=actor_critic.State(stage.shardings, shardings),
    )
