"""ExperimentConfig: every room's configuration in one value, as a config file builds it."""

import dataclasses

from r1_jax.data import corpus as corpora
from r1_jax.data.tasks import load
from r1_jax.evaluation import run as evaluation
from r1_jax.models import config as model_config
from r1_jax.rewards import combine, pool
from r1_jax.sampling import logits as sampling_logits
from r1_jax.text import chat
from r1_jax.training import optim as optimizers
from r1_jax.training import pretrain as pretrain_loop
from r1_jax.training import switches


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices by axis; data=0 takes all that fsdp and tensor leave."""

    data: int = 0
    fsdp: int = 1
    tensor: int = 1


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
    keep: int = 2


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    """One experiment. `seed` moves sampling, minibatches and data order; the base is a file."""

    seed: int = 0
    base: str = ""  # weights (file, or folder of `convert`), from the project; "" starts at random
    task: load.TaskConfig = dataclasses.field(default_factory=load.TaskConfig)
    tags: chat.Tags = dataclasses.field(default_factory=chat.Tags)
    tokenizer: TokenizerConfig = dataclasses.field(default_factory=TokenizerConfig)
    model: model_config.ModelConfig = dataclasses.field(default_factory=model_config.ModelConfig)
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
    optim: optimizers.OptimConfig = dataclasses.field(default_factory=optimizers.OptimConfig)
    corpus: corpora.CorpusConfig = dataclasses.field(default_factory=corpora.CorpusConfig)
    pretrain: pretrain_loop.PretrainConfig = dataclasses.field(
        default_factory=pretrain_loop.PretrainConfig
    )
    sampling: sampling_logits.SamplingConfig = dataclasses.field(
        default_factory=sampling_logits.SamplingConfig
    )
    grpo: switches.GRPOConfig = dataclasses.field(default_factory=switches.GRPOConfig)
    reward: combine.RewardConfig = dataclasses.field(default_factory=combine.RewardConfig)
    graders: pool.GraderConfig = dataclasses.field(default_factory=pool.GraderConfig)
    eval: evaluation.EvalConfig = dataclasses.field(default_factory=evaluation.EvalConfig)
    checkpoint: CheckpointConfig = dataclasses.field(default_factory=CheckpointConfig)
