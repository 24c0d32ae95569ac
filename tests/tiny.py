"""A policy small enough to be read: one table of logits, whatever the text. And a loop around it.

It stands in for a model where a test is about what is built around one. Its padding is its stop
token, which also stands in prompts: a mask guessed from a token's value shows at once.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from r1_jax.core import types
from r1_jax.metrics import clock as metrics_clock
from r1_jax.models import critic, scoring
from r1_jax.training import actor_critic, by_length, grpo, losses, ppo, rollout, switches
from r1_jax.training import state as train_state
from r1_jax.training import step as train_step

VOCAB, STOP = 6, 5
GOOD = 1  # the token that `reward` pays for


def token_scores(model, params, tokens_BT, *, adjust, **_):
    """models.scoring.token_scores of the table policy; the shapes asked for go to `model`."""
    if model is not None:
        model.append(tokens_BT.shape)
    logps_V = jax.nn.log_softmax(adjust(params["table"]))
    entropy = -jnp.sum(jnp.exp(logps_V) * logps_V)
    shape = (tokens_BT.shape[0], 1)
    first = jnp.zeros(shape)
    logps_BT = jnp.concatenate([first, logps_V[tokens_BT[:, 1:]]], axis=1)
    entropy_BT = jnp.concatenate([first, jnp.full_like(logps_BT[:, 1:], entropy)], axis=1)
    return logps_BT, entropy_BT


def routed_scores(model, params, tokens_BT, *, adjust, **_):
    """models.scoring.routed_scores of the table policy, which has no experts."""
    return *token_scores(model, params, tokens_BT, adjust=adjust), None


def values(model, params, tokens_BT):
    """models.critic.values of a table: what is expected after each token, whatever stood before."""
    return jnp.pad(params["value"][tokens_BT[:, :-1]], ((0, 0), (1, 0)))


def prompt_batch(first_uid: int, num: int, capacity: int = 4) -> types.PromptBatch:
    """`num` prompts of 1 to `capacity` tokens, stop tokens among them."""
    length_P = 1 + np.arange(first_uid, first_uid + num) % capacity
    tokens_PT = np.full((num, capacity), STOP, np.int32)
    for row, length in enumerate(length_P):
        tokens_PT[row, :length] = np.arange(length) % VOCAB
        tokens_PT[row, 0] = STOP
    uid_P = np.arange(first_uid, first_uid + num, dtype=np.int32)
    return types.PromptBatch(tokens_PT, length_P.astype(np.int32), uid_P)


def generate(
    params, batch: types.PromptBatch, key, step, limit, *, group_size, max_response, error=0.0
) -> types.Rollouts:
    """sampling.generate of the table policy, on the host; `error` is added to all log-probs."""
    logps_V = np.asarray(jax.nn.log_softmax(params["table"]), np.float64)
    probability_V = np.exp(logps_V) / np.exp(logps_V).sum()
    seed = np.asarray(jax.random.key_data(key)).tolist()
    num_prompts, capacity = np.shape(batch.tokens_PT)
    num_rows = num_prompts * group_size
    tokens_BT = np.full((num_rows, capacity + max_response), STOP, np.int32)
    logps_BT = np.zeros(tokens_BT.shape, np.float32)
    length_B, stop_B = np.zeros(num_rows, np.int32), np.full(num_rows, -1, np.int32)
    prompt_length_B = np.repeat(np.asarray(batch.length_P), group_size)
    uid_B = np.repeat(np.asarray(batch.uid_P), group_size)
    sample_B = np.tile(np.arange(group_size, dtype=np.int32), num_prompts)
    for row in range(num_rows):
        start = prompt_length_B[row]
        tokens_BT[row, :start] = batch.tokens_PT[row // group_size, :start]
        rng = np.random.default_rng([*seed, int(uid_B[row]), int(sample_B[row])])
        while length_B[row] < limit and stop_B[row] < 0:
            token = rng.choice(VOCAB, p=probability_V)
            tokens_BT[row, start + length_B[row]] = token
            logps_BT[row, start + length_B[row]] = logps_V[token] + error
            length_B[row] += 1
            if token == STOP:
                stop_B[row] = STOP
    return types.Rollouts(
        tokens_BT, prompt_length_B, length_B, logps_BT, stop_B, uid_B, sample_B,
        policy_step=np.int32(step), slot_steps=np.int32(num_rows * length_B.max()),
    )  # fmt: skip


def completions(rollouts: types.Rollouts) -> list[np.ndarray]:
    """The generated token ids of every row."""
    spans = zip(rollouts.tokens_BT, rollouts.prompt_length_B, rollouts.length_B, strict=True)
    return [row[start : start + length] for row, start, length in spans]


def reward(ids: np.ndarray) -> float:
    """Share of GOOD tokens, in thirds: groups without spread do occur."""
    return float(np.floor(3 * np.mean(ids == GOOD)) / 3)


def score(problems, rollouts: types.Rollouts, step: int, reward=reward):
    """Hooks.score: pays `reward` of the ids."""
    reward_B = np.array([reward(ids) for ids in completions(rollouts)], np.float32)
    num = len(reward_B)
    scores = types.Scores(reward_B, {}, np.zeros(num, np.int32), np.ones(num, bool))
    samples = [{"uid": int(uid)} for uid in rollouts.uid_B]
    return lambda: rollout.Scored(scores, {"reward/mean": float(reward_B.mean())}, samples)


def make_update(config: switches.GRPOConfig, tx, shapes=None, of_ppo=None):
    """The update of the table policy, not jitted; `shapes` collects what the loss looked at.

    of_ppo: PPOConfig; the update is then of a table critic too, by SGD.
    """
    num = {"num_microbatches": config.num_microbatches}
    length = {"max_length": config.max_response}
    loss = losses.make_policy(shapes, config, adjust=lambda logits: logits, **length)
    update = train_step.make_update(loss, tx, **num)
    if of_ppo is not None:
        clip = of_ppo.value_clip
        distance = losses.make_value(None, clip=clip, aggregation=config.aggregation, **length)
        of_critic = train_step.make_update(distance, optax.sgd(of_ppo.learning_rate), **num)
        update = actor_critic.make_update(update, of_critic)
    return by_length.make_update(update)


def make_critic(config: switches.GRPOConfig, of_ppo: actor_critic.PPOConfig) -> ppo.Critic:
    """The programs of a table critic."""
    return ppo.Critic(
        lambda params, rollouts: values(None, params, rollouts.tokens_BT),
        jax.jit(actor_critic.make_batch(config, of_ppo)),
    )


def with_critic(state: train_state.TrainState, of_ppo) -> actor_critic.State:
    """A table policy's state beside that of a critic that expects 0."""
    tx = optax.sgd(of_ppo.learning_rate)
    return actor_critic.State(state, train_state.create({"value": jnp.zeros(VOCAB)}, tx))


