"""Floor 1: strings in, verdicts out.

Lives here: reading the answer out of a completion (extract), the asked form (format), the right
answer (accuracy, countdown, code; math_equal and math_text for maths), the language it is written
in (language), what its length and repetitions cost (length, cosine, repetition), the composition
that keeps every part (combine), the judge of what rules cannot grade (judge, model_judge), the
words in which all of them speak (verdict), the child processes in which they run (grader, pool,
worker), the sandbox for programs that nobody trusts (sandbox), and what both give up before they
begin (launch, syscalls).
May import: core; tags arrive as values with four fields.
Never touches: arrays, models, tokenizers; files and clocks only where processes are (pool, worker,
sandbox, launch). Never evaluates text as code in its own process.
"""
