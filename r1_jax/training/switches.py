"""The switches of GRPO: what each means, its default, and which combinations make no sense."""

import dataclasses
from typing import Literal

from r1_jax.training import losses


@dataclasses.dataclass(frozen=True)
class GRPOConfig(losses.PolicyLossConfig):
    """R1's RL. A step is one optimiser update on prompts_per_rollout * group_size /
    num_minibatches completions; defaults are the paper's (R1_FACTS 1.3) where it gives a number.

    advantage: A_i = (r_i - mean(r)) / std(r), "zscore" (Eq. 3); r_i - mean(r), "mean_only" (Dr.
    GRPO, arXiv:2503.20783); r_i - mean(r without r_i), "leave_one_out" (RLOO, arXiv:2402.14740);
    0, "none", which leaves the divergence from the reference alone (on-policy distillation).
    reference_every: updates between refreshes of the reference, 0 for never; then
    reference <- reference_mix * policy + (1 - reference_mix) * reference: 1 copies, less is an EMA.
    truncated: what a completion cut off at the limit gets: reward 0, no part in the loss ("mask"),
    or DAPO's penalty over the last overlong_buffer tokens ("soft_penalty", rl/overlong).
    resample: while fewer than prompts_per_rollout groups have max(r) > min(r), at most this many
    further rollouts a step (DAPO's dynamic sampling, arXiv:2503.14476); all that was generated is
    counted in tokens/rollout.
    response_schedule: ((step, tokens), ...): from that step on, completions may be so long.
    replay_routing: the learner sends every token to the experts that the sampler chose, and weighs
    what they say by its own scores; None does so where the policy has experts. Of two that score
    alike sampler and learner may else choose one each, a gap of a tenth of a nat (docs/LOG.md). A
    reference and a critic choose for themselves. A selection bias is held during RL: V3 moves it in
    pre-training and ends with rate 0; what was done in R1's RL was not published.
    one_step_off: a rollout is drawn while the one before it is graded, by the weights that are
    about to learn from that one: graders slower than scoring no longer hold the device up. What is
    learnt from is then one rollout's updates older than the policy. importance_cap corrects that
    and must be set (objectives.importance_weight); the KL term is not weighted, nor is it in the
    later updates on one rollout. It costs one more scoring, by the weights that sampled, for the
    gap, and a copy of the trained parameters, which a checkpoint holds too: a resumed run draws
    anew, to the bit, what was under way.
    """

    num_steps: int = 10_400
    prompts_per_rollout: int = 512
    group_size: int = 16
    num_minibatches: int = 16
    inner_epochs: int = 1
    num_microbatches: int = 1  # pieces a minibatch is cut into to bound memory; same gradient
    advantage: Literal["zscore", "mean_only", "leave_one_out", "none"] = "zscore"
    reference_every: int = 400
    reference_mix: float = 1.0
    truncated: Literal["zero_reward", "mask", "soft_penalty"] = "zero_reward"
    overlong_buffer: int = 4096  # tokens
    resample: int = 0
    max_prompt: int = 1024  # tokens
    max_response: int = 65_536  # tokens; the cache's capacity
    response_schedule: tuple[tuple[int, int], ...] = ()
    replay_routing: bool | None = None
    gap_bound: float = 0.05  # nats; a larger sampler-learner gap of any token stops the run
    one_step_off: bool = False

    def __post_init__(self):
        super().__post_init__()
        at_least_one = (
            "num_steps", "prompts_per_rollout", "num_minibatches", "inner_epochs",
            "num_microbatches", "max_prompt", "max_response",
        )  # fmt: skip
        for name in at_least_one:
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.resample < 0 or self.reference_every < 0:
            raise ValueError(
                f"resample={self.resample} and reference_every={self.reference_every} cannot be "
                "negative; 0 switches them off"
            )
        if self.group_size < 2:
            raise ValueError(
                f"group_size={self.group_size}: advantage={self.advantage!r} compares a prompt's "
                "completions with each other and needs at least 2"
            )
        num_rows = self.prompts_per_rollout * self.group_size
        if num_rows % (self.num_minibatches * self.num_microbatches):
            raise ValueError(
                f"prompts_per_rollout * group_size = {num_rows} completions do not split into "
                f"num_minibatches={self.num_minibatches} x num_microbatches="
                f"{self.num_microbatches}; use divisors"
            )
        if self.num_steps % self.updates_per_rollout:
            raise ValueError(
                f"num_steps={self.num_steps} is not a multiple of num_minibatches * inner_epochs = "
                f"{self.updates_per_rollout}, the updates of one rollout; use "
                f"{-(-self.num_steps // self.updates_per_rollout) * self.updates_per_rollout}"
            )
        if self.advantage == "none" and not self.kl_coef:
            raise ValueError(
                "advantage='none' and kl_coef=0 leave nothing to learn from; set kl_coef above 0 "
                "(on-policy distillation from the reference) or choose another advantage"
            )
        if not 0 < self.reference_mix <= 1:
            raise ValueError(f"reference_mix={self.reference_mix} must lie in (0, 1]; 1 copies")
        if self.one_step_off:
            self._check_one_step_off()
        for step, tokens in self.response_schedule:
            if not 0 < tokens <= self.max_response or step < 0:
                raise ValueError(
                    f"response_schedule entry ({step}, {tokens}): tokens must lie in 1.."
                    f"max_response={self.max_response} and the step cannot be negative"
                )
        if self.truncated == "soft_penalty":
            for _, tokens in ((0, self.max_response), *self.response_schedule):
                if not 0 < self.overlong_buffer <= tokens:
                    raise ValueError(
                        f"overlong_buffer={self.overlong_buffer} must lie in 1..{tokens}, the "
                        "shortest response limit of this run"
                    )

    def _check_one_step_off(self):
        if not self.importance_cap:
            raise ValueError(
                "one_step_off=True and importance_cap=0 would learn from an older policy's samples "
                "as if they were the policy's own; set importance_cap, for instance to 2"
            )
        if self.resample:
            raise ValueError(
                f"one_step_off=True and resample={self.resample}: rewards decide what is sampled "
                "next, so nothing can be drawn before they are known; leave one of the two out"
            )
        if self.kl_coef and self.kl_place == "reward":
            raise ValueError(
                "one_step_off=True and kl_place='reward' would charge the policy for the older "
                "one's distance from the reference; use kl_place='loss'"
            )

    @property
    def updates_per_rollout(self) -> int:
        return self.num_minibatches * self.inner_epochs

    @property
    def lag(self) -> int:
        """Updates between the policy that sampled a rollout and the one that begins to learn."""
        return self.updates_per_rollout if self.one_step_off else 0

    def response_limit(self, step: int) -> int:
        """Tokens a completion may take at `step`: the schedule's last entry that has begun."""
        begun = [tokens for start, tokens in sorted(self.response_schedule) if start <= step]
        return begun[-1] if begun else self.max_response
