"""Floor 1: reinforcement learning as formulas: arrays in, arrays out, float32.

Lives here: advantages of a group or by a critic, KL estimators, ratios and the clipped objective,
aggregation over tokens and rows, treatment of truncated completions, and the numbers that say how
it goes.
May import: core. Settings arrive as plain keyword arguments.
Never touches: models, tokenizers, text, configs, files, random numbers.
"""
