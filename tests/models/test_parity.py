"""Every family against the transformers library: logits, greedy decoding, gradients; float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1_jax.core import trees, types
from r1_jax.models import heads, scoring, transformer
from r1_jax.sampling import generate as sampling_generate
from r1_jax.sampling import logits as sampling_logits
from tests.models import parity, tiny

pytestmark = [
    pytest.mark.hf,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
B, T = 3, 37
LENGTH_B = np.array([T, 20, 5])
RTOL = 1e-4  # of the largest logit


@pytest.fixture
def torch():
    """Imported when a test runs, not when it is collected: it takes seconds."""
    return pytest.importorskip("torch")


def _tokens(rows=B, length=T, seed=0):
    return np.random.default_rng(seed).integers(0, parity.V, (rows, length), np.int32)


def _theirs(torch, model, tokens_BT, is_real_BT, position_BT):
    with torch.no_grad():
        return model(
            input_ids=torch.from_numpy(tokens_BT).long(),
            attention_mask=torch.from_numpy(is_real_BT).long(),
            position_ids=torch.from_numpy(position_BT).long(),
        ).logits.numpy()


def _agree(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=RTOL * np.abs(theirs).max())


@pytest.mark.parametrize("padding", ["none", "right", "left"])
@pytest.mark.parametrize("name", parity.FAMILIES)
def test_logits(name, padding, torch):
    model, config, params = parity.make(name)
    tokens_BT, place_BT = _tokens(), np.broadcast_to(np.arange(T), (B, T))
    if padding == "none":
        is_real_BT = np.ones((B, T), bool)
    elif padding == "right":
        is_real_BT = place_BT < LENGTH_B[:, None]
    else:
        is_real_BT = place_BT >= T - LENGTH_B[:, None]
    position_BT = np.maximum(np.cumsum(is_real_BT, axis=1) - 1, 0).astype(np.int32)
    theirs = _theirs(torch, model, tokens_BT, is_real_BT, position_BT)

    @tiny.jit
    def run(params):
        # what is on the right needs no segments: causality is enough
        segment_BT = is_real_BT.astype(np.int32) if padding == "left" else None
        hidden_BTD, _ = transformer.forward(config, params, tokens_BT, position_BT, segment_BT)
        return heads.logits(hidden_BTD, heads.kernel(config, params))

    ours = np.asarray(run(params))
    assert np.abs(theirs).max() > 1
    _agree(ours[is_real_BT], theirs[is_real_BT])


@pytest.mark.parametrize("name", parity.FAMILIES)
def test_greedy_tokens_from_the_cache(name, torch):
    model, config, params = parity.make(name)
    lengths, num_tokens = np.array([9, 4, 1]), 64
    prompts_PT = _tokens(length=9, seed=1)
    # top-k 1 leaves the likeliest token alone, whatever the noise
    generate = sampling_generate.make_generate(
        config,
        sampling_logits.SamplingConfig(top_k=1),
        group_size=1,
        max_response=num_tokens,
        stop_ids=(parity.V,),  # never drawn
        pad_id=0,
    )
    batch = types.PromptBatch(prompts_PT, lengths.astype(np.int32), np.arange(B, dtype=np.int32))
    rollouts = tiny.jit(generate)(
        params, batch, jax.random.key(0), np.int32(0), np.int32(num_tokens)
    )
    for b, length in enumerate(lengths):
        prompt = torch.from_numpy(prompts_PT[b, :length]).long()[None]
        theirs = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),  # none is padding, whatever its number
            max_new_tokens=num_tokens,
            do_sample=False,
            use_cache=True,
            pad_token_id=0,
        )[0].numpy()
        np.testing.assert_array_equal(
            np.asarray(rollouts.tokens_BT)[b, : length + num_tokens], theirs
        )


@pytest.mark.parametrize("name", ["qwen3", "llama 3", "deepseek v3"])
def test_gradients_of_summed_log_probs(name, torch):
    model, config, params = parity.make(name)
    tokens_BT = _tokens()
    tokens = torch.from_numpy(tokens_BT).long()
    logps = torch.log_softmax(model(input_ids=tokens).logits[:, :-1], dim=-1)
    total = logps.gather(-1, tokens[:, 1:, None]).sum()
    total.backward()

    def ours(params):
        return jnp.sum(
            scoring.token_scores(config, params, tokens_BT, adjust=lambda logits: logits)[0]
        )

    value, found = tiny.jit(jax.value_and_grad(ours))(params)
    np.testing.assert_allclose(value, total.item(), rtol=1e-4)
    expected = parity.parameters(model, lambda x: torch.zeros_like(x) if x.grad is None else x.grad)
    found = trees.paths(found)
    for path, theirs in trees.paths(expected).items():
        scale = np.abs(theirs).max()
        # nothing but the choice of experts depends on their bias
        assert (scale == 0) == path.endswith("router/bias"), path
        np.testing.assert_allclose(
            found[path], theirs, rtol=0, atol=1e-3 * max(scale, 1e-6), err_msg=path
        )


def test_what_parity_is_measured_with_is_what_setup_asks_for(torch):
    import transformers

    assert torch.__version__.startswith("2.13.0")
    assert transformers.__version__ == "5.23.0"
