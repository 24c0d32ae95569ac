"""The length reward: how near a completion comes to a wanted number of tokens.

Source: the linear penalty of LCPO-Exact (L1, arXiv 2503.04697), here relative to the target and
cut at -1, so that its weight means the same for every target. Range [-1, 0]. It knows nothing of
the answer. Known hack: padding and cutting both pay; alone it teaches to count, so give accuracy
more weight. DAPO's soft overlong punishment has its one home in rl.overlong, on arrays of a batch.
"""


def to_target(length: int, target: int) -> float:
    """Minus the distance of `length` from `target` in parts of target, at least -1.

    Both in generated tokens, stop token included. ValueError unless target > 0 and length >= 0.
    """
    if target <= 0 or length < 0:
        raise ValueError(f"length={length} must be >= 0 and target={target} > 0, in tokens")
    return -min(1.0, abs(length - target) / target)
