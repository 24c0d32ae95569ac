"""Run directories as a training loop leaves them, made up."""

import json
import math
import random

import pytest

from r1_jax.metrics import jsonl, log

CONFIG = {
    "seed": 0,
    "task": {"name": "countdown", "num_numbers": 4, "max_target": 99, "seed": 0},
    "model": {"num_layers": 4, "embed_dim": 128},
    "grpo": {"group_size": 16, "kl_coef": 0.001, "clip_low": 0.2, "clip_high": 0.28},
    "optim": {"learning_rate": 1e-4},
    "reward": {"accuracy_weight": 1.0, "format_weight": 1.0},
}


def _trace(rng, attempts, is_right):
    tries = []
    for _ in range(attempts - 1):
        a, b, c = rng.sample(range(1, 20), 3)
        tries.append(f"{a} + {b} * {c} = {a + b * c} . check : not 22 . wait , that is wrong .")
    tries.append("3 * 5 + 7 = 22 . check : 22 ." if is_right else "3 + 5 + 7 = 15 .")
    answer = "3 * 5 + 7" if is_right else "3 + 5 + 7"
    return f" <think> {' '.join(tries)} </think> <answer> {answer} </answer>"


def _samples(rng, uids, num_samples, accuracy, attempts):
    rows = []
    for uid in uids:
        for sample in range(num_samples):
            is_right = rng.random() < accuracy
            length = rng.randint(20, 30) * attempts
            rows.append(
                {
                    "uid": uid,
                    "sample": sample,
                    "question": "Using the numbers [3, 5, 7], write an expression that equals 22. "
                    "Use + - * / and each number exactly once.",
                    "completion": _trace(rng, rng.randint(1, attempts), is_right),
                    "reward": float(is_right) + 1.0,
                    "parts": {"accuracy": float(is_right), "format": 1.0},
                    "outcome": "right" if is_right else "wrong",
                    "length": length,
                    "stop": "stop",
                    "gap": 1e-6 * rng.random(),
                }
            )
    return rows


@pytest.fixture
def make_run(tmp_path):
    """Returns make(name, num_steps, ...) -> path of a run whose accuracy and length rise."""

    def make(name="run", num_steps=120, seed=0, gain=0.5, eval_every=20, files=True, **changes):
        rng = random.Random(f"{name} {seed}")
        path = tmp_path / name
        with log.MetricsLog(path) as metrics:
            for step in range(num_steps + 1):
                done = 1 / (1 + math.exp(-(step / max(num_steps, 1) - 0.4) * 9))
                accuracy, attempts = 0.15 + gain * done, 1 + round(3 * done)
                if eval_every and step % eval_every == 0:
                    spread = rng.gauss(0, 0.01)
                    metrics.eval_row(
                        step,
                        {
                            "task": "countdown",
                            "num_problems": 512,
                            "num_samples": 16,
                            "pass@1": accuracy + spread,
                            "pass@1_low": accuracy + spread - 0.03,
                            "pass@1_high": accuracy + spread + 0.03,
                            "cons@16": min(1.0, accuracy + 0.08 + spread),
                            "length/mean": 40 + 60 * done,
                            "length/clipped_share": 0.02,
                            "reflection/per_completion": 0.8 + 2.5 * done,
                            "reflection/markers": 0.7 + 2.4 * done,
                        },
                    )
                    metrics.eval_samples(step, _samples(rng, range(90, 96), 4, accuracy, attempts))
                if step == num_steps:
                    break
                metrics.row(step, _row(rng, done, accuracy))
                if step % 20 == 0:
                    uids = range(step * 2, step * 2 + 2)
                    metrics.samples(step, _samples(rng, uids, 4, accuracy, attempts))
        if files:
            config = json.loads(json.dumps(CONFIG)) | {"seed": seed}
            config["grpo"]["num_steps"] = num_steps
            for key, value in changes.items():
                config["grpo"][key] = value
            (path / "config.json").write_text(json.dumps(config))
            manifest = {
                "commit": "0123456789abcdef0123456789abcdef01234567",
                "dirty": False,
                "versions": {"python": "3.11.2", "jax": "0.10.2"},
                "devices": {"platform": "cpu", "kind": "cpu", "count": 1},
                "seed": seed,
                "seconds": {"rollout": 300.0, "score": 20.0, "update": 260.0, "evaluate": 45.5},
            }
            (path / "manifest.json").write_text(json.dumps(manifest))
        return path

    return make


def _row(rng, done, accuracy):
    seen = accuracy + rng.gauss(0, 0.04)
    length = 40 + 60 * done + rng.gauss(0, 4)
    return {
        "reward/mean": seen + 0.9,
        "reward/shaped": seen + 0.85,
        "reward/accuracy": seen,
        "reward/format": min(1.0, 0.85 + 0.15 * done + rng.gauss(0, 0.01)),
        "length/mean": length,
        "length/terminated_mean": length * 0.95,
        "length/clipped_share": max(0.0, 0.03 + rng.gauss(0, 0.01)),
        "reflection/per_completion": 0.8 + 2.5 * done + rng.gauss(0, 0.15),
        "reflection/markers": 0.7 + 2.4 * done + rng.gauss(0, 0.15),
        "kl/reference": 0.05 * done + abs(rng.gauss(0, 0.003)),
        "entropy": 0.9 - 0.5 * done + rng.gauss(0, 0.02),
        "clip/share": abs(rng.gauss(0.002, 0.001)),
        "gap/sampler_learner_max": 10 ** rng.uniform(-6, -5),
        "groups/zero_spread_share": min(1.0, abs(rng.gauss(0.2, 0.08))),
        "seconds/rollout": 1.1,
        "seconds/score": 0.1,
        "seconds/update": 0.9,
        "tokens/rollout": round(length * 256),
    }


ONE_KEY = {
    "kl=0": ({"grpo.kl_coef": "0"}, 0.2, (0, 1, 2)),
    "kl=1": ({"grpo.kl_coef": "1"}, 0.6, (0, 1, 2)),
    "kl=2": ({"grpo.kl_coef": "2"}, 0.2, (0, 1)),
}


@pytest.fixture
def make_sweep(tmp_path, make_run):
    """Returns make({cell: (settings, gain, seeds)}) -> path; runs differ by noise."""

    def make(cells, seeds=(0, 1, 2)):
        path = tmp_path / "sweep"
        for cell, (settings, gain, done) in cells.items():
            for seed in done:
                run = make_run(
                    f"sweep/{cell}/seed{seed}", 20, seed, gain,
                    **{key.removeprefix("grpo."): value for key, value in settings.items()},
                )  # fmt: skip
                rows, _ = jsonl.read(run / "eval.jsonl")
                rows[-1]["pass@1"] = 0.3 + gain + 0.001 * seed + 0.002 * (seed == 1) * gain
                jsonl.write(run / "eval.jsonl", rows)
        record = {
            "config": "configs/x.py",
            "overrides": {},
            "grid": [{"cell": c, "settings": s} for c, (s, _, _) in cells.items()],
            "baseline": next(iter(cells)),
            "config_digests": {},
            "seeds": list(seeds),
            "commits": [{"commit": "0123456789abcdef", "dirty": False}],
        }
        (path / "sweep.json").write_text(json.dumps(record))
        return path

    return make
