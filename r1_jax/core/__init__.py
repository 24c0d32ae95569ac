"""Floor 0: the words every room shares.

Lives here: the travelling pytrees (types), reductions under a mask (masked), named random streams
(keys), mapping -> dataclass (build), sizes and names of trees (trees).
May import: jax, numpy, the standard library. Nothing of ours.
Never touches: models, tokens' meaning, files, flags.
"""
