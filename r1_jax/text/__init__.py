"""Floor 1: strings and token ids.

Lives here: tokenizers, the prompt template and its tags as values, layouts of chat models, words
that show reflection.
May import: core.
Never touches: arrays, models, datasets, rewards.
"""
