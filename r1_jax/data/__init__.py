"""Floor 2: problems and rows of tokens.

Lives here: tasks (record -> Prompt with its reward), sources on disk, packed rows, resumable
batches; judged pairs and labels for reward models (preferences, length_balance).
May import: core, sharding, text, rewards, metrics (JSON lines).
Never touches: models, optimisers, completions.
"""
