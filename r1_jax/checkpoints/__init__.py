"""Floor 1: a run's state on disk.

Lives here: saving and loading of arrays and host state (store), where they come from (manifest).
May import: core, sharding; store.py alone imports orbax.
Never touches: what the state means; never starts afresh when a load fails.
"""
