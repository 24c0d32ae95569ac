"""The losses: next token, policy, and value."""

import dataclasses
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from r1_jax.core import masked, types
from r1_jax.data import packing
from r1_jax.models import config as model_config
from r1_jax.models import critic, prefix, scoring, transformer
from r1_jax.rl import diagnostics, kl, objectives
from r1_jax.training import router, step

Adjust = Callable[[jax.Array], jax.Array]


def make_next_token(
    model: model_config.ModelConfig, *, balance_coef: float = 0.0, mtp_weight: float = 0.0
) -> step.Loss:
    """loss(params, Packed): mean cross-entropy in nats of each weighted token given those before.

    A document's first token is predicted by nothing: `packing.pack` gives it weight 0.
    balance_coef: of the sequence balance loss of models with experts (router.balance). mtp_weight:
    of the cross-entropy two tokens ahead (V3 Eq. 24 and 25; its sum, too, is over all tokens).
    """

    def loss(params, batch: packing.Packed) -> step.LossOutput:
        mask_BT = batch.segment_BT > 0
        early_BT = early_routed = None
        given = {
            "position_BT": batch.position_BT,
            "segment_BT": batch.segment_BT,
            "mask_BT": mask_BT,
        }
        if mtp_weight:
            logps_BT, entropy_BT, early_BT, routed, early_routed = scoring.twofold_scores(
                model, params, batch.tokens_BT, **given
            )
        else:
            logps_BT, entropy_BT, routed = scoring.routed_scores(
                model, params, batch.tokens_BT, adjust=lambda logits: logits, **given
            )
        num_tokens = jnp.sum(batch.weight_BT)
        total = types.WeightedSum(-jnp.sum(logps_BT * batch.weight_BT), num_tokens)
        means = {"entropy": types.WeightedSum(jnp.sum(entropy_BT * batch.weight_BT), num_tokens)}
        if early_BT is not None:
            # the two tokens before must be of the same document
            same_BT = batch.segment_BT[:, 2:] == batch.segment_BT[:, :-2]
            weight_BT = jnp.where(same_BT, batch.weight_BT[:, 2:], 0.0)
            early = types.WeightedSum(-jnp.sum(early_BT[:, 2:] * weight_BT), jnp.sum(weight_BT))
            total = dataclasses.replace(total, total=total.total + mtp_weight * early.total)
            means["mtp/loss"] = early
        if routed is not None:
            assert model.experts is not None
            if early_routed is not None:
                routed = router.joined(routed, early_routed)
            balance = router.balance(routed, jnp.sum(batch.weight_BT, axis=1))
            total = dataclasses.replace(total, total=total.total + balance_coef * balance.total)
            means["router/balance"] = balance
            means[router.LOAD] = router.load(model.experts, routed, jnp.sum(mask_BT))
        return step.LossOutput(total, means, {}, {})

    return loss


def make_distillation(
    model: model_config.ModelConfig,
    teacher_model: model_config.ModelConfig,
    teacher_params: transformer.Params,
    *,
    weight: float,
    temperature: float,
) -> step.Loss:
    """loss(params, Packed): (1 - w) cross-entropy + w temperature^2 KL(teacher || student).

    Logit distillation (arXiv:1503.02531): the teacher's whole distribution at every weighted token,
    where DeepSeek-R1's distillation learns from its tokens alone. The square keeps the gradient's
    size the same at any temperature.
    """

    def loss(params, batch: packing.Packed) -> step.LossOutput:
        logps_BT, entropy_BT, divergence_BT = scoring.divergences(
            model,
            params,
            teacher_model,
            teacher_params,
            batch.tokens_BT,
            temperature=temperature,
            position_BT=batch.position_BT,
            segment_BT=batch.segment_BT,
        )
        num_tokens = jnp.sum(batch.weight_BT)

        def mean(x_BT):
            return types.WeightedSum(jnp.sum(x_BT * batch.weight_BT), num_tokens)

        total_BT = weight * temperature**2 * divergence_BT - (1 - weight) * logps_BT
        means = {"entropy": mean(entropy_BT), "teacher/divergence": mean(divergence_BT)}
        return step.LossOutput(mean(total_BT), means, {}, {})

    return loss


