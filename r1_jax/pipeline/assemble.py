"""Configuration -> mesh, tokenizer, parameters and jitted functions: the edge where jit happens."""

import dataclasses
import pathlib
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from r1_jax.checkpoints import folder, weights
from r1_jax.core import build, keys, types
from r1_jax.interop import convert
from r1_jax.models import config as model_config
from r1_jax.models import critic, heads, scoring, transformer
from r1_jax.pipeline import experiment
from r1_jax.sampling import generate as sampling_generate
from r1_jax.sampling import logits as sampling_logits
from r1_jax.sharding import mesh as meshes
from r1_jax.sharding import place
from r1_jax.text import load as text_load
from r1_jax.text import tokenizer as text_tokenizer
from r1_jax.training import actor_critic, by_length, grpo, losses, optim, ppo, router, supervised
from r1_jax.training import state as train_state
from r1_jax.training import step as train_step

PROJECT = pathlib.Path(__file__).parents[2]  # relative paths in a config start here


def project_path(path: str) -> pathlib.Path:
    """`path`, from the project's folder unless absolute: a config works from any directory."""
    return PROJECT / pathlib.Path(path).expanduser()


def make_mesh(config: experiment.MeshConfig) -> jax.sharding.Mesh:
    """The mesh over all devices; data=0 is what the other axes leave."""
    rest = jax.device_count() // max(1, config.fsdp * config.tensor * config.expert)
    data = config.data or max(1, rest)  # at least 1, so that an error names the axis at fault
    return meshes.make_mesh(data=data, fsdp=config.fsdp, tensor=config.tensor, expert=config.expert)


