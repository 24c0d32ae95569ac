"""The functions of RL's loop, jitted: what a run calls with arrays and a plan compiles without."""

import dataclasses
import functools
from functools import partial
from typing import Any, NamedTuple

import jax

from r1_jax.models import config as model_config
from r1_jax.models import critic, lora, scoring
from r1_jax.pipeline import adapters, experiment
from r1_jax.sampling import generate as sampling_generate
from r1_jax.sampling import logits as sampling_logits
from r1_jax.sharding import axes, place
from r1_jax.sharding import mesh as meshes
from r1_jax.training import actor_critic, by_length, losses, optim, router, supervised
from r1_jax.training import step as train_step


class Traced(NamedTuple):
    """Jitted, of global arrays that lie on the mesh; host rows are put there by `assemble`."""

    logps: Any  # (params, by_length.Rows) -> logps_BT
    reference_logps: Any  # the same under another model's parameters
    update: Any  # (state, PolicyBatch, rows[, lora.Frozen]) -> (state, metrics)
    mix: Any  # (reference, params) -> new reference


def make_generate(
    config: experiment.ExperimentConfig,
    group_size: int,
    *,
    stop_ids: tuple[int, ...],
    pad_id: int,
    keep_routing: bool = False,
) -> Any:
    """generate(params, PromptBatch, key, step, limit) -> Rollouts, jitted.

    keep_routing: with the experts that were chosen, for grpo.replay_routing.
    """
    sample = sampling_generate.make_generate(
        config.model,
        config.sampling,
        group_size=group_size,
        max_response=config.grpo.max_response,
        stop_ids=stop_ids,
        pad_id=pad_id,
        keep_routing=keep_routing,
    )

    def generate(*args):
        with meshes.under(axes.SAMPLER_RULES):
            return sample(*args)

    return jax.jit(generate)


def make_traced(
    config: experiment.ExperimentConfig,
    mesh: jax.sharding.Mesh,
    tx,
    shardings: Any,
    *,
    reference_model: model_config.ModelConfig | None = None,
    lengths: tuple[int, ...] | None = None,
) -> Traced:
    """`shardings` of the state, so that it never moves. With config.ppo the update is of policy
    and critic. Where the state's parameters are adapters, update is given what they stand beside.

    reference_model: where it is not the policy's own.

    lengths: in tokens, that a piece of rows may be cut to (by_length.lengths unless given); each is
    a branch of its own to compile.
    """
    cfg = config.grpo
    adjust = partial(sampling_logits.adjust, config.sampling)
    lengths = lengths or by_length.lengths(cfg.max_prompt + cfg.max_response)
    loss = losses.make_policy(config.model, cfg, adjust=adjust, max_length=cfg.max_response)
    pieces = {"num_microbatches": cfg.num_microbatches, "cuts": by_length.cuts(lengths)}
    if cfg.replay_routing and config.model.experts is None:
        raise ValueError("grpo.replay_routing would change nothing: the model has no experts")

    def update(state, batch, rows, frozen: lora.Frozen | None = None):
        policy = train_step.make_update(adapters.beside(frozen, loss), tx, **pieces)
        if config.model.experts is not None:
            held = frozen is not None
            policy = router.make_update(policy, config.model, bias_rate=0.0, is_frozen=held)
        if config.ppo is not None:
            distance = losses.make_value(
                config.model,
                clip=config.ppo.value_clip,
                aggregation=cfg.aggregation,
                max_length=cfg.max_response,
            )
            of_critic = train_step.make_update(distance, critic_optimizer(config), **pieces)
            policy = actor_critic.make_update(policy, of_critic)
        return by_length.make_update(policy)(state, batch, rows)

    def make_logps(model: model_config.ModelConfig):
        def score(params, piece: by_length.Rows):
            return scoring.routed_scores(
                model, params, piece.tokens_BT, adjust=adjust, chosen_BTLX=piece.chosen_BTLX
            )[0]

        num_pieces = cfg.num_minibatches * cfg.num_microbatches
        logps = by_length.make_logps(score, num_pieces, lengths)
        return jax.jit(logps, out_shardings=place.batch_sharding(mesh))

    logps = make_logps(config.model)
    mix = cfg.reference_mix

    def mixed(reference, params):
        return jax.tree.map(lambda r, p: mix * p + (1 - mix) * r, reference, params)

    return Traced(
        logps=logps,
        reference_logps=make_logps(reference_model) if reference_model else logps,
        update=jax.jit(update, donate_argnums=0, out_shardings=(shardings, place.replicated(mesh))),
        mix=jax.jit(mixed, out_shardings=shardings.params),
    )


def make_values(config: experiment.ExperimentConfig, mesh: jax.sharding.Mesh):
    """values(critic's params, by_length.Rows) -> values_BT, jitted."""
    cfg = config.grpo
    values = by_length.make_logps(
        lambda params, rows: critic.values(config.model, params, rows.tokens_BT),
        cfg.num_minibatches * cfg.num_microbatches,
        by_length.lengths(cfg.max_prompt + cfg.max_response),
    )
    return jax.jit(values, out_shardings=place.batch_sharding(mesh))


def make_next_token(
    config: experiment.ExperimentConfig, loop: supervised.SupervisedConfig, tx, shardings
) -> Any:
    """update(state, Packed[, lora.Frozen]) of next-token training, jitted; `shardings` of the
    state, whose parameters are adapters where there is something frozen."""
    out = (shardings, place.replicated(shardings.step.mesh))

    @functools.cache  # one program for each weight of multi-token prediction
    def of_weight(mtp_weight: float):
        loss = losses.make_next_token(
            config.model, balance_coef=loop.balance_coef, mtp_weight=mtp_weight
        )

        def update(state, batch, frozen: lora.Frozen | None = None):
            beside = adapters.beside(frozen, loss)
            tokens = train_step.make_update(beside, tx, num_microbatches=loop.num_microbatches)
            if config.model.experts is not None:
                rate, held = loop.bias_rate, frozen is not None
                tokens = router.make_update(tokens, config.model, bias_rate=rate, is_frozen=held)
            return tokens(state, batch)

        return jax.jit(update, donate_argnums=0, out_shardings=out)

    if not loop.mtp_schedule:
        return of_weight(0.0)
    return lambda state, *rest: of_weight(supervised.mtp_weight(loop, int(state.step)))(
        state, *rest
    )


def critic_optimizer(config: experiment.ExperimentConfig):
    """The critic's optimiser: the policy's at a learning rate of its own."""
    assert config.ppo is not None
    own = dataclasses.replace(config.optim, learning_rate=config.ppo.learning_rate)
    return optim.make_optimizer(own, config.grpo.num_steps)