@dataclasses.dataclass(frozen=True)
class PolicyLossConfig:
    """The switches of the GRPO loss; defaults are R1's where it published them (R1_FACTS 1.3).

    Per token t of completion i, with rho = pi / pi_behavior:
    L = -min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A) + kl_coef KL - entropy_coef H.
    `ratio`: rho per token (DeepSeekMath Eq. 3) or one length-normalised ratio per sequence (GSPO,
    arXiv:2507.18071). `aggregation`: 1/B sum_i 1/|o_i| sum_t (sequence_mean, Eq. 3),
    sum_it / sum_i |o_i| (token_mean, DAPO), 1/B sum_i 1/max_length sum_t (constant_length, Dr.
    GRPO). `kl_place`: in the loss (R1) or subtracted from the reward. `importance_cap`: each
    token's loss times min(pi_old / pi_behavior, cap), pi_old being the learner's own; 0 is off, and
    then the ratio itself is taken against pi_behavior.
    """

    clip_low: float = 10.0
    clip_high: float = 10.0
    kl_coef: float = 0.001
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"
    kl_place: Literal["loss", "reward"] = "loss"
    ratio: Literal["token", "sequence"] = "token"
    aggregation: Literal["sequence_mean", "token_mean", "constant_length"] = "sequence_mean"
    entropy_coef: float = 0.0
    importance_cap: float = 0.0

    def __post_init__(self):
        if self.clip_low <= 0 or self.clip_high <= 0:
            raise ValueError(
                f"clip_low={self.clip_low} and clip_high={self.clip_high} must be above 0; "
                "a large value, such as R1's 10, all but switches clipping off"
            )
        if self.kl_coef < 0:
            raise ValueError(f"kl_coef={self.kl_coef} cannot be negative; 0 switches it off")
        if self.importance_cap and self.importance_cap < 1:
            raise ValueError(f"importance_cap={self.importance_cap} must be 0 (off) or at least 1")


KL = {"k1": kl.k1, "k2": kl.k2, "k3": kl.k3}


def is_reachable(logps_BT: jax.Array) -> jax.Array:
    """bool [B, T]: False where top-k, top-p or min-p leaves this policy no chance of the token.

    One policy's filter can exclude what another's has sampled. Such a token has neither a ratio nor
    a divergence; it is left out and counted (tokens/unreachable_share).
    """
    return logps_BT > -1e20  # an excluded logit is -1e30, a real log-prob some -1e2 at the least


