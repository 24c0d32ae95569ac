"""Slow references for r1_jax/rl, from the papers: Python loops over float64, gradients by hand.

Written from the equations and not from r1_jax/rl, which it does not import. Every gradient here
is derived on paper, and test_rl_numpy.py beside it compares each with central differences.
Names: d = log policy - log old (or reference), A advantage, L the loss (smaller is better).
"""

import math

import numpy as np

EXPONENT_LIMIT = 20.0  # where k3 turns linear and ratios are held


# --- advantages ---------------------------------------------------------------------------------


def zscore(rewards, valid, epsilon, ddof):
    """DeepSeek-R1 Eq. 3: (r - mean) / (std + epsilon) over the valid rewards of each group."""
    advantages = np.zeros(rewards.shape)
    for p, row in enumerate(rewards):
        kept = [float(r) for r, ok in zip(row, valid[p], strict=True) if ok]
        if len(kept) < 2 or max(kept) - min(kept) <= 1e-6:
            continue
        mean = sum(kept) / len(kept)
        std = math.sqrt(sum((r - mean) ** 2 for r in kept) / (len(kept) - ddof))
        for g, r in enumerate(row):
            if valid[p, g]:
                advantages[p, g] = (float(r) - mean) / (std + epsilon)
    return advantages


def zscore_vjp(rewards, valid, epsilon, ddof, cotangent):
    """Gradient of sum(cotangent * zscore) w.r.t. the rewards.

    With n valid rewards, c_i = r_i - m, s = sqrt(sum c^2 / (n - ddof)), u = s + epsilon:
    dA_i/dr_j = (delta_ij - 1/n) / u - c_i / u^2 * ds/dr_j and ds/dr_j = c_j / (s (n - ddof)),
    because the derivative of m drops out of sum c^2.
    """
    gradient = np.zeros(rewards.shape)
    for p, row in enumerate(rewards):
        index = [g for g in range(len(row)) if valid[p, g]]
        kept = [float(row[g]) for g in index]
        n = len(kept)
        if n < 2 or max(kept) - min(kept) <= 1e-6:
            continue
        mean = sum(kept) / n
        std = math.sqrt(sum((r - mean) ** 2 for r in kept) / (n - ddof))
        for j in index:
            slope = (row[j] - mean) / (std * (n - ddof))
            for i in index:
                direct = (float(i == j) - 1 / n) / (std + epsilon)
                through_std = (row[i] - mean) / (std + epsilon) ** 2 * slope
                gradient[p, j] += cotangent[p, i] * (direct - through_std)
    return gradient


def mean_only(rewards, valid):
    """Dr. GRPO: r - mean over the valid rewards of each group."""
    advantages = np.zeros(rewards.shape)
    for p, row in enumerate(rewards):
        kept = [float(r) for r, ok in zip(row, valid[p], strict=True) if ok]
        for g, r in enumerate(row):
            if valid[p, g]:
                advantages[p, g] = float(r) - sum(kept) / len(kept)
    return advantages


def leave_one_out(rewards, valid):
    """RLOO: r - mean over the other valid rewards of the group; 0 where there is no other."""
    advantages = np.zeros(rewards.shape)
    for p, row in enumerate(rewards):
        for g, r in enumerate(row):
            others = [float(row[h]) for h in range(len(row)) if h != g and valid[p, h]]
            if valid[p, g] and others:
                advantages[p, g] = float(r) - sum(others) / len(others)
    return advantages


def gae(rewards, values, mask, gamma, lam):
    """arXiv:1506.02438 Eq. 16, the sum as it is defined: (advantages, advantages + values).

    A_t = sum over l of (gamma lam)^l (r_{t+l} + gamma V_{t+l+1} - V_{t+l}), V = 0 past the end.
    """
    advantages, returns = np.zeros(mask.shape), np.zeros(mask.shape)
    for b in range(len(mask)):
        here = [t for t in range(mask.shape[1]) if mask[b, t]]
        reward = [float(rewards[b, t]) for t in here]
        value = [float(values[b, t]) for t in here] + [0.0]
        for i, t in enumerate(here):
            for j in range(i, len(here)):
                delta = reward[j] + gamma * value[j + 1] - value[j]
                advantages[b, t] += (gamma * lam) ** (j - i) * delta
            returns[b, t] = advantages[b, t] + value[i]
    return advantages, returns


# --- KL estimators, one token -------------------------------------------------------------------


def k1(logp, reference):
    return logp - reference, 1.0


def k2(logp, reference):
    d = logp - reference
    return d * d / 2, d


