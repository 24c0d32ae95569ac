"""Gradings a second of the grader pool, and its overhead an item, after warm-up.

    python bench/graders.py [WORKERS] [ITEMS]

Items are Countdown and arithmetic completions of 300 characters, 256 a step, half of them right.
Overhead: wall seconds an item with a function that does nothing, in steps of 256 and one by one.
"""

import json
import sys
import time

from r1_jax.data.tasks import arithmetic, countdown
from r1_jax.data.tasks import task as tasks
from r1_jax.rewards import combine, grader, pool
from r1_jax.text import chat

STEP = 256


def timed(function, items, config) -> float:
    """Seconds for all items, in steps of STEP, once the children are warm."""
    graders = pool.GraderPool(function, config)
    graders.submit(items[: STEP * config.workers])()
    start = time.perf_counter()
    for i in range(0, len(items), STEP):
        results = graders.submit(items[i : i + STEP])()
        assert not any(result.failure for result in results)
    seconds = time.perf_counter() - start
    graders.close()
    return seconds


def main(workers: int = 2, num: int = 20_480) -> None:
    config = pool.GraderConfig(workers=workers)
    tags = chat.Tags()
    thought = "3 * 5 is 15, 15 + 7 is 22. wait, let me check that again. " * 4
    sets = {
        "countdown": (countdown, {"numbers": [3, 5, 7], "target": 22}, ["3*5+7", "(3+5)*7"]),
        "arithmetic": (arithmetic, {"answer": "22"}, ["22", "+21"]),
    }
    for name, (task, reference, answers) in sets.items():
        problem = tasks.Prompt(0, "q", json.dumps(reference))
        texts = [chat.completion(thought, answer, tags) for answer in answers]
        items = [(problem, texts[i % 2], 0, i % 16) for i in range(num)]
        grade = grader.Grader(task.accuracy, arithmetic.vote, tags, combine.RewardConfig(), seed=0)
        start = time.perf_counter()
        for item in items[:2000]:
            grade(*item)
        alone = (time.perf_counter() - start) / 2000
        seconds = timed(grade, items, config)
        sys.stdout.write(
            f"{name}: {num / seconds:,.0f} gradings/s with {workers} workers; "
            f"{1e6 * alone:.0f} us each in this process alone\n"
        )
        texts = [(item[1],) for item in items]
        empty = timed(len, texts, config) / num
        sys.stdout.write(f"overhead: {1e6 * empty:.0f} us an item in steps of {STEP}\n")
    graders = pool.GraderPool(len, config)
    graders.submit([("",)])()
    start = time.perf_counter()
    for _ in range(2000):
        graders.submit([("",)])()
    sys.stdout.write(f"one by one: {(time.perf_counter() - start) / 2e-3:.0f} us an item\n")
    graders.close()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
