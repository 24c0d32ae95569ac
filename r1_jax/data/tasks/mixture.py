"""Several tasks as one, for RL over all scenarios: prompts in fixed shares, each its own grader."""

import bisect
import dataclasses
from collections.abc import Sequence
from typing import Any, overload

from r1_jax.data.tasks import task
from r1_jax.rewards import verdict


class Interleaved(Sequence[task.Prompt]):
    """One split of several tasks: position i shows task `order[i % len(order)]`'s next problem.

    It ends when every task has been shown whole; those that are through earlier begin again. uids
    are shifted by `starts`.
    """

    def __init__(
        self, splits: Sequence[Sequence[task.Prompt]], order: Sequence[int], starts: Sequence[int]
    ):
        self._splits, self._order, self._starts = splits, order, starts
        rounds = [-(-len(split) // order.count(i)) for i, split in enumerate(splits)]
        self._length = max(rounds) * len(order)

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> task.Prompt: ...
    @overload
    def __getitem__(self, index: slice) -> list[task.Prompt]: ...
    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        turn, place = divmod(position, len(self._order))
        which = self._order[place]
        before = self._order[:place].count(which)
        split = self._splits[which]
        problem = split[(turn * self._order.count(which) + before) % len(split)]
        return dataclasses.replace(problem, uid=problem.uid + self._starts[which])


@dataclasses.dataclass(frozen=True)
class ByUid:
    """(text, problem) -> the verdict of the task that the problem's uid belongs to."""

    accuracies: tuple[Any, ...]
    starts: tuple[int, ...]

    def __call__(self, text: str | None, prompt: task.Prompt) -> verdict.Verdict:
        which = bisect.bisect_right(self.starts, prompt.uid) - 1
        return self.accuracies[which](text, prompt)


def mix(tasks: Sequence[task.Task], shares: Sequence[int]) -> task.Task:
    """The tasks as one; of every sum(shares) prompts, shares[i] are task i's, evenly spread.

    The splits stay what they are. Votes are the first task's. Raises ValueError for a share below
    1 or as many shares as there are no tasks.
    """
    if len(shares) != len(tasks) or min(shares) < 1:
        raise ValueError(f"shares={tuple(shares)} must give each of {len(tasks)} tasks at least 1")
    starts, start = [], 0
    for one in tasks:
        starts.append(start)
        start += 1 + max(split[-1].uid for split in one.splits.values())
    # Bresenham: task i's k-th prompt of a round stands where (k + 1/2) / shares[i] falls.
    spread = [((k + 0.5) / n, i) for i, n in enumerate(shares) for k in range(n)]
    order = [i for _, i in sorted(spread)]
    splits = {
        name: Interleaved([one.splits[name] for one in tasks], order, starts)
        for name in task.SPLITS
    }  # a uid rises through each task's splits, so the last of a split is its largest
    accuracy = ByUid(tuple(one.accuracy for one in tasks), tuple(starts))

    def owner(prompt: task.Prompt) -> task.Task:
        return tasks[bisect.bisect_right(starts, prompt.uid) - 1]

    return task.Task(
        name="+".join(one.name for one in tasks),
        splits=splits,
        accuracy=accuracy,
        ideal=lambda prompt: owner(prompt).ideal(prompt),
        vote=tasks[0].vote,
        markers=tasks[0].markers,
        is_general=lambda prompt: owner(prompt).is_general(prompt),
        reasoning=tasks[0].splits["train"],  # whose uids are not shifted
    )
