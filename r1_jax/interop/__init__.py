"""Floor 2: other people's formats.

Lives here: Hugging Face configurations and weights <-> ours, both ways.
May import: core, sharding, models, text, checkpoints.
Never touches: training, sampling.
"""
