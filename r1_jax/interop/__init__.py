"""Floor 2: other people's formats.

Lives here: Hugging Face configurations, weights and folders <-> ours, both ways.
May import: core, sharding, models, text, checkpoints.
Never touches: training, sampling.
"""
