"""Floor 2: completions, sampled in the graph.

Lives here: filters on logits, prefill and decoding as one traced function, decoding
that guesses ahead, the host side of it.
May import: core, sharding, models, text.
Never touches: rewards, losses, data sets.
"""
