"""Which answers are one answer: voting keys grouped by an equality, not by their spelling."""

import collections
from collections.abc import Callable, Generator, Sequence

from r1_jax.rewards import verdict

# For every pair of votes: RIGHT if they mean the same, WRONG if not, else how comparing them failed
Compare = Callable[[Sequence[tuple[str, str]]], Sequence[verdict.Outcome]]
MAX_FAILURES = 2  # comparisons that a spelling may fail in; then it is compared no more
_Classes = Generator[tuple[str, str], verdict.Outcome, list[str | None]]


def vote_classes(
    problems: Sequence[Sequence[str | None]], compare: Compare | None
) -> tuple[list[list[str | None]], collections.Counter[verdict.Outcome]]:
    """For every answer its class' spelling, by problem; and how the comparisons ended, counted.

    Two answers of a problem vote together iff their classes agree. problems: voting keys of each
    problem's samples; None does not vote and stays None. compare: asked for different spellings
    only, as (the class' spelling, another), one pair of every problem at a time; None leaves all
    as it is. A class is named by its shortest spelling (of equally long ones, the first in order of
    code points), and a spelling joins the first class, in that order, that it equals: the classes
    are a function of the set of answers, whatever the order of the samples, even where equality is
    not transitive or not symmetric. A comparison that fails counts as "not the same"; a spelling
    that fails MAX_FAILURES times is compared no more and stays in the class it is in, alone if it
    had none. So a problem costs at most MAX_FAILURES deadlines for each of its spellings.
    """
    outcomes: collections.Counter[verdict.Outcome] = collections.Counter()
    if compare is None:
        return [list(answers) for answers in problems], outcomes
    found: dict[int, list[str | None]] = {}
    waiting: dict[int, tuple[_Classes, tuple[str, str]]] = {}

    def go_on(index: int, classes: _Classes, outcome: verdict.Outcome | None) -> None:
        try:
            asked = next(classes) if outcome is None else classes.send(outcome)
            waiting[index] = classes, asked
        except StopIteration as stop:
            found[index] = stop.value

    for index, answers in enumerate(problems):
        go_on(index, _classes(answers), None)
    while waiting:
        asked, waiting = waiting, {}
        told = compare([pair for _, pair in asked.values()])
        outcomes.update(told)
        for (index, (classes, _)), outcome in zip(asked.items(), told, strict=True):
            go_on(index, classes, outcome)
    return [found[index] for index in range(len(problems))], outcomes


def _classes(answers: Sequence[str | None]) -> _Classes:
    """Yields the pairs to compare, is sent how that ended, returns each answer's class."""
    spellings = sorted({a for a in answers if a is not None}, key=lambda a: (len(a), a))
    classes: dict[str, str] = {}
    names: list[str] = []
    failures: collections.Counter[str] = collections.Counter()
    for spelling in spellings:
        for name in names:
            if max(failures[name], failures[spelling]) >= MAX_FAILURES:
                continue
            outcome = yield name, spelling
            if outcome.is_failure:
                failures.update((name, spelling))
            if outcome == verdict.Outcome.RIGHT:
                classes[spelling] = name
                break
        else:
            names.append(spelling)
            classes[spelling] = spelling
    return [None if a is None else classes[a] for a in answers]