def rows_that_split(config: experiment.ExperimentConfig, mesh: jax.sharding.Mesh) -> None:
    """Raises ValueError for batches of RL that do not split over the mesh's batch axes."""
    ways = mesh.shape["data"] * mesh.shape["fsdp"] * mesh.shape.get("expert", 1)
    cfg = config.grpo
    num_rows = cfg.prompts_per_rollout * cfg.group_size
    pieces = cfg.num_minibatches * cfg.num_microbatches
    slots = min(config.sampling.num_slots or num_rows, num_rows)
    for name, size in (
        ("grpo.prompts_per_rollout", cfg.prompts_per_rollout),
        ("sampling.num_slots", slots),
        (
            "prompts_per_rollout * group_size / num_minibatches / num_microbatches",
            num_rows // pieces,
        ),
    ):
        if size % ways:
            raise ValueError(
                f"{name}={size} does not split over data*fsdp={ways} of {dict(mesh.shape)}; use a "
                f"multiple of {ways}, or set mesh.fsdp and mesh.tensor so that data*fsdp divides it"
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
    """The tokenizer, checked against the model: its vocabulary is the embedding's height."""
    return text_load.load(tokenizer_path(config), config.model.vocab_size)


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
        fresh = jax.jit(partial(transformer.init, config.model), out_shardings=shardings)
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


def make_state(params: Any, tx, mesh: jax.sharding.Mesh) -> tuple[train_state.TrainState, Any]:
    """(TrainState on fresh optimiser state, its shardings): moments lie like their parameters."""
    placed = jax.tree.map(lambda x: x.sharding, params)
    by_path = {jax.tree_util.keystr(p): s for p, s in jax.tree_util.tree_leaves_with_path(placed)}

    def like(path, leaf):
        # A moment's path ends in its parameter's path.
        name = jax.tree_util.keystr(path)
        found = [s for p, s in by_path.items() if name.endswith(p)]
        return found[0] if found and leaf.ndim else place.replicated(mesh)

    create = partial(train_state.create, tx=tx)
    abstract = jax.eval_shape(create, params)
    shardings = jax.tree_util.tree_map_with_path(like, abstract)
    return jax.jit(create, out_shardings=shardings)(params), shardings


def put(tree: Any, mesh: jax.sharding.Mesh) -> Any:
    """Host rows of `tree` on the mesh's data axes; arrays already on devices stay."""
    spec = place.batch_sharding(mesh).spec

    def one(x):
        return x if isinstance(x, jax.Array) else place.from_host(x, mesh, spec)

    return jax.tree.map(one, tree)


def make_generate(
    config: experiment.ExperimentConfig,
    mesh: jax.sharding.Mesh,
    tokens: text_tokenizer.Tokenizer,
    group_size: int,
):
    """generate(params, host PromptBatch, key, step, limit), compiled at its first call."""
    traced = jax.jit(
        sampling_generate.make_generate(
            config.model,
            config.sampling,
            group_size=group_size,
            max_response=config.grpo.max_response,
            stop_ids=tokens.stop_ids,
            pad_id=tokens.pad_id,
        )
    )

    def generate(params, batch: types.PromptBatch, key, step: int, limit: int) -> types.Rollouts:
        return traced(params, put(batch, mesh), key, np.int32(step), np.int32(limit))

    return generate


def make_programs(
    config: experiment.ExperimentConfig,
    mesh: jax.sharding.Mesh,
    tokens: text_tokenizer.Tokenizer,
    tx,
    shardings: Any,
    reference_model: model_config.ModelConfig | None = None,
) -> grpo.Programs:
    """The loop's jitted functions; `shardings` of the state, so that it never moves.

    With config.ppo the update is of policy and critic. reference_model: where it is not the
    policy's own.
    """
    rows_that_split(config, mesh)
    adjust = partial(sampling_logits.adjust, config.sampling)
    capacity = config.grpo.max_prompt + config.grpo.max_response
    loss = losses.make_policy(
        config.model,
        config.grpo,
        adjust=adjust,
        max_length=config.grpo.max_response,
    )
    lengths = by_length.lengths(capacity)
    num_microbatches = config.grpo.num_microbatches
    pieces = {"num_microbatches": num_microbatches, "cuts": by_length.cuts(lengths)}
    update = train_step.make_update(loss, tx, **pieces)
    if config.ppo is not None:
        distance = losses.make_value(
            config.model,
            clip=config.ppo.value_clip,
            aggregation=config.grpo.aggregation,
            max_length=config.grpo.max_response,
        )
        of_critic = train_step.make_update(distance, critic_optimizer(config), **pieces)
        update = actor_critic.make_update(update, of_critic)
    update = by_length.make_update(update)
    rows = place.batch_sharding(mesh)

    def make_logps(model: model_config.ModelConfig):
        logps = by_length.make_logps(
            lambda params, tokens_BT: scoring.token_scores(model, params, tokens_BT, adjust=adjust)[
                0
            ],
            config.grpo.num_minibatches * num_microbatches,
            lengths,
        )
        traced = jax.jit(logps, out_shardings=rows)
        return lambda params, rollouts: traced(params, put(by_length.Rows.of(rollouts), mesh))

    logps = make_logps(config.model)
    traced_update = jax.jit(
        update, donate_argnums=0, out_shardings=(shardings, place.replicated(mesh))
    )
    mix = config.grpo.reference_mix
    traced_mix = jax.jit(
        lambda reference, params: jax.tree.map(
            lambda r, p: mix * p + (1 - mix) * r, reference, params
        ),
        out_shardings=shardings.params,
    )

    return grpo.Programs(
        generate=make_generate(config, mesh, tokens, config.grpo.group_size),
        logps=logps,
        reference_logps=make_logps(reference_model) if reference_model else logps,
        update=lambda state, batch, order: traced_update(
            state, put(batch, mesh), jnp.asarray(order)
        ),
        mix=traced_mix,
    )


def make_critic(config: experiment.ExperimentConfig, mesh: jax.sharding.Mesh) -> ppo.Critic:
    """The functions of PPO's loop that GRPO's does not have, jitted."""
    assert config.ppo is not None
    cfg = config.grpo
    values = by_length.make_logps(
        partial(critic.values, config.model),
        cfg.num_minibatches * cfg.num_microbatches,
        by_length.lengths(cfg.max_prompt + cfg.max_response),
    )
    traced_values = jax.jit(values, out_shardings=place.batch_sharding(mesh))
    traced_batch = jax.jit(actor_critic.make_batch(cfg, config.ppo))

    def batch(rollouts, reward_B, include_B, *rest):
        mine = put((rollouts, np.asarray(reward_B), np.asarray(include_B)), mesh)
        return traced_batch(*mine, *rest)

    return ppo.Critic(
        values=lambda params, rollouts: traced_values(
            params, put(by_length.Rows.of(rollouts), mesh)
        ),
        batch=batch,
    )


def make_supervised_update(
    config: experiment.ExperimentConfig,
    loop: supervised.SupervisedConfig,
    tokens: text_tokenizer.Tokenizer,
    tx,
    shardings,
):
    """update(state, Packed) of next-token training, jitted; `shardings` of the state.

    With loop.teacher also of that policy's distributions, whose weights are an argument of the
    traced function and not a part of it. Raises ValueError for a teacher with another tokenizer.
    """
    mesh = shardings.step.mesh
    out = (shardings, place.replicated(mesh))
    for name in ("balance_coef", "bias_rate"):
        if getattr(loop, name) and (config.model.experts is None or loop.teacher):
            raise ValueError(
                f"{name}={getattr(loop, name)} would change nothing: it is of a model with experts "
                "that learns from tokens (model.experts is None, or a teacher is set); use 0"
            )
    if not loop.teacher:
        loss = losses.make_next_token(config.model, balance_coef=loop.balance_coef)
        update = train_step.make_update(loss, tx, num_microbatches=loop.num_microbatches)
        if config.model.experts is not None:
            update = router.make_update(update, config.model, bias_rate=loop.bias_rate)
        return jax.jit(update, donate_argnums=0, out_shardings=out)
    model, teacher, _ = load_teacher(loop.teacher, mesh, tokens)

    def update_by(state, batch, teacher):
        loss = losses.make_distillation(
            config.model,
            model,
            teacher,
            weight=loop.teacher_weight,
            temperature=loop.teacher_temperature,
        )
        update = train_step.make_update(loss, tx, num_microbatches=loop.num_microbatches)
        return update(state, batch)

    traced = jax.jit(update_by, donate_argnums=0, out_shardings=out)
    return lambda state, batch: traced(state, batch, teacher)


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


def setup(config: experiment.ExperimentConfig, num_steps: int) -> Setup:
    """Mesh, tokenizer and a TrainState for a run of num_steps updates. Enter its mesh to use it."""
    mesh = make_mesh(config.mesh)
    tokens = load_tokenizer(config)
    with meshes.activate(mesh):
        params, parents = initial_params(config, mesh, tokens)
        tx = optim.make_optimizer(config.optim, num_steps)
        state, shardings = make_state(params, tx, mesh)
    return Setup(mesh, tokens, tx, state, shardings, parents | {"tokenizer": tokens.digest})


def critic_optimizer(config: experiment.ExperimentConfig):
    """The critic's optimiser: the policy's at a learning rate of its own."""
    assert config.ppo is not None
    own = dataclasses.replace(config.optim, learning_rate=config.ppo.learning_rate)
    return optim.make_optimizer(own, config.grpo.num_steps)


def add_critic(config: experiment.ExperimentConfig, stage: Setup) -> Setup:
    """`stage` itself for GRPO; for PPO with a critic beside the policy, begun from its weights."""
    if config.ppo is None:
        return stage
    with meshes.activate(stage.mesh):
        boxed = jax.eval_shape(lambda: {"scalar": heads.init_scalar_boxed(config.model)})
        params = critic.from_policy(config.model, stage.state.params)
        head = jax.device_put({"scalar": params["scalar"]}, place.shardings(boxed, stage.mesh))
        state, shardings = make_state(params | head, critic_optimizer(config), stage.mesh)
    return dataclasses.replace(
        stage,
        state=actor_critic.State(stage.state, state),
        shardings=actor_critic.State(stage.shardings, shardings),
    )
