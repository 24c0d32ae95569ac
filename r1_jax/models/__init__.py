"""Floor 1: parameters and token ids in, arrays out.

Lives here: ModelConfig and named sizes, layers, rotary, attention (grouped-query and latent),
experts, the KV cache, the decoder, multi-token prediction, heads, scoring per token, the critic,
the reward model, low-rank adapters.
May import: core, sharding; with sharding, the only room that knows flax.
Never touches: text, rewards, losses, optimisers, files.
"""
