"""`python -m r1_jax <command>`: picks the command's module, imports only that one and calls its
main.

A command is a module r1_jax/cli/<name>.py with main(argv): argv[0] is what usage messages call the
program, the rest are the command's own words. Flags are defined inside main, so that no command
sees another's.
"""

import difflib
import importlib
import os
import pathlib
import sys

from r1_jax.cli import doctor

COMMANDS = {
    "train": "R1-Zero: reinforcement learning with rule rewards, from a base model",
    "sft": "supervised fine-tuning of a base on demonstrations; distillation into a student",
    "pretrain": "makes a base model from nothing",
    "tokenizer": "trains a SentencePiece model on a task's corpus",
    "pipeline": "the whole of R1: R1-Zero, four stages, distillation",
    "reward_model": "judges pairs of answers, trains a reward model on them",
    "evaluate": "pass@1 and cons@k of a checkpoint on held-out problems or a suite of benchmarks",
    "generate": "completions of a run's checkpoint for questions of yours",
    "sweep": "settings x seeds, a run directory each: ablations in one command",
    "report": "draws runs, compares the cells of a sweep, checks a run against a band",
    "band": "the band of a fresh seed, from five or more runs of one configuration",
    "convert": "Hugging Face models in and out",
    "claims": "the paper's claims held against runs, missing runs made first",
    "plan": "prices a run on a TPU slice that need not be there: memory, seconds, hours",
    "profile": "the costliest regions of a run's steps, by named scope",
    "doctor": "names what is wrong with this machine's installation",
}


def usage():
    """Returns the text of `python -m r1_jax --help`."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {purpose}" for name, purpose in COMMANDS.items()]
    return "\n".join(
        [
            "usage: python -m r1_jax <command> [flags]",
            "",
            "commands:",
            *lines,
            "",
            "`python -m r1_jax <command> --help` explains a command's flags.",
        ]
    )


def main(words=None):
    """Runs the command named by `words` (default: the process' own arguments); exits as it says."""
    words = sys.argv[1:] if words is None else words
    if not words:
        print(usage(), file=sys.stderr)
        sys.exit(2)
    name = words[0]
    if name in ("--help", "-h", "-help", "help"):
        print(usage())
        return
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        advice = f"did you mean {near[0]}?" if near else "the commands are " + ", ".join(COMMANDS)
        print(f"unknown command {name!r}; {advice}", file=sys.stderr)
        sys.exit(2)
    if name != "doctor":
        problems = [finding for finding in doctor.installation() if finding.is_problem]
        if problems:
            print("\n".join(problem.line() for problem in problems), file=sys.stderr)
            sys.exit(1)
    # Read by jax when it is first used, and inherited by children: a restart compiles nothing.
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(home, "r1_jax", "jit")))
    # Small programs too, which jax by itself compiles anew: a run has some seventy of them.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    command = importlib.import_module(f"r1_jax.cli.{name}")
    sys.exit(command.main([f"python -m r1_jax {name}", *words[1:]]))