def k3(logp, reference):
    """DeepSeek-R1 Eq. 2: r - log r - 1, r = reference / policy = exp(-d); dr/dlogp = -r.

    Above x = -d = 20, exp(x) is replaced by its tangent exp(20) (1 + x - 20).
    """
    x = reference - logp
    if x > EXPONENT_LIMIT:
        top = math.exp(EXPONENT_LIMIT)
        return top * (1 + x - EXPONENT_LIMIT) - x - 1, 1 - top
    return math.exp(x) - x - 1, 1 - math.exp(x)


# --- ratios and the clipped objective -----------------------------------------------------------


def held(d):
    return max(-EXPONENT_LIMIT, min(EXPONENT_LIMIT, d))


def token_ratio(logp, old):
    """exp(d), d held within +-20, and its derivative w.r.t. logp: itself, or 0 where held."""
    ratio = math.exp(held(logp - old))
    return ratio, ratio if abs(logp - old) < EXPONENT_LIMIT else 0.0


def sequence_ratio(logps, olds):
    """GSPO Eq. 7 for the tokens of one completion: s = exp(mean d)."""
    mean = sum(a - b for a, b in zip(logps, olds, strict=True)) / len(logps)
    return math.exp(held(mean))


def clipped(ratio, advantage, low, high):
    """-min(ratio A, clip(ratio) A) and its derivative w.r.t. the ratio, case by case.

    The minimum takes the clipped branch, which has derivative 0 in the ratio, exactly when A > 0
    and ratio > 1 + high, or A < 0 and ratio < 1 - low. Everywhere else the derivative is -A.
    """
    if advantage > 0 and ratio > 1 + high:
        return -(1 + high) * advantage, 0.0
    if advantage < 0 and ratio < 1 - low:
        return -(1 - low) * advantage, 0.0
    return -ratio * advantage, -advantage


def importance_weight(old, behavior, cap):
    return min(math.exp(held(old - behavior)), cap)


# --- the whole loss -----------------------------------------------------------------------------


def policy_loss(
    logps, olds, references, behaviors, advantages, mask, include, *,
    ratio, low, high, kl, kl_coef, cap, how, max_length,
):  # fmt: skip
    """Mean loss over the batch and its gradient w.r.t. every log-prob, by loops.

    Per token w * clipped(ratio, A) + kl_coef * KL, then one of three means:
      sequence_mean    1/R sum_b 1/n_b sum_t         so each token has factor 1 / (R n_b)
      token_mean       1/N sum_b sum_t               factor 1 / N
      constant_length  1/R sum_b 1/max_length sum_t  factor 1 / (R max_length)
    with R included rows, n_b their tokens, N all of them. For the sequence ratio, s enters each
    of the row's tokens with derivative s w.r.t. that token's own log-prob (GSPO Eq. 14), 0 where
    the mean log-ratio is held.
    """
    num_rows, num_positions = logps.shape
    rows = [b for b in range(num_rows) if include[b]]
    num_tokens = sum(int(mask[b, t]) for b in rows for t in range(num_positions))
    loss, gradient = 0.0, np.zeros(logps.shape)
    for b in rows:
        here = [t for t in range(num_positions) if mask[b, t]]
        factor = {
            "sequence_mean": 1 / (len(rows) * max(len(here), 1)),
            "token_mean": 1 / max(num_tokens, 1),
            "constant_length": 1 / (len(rows) * max_length),
        }[how]
        for t in here:
            if ratio == "token":
                value, slope = token_ratio(logps[b, t], olds[b, t])
            else:
                value = sequence_ratio(logps[b, here], olds[b, here])
                is_held = abs(np.mean(logps[b, here] - olds[b, here])) >= EXPONENT_LIMIT
                slope = 0.0 if is_held else value
            surrogate, surrogate_slope = clipped(value, advantages[b], low, high)
            weight = importance_weight(olds[b, t], behaviors[b, t], cap)
            penalty, penalty_slope = kl(logps[b, t], references[b, t])
            loss += factor * (weight * surrogate + kl_coef * penalty)
            gradient[b, t] = factor * (weight * surrogate_slope * slope + kl_coef * penalty_slope)
    return loss, gradient


def soft_penalty(length, max_length, buffer):
    """DAPO Eq. 13, case by case."""
    if length <= max_length - buffer:
        return 0.0
    if length <= max_length:
        return ((max_length - buffer) - length) / buffer
    return -1.0


def central_difference(function, x, step=1e-6):
    """Gradient of a scalar function of an array, by (f(x + h) - f(x - h)) / 2h, float64."""
    gradient = np.zeros(x.shape)
    for index in np.ndindex(*x.shape):
        up, down = x.copy(), x.copy()
        up[index] += step
        down[index] -= step
        gradient[index] = (function(up) - function(down)) / (2 * step)
    return gradient
