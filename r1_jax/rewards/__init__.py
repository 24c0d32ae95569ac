"""Floor 1: strings in, verdicts out.

Lives here: reading the answer out of a completion (extract), the asked form (format), the right
answer (accuracy, countdown, code), the weighted sum that keeps every part (combine), the words in
which all of them speak (verdict), the child processes in which they run (grader, pool, worker), and
the sandbox for programs that nobody trusts (sandbox).
May import: core; tags arrive as values with four fields.
Never touches: arrays, models, tokenizers; files and clocks only where processes are (pool, worker,
sandbox). Never evaluates text as code in its own process.
"""
