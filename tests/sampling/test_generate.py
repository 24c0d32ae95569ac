"""Rollouts: what is drawn, its noise, stops and limits, refills, meshes, and sampler = learner."""

import copy
import dataclasses
import functools
import re

import jax
import numpy as np
import pytest

from r1_jax.core import masked, types
from r1_jax.metrics import compilations
from r1_jax.models import cache as kv_cache
from r1_jax.models import scoring, transformer
from r1_jax.sampling import generate as sampling_generate
from r1_jax.sampling import logits as sampling_logits
from r1_jax.sharding import mesh as meshes
from r1_jax.sharding import place
from tests.models import tiny

MODEL = dataclasses.replace(tiny.MODEL, num_layers=1)
V, D = MODEL.vocab_size, MODEL.embed_dim
P, G, CAPACITY, RESPONSE = 8, 2, 6, 8
B = P * G
STOPS = (0, 9)
PAD = 0  # also a stop id: nothing may be read off a token's value
STEP = np.int32(3)
MESHES = {"data=8": (8, 1, 1), "data=2 fsdp=2 tensor=2": (2, 2, 2)}
FIELDS = [
    f.name for f in dataclasses.fields(types.Rollouts) if f.name != "chosen_BTLX"
]  # no experts


def make(group_size=G, max_response=RESPONSE, stop_ids=STOPS, pad_id=PAD, **sampling):
    return sampling_generate.make_generate(
        MODEL,
        sampling_logits.SamplingConfig(**sampling),
        group_size=group_size,
        max_response=max_response,
        stop_ids=stop_ids,
        pad_id=pad_id,
    )


@functools.cache
def generator(**options):
    """generate(), compiled once for all tests that ask for the same."""
    return tiny.jit(make(**options))


def key(seed=1):
    return jax.random.key(seed)


def batch(seed=0):
    """Prompts of 1 to 6 tokens, stop ids among them, over junk padding."""
    rng = np.random.default_rng(seed)
    return types.PromptBatch(
        tokens_PT=rng.integers(0, V, (P, CAPACITY), np.int32),
        length_P=np.array([1, 3, 6, 4, 2, 5, 6, 1], np.int32),
        uid_P=np.array([5, 9, 2, 7, 2**31 - 1, 0, 11, 6], np.int32),
    )


def sample(params=None, prompts=None, seed=1, limit=RESPONSE, generate=None):
    generate = generate or generator()
    params = tiny.params(MODEL) if params is None else params
    rollouts = generate(params, prompts or batch(), key(seed), STEP, np.asarray(limit, np.int32))
    return jax.tree.map(np.asarray, rollouts)


def chain(logits_VV):
    """Parameters under which token w follows v with logit logits_VV[v, w], whatever came before.

    Blocks add nothing (their last kernels are 0), embeddings are one-hot, so that the hidden state
    after the last norm is sqrt(D) in one place.
    """
    params = copy.deepcopy(tiny.params(MODEL))
    params["embedding"] = np.eye(V, D, dtype=np.float32)
    params["final_norm"]["scale"] = np.ones(D, np.float32)
    block = params["layers"]["block"]
    for part in (block["attention"]["out"], block["mlp"]["down"]):
        part["kernel"] = np.zeros_like(part["kernel"])
    params["head"] = np.zeros((D, V), np.float32)
    params["head"][:V] = np.asarray(logits_VV) / np.sqrt(D)
    return params


def countdown():
    """v is followed by v - 1 all but surely; so a prompt's last token sets the completion."""
    return chain(80.0 * np.eye(V, k=-1))


def numbers(*last):
    """Prompts that end in the given tokens; before them stop ids."""
    tokens_PT = np.zeros((P, CAPACITY), np.int32)
    prompts = dataclasses.replace(batch(), tokens_PT=tokens_PT)
    tokens_PT[np.arange(P), prompts.length_P - 1] = last
    return prompts


LAST = (5, 12, 8, 9, 1, 25, 18, 17)
# 12 counts to the stop token 9; 8 takes exactly the eight tokens there are; 9, 25 and 18 never end
COUNTS = {
    5: ([4, 3, 2, 1, 0], 0),
    12: ([11, 10, 9], 9),
    8: ([7, 6, 5, 4, 3, 2, 1, 0], 0),
    9: ([8, 7, 6, 5, 4, 3, 2, 1], -1),
    1: ([0], 0),
    25: ([24, 23, 22, 21, 20, 19, 18, 17], -1),
    18: ([17, 16, 15, 14, 13, 12, 11, 10], -1),
    17: ([16, 15, 14, 13, 12, 11, 10, 9], 9),
}