def jitted_update(config: switches.GRPOConfig, learning_rate: float, of_ppo=None):
    """make_update with SGD, jitted; one program for all configurations of one loss."""
    of_loss = {f.name: getattr(config, f.name) for f in dataclasses.fields(losses.PolicyLossConfig)}
    names = ("num_microbatches", "max_response", "prompts_per_rollout", "num_minibatches")
    return _jitted(
        switches.GRPOConfig(**of_loss, **{name: getattr(config, name) for name in names}),
        learning_rate,
        of_ppo,
    )


@functools.cache
def _jitted(config: switches.GRPOConfig, learning_rate: float, of_ppo):
    return jax.jit(make_update(config, optax.sgd(learning_rate), of_ppo=of_ppo))


CONFIG = switches.GRPOConfig(
    num_steps=4, prompts_per_rollout=4, group_size=4, num_minibatches=2, kl_coef=0.1,
    reference_every=0, max_prompt=4, max_response=6, overlong_buffer=2,
)  # fmt: skip


def change(**values) -> switches.GRPOConfig:
    """CONFIG with other values."""
    return dataclasses.replace(CONFIG, **values)


def initial_table(scale: float = 0.3) -> dict[str, jax.Array]:
    """Parameters that prefer no token by much."""
    return {"table": scale * jnp.cos(jnp.arange(VOCAB, dtype=jnp.float32))}


