"""The format reward: thinking and answer stand in their tags (DeepSeek-R1 2.2.2)."""

from r1_jax.rewards import extract


def strict(text: str, tags: extract.Tags) -> float:
    """1.0 if the whole completion is one think block and then one answer block, else 0.0.

    Each of the four tags occurs exactly once, in the template's order; before, between and after
    the blocks stands nothing but white space. What is inside the blocks is not judged, an empty
    block included: the paper says where thinking belongs, not how much of it there must be. The
    size of the term and whether a bad form is 0 or negative are not published; 0/1 is ours.
    """
    position = 0
    for tag, must_be_blank in (
        (tags.think_open, True),
        (tags.think_close, False),
        (tags.answer_open, True),
        (tags.answer_close, False),
    ):
        found = text.find(tag, position)
        if found < 0 or text.count(tag) != 1:
            return 0.0
        if must_be_blank and text[position:found].strip():
            return 0.0
        position = found + len(tag)
    return 0.0 if text[position:].strip() else 1.0


def per_tag(text: str, tags: extract.Tags) -> float:
    """A quarter for each of the four tags that stands exactly once and after those before it.

    The graded variant that open replications use to give a base model a slope to climb. Known
    hack: the four tags in a row, around nothing or in front of everything, earn it in full: it is
    no substitute for `strict`, and pays nothing for a tag that is written twice.
    """
    earned, position = 0, 0
    for tag in (tags.think_open, tags.think_close, tags.answer_open, tags.answer_close):
        found = text.find(tag, position)
        if found >= 0 and text.count(tag) == 1:
            earned += 1
            position = found + len(tag)
    return earned / 4
