"""Floor 3: loops that change parameters.

Lives here: the train state, optimisers, losses over models, the one update, checks before step 0,
and the loops, each read from top to bottom on a page.
May import: floors 0-2. Gets scoring and evaluation as callables.
Never touches: flags, benchmarks, how a reward is computed.
"""
