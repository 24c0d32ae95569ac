"""Preference pairs in which length says nothing: as many longer winners as longer losers.

A judge likes length, and a reward model finds that first. DeepSeek-R1 (Nature, 2025) 3.1 keeps the
lengths of chosen and rejected answers comparable and does not say how. Here pairs are put into bins
by ln(length of chosen / length of rejected), and a bin and its mirror image keep equally many.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence

from r1_jax.data import preferences

BIN = 0.25  # in ln: neighbouring bins are 28% of length apart


def log_ratio(pair: preferences.Preference, length: Callable[[str], int]) -> float:
    """ln(length of chosen / length of rejected), both counted as 1 at least."""
    return math.log(max(1, length(pair.chosen)) / max(1, length(pair.rejected)))


def balance(
    pairs: Sequence[preferences.Preference],
    length: Callable[[str], int],
    *,
    seed: int,
    bin_width: float = BIN,
) -> list[preferences.Preference]:
    """The pairs that are kept, in their order. length: of a text, in tokens.

    Of |log_ratio| in (i * bin_width, (i + 1) * bin_width] as many pairs with a longer winner are
    kept as with a longer loser; equal lengths are all kept. Which ones go is a function of the seed
    and of each pair's own identity.
    """
    if bin_width <= 0:
        raise ValueError(f"bin_width={bin_width} must be above 0")
    bins: dict[tuple[int, bool], list[int]] = defaultdict(list)
    kept = set()
    for index, pair in enumerate(pairs):
        ratio = log_ratio(pair, length)
        if ratio:
            bins[math.ceil(abs(ratio) / bin_width), ratio > 0].append(index)
        else:
            kept.add(index)
    for (distance, is_longer), members in bins.items():
        num = min(len(members), len(bins.get((distance, not is_longer), ())))
        kept.update(sorted(members, key=lambda index: _place(pairs[index], seed))[:num])
    return [pair for index, pair in enumerate(pairs) if index in kept]


def measure(
    pairs: Sequence[preferences.Preference], length: Callable[[str], int]
) -> dict[str, float]:
    """How much length says: 0.5 and 0 when nothing.

    longer_chosen_share: of pairs, equal lengths counted half; it is the accuracy of a reward model
    that knows length alone. log_ratio_mean: of ln(chosen / rejected). Both 0.5 and 0 without pairs.
    """
    ratios = [log_ratio(pair, length) for pair in pairs]
    if not ratios:
        return {"longer_chosen_share": 0.5, "log_ratio_mean": 0.0}
    longer = sum(1.0 if ratio > 0 else 0.5 if ratio == 0 else 0.0 for ratio in ratios)
    return {
        "longer_chosen_share": longer / len(ratios),
        "log_ratio_mean": math.fsum(ratios) / len(ratios),
    }


def _place(pair: preferences.Preference, seed: int) -> tuple[int, int, int]:
    """Where `pair` stands when some of its bin must go; texts have no say in it."""
    bits = preferences.draw("preference/balance", seed, pair.uid, pair.pair, 0)
    return bits, pair.uid, pair.pair
