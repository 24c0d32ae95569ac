"""Completions -> verdicts: the bridge from Rollouts to rewards, graded in child processes."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from r1_jax.core import types
from r1_jax.data.tasks import task as tasks
from r1_jax.evaluation import run as evaluation
from r1_jax.metrics import clock as metrics_clock
from r1_jax.rewards import combine, grader, pool, verdict
from r1_jax.sampling import engine
from r1_jax.sharding import hosts
from r1_jax.text import chat, reflection, tokenizer
from r1_jax.training import rollout

GRADE_SECONDS = 1800.0  # between the first host that has graded its share and the last


class Scorer:
    """Grades rollouts of one task under one reward configuration; each host does its share.

    seed: of the random reward. Raises ValueError, at once, for a custom reward that cannot be
    resolved and for functions of the task that have no name in a module: graders run in child
    processes, which import them. A context manager: they end with its block, or with its process.
    """

    def __init__(
        self,
        task: tasks.Task,
        reward: combine.RewardConfig,
        tokens: tokenizer.Decoder,
        tags: chat.Tags,
        *,
        seed: int,
        clock: metrics_clock.Clock,
        graders: pool.GraderConfig | None = None,
    ):
        self._task, self._tokens = task, tokens
        self._graders = graders or pool.GraderConfig()
        combine.resolve(reward.custom)  # a name that leads nowhere is told now
        # Paid parts alone: what else a verdict says is in samples/, and not in every verdict.
        self._parts = combine.parts_of(reward)
        self._pool = pool.GraderPool(
            grader.Service(grader.Grader(task.accuracy, task.vote, tags, reward, seed), task.equal),
            self._graders,
            busy=partial(clock.phase, "score"),
        )

    def __enter__(self) -> "Scorer":
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.close()

    def grade(
        self,
        prompt: tasks.Prompt,
        completion: str,
        *,
        step: int,
        sample: int,
        num_tokens: int | None = None,
    ) -> combine.Grade:
        """The grade of one completion of num_tokens generated tokens, waited for.

        Raises pool.FailureShareError if the grader did not come to an end.
        """
        (result,) = self._pool.submit([(prompt, completion, step, sample, num_tokens)])()
        if result.failure is not None:
            raise pool.FailureShareError(f"grading {completion!r} failed: {result.error}")
        return grader.read(result, self._parts).grade

    def start(
        self, prompts: Sequence[tasks.Prompt], rollouts: types.Rollouts, step: int
    ) -> Callable[[], rollout.Scored]:
        """Starts to grade host-side rollouts; the function returned waits for the result.

        It raises pool.FailureShareError where more than graders.max_failure_share failed.
        """
        wait = self._start(prompts, rollouts, step)
        return lambda: wait()[0]

    def _start(self, prompts, rollouts, step) -> Callable[[], tuple[rollout.Scored, list]]:
        texts = engine.completions(rollouts, self._tokens)
        group_size = len(texts) // len(prompts)
        items = [
            (
                prompts[i // group_size],
                text,
                step,
                int(rollouts.sample_B[i]),
                int(rollouts.length_B[i]),
            )
            for i, text in enumerate(texts)
        ]
        mine = hosts.share(len(items))
        wait = self._pool.submit(items[mine.start : mine.stop])

        def finish() -> tuple[rollout.Scored, list[str | None]]:
            shares = hosts.gather(f"grades of step {step}", wait(), seconds=GRADE_SECONDS)
            results = [
                pool.Result(value, None if failure is None else verdict.Outcome(failure), error)
                for share in shares
                for value, failure, error in share
            ]
            found = [grader.read(result, self._parts) for result in results]
            grades = [graded.grade for graded in found]
            pool.check_failures(
                [grade.outcome for grade in grades],
                [graded.error for graded in found],
                self._graders,
                f"step {step}",
            )
            scored = rollout.Scored(
                _scores(grades, self._parts),
                self._facts(texts, grades),
                _samples(prompts, texts, grades, rollouts),
            )
            return scored, [graded.vote for graded in found]

        return finish

    def judge(
        self, prompts: Sequence[tasks.Prompt], rollouts: types.Rollouts, step: int
    ) -> evaluation.Judged:
        """What an evaluation needs of the same grades, votes included."""
        scored, votes = self._start(prompts, rollouts, step)()
        # Not by the outcome: a custom reward that crashed says nothing of the answer.
        is_right = [row["parts"]["accuracy"] == verdict.RIGHT.value for row in scored.samples]
        return evaluation.Judged(
            is_right, votes if self._task.vote else None, scored.facts, scored.samples
        )

    @property
    def compare(self) -> Callable[[Sequence[tuple[str, str]]], list[verdict.Outcome]] | None:
        """Compares pairs of votes in the children, each within the graders' deadline.

        RIGHT: one answer; WRONG: two; TIMEOUT or CRASH. None where votes are one by spelling alone.
        """
        return None if self._task.equal is None else self._compare

    def _compare(self, pairs: Sequence[tuple[str, str]]) -> list[verdict.Outcome]:
        found = self._pool.submit([(grader.Pair(*pair),) for pair in pairs])()
        return [grader.read_equal(result) for result in found]

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
