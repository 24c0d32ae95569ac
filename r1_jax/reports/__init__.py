"""Floor 2: run directories in, pictures and tables out; needs no accelerator.

Lives here: the emergence report (paper Figures 2 and 3), runs side by side, benchmark tables.
May import: core, text, metrics.
Never touches: models, checkpoints' arrays, jax devices.
"""
