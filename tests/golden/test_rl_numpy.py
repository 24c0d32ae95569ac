"""The gradients derived by hand in tests/golden agree with differences of its own values.

So an error in a derivation cannot hide behind the same error in r1_jax/rl.
"""

import numpy as np
import pytest

from tests.golden import rl_numpy as golden

RNG_SEED = 0


@pytest.mark.parametrize("ddof", [0, 1])
def test_zscore(ddof):
    rng = np.random.default_rng(RNG_SEED)
    rewards, cotangent = rng.normal(size=(3, 5)), rng.normal(size=(3, 5))
    valid = rng.random((3, 5)) < 0.8
    differences = golden.central_difference(
        lambda r: float(np.sum(cotangent * golden.zscore(r, valid, 1e-2, ddof))), rewards
    )
    by_hand = golden.zscore_vjp(rewards, valid, 1e-2, ddof, cotangent)
    assert np.abs(by_hand).max() > 0.1
    np.testing.assert_allclose(by_hand, differences, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("estimator", [golden.k1, golden.k2, golden.k3])
@pytest.mark.parametrize("log_ratio", [-25.0, -19.0, -1.5, 0.0, 0.7, 19.0, 100.0])
def test_kl(estimator, log_ratio):
    logp = np.array([-1.0])
    differences = golden.central_difference(
        lambda x: estimator(x[0], -1.0 - log_ratio)[0], logp, step=1e-5
    )
    by_hand = estimator(-1.0, -1.0 - log_ratio)[1]
    np.testing.assert_allclose(by_hand, differences[0], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("how", ["sequence_mean", "token_mean", "constant_length"])
@pytest.mark.parametrize("ratio", ["token", "sequence"])
def test_policy_loss(how, ratio):
    rng = np.random.default_rng(RNG_SEED)
    shape = (4, 6)
    logps = rng.normal(-1, 0.5, shape)
    olds = logps + rng.normal(0, 0.5, shape)
    # GSPO's gradient per token is that of its value only where all weights of a row are equal
    behaviors = olds if ratio == "sequence" else olds + rng.normal(0, 0.5, shape)
    mask = np.arange(6)[None, :] < np.array([6, 3, 1, 4])[:, None]
    arguments = {
        "olds": olds,
        "references": logps + rng.normal(0, 0.5, shape),
        "behaviors": behaviors,
        "advantages": np.array([1.0, -0.5, 2.0, -1.5]),
        "mask": mask,
        "include": np.array([True, True, False, True]),
        "ratio": ratio,
        "low": 0.2,
        "high": 0.28,
        "kl": golden.k3,
        "kl_coef": 0.1,
        "cap": 1.3,
        "how": how,
        "max_length": 8,
    }
    differences = golden.central_difference(lambda x: golden.policy_loss(x, **arguments)[0], logps)
    by_hand = golden.policy_loss(logps, **arguments)[1]
    assert np.abs(by_hand).max() > 0.01
    np.testing.assert_allclose(by_hand, differences, rtol=1e-6, atol=1e-9)
