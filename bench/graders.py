"""Gradings a second of the grader pool, and its overhead an item, after warm-up.

    python bench/graders.py [WORKERS] [ITEMS] [ROUNDS]

Items are completions of 300 characters, 256 a step. Countdown and arithmetic: half of them right.
Maths: boxed answers from tests/rewards/math_pairs.tsv, in the order of the file, again and again.
"all" are all pairs, each once, so that nothing is found in a cache; "short" those of at most 8
characters on either side, whatever their kind (integers, decimals, fractions, roots, letters,
percentages, small formulas); "groups" are 16 completions of each reference, which share its
answers. The best of ROUNDS, the sets taking turns, is given: on a machine that others use the best
is nearest to what it can do. Processor time, parent and children together, says what two idle cores
would do: 2 / (CPU an item). Overhead: wall seconds an item with a function that does nothing, in
steps of 256 and one by one.
"""

import json
import os
import pathlib
import sys
import time
from collections.abc import Sequence

from r1_jax.data.tasks import arithmetic, countdown, mathematics
from r1_jax.data.tasks import task as tasks
from r1_jax.rewards import combine, grader, pool
from r1_jax.text import chat

STEP = 256
SHORT = 8  # characters of an answer and of its reference
PAIRS = pathlib.Path(__file__).parent.parent / "tests/rewards/math_pairs.tsv"
TAGS = chat.Tags()
THOUGHT = "3 * 5 is 15, 15 + 7 is 22. wait, let me check that again. " * 4


def timed(function, items, config) -> tuple[float, float]:
    """(wall seconds, CPU seconds) for all items, in steps of STEP, once the children are warm."""
    graders = pool.GraderPool(function, config)
    for _ in range(2):
        graders.submit(items[: STEP * config.workers])()
    start, spent = time.perf_counter(), cpu_seconds()
    for i in range(0, len(items), STEP):
        results = graders.submit(items[i : i + STEP])()
        assert not any(result.failure for result in results)
    seconds, spent = time.perf_counter() - start, cpu_seconds() - spent
    graders.close()
    return seconds, spent


def cpu_seconds() -> float:
    """Of this process and its children that live, by /proc (Linux), to 10 ms a process."""
    ticks = 0
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        if os.getpid() in (int(fields[1]), int(stat.parent.name)):
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def graded(task, pairs: Sequence[tuple[str, str]], num: int):
    """(grader, items) of (reference as JSON, answer) pairs in turn."""
    items = [
        (tasks.Prompt(i, "q", reference), chat.completion(THOUGHT, answer, TAGS), 0, i % 16)
        for i, (reference, answer) in enumerate(pairs)
    ]
    vote = getattr(task, "vote", arithmetic.vote)
    grade = grader.Grader(task.accuracy, vote, TAGS, combine.RewardConfig(), seed=0)
    return grade, [items[i % len(items)] for i in range(num)]


def sets(num: int):
    """{name: (grader, items)}."""
    rows = [row.split("\t")[2:4] for row in PAIRS.read_text("utf-8").splitlines() if row]
    maths = [(json.dumps({"answer": gold}), f"\\boxed{{{answer}}}") for gold, answer in rows]
    is_short = [max(map(len, row)) <= SHORT for row in rows]
    short = [pair for pair, keep in zip(maths, is_short, strict=True) if keep]
    answers: dict[str, list[str]] = {}
    for gold, answer in maths:
        answers.setdefault(gold, []).append(answer)
    groups = [(gold, mine[i % len(mine)]) for gold, mine in answers.items() for i in range(16)]
    numbers, target = json.dumps({"numbers": [3, 5, 7], "target": 22}), json.dumps({"answer": "22"})
    return {
        "countdown": graded(countdown, [(numbers, "3*5+7"), (numbers, "(3+5)*7")], num),
        "arithmetic": graded(arithmetic, [(target, "22"), (target, "+21")], num),
        f"maths, {len(short)} short pairs": graded(mathematics, short, num),
        f"maths, all {len(maths)} pairs": graded(mathematics, maths, num),
        f"maths, {len(answers)} groups": graded(mathematics, groups, num),
    }


def main(workers: int = 2, num: int = 20_480, rounds: int = 3) -> None:
    """Prints a line for every set, then the overhead."""
    config = pool.GraderConfig(workers=workers, recycle_after=10 * num)
    best: dict[str, tuple[float, float]] = {}
    for _ in range(rounds):
        for name, (grade, items) in sets(num).items():
            found = timed(grade, items, config)
            known = best.get(name, found)
            best[name] = min(known[0], found[0]), min(known[1], found[1])
    for name, (seconds, spent) in best.items():
        sys.stdout.write(
            f"{name}: {num / seconds:,.0f} gradings/s with {workers} workers; "
            f"{1e6 * spent / num:.0f} us of CPU each\n"
        )
    empty, spent = timed(len, [(THOUGHT,)] * num, config)
    sys.stdout.write(
        f"overhead: {1e6 * empty / num:.0f} us an item in steps of {STEP}; "
        f"{1e6 * spent / num:.0f} us of CPU\n"
    )
    graders = pool.GraderPool(len, config)
    graders.submit([("",)])()
    start = time.perf_counter()
    for _ in range(2000):
        graders.submit([("",)])()
    sys.stdout.write(f"one by one: {(time.perf_counter() - start) / 2e-3:.0f} us an item\n")
    graders.close()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
