"""Which answers are one answer: voting keys grouped by an equality, not by their spelling."""

from collections.abc import Callable, Sequence

Equal = Callable[[str, str], bool]  # whether two answers mean the same


def vote_classes(answers: Sequence[str | None], equal: Equal | None) -> list[str | None]:
    """Returns for every answer its class' spelling; two answers vote together iff theirs agree.

    answers: voting keys of one problem's samples; None does not vote and stays None. equal: asked
    for different spellings only, as equal(the class' spelling, another); None leaves all as it is.
    A class is named by its shortest spelling (of equally long ones, the first in order of code
    points), and a spelling joins the first class, in that order, that it equals: the classes are a
    function of the set of answers, whatever the order of the samples, even where `equal` is not
    transitive or not symmetric. It is asked once for each pair (class, later spelling), at most.
    """
    if equal is None:
        return list(answers)
    spellings = sorted({a for a in answers if a is not None}, key=lambda a: (len(a), a))
    classes: dict[str, str] = {}
    names: list[str] = []
    for spelling in spellings:
        name = next((name for name in names if equal(name, spelling)), None)
        if name is None:
            names.append(spelling)
        classes[spelling] = spelling if name is None else name
    return [None if a is None else classes[a] for a in answers]
