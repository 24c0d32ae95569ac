"""Strings and token ids: tokenizers, the prompt template and its tags, words that show reflection.

May import: core. Never touches: arrays, models, datasets, rewards.
"""
