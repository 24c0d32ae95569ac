"""Floor 1: numbers of a run, written down.

Lives here: names and units of a row's keys (names), rows and completions on disk (log, over jsonl),
wall seconds by phase (clock), by named scope (regions), the line a person watches (progress).
May import: core.
Never touches: how a number was made.
"""
