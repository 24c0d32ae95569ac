"""Floor 1: parameters and token ids in, arrays out.

Lives here: ModelConfig and sizes, layers, attention, the KV cache, the decoder, heads, scoring per
token, the critic.
May import: core, sharding; with sharding, the only room that knows flax.
Never touches: text, rewards, losses, optimisers, files.
"""
