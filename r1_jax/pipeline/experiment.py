"""ExperimentConfig: every room's configuration in one value, as a config file builds it."""

import dataclasses
from typing import Literal

from r1_jax.data import corpus as corpora
from r1_jax.data import preferences
from r1_jax.data.tasks import load
from r1_jax.evaluation import run as evaluation
from r1_jax.models import config as model_config
from r1_jax.models import lora as low_rank
from r1_jax.rewards import combine, pool
from r1_jax.rewards import sandbox as sandboxes
from r1_jax.sampling import logits as sampling_logits
from r1_jax.text import chat
from r1_jax.training import actor_critic, supervised, switches
from r1_jax.training import optim as optimizers
from r1_jax.training import reward_model as reward_loop


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices by axis; data=0 takes all that the others leave. expert: of routed experts. context:
    of a long sequence's positions, in the learner; the sampler has other rows there."""

    data: int = 0
    fsdp: int = 1
    tensor: int = 1
    expert: int = 1
    context: int = 1


@dataclasses.dataclass(frozen=True)
class TokenizerConfig:
    """A SentencePiece model (how it was trained is kept for the command that does it) or a
    Hugging Face tokenizer."""

    path: str = ""  # model file, tokenizer.json or its folder; "" takes the one with `base`
    train_documents: int = 5000  # of the corpus


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """When to save, and how many checkpoints to keep."""

    every: int = 20  # updates; 0 saves only the last
    keep: int = 2  # the newest; RL keeps its best besides, by held-out pass@1
    directory: str = ""  # of this run's alone, or gs://BUCKET/NAME; "" is WORKDIR/checkpoints


