"""A slow decoder in float64, from the papers: RMSNorm, rotary, grouped-query attention, SwiGLU.

Written from the equations and not from r1_jax/models, which it does not import: loops over
positions and heads, complex numbers for rotary, each position attending to the visible ones only.
"""

import numpy as np


def rms_norm(x, scale, epsilon):
    """arXiv:1910.07467 Eq. 4, along the last axis."""
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon) * scale


def rotate(x, position, theta):
    """arXiv:2104.09864 Eq. 34 with pairs (x[i], x[i + H/2]): complex numbers, turned."""
    half = x.shape[-1] // 2
    z = x[..., :half] + 1j * x[..., half:]
    z = z * np.exp(1j * position * theta ** (-2.0 * np.arange(half) / x.shape[-1]))
    return np.concatenate([z.real, z.imag], axis=-1)


def attend(q_TNH, k_TKH, v_TKH, segment_T):
    """Every query head n reads key/value head n // (N/K), at its own and earlier positions."""
    T, N, H = q_TNH.shape
    per_group = N // k_TKH.shape[1]
    out_TNH = np.zeros((T, N, H))
    for t in range(T):
        seen = [s for s in range(t + 1) if segment_T[s] == segment_T[t]]
        for n in range(N):
            logits = np.array([q_TNH[t, n] @ k_TKH[s, n // per_group] for s in seen]) / np.sqrt(H)
            weights = np.exp(logits - logits.max())
            weights /= weights.sum()
            out_TNH[t, n] = sum(
                w * v_TKH[s, n // per_group] for w, s in zip(weights, seen, strict=True)
            )
    return out_TNH


def silu(x):
    return x / (1 + np.exp(-x))


def hidden(params, tokens_T, position_T, segment_T, *, rope_theta, norm_epsilon):
    """Hidden states [T, D] of one row after the last norm."""
    params = _float64(params)
    x_TD = params["embedding"][tokens_T]
    blocks = params["layers"]["block"]
    for layer in range(len(blocks["mlp_norm"]["scale"])):
        block = _layer(blocks, layer)
        a = block["attention"]
        normed_TD = rms_norm(x_TD, block["attention_norm"]["scale"], norm_epsilon)
        q, k, v = (
            np.einsum("td,dnh->tnh", normed_TD, a[name]["kernel"]) + a[name].get("bias", 0.0)
            for name in ("query", "key", "value")
        )
        for t, position in enumerate(position_T):
            q[t], k[t] = rotate(q[t], position, rope_theta), rotate(k[t], position, rope_theta)
        mixed_TNH = attend(q, k, v, segment_T)
        x_TD = x_TD + np.einsum("tnh,nhd->td", mixed_TNH, a["out"]["kernel"])
        normed_TD = rms_norm(x_TD, block["mlp_norm"]["scale"], norm_epsilon)
        mlp = {name: block["mlp"][name]["kernel"] for name in ("gate", "up", "down")}
        x_TD = x_TD + (silu(normed_TD @ mlp["gate"]) * (normed_TD @ mlp["up"])) @ mlp["down"]
    return rms_norm(x_TD, params["final_norm"]["scale"], norm_epsilon)


def logps(params, hidden_TD):
    """log p [T, V] of the next token: the head is `head`, or the embedding where there is none."""
    head_DV = np.asarray(params["head"] if "head" in params else params["embedding"].T, np.float64)
    logits_TV = hidden_TD @ head_DV
    top_T1 = logits_TV.max(-1, keepdims=True)
    return logits_TV - top_T1 - np.log(np.exp(logits_TV - top_T1).sum(-1, keepdims=True))


def _float64(tree):
    if isinstance(tree, dict):
        return {name: _float64(branch) for name, branch in tree.items()}
    return np.asarray(tree, np.float64)


def _layer(tree, layer):
    if isinstance(tree, dict):
        return {name: _layer(branch, layer) for name, branch in tree.items()}
    return tree[layer]