def make_policy(
    model: model_config.ModelConfig,
    config: PolicyLossConfig,
    *,
    adjust: Adjust,
    max_length: int,
    shared: prefix.Shared | None = None,
) -> step.Loss:
    """loss(params, PolicyBatch or ActorCriticBatch): clipped objective and KL penalty, aggregated.

    DeepSeek-R1 (arXiv:2501.12948v1) Eq. 1 and 2. adjust: the sampler's logits adjustment, so that
    ratios compare one kind of distribution. max_length: tokens, the divisor of constant_length.
    shared: how the batch's rows begin alike, to be computed once.
    """

    def loss(params, batch: types.PolicyBatch | types.ActorCriticBatch) -> step.LossOutput:
        by_token = isinstance(batch, types.ActorCriticBatch)
        advantage = batch.advantage_BT if by_token else batch.advantage_B
        T = batch.tokens_BT.shape[1]
        is_real_BT = jnp.arange(T)[None, :] < (batch.prompt_length_B + batch.length_B)[:, None]
        logps_BT, entropy_BT, routed = scoring.routed_scores(
            model,
            params,
            batch.tokens_BT,
            adjust=adjust,
            mask_BT=is_real_BT,
            chosen_BTLX=batch.chosen_BTLX,
            shared=shared,
        )
        mask_BT = masked.completion_mask(batch.prompt_length_B, batch.length_B, T)
        gap_B = diagnostics.gap_by_row(logps_BT, batch.behavior_logps_BT, mask_BT)
        num_tokens = jnp.sum(mask_BT)
        mask_BT = mask_BT & is_reachable(logps_BT)
        if batch.reference_logps_BT is not None:
            mask_BT = mask_BT & is_reachable(batch.reference_logps_BT)
        # Off the completion everything is a harmless zero, so that no stray value can overflow.
        logps_BT = jnp.where(mask_BT, logps_BT, 0.0)
        entropy_BT = jnp.where(mask_BT, entropy_BT, 0.0)
        behavior_BT = jnp.where(mask_BT, batch.behavior_logps_BT, 0.0)
        old_BT = behavior_BT
        if config.importance_cap:
            assert batch.old_logps_BT is not None  # grpo.train scores them when the cap is set
            old_BT = jnp.where(mask_BT, batch.old_logps_BT, 0.0)
        if config.ratio == "token":
            ratio_BT = objectives.token_ratio(logps_BT, old_BT)
        else:
            ratio_BT = objectives.sequence_ratio(logps_BT, old_BT, mask_BT)
        clips = {"clip_low": config.clip_low, "clip_high": config.clip_high}
        loss_BT = objectives.clipped(ratio_BT, advantage, **clips)
        if config.importance_cap:
            loss_BT *= objectives.importance_weight(old_BT, behavior_BT, cap=config.importance_cap)
        included_BT = mask_BT & batch.include_B[:, None]
        means = {
            "tokens/unreachable_share": types.WeightedSum(
                num_tokens - jnp.sum(mask_BT), num_tokens
            ),
            "entropy": diagnostics.entropy_mean(entropy_BT, included_BT),
            "clip/share": diagnostics.clip_share(ratio_BT, advantage, included_BT, **clips),
        }
        if routed is not None:
            assert model.experts is not None
            means[router.LOAD] = router.load(model.experts, routed, jnp.sum(is_real_BT))
        if batch.reference_logps_BT is not None:
            reference_BT = jnp.where(mask_BT, batch.reference_logps_BT, 0.0)
            kl_BT = KL[config.kl_estimator](logps_BT, reference_BT)
            if config.kl_place == "loss":
                loss_BT += config.kl_coef * kl_BT
            k3_BT = kl.k3(logps_BT, reference_BT)  # logged whatever is trained on
            means["kl/reference"] = types.WeightedSum(
                jnp.sum(jnp.where(included_BT, k3_BT, 0.0)), jnp.sum(included_BT)
            )
        loss_BT -= config.entropy_coef * entropy_BT
        aggregated = objectives.aggregate(
            loss_BT, mask_BT, batch.include_B, how=config.aggregation, max_length=max_length
        )
        maxima = {
            "gap": jnp.max(gap_B),
            "ratio/max": diagnostics.ratio_max(ratio_BT, included_BT),
        }
        return step.LossOutput(aggregated, means, maxima, {"gap": gap_B})

    return loss


def make_value(
    model: model_config.ModelConfig, *, clip: float, aggregation: str, max_length: int
) -> step.Loss:
    """loss(critic's params, ActorCriticBatch): distance of its values to the returns, aggregated.

    clip: of objectives.value_error. aggregation, max_length: as in the policy's loss.
    """

    def loss(params, batch: types.ActorCriticBatch) -> step.LossOutput:
        value_BT = critic.values(model, params, batch.tokens_BT)
        T = batch.tokens_BT.shape[1]
        mask_BT = masked.completion_mask(batch.prompt_length_B, batch.length_B, T)
        included_BT = mask_BT & batch.include_B[:, None]
        values = [
            jnp.where(mask_BT, x, 0.0) for x in (value_BT, batch.old_value_BT, batch.return_BT)
        ]
        error_BT = objectives.value_error(*values, clip=clip)
        binds_BT = objectives.value_clip_binds(*values, clip=clip)
        num_tokens = jnp.sum(included_BT, dtype=jnp.float32)
        means = {
            "clip_share": types.WeightedSum(masked.sum(binds_BT, included_BT), num_tokens),
            "mean": types.WeightedSum(masked.sum(values[0], included_BT), num_tokens),
        }
        aggregated = objectives.aggregate(
            error_BT, mask_BT, batch.include_B, how=aggregation, max_length=max_length
        )
        return step.LossOutput(aggregated, means, {}, {})

    return loss