@dataclasses.dataclass(frozen=True)
class GeneralRewardConfig:
    """General requests in RL (R1's last stage): when they are asked, and what they are paid.

    Rules, a reward model's opinion, or both: R1 pays them form, language and the reward model, and
    no rule for the answer (v2 Eq. 9). Both last steps are 400 of its 1,700.
    """

    accuracy: bool = True  # whether the task's own verdict on their answer is paid too
    path: str = ""  # of its weights, as pipeline.reward_models leaves them; "" is none
    weight: float = 1.0  # of its reward in standard deviations, held within 3
    last_steps: int = 0  # updates, the run's last, in which it pays; 0 is all
    asked_last_steps: int = 0  # updates, the run's last, with general prompts at all; 0 is all

    def __post_init__(self):
        for name in ("last_steps", "asked_last_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} cannot be negative; 0 is all steps")


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    """One experiment. `seed` moves sampling, minibatches and data order; the base is a file.

    ppo: None is GRPO; with it, a critic in the place of the group's comparison.
    teacher: the reference policy is this one, of any size: on-policy distillation (arXiv:2306.13649
    with the reverse divergence). The student samples, every token's divergence from the teacher is
    what it pays: grpo.kl_estimator="k2" has that divergence's gradient, k3 another one.
    layout: of prompts; None is the paper's Table 1, for base models. Those of dialogue.LAYOUTS are
    for models that have learnt to chat: the user's turn is the question, nothing asks for tags.
    lora: RL and fine-tuning move adapters beside the base instead of the base, which checkpoints
    then leave out; what is exported has them merged. The reference policy is made of adapters too,
    of the fresh ones that change nothing until reference_every copies the policy's.
    """

    seed: int = 0
    base: str = ""  # weights (file, or folder of `convert`), from the project; "" starts at random
    teacher: str = ""  # weights file of RL's reference policy; "": the policy's own beginning
    task: load.TaskConfig = dataclasses.field(default_factory=load.TaskConfig)
    tags: chat.Tags = dataclasses.field(default_factory=chat.Tags)
    layout: Literal["r1", "qwen", "qwen_math", "llama3"] | None = None
    tokenizer: TokenizerConfig = dataclasses.field(default_factory=TokenizerConfig)
    model: model_config.ModelConfig = dataclasses.field(default_factory=model_config.ModelConfig)
    lora: low_rank.LoraConfig | None = None
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
    optim: optimizers.OptimConfig = dataclasses.field(default_factory=optimizers.OptimConfig)
    corpus: corpora.CorpusConfig = dataclasses.field(default_factory=corpora.CorpusConfig)
    pretrain: supervised.SupervisedConfig = dataclasses.field(
        default_factory=supervised.SupervisedConfig
    )
    # Of the paper's SFT (v2 B.4.2); its batch of 128 is in documents, here in packed rows.
    sft: supervised.SupervisedConfig = dataclasses.field(
        default_factory=lambda: supervised.SupervisedConfig(2, 128, 32_768)
    )
    sampling: sampling_logits.SamplingConfig = dataclasses.field(
        default_factory=sampling_logits.SamplingConfig
    )
    grpo: switches.GRPOConfig = dataclasses.field(default_factory=switches.GRPOConfig)
    ppo: actor_critic.PPOConfig | None = None
    reward: combine.RewardConfig = dataclasses.field(default_factory=combine.RewardConfig)
    general_reward: GeneralRewardConfig = dataclasses.field(default_factory=GeneralRewardConfig)
    graders: pool.GraderConfig = dataclasses.field(default_factory=pool.GraderConfig)
    sandbox: sandboxes.SandboxConfig = dataclasses.field(default_factory=sandboxes.SandboxConfig)
    eval: evaluation.EvalConfig = dataclasses.field(default_factory=evaluation.EvalConfig)
    preference: preferences.PreferenceConfig = dataclasses.field(
        default_factory=preferences.PreferenceConfig
    )
    reward_model: reward_loop.RewardModelConfig = dataclasses.field(
        default_factory=reward_loop.RewardModelConfig
    )
    checkpoint: CheckpointConfig = dataclasses.field(default_factory=CheckpointConfig)

    @property
    def keeps_reference(self) -> bool:
        """Whether RL's checkpoints hold a reference policy: a teacher stays in its own file."""
        return bool(self.grpo.kl_coef) and not self.teacher

    @property
    def replays_routing(self) -> bool:
        """Whether the learner takes the sampler's choices of experts: grpo.replay_routing."""
        asked = self.grpo.replay_routing
        return self.model.experts is not None if asked is None else asked

    def __post_init__(self):
        reward = self.reward
        if not self.general_reward.accuracy and (reward.gates or reward.composition != "sum"):
            raise ValueError(
                "general_reward.accuracy=False takes one part out of a sum: set "
                f"reward.composition={reward.composition!r} to 'sum' and reward.gates="
                f"{reward.gates} to ()"
            )
        if self.teacher and (not self.grpo.kl_coef or self.grpo.reference_every):
            raise ValueError(
                f"teacher={self.teacher!r} is the reference of every update: grpo.kl_coef="
                f"{self.grpo.kl_coef} must be above 0 and grpo.reference_every="
                f"{self.grpo.reference_every} must be 0"
            )
        if self.ppo is not None and self.grpo.advantage != switches.GRPOConfig.advantage:
            raise ValueError(
                f"grpo.advantage={self.grpo.advantage!r} would change nothing: with ppo, "
                "advantages come from its critic; leave one of the two out"
            )
        if self.ppo is not None and self.grpo.one_step_off:
            raise ValueError(
                "grpo.one_step_off=True beside ppo: its critic would learn the older policy's "
                "returns, and nothing corrects them; leave one of the two out"
            )
        if self.lora is not None and self.ppo is not None:
            raise ValueError("ppo trains a critic whole, lora none; leave one of the two out")
        grpo = self.grpo
        if self.lora is not None and grpo.reference_every and grpo.reference_mix < 1:
            raise ValueError(
                f"grpo.reference_mix={grpo.reference_mix} would mix the factors of adapters, whose "
                "product is then no mixture of policies; with lora use 1, which copies"
            )
