"""Floor 2: problems and rows of tokens.

Lives here: tasks (record -> Prompt with its reward), sources on disk, packed rows, resumable
batches.
May import: core, sharding, text, rewards.
Never touches: models, optimisers, completions.
"""