@dataclasses.dataclass
class Run:
    """A run of the loop and all that it did."""

    calls: list[tuple] = dataclasses.field(default_factory=list)  # in order: (name, facts...)
    rows: list[dict] = dataclasses.field(default_factory=list)
    shapes: list[tuple] = dataclasses.field(default_factory=list)  # what losses looked at
    tables: list[np.ndarray] = dataclasses.field(default_factory=list)  # after each rollout
    references: list = dataclasses.field(default_factory=list)
    state: train_state.TrainState | actor_critic.State | None = None

    def names(self) -> list[str]:
        return [call[0] for call in self.calls]


def run(
    config: switches.GRPOConfig,
    *,
    learning_rate=0.5,
    seed=0,
    error=0.0,
    reward=reward,
    jit=True,
    of_ppo=None,
) -> Run:
    """grpo.train on the table policy, by SGD. `patch` first. jit=False also fills Run.shapes.

    of_ppo: PPOConfig, for PPO with a table critic.
    """
    tx = optax.sgd(learning_rate)
    done, next_uid, params = Run(), 0, initial_table()
    update = make_update(config, tx, done.shapes, of_ppo)
    if jit:
        update = jitted_update(config, learning_rate, of_ppo)
    state, make_batch = train_state.create(params, tx), grpo.group_batch
    if of_ppo is not None:
        made = make_critic(config, of_ppo)

        def said(params, rollouts):
            done.calls.append(("values", float(params["value"][GOOD])))
            return made.values(params, rollouts)

        state = with_critic(state, of_ppo)
        make_batch = ppo.make_batch(made._replace(values=said))

    def next_prompts():
        nonlocal next_uid
        first, next_uid = next_uid, next_uid + config.prompts_per_rollout
        done.calls.append(("next_prompts", first))
        return list(range(first, next_uid)), prompt_batch(
            first, config.prompts_per_rollout, config.max_prompt
        )

    def sample(params, batch, key, step, limit):
        done.calls.append(("generate", step, limit))
        return generate(
            params, batch, key, step, limit, error=error,
            group_size=config.group_size, max_response=config.max_response,
        )  # fmt: skip

    def logps(params, rollouts):
        done.calls.append(("logps", float(params["table"][0])))
        return token_scores(None, params, rollouts.tokens_BT, adjust=lambda logits: logits)[0]

    def updated(state, batch, rows):
        done.calls.append(("update", int(state.step), tuple(rows.tolist())))
        return update(state, jax.tree.map(jnp.asarray, batch), jnp.asarray(rows))

    def mix(reference, params):
        done.calls.append(("mix", float(params["table"][0])))
        share = config.reference_mix
        return jax.tree.map(lambda r, p: share * p + (1 - share) * r, reference, params)

    def start_score(problems, rollouts, step):
        done.calls.append(("score", step))
        finish = score(problems, rollouts, step, reward)

        def wait():
            done.calls.append(("scored", step))
            return finish()

        return wait

    def log(step, row, samples):
        done.calls.append(("log", step))
        done.rows.append({"step": step, "num_samples": len(samples), **row})

    def save(state, reference, behind):
        done.calls.append(("save", int(state.step)))
        done.tables.append(np.asarray(state.params["table"]))
        done.references.append(None if reference is None else np.asarray(reference["table"]))

    hooks = grpo.Hooks(
        next_prompts,
        start_score,
        log,
        lambda params, step: done.calls.append(("evaluate", step)),
        save,
    )
    done.state = grpo.train(
        config,
        state,
        params if config.kl_coef else None,
        grpo.Programs(sample, logps, logps, updated, mix),
        hooks,
        seed=seed,
        clock=metrics_clock.Clock(),
        make_batch=make_batch,
    )
    return done


def patch(monkeypatch) -> None:
    """Puts the table policy in the place of every model."""
    monkeypatch.setattr(scoring, "routed_scores", routed_scores)
    monkeypatch.setattr(critic, "values", values)
