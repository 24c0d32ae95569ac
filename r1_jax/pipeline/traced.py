"""The functions of RL's loop, jitted: what a run calls with arrays and a plan compiles without."""

import dataclasses
import functools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax

from r1_jax.models import config as model_config
from r1_jax.models import lora, prefix, scoring
from r1_jax.pipeline import adapters, experiment
from r1_jax.sampling import generate as sampling_generate
from r1_jax.sampling import logits as sampling_logits
from r1_jax.sharding import axes, place
from r1_jax.sharding import mesh as meshes
from r1_jax.training import actor_critic, by_length, losses, optim, router, supervised
from r1_jax.training import step as train_step


class Traced(NamedTuple):
    """What a run takes piece by piece (pipeline/pieces), as one jitted program each."""

    logps: Any  # (params, by_length.Rows) -> logps_BT
    update: Any  # (state, PolicyBatch, rows[, lora.Frozen]) -> (state, metrics)


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


def adjusted(config: experiment.ExperimentConfig) -> losses.Adjust:
    """Logits of the distribution that is sampled."""
    return partial(sampling_logits.adjust, config.sampling)


def make_parts(
    config: experiment.ExperimentConfig, tx, *, cuts: train_step.Cuts = train_step.UNCUT
) -> Callable[..., train_step.Parts]:
    """parts(frozen, shared) of the update. With config.ppo it is one of policy and critic. Where
    the state's parameters are adapters, `frozen` is what they stand beside. shared: how a piece's
    rows begin alike, or None."""
    cfg, model = config.grpo, config.model
    length = {"max_length": cfg.max_response}
    make_loss = partial(losses.make_policy, model, cfg, adjust=adjusted(config), **length)
    if cfg.replay_routing and model.experts is None:
        raise ValueError("grpo.replay_routing would change nothing: the model has no experts")

    def parts(frozen: lora.Frozen | None, shared: prefix.Shared | None = None) -> train_step.Parts:
        loss = adapters.beside(frozen, make_loss(shared=shared))
        policy = train_step.make_parts(loss, tx, cuts=cuts)
        if model.experts is not None:
            held = frozen is not None
            take = router.make_update(policy.take, model, bias_rate=0.0, is_frozen=held)
            policy = policy._replace(take=take)
        if config.ppo is None:
            return policy
        clip = config.ppo.value_clip
        distance = losses.make_value(model, clip=clip, aggregation=cfg.aggregation, **length)
        of_critic = train_step.make_parts(distance, critic_optimizer(config), cuts=cuts)
        return actor_critic.make_parts(policy, of_critic)

    return parts


def make_score(config: experiment.ExperimentConfig, model: model_config.ModelConfig):
    """score(params, by_length.Rows[, how they begin alike]) -> logps_BT under `model`."""
    adjust = adjusted(config)

    def score(params, piece: by_length.Rows, shared: prefix.Shared | None = None):
        return scoring.routed_scores(
            model,
            params,
            piece.tokens_BT,
            adjust=adjust,
            chosen_BTLX=piece.chosen_BTLX,
            shared=shared,
        )[0]

    return score


def make_traced(
    config: experiment.ExperimentConfig,
    mesh: jax.sharding.Mesh,
    tx,
    shardings: Any,
    *,
    lengths: tuple[int, ...],
) -> Traced:
    """`shardings` of the state, so that it never moves.

    lengths: in tokens, that a piece of rows may be cut to; each is a branch of its own to compile.
    """
    cfg = config.grpo
    parts = make_parts(config, tx, cuts=by_length.cuts(lengths))

    def update(state, batch, rows, frozen: lora.Frozen | None = None):
        whole = train_step.whole(parts(frozen), cfg.num_microbatches)
        return by_length.make_update(whole)(state, batch, rows)

    num_pieces = cfg.num_minibatches * cfg.num_microbatches
    logps = by_length.make_logps(make_score(config, config.model), num_pieces, lengths)
    return Traced(
        logps=jax.jit(logps, out_shardings=place.batch_sharding(mesh)),
        update=jax.jit(update, donate_argnums=0, out_shardings=(shardings, place.replicated(mesh))),
    )


def make_mix(config: experiment.ExperimentConfig, shardings: Any):
    """mix(reference, params) -> new reference, jitted; laid out as the state's parameters."""
    mix = config.grpo.reference_mix

    def mixed(reference, params):
        return jax.tree.map(lambda r, p: mix * p + (1 - mix) * r, reference, params)

    return jax.jit(mixed, out_shardings=shardings.params)


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
