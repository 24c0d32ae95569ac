"""Floor 1: what is on disk.

Lives here: checkpoints of a run (store; contents: what one holds), files and folders of weights,
the manifest of a run.
May import: core, sharding. Only store.py knows orbax.
Never touches: models, losses, what a leaf means; never starts afresh when a load fails.
"""
