"""Floor 1: numbers of a run, written down.

Lives here: one JSON row per step with its names and units (log), seconds and tokens per second
(clock).
May import: core.
Never touches: how a number was made.
"""