def completions(rollouts):
    """(tokens, log-probs) of every row's completion; checks that the rest is prompt and padding."""
    found = []
    for b, row in enumerate(rollouts.tokens_BT):
        start, stop = (
            rollouts.prompt_length_B[b],
            rollouts.prompt_length_B[b] + rollouts.length_B[b],
        )
        assert (row[stop:] == PAD).all()
        logps_T = rollouts.logps_BT[b]
        assert not logps_T[:start].any() and not logps_T[stop:].any()
        found.append((row[start:stop].tolist(), logps_T[start:stop]))
    return found


def assert_same(a, b, rows_a=slice(None), rows_b=slice(None), fields=("length_B", "stop_B")):
    """Equal tokens, and `fields`; log-probs to 1e-5."""
    for name in fields:
        np.testing.assert_array_equal(getattr(a, name)[rows_a], getattr(b, name)[rows_b], name)
    # as lists: the rows may be padded to different lengths
    picked = [
        [completions(r)[i] for i in np.arange(len(r.length_B))[rows]]
        for r, rows in ((a, rows_a), (b, rows_b))
    ]
    for (tokens_a, logps_a), (tokens_b, logps_b) in zip(*picked, strict=True):
        assert tokens_a == tokens_b
        np.testing.assert_allclose(logps_a, logps_b, atol=1e-5)


# --- what comes back ----------------------------------------------------------------------------


