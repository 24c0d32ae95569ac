"""Completions -> verdicts: the bridge from Rollouts to rewards, run beside the training thread.

This is the seam for isolated graders: whatever replaces the thread pool keeps `start` and `judge`.
"""

import concurrent.futures
from collections.abc import Callable, Sequence

import numpy as np

from r1_jax.core import types
from r1_jax.data.tasks import task as tasks
from r1_jax.evaluation import run as evaluation
from r1_jax.metrics import clock as metrics_clock
from r1_jax.rewards import combine, extract, verdict
from r1_jax.sampling import engine
from r1_jax.text import chat, reflection, tokenizer
from r1_jax.training import rollout


class Scorer:
    """Grades rollouts of one task under one reward configuration.

    seed: of the random reward. Raises ValueError, at once, for a custom reward that cannot be
    resolved.
    """

    def __init__(
        self,
        task: tasks.Task,
        reward: combine.RewardConfig,
        tokens: tokenizer.Tokenizer,
        tags: chat.Tags,
        *,
        seed: int,
        clock: metrics_clock.Clock,
    ):
        self._task, self._reward, self._tokens, self._tags = task, reward, tokens, tags
        self._seed, self._clock = seed, clock
        self._custom = combine.resolve(reward.custom)
        # Paid parts alone: what else a verdict says is in samples/, and not in every verdict.
        self._parts = combine.parts_of(reward)
        self._pool = concurrent.futures.ThreadPoolExecutor(reward.workers, "grader")

    def grade(
        self,
        prompt: tasks.Prompt,
        completion: str,
        *,
        step: int,
        sample: int,
        num_tokens: int | None = None,
    ):
        """combine.Grade of one completion of num_tokens generated tokens."""
        return combine.grade(
            completion,
            prompt.question,
            prompt.reference,
            lambda answer: self._task.accuracy(answer, prompt),
            self._tags,
            config=self._reward,
            custom=self._custom,
            draw=(self._seed, step, prompt.uid, sample),
            num_tokens=num_tokens,
        )

    def start(
        self, prompts: Sequence[tasks.Prompt], rollouts: types.Rollouts, step: int
    ) -> Callable[[], rollout.Scored]:
        """Starts to grade host-side rollouts; the function returned waits for the result."""
        texts = engine.completions(rollouts, self._tokens)
        group_size = len(texts) // len(prompts)

        def rows(indices):
            with self._clock.phase("score"):
                return [
                    self.grade(
                        prompts[i // group_size],
                        texts[i],
                        step=step,
                        sample=int(rollouts.sample_B[i]),
                        num_tokens=int(rollouts.length_B[i]),
                    )
                    for i in indices
                ]

        shares = np.array_split(np.arange(len(texts)), self._reward.workers)
        futures = [self._pool.submit(rows, share.tolist()) for share in shares]

        def finish() -> rollout.Scored:
            grades = [grade for future in futures for grade in future.result()]
            return rollout.Scored(
                _scores(grades, self._parts),
                self._facts(texts, grades),
                _samples(prompts, texts, grades, rollouts),
            )

        return finish

    def judge(
        self, prompts: Sequence[tasks.Prompt], rollouts: types.Rollouts, step: int
    ) -> evaluation.Judged:
        """What an evaluation needs of the same grades, votes included."""
        scored = self.start(prompts, rollouts, step)()
        texts = [row["completion"] for row in scored.samples]
        votes = [self._task.vote(extract.answer(text, self._tags)) for text in texts]
        # Not by the outcome: a custom reward that crashed says nothing of the answer.
        is_right = [row["parts"]["accuracy"] == verdict.RIGHT.value for row in scored.samples]
        return evaluation.Judged(is_right, votes, scored.facts, scored.samples)

    def _facts(self, texts, grades) -> dict[str, float]:
        """Means over completions, by their names in the log."""
        valid = [grade for grade in grades if grade.is_valid]
        facts = {"reward/mean": float(np.mean([g.total for g in valid])) if valid else 0.0}
        for part in self._parts:
            values = [g.parts[part] for g in valid]
            facts[f"reward/{part}"] = float(np.mean(values)) if values else 0.0
        for outcome in verdict.Outcome:
            share = np.mean([grade.outcome == outcome for grade in grades])
            facts[f"outcome/{outcome.name.lower()}"] = float(share)
        counts = [reflection.count(text) for text in texts]
        markers = [reflection.count(text, self._task.markers) for text in texts]
        facts["reflection/per_completion"] = float(np.mean(counts))
        facts["reflection/markers"] = float(np.mean(markers))
        return facts


def _scores(grades, parts) -> types.Scores:
    return types.Scores(
        reward_B=np.array([grade.total for grade in grades], np.float32),
        parts={
            part: np.array([grade.parts[part] for grade in grades], np.float32) for part in parts
        },
        outcome_B=np.array([grade.outcome for grade in grades], np.int32),
        valid_B=np.array([grade.is_valid for grade in grades]),
    )


def _samples(prompts, texts, grades, rollouts):
    group_size = len(texts) // len(prompts)
    return [
        {
            "uid": int(rollouts.uid_B[i]),
            "sample": int(rollouts.sample_B[i]),
            "question": prompts[i // group_size].question,
            "completion": text,
            "reward": grade.total,
            "parts": grade.parts,
            "outcome": grade.outcome.name.lower(),
            "length": int(rollouts.length_B[i]),
            "stop": "stop" if rollouts.stop_B[i] >= 0 else "length",
            "gap": None,
        }
        for i, (text, grade) in enumerate(zip(texts, grades, strict=True))
    ]
