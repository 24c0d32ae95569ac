"""Whether a step costs what its work does: seconds against FLOPs at twice the rows, length, layers.

    python -m bench.scaling [S] [--rounds=3] [--plot=bench/scaling.png]

Four runs of our step take turns as in bench.compare: the work, and the work with twice of one thing
at a time; a microbatch keeps its rows. A JSON line a run, then a table: by how much seconds grew
over by how much FLOPs did (models/flops, prompts counted once a group), 1 being what it should be.
"""

import argparse
import contextlib
import pathlib
import statistics
import sys
import tempfile
from collections.abc import Sequence

import matplotlib

from bench import compare, grpo
from bench import work as works
from r1_jax.models import flops

ROWS = 8  # of a microbatch
PHASES = ("rollout", "reference", "update")


def step_flops(work: works.Work) -> float:
    """FLOPs of a step: a pass to sample, one of the reference, three of the update."""
    prompt, response, num_rows = work.prompt_length, work.response_length, work.num_rows
    pairs = work.num_prompts * prompt * (prompt + 1) / 2
    pairs += num_rows * (response * prompt + response * (response + 1) / 2)
    num_tokens = work.num_prompts * prompt + num_rows * response
    cost = flops.of(grpo.config(work).model)
    return 5 * cost.forward(num_tokens, num_rows * response, pairs)


def read(shape: str, rounds: int) -> dict[str, list[dict]]:
    """Name of the work -> the lines of its steps, a warm-up left out."""
    variants = {"": works.WORK[shape]} | works.doubled(works.WORK[shape])
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        processes = {}
        for name, work in variants.items():
            pieces = max(1, work.num_rows // ROWS)
            options = (f"--microbatches={pieces}", *((f"--twice={name}",) if name else ()))
            entrant = compare.Entrant("grpo", options)
            cache, log = (pathlib.Path(folder, f"{name}.{kind}") for kind in ("jit", "log"))
            process = compare.Process(entrant, shape, rounds, str(cache), log, compare.ON_CPU)
            processes[name] = stack.enter_context(process)
            compare.say(f"twice {name or 'nothing'}: {process.turn()}")
        found: dict[str, list[dict]] = {name: [] for name in processes}
        for _ in range(rounds):
            for name, process in processes.items():
                found[name].append(process.turn())
    return found


def summary(shape: str, found: dict[str, list[dict]]) -> list[dict]:
    """A row for each thing that was doubled: growth of FLOPs, seconds, and of each phase's."""
    variants = {"": works.WORK[shape]} | works.doubled(works.WORK[shape])
    flops_of = {name: step_flops(work) for name, work in variants.items()}
    names = ("seconds", "cpu_seconds", *PHASES)
    middle = {
        name: {key: statistics.median(row[key] for row in rows) for key in names}
        for name, rows in found.items()
    }
    rows = []
    for name in variants:
        if name:
            grown = {key: middle[name][key] / middle[""][key] for key in names}
            growth = flops_of[name] / flops_of[""]
            over = grown["seconds"] / growth
            rows.append({"twice": name, "flops": growth, **grown, "over_flops": over})
    return rows


def plot(rows: Sequence[dict], path: pathlib.Path) -> None:
    """Growth of seconds against growth of FLOPs, each phase beside the whole."""
    matplotlib.use("Agg")
    from matplotlib import pyplot  # the backend is chosen first

    figure, axes = pyplot.subplots(figsize=(5, 4), layout="constrained")
    top = max(max(row["flops"], row["seconds"]) for row in rows) + 0.3
    axes.plot([1, top], [1, top], color="0.7", label="as the work does")
    axes.fill_between([1, top], [0.9, 0.9 * top], [1.1, 1.1 * top], color="0.9", label="10% off")
    for key, mark in (("seconds", "o"), *zip(PHASES, "sv^", strict=True)):
        axes.plot([row["flops"] for row in rows], [row[key] for row in rows], mark, label=key)
    for row in rows:
        axes.annotate(row["twice"], (row["flops"], row["seconds"]), xytext=(5, 0),
                      textcoords="offset points")  # fmt: skip
    axes.set(xlabel="FLOPs over the plain work's", ylabel="seconds over the plain work's")
    axes.legend()
    figure.savefig(path, dpi=120)


def main(words: Sequence[str] | None = None) -> None:
    """Prints the lines, then the table; draws the plot where one is asked for."""
    parser = argparse.ArgumentParser(description="seconds against FLOPs")
    parser.add_argument("shape", nargs="?", choices=works.WORK, default="S")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plot", type=pathlib.Path)
    given = parser.parse_args(words)
    rows = summary(given.shape, read(given.shape, given.rounds))
    for row in rows:
        compare.write(row)
    keys = ("flops", "seconds", "cpu_seconds", *PHASES, "over_flops")
    sys.stdout.write("| twice | " + " | ".join(keys) + " |\n" + "|---" * (1 + len(keys)) + "|\n")
    for row in rows:
        cells = " | ".join(f"{row[key]:.2f}" for key in keys)
        sys.stdout.write(f"| {row['twice']} | {cells} |\n")
    if given.plot:
        plot(rows, given.plot)


if __name__ == "__main__":
    main()