def test_rows_are_prompt_major_and_begin_with_their_prompt():
    rollouts, prompts = sample(), batch()
    np.testing.assert_array_equal(rollouts.uid_B, np.repeat(prompts.uid_P, G))
    np.testing.assert_array_equal(rollouts.sample_B, np.tile(np.arange(G), P))
    np.testing.assert_array_equal(rollouts.prompt_length_B, np.repeat(prompts.length_P, G))
    assert rollouts.policy_step == STEP
    assert rollouts.tokens_BT.shape == rollouts.logps_BT.shape == (B, CAPACITY + RESPONSE)
    for b in range(B):
        length = rollouts.prompt_length_B[b]
        expected = prompts.tokens_PT[b // G, :length]
        np.testing.assert_array_equal(rollouts.tokens_BT[b, :length], expected)
    assert {getattr(rollouts, name).dtype for name in FIELDS if name != "logps_BT"} == {
        np.dtype(np.int32)
    }
    assert rollouts.logps_BT.dtype == np.float32
    # the tests below mean something: completions of many lengths, some cut off
    assert len(set(rollouts.length_B)) >= 5 and {-1, *STOPS} == set(rollouts.stop_B)


def test_counting_down_by_hand():
    rollouts = sample(countdown(), numbers(*LAST))
    for b, (tokens, logps) in enumerate(completions(rollouts)):
        expected, stop = COUNTS[LAST[b // G]]
        assert tokens == expected and rollouts.stop_B[b] == stop
        assert rollouts.length_B[b] == len(expected)  # the stop token is kept and counted once
        np.testing.assert_allclose(logps, 0.0, atol=1e-5)


def test_noise_is_a_function_of_key_uid_sample_and_place():
    """Every token inverts its distribution's cumulative sum at that one uniform number."""
    rng = np.random.default_rng(4)
    logits_VV = rng.normal(scale=1.5, size=(V, V))
    prompts = batch()
    rollouts = sample(chain(logits_VV), prompts, seed=7)

    @functools.partial(jax.vmap, in_axes=(0, None, None))
    @functools.partial(jax.vmap, in_axes=(None, 0, None))
    @functools.partial(jax.vmap, in_axes=(None, None, 0))
    def uniform(uid, index, place):
        of_group = jax.random.fold_in(jax.random.fold_in(key(7), uid), index)
        return jax.random.uniform(jax.random.fold_in(of_group, place))

    uniform_PGT = np.asarray(
        tiny.jit(uniform)(prompts.uid_P, np.arange(G, dtype=np.int32), np.arange(RESPONSE))
    )
    logps_VV = logits_VV - np.log(np.exp(logits_VV).sum(axis=1, keepdims=True))
    num = 0
    for b, (tokens, logps) in enumerate(completions(rollouts)):
        previous = rollouts.tokens_BT[b, rollouts.prompt_length_B[b] - 1]
        for t, (token, logp) in enumerate(zip(tokens, logps, strict=True)):
            sums_V = np.cumsum(np.exp(logps_VV[previous]))
            assert token == np.searchsorted(sums_V, uniform_PGT[b // G, b % G, t], side="right")
            np.testing.assert_allclose(logp, logps_VV[previous, token], rtol=1e-4, atol=1e-4)
            previous, num = token, num + 1
    assert num > 4 * P


def test_another_key_uid_or_sample_draws_other_noise_and_the_same_one_the_same():
    prompts = batch()
    same = dataclasses.replace(
        prompts,
        tokens_PT=np.tile(prompts.tokens_PT[2], (P, 1)),
        length_P=np.full(P, 6, np.int32),
        uid_P=np.array([1, 2, 3, 4, 5, 6, 7, 1], np.int32),  # the last is the first
    )
    # 24 tokens alike, no stops: that two completions agree has a chance of 1e-11
    params = chain(np.where(np.isin(np.arange(V), STOPS), -50.0, 0.0)[None, :] + np.zeros((V, V)))
    rollouts = sample(params, same)
    rows = [tuple(tokens) for tokens, _ in completions(rollouts)]
    assert len(set(rows)) == B - G
    assert rows[:G] == rows[-G:]
    other = [tuple(tokens) for tokens, _ in completions(sample(params, same, seed=2))]
    assert not set(rows) & set(other)
    again = sample(params, same)
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(again, name), getattr(rollouts, name), name)


def test_a_perturbed_weight_changes_the_rollout():
    rollouts = sample()
    params = copy.deepcopy(tiny.params(MODEL))
    params["layers"]["block"]["mlp"]["up"]["kernel"][0, 3, 5] += 0.5
    other = sample(params)
    assert (rollouts.logps_BT != other.logps_BT).any(axis=1).all()


def test_what_pads_a_prompt_does_not_matter():
    prompts = batch()
    padding = np.arange(CAPACITY)[None, :] >= prompts.length_P[:, None]
    expected = sample()
    for value in (PAD, V - 1):
        tokens_PT = np.where(padding, np.int32(value), prompts.tokens_PT)
        found = sample(prompts=dataclasses.replace(prompts, tokens_PT=tokens_PT))
        for name in FIELDS:
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), name)


# --- limits and compilations --------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 3])
def test_a_limit_cuts_completions_off(limit):
    free, cut = sample(), sample(limit=limit)
    np.testing.assert_array_equal(cut.length_B, np.minimum(free.length_B, limit))
    np.testing.assert_array_equal(cut.stop_B, np.where(free.length_B <= limit, free.stop_B, -1))
    for (tokens, _), (expected, _) in zip(completions(cut), completions(free), strict=True):
        assert tokens == expected[:limit]


def test_other_values_compile_nothing():
    prompts, keys = [batch(), batch(seed=1)], [key(1), key(2)]
    generate = generator()
    generate(tiny.params(MODEL), prompts[0], keys[0], np.int32(0), np.int32(RESPONSE))
    with compilations.Counter() as counter:
        generate(tiny.params(MODEL), prompts[1], keys[1], np.int32(8), np.int32(5))
        assert counter.lap() == 0
        jax.jit(lambda x: x + 1)(np.int32(0))
        assert counter.lap() == 1


# --- the queue ----------------------------------------------------------------------------------


def scheduled_steps(lengths, num_slots, enough_idle):
    """Steps of a loop that hands rows out in order whenever `enough_idle` slots stand idle."""
    waiting, busy, steps = list(lengths), [], 0
    while waiting or busy:
        if waiting and num_slots - len(busy) >= min(enough_idle, num_slots):
            room = num_slots - len(busy)
            busy, waiting = busy + waiting[:room], waiting[room:]
        busy = [left - 1 for left in busy if left > 1]
        steps += 1
    return steps


def test_all_stopped_ends_the_loop():
    every = sample(countdown(), numbers(*[1] * P))
    assert every.length_B.tolist() == [1] * B and every.slot_steps == B
    one_long = sample(countdown(), numbers(1, 1, 1, 4, 1, 1, 1, 1))
    assert one_long.slot_steps == 4 * B


def test_refilled_slots_give_what_all_at_once_gives():
    whole, refilled = sample(), sample(generate=generator(num_slots=3))
    assert_same(refilled, whole)
    # three slots, each refilled in the very step after it stood idle
    lengths = whole.length_B.tolist()
    assert refilled.slot_steps == 3 * scheduled_steps(lengths, 3, 1)
    assert whole.slot_steps == B * max(lengths)
    # only in the end, when none waits, does a slot stand idle
    assert refilled.slot_steps - sum(lengths) <= 2 * (RESPONSE - 1)
    limited, cut = sample(limit=3, generate=generator(num_slots=3)), sample(limit=3)
    assert_same(limited, cut)


def test_a_ring_in_pieces_gives_what_a_whole_one_gives(monkeypatch):
    whole = sample()
    monkeypatch.setattr(kv_cache, "pieces", lambda capacity: (3, 3, capacity - 6))
    assert_same(sample(generate=tiny.jit(make())), whole)
    assert whole.length_B.max() == RESPONSE  # it went through all pieces
    assert tiny.count(trace(make()), "cond") == 3  # each is read in a branch of its own
    assert not tiny.count(trace(make(num_slots=3)), "cond")  # and refilled rows have a whole one


def test_each_completion_has_its_own_limit_if_told_so():
    limit_B = np.random.default_rng(0).integers(1, RESPONSE + 1, B)
    free, cut = sample(), sample(limit=limit_B)
    assert_same(cut, sample(limit=limit_B, generate=generator(num_slots=3)))
    np.testing.assert_array_equal(cut.length_B, np.minimum(free.length_B, limit_B))
    np.testing.assert_array_equal(cut.stop_B, np.where(free.length_B <= limit_B, free.stop_B, -1))
    assert len(set(cut.length_B.tolist())) > 2 and (cut.stop_B < 0).any()


@pytest.mark.parametrize("num_slots", [0, 3])
def test_the_order_of_prompts_does_not_matter(num_slots):
    generate = generator(num_slots=num_slots) if num_slots else generator()
    prompts, order = batch(), np.random.default_rng(3).permutation(P)
    shuffled = jax.tree.map(lambda x: x[order], prompts)
    rows = (order[:, None] * G + np.arange(G)[None, :]).reshape(-1)
    fields = ("length_B", "stop_B", "uid_B", "sample_B", "prompt_length_B")
    found = sample(prompts=shuffled, generate=generate)
    assert_same(found, sample(generate=generate), rows_b=rows, fields=fields)


def test_other_prompts_capacities_and_group_sizes_do_not_matter():
    """Two of the prompts, wider, three samples each, in a cache with more room."""
    picked, wide = [6, 1], CAPACITY + 2
    prompts = batch()
    some = types.PromptBatch(
        np.pad(prompts.tokens_PT[picked], ((0, 0), (0, 2)), constant_values=4),
        prompts.length_P[picked],
        prompts.uid_P[picked],
    )
    generate = generator(group_size=3, max_response=RESPONSE + 2)
    found = sample(prompts=some, generate=generate)
    assert found.tokens_BT.shape == (6, wide + RESPONSE + 2)
    rows = [p * G + g for p in picked for g in range(G)]
    assert_same(found, sample(), rows_a=[0, 1, 3, 4], rows_b=rows)
    third = [completions(found)[i][0] for i in (2, 5)]
    assert third[0] not in [completions(found)[i][0] for i in (0, 1)]
    assert third[1] not in [completions(found)[i][0] for i in (3, 4)]


@pytest.mark.parametrize("name", MESHES)
def test_eight_devices_are_one(name):
    """The second mesh with the queue, handed out in batches."""
    options = {} if name == "data=8" else {"num_slots": 8, "refill_share": 1.0}
    whole, made = sample(), meshes.make_mesh(*MESHES[name])
    boxed = jax.eval_shape(functools.partial(transformer.init_boxed, MODEL), key())
    shardings = place.shardings(boxed, made)
    with meshes.activate(made):
        params = jax.device_put(tiny.params(MODEL), shardings)
        prompts = place.from_host(batch(), made, place.batch_sharding(made).spec)
        inputs = params, prompts, key(), STEP, np.int32(RESPONSE)
        compiled = tiny.jit(make(**options)).lower(*inputs).compile()
        found = jax.tree.map(np.asarray, compiled(*inputs))
    assert_same(found, whole, fields=("length_B", "stop_B", "uid_B", "sample_B"))
    # neither logits nor the embedding's rows come together on a device
    gathered = re.findall(r"= \w+\[([\d,]*)\]\S* all-gather", compiled.as_text())
    sizes = {int(size) for shape in gathered for size in shape.split(",") if size}
    assert V not in sizes and (not options or V // 2 in sizes)
    if options:
        assert found.slot_steps == 8 * scheduled_steps(whole.length_B.tolist(), 8, 8)


# --- sampler = learner --------------------------------------------------------------------------

SAMPLING = {
    "plain": {},
    "filtered": {"temperature": 0.7, "top_k": 7, "top_p": 0.9, "min_p": 0.03, "num_slots": 1000},
    "greedy, without stops": {"temperature": 0.0, "stop_ids": ()},
}


@pytest.mark.parametrize("name", SAMPLING)
def test_the_learner_gives_the_samplers_log_probabilities(name):
    options = SAMPLING[name]
    config = sampling_logits.SamplingConfig(
        **{k: v for k, v in options.items() if k not in ("stop_ids", "num_slots")}
    )
    rollouts = sample(generate=generator(**options))
    adjust = functools.partial(sampling_logits.adjust, config)
    learn = tiny.jit(lambda p, x: scoring.token_scores(MODEL, p, x, adjust=adjust, chunk=4)[0])
    logps_BT = np.asarray(learn(tiny.params(MODEL), rollouts.tokens_BT))
    mask_BT = masked.completion_mask(rollouts.prompt_length_B, rollouts.length_B, logps_BT.shape[1])
    gap_BT = np.where(mask_BT, logps_BT - rollouts.logps_BT, 0.0)
    assert np.abs(gap_BT).max() <= 1e-4
    if name == "greedy, without stops":
        assert (rollouts.length_B == RESPONSE).all() and (rollouts.stop_B == -1).all()
        assert not rollouts.logps_BT.any()
        for g in range(1, G):  # without noise a group is one completion
            np.testing.assert_array_equal(rollouts.tokens_BT[g::G], rollouts.tokens_BT[::G])
    else:
        assert np.where(mask_BT, rollouts.logps_BT, 0.0).min() < -1
    if name != "plain":
        assert (rollouts.tokens_BT != sample().tokens_BT).any(axis=1).sum() > B / 2


# --- the program --------------------------------------------------------------------------------


def trace(generate):
    inputs = tiny.params(MODEL), batch(), key(), STEP, np.int32(RESPONSE)
    return jax.make_jaxpr(generate)(*inputs)


@pytest.fixture(scope="module")
def program():
    return trace(make())


def test_the_loops_carry_the_cache_in_the_type_that_is_asked_for(program):
    kept = (B, MODEL.num_kv_heads, MODEL.head_dim, RESPONSE)  # keys of the ring

    def types_kept(program):
        loops = [e for e in tiny.equations(program) if e.primitive.name == "while"]
        carried = [x.aval for loop in loops for x in loop.invars if x.aval.shape == kept]
        return {x.dtype.name for x in carried}

    assert types_kept(program) == {"float32"}
    assert types_kept(trace(make(cache="int8"))) == {"int8"}


def test_a_prompt_is_prefilled_once_whatever_the_size_of_its_group(program):
    """No array has positions of a prompt and rows of completions, but keys and values of slots
    that are refilled: copies."""
    found = tiny.shapes(program)
    width, heads = MODEL.mlp_dim, (MODEL.num_heads, MODEL.head_dim)
    for each in ((D,), (width,), heads):
        assert (P, CAPACITY, *each) in found
        assert (B, CAPACITY, *each) not in found
    K, H = MODEL.num_kv_heads, MODEL.head_dim
    assert (P, K, CAPACITY, H) in found and (B, K, CAPACITY, H) not in found
    assert (3, K, CAPACITY, H) in tiny.shapes(trace(make(num_slots=3)))


def test_only_a_rows_last_position_meets_the_vocabulary(program):
    of_vocabulary = {shape for shape in tiny.shapes(program) if V in shape}
    assert (B, V) in of_vocabulary
    assert max(np.prod(shape) for shape in of_vocabulary - {(D, V), (V, D)}) == B * V
