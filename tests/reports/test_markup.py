import html.parser

import hypothesis
import pytest
from hypothesis import strategies as st

from r1_jax.reports import completions, markup


class Parsed(html.parser.HTMLParser):
    """What a browser would make of a piece: elements opened, and the text between them."""

    def __init__(self, piece):
        super().__init__(convert_charrefs=True)
        self.tags, self.text = [], ""
        self.feed(piece)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, *attrs))

    def handle_data(self, data):
        self.text += data


HOSTILE = "<script>alert(1)</script><img src=http://x.y/z onerror=alert(1)>&lt;\"'</pre></body>"


@hypothesis.given(st.text() | st.just(HOSTILE))
@hypothesis.settings(deadline=None)
def test_a_completion_is_shown_whole_and_opens_no_element_but_ours(text):
    parsed = Parsed(markup.marked(text))
    assert {tag[0] for tag in parsed.tags} <= {"span", "mark"}
    assert parsed.text == markup._CONTROL.sub("\ufffd", text)


def test_tags_and_reflective_words_are_marked():
    piece = markup.marked("<think> But wait, butter. CHECK </think>")
    assert piece == (
        '<span class="tag">&lt;think&gt;</span> <mark>But</mark> <mark>wait</mark>, butter. '
        '<mark>CHECK</mark> <span class="tag">&lt;/think&gt;</span>'
    )


@hypothesis.given(st.text(st.characters(exclude_categories=[])))
@hypothesis.settings(deadline=None)
def test_every_text_can_be_written_as_utf8(text):
    markup.escape(text).encode("utf-8")
    markup.marked(text).encode("utf-8")


def test_an_endless_completion_is_cut_and_says_by_how_much():
    piece = markup.marked("a" * 25_000)
    assert "5000 characters more in samples/" in piece and len(piece) < 21_000


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.123456, "0.1235"), (1e-6, "1e-06"), (3, "3"), (12345.0, "12345"), ("x", "x")],
)
def test_numbers_read_well(value, text):
    assert markup.number(value) == text


def test_a_table_escapes_its_cells():
    piece = markup.table(["<a>", "b"], [["<i>", None], [1, 2.0]])
    assert "<a>" not in piece and "<i>" not in piece and "&lt;i&gt;" in piece
    assert piece.count("<tr>") == 3 and "<td>-</td>" in piece


def test_a_story_shows_outcome_reward_parts_and_length_of_each_step():
    row = {
        "completion": HOSTILE,
        "outcome": "wrong",
        "reward": 1.0,
        "parts": {"accuracy": 0.0, "<i>": 1.0},
        "length": 31,
        "stop": "length",
    }
    right = row | {"outcome": "right", "completion": "ok", "stop": "stop"}
    cells = completions.Cell("step 0", row, 1, 16), completions.Cell("step 300", right, 16, 16)
    parsed = Parsed(markup.story(completions.Story("chosen", "Reach <22>", cells)))
    text = " ".join(parsed.text.split())
    assert "Reach <22>" in text and HOSTILE in parsed.text
    assert (
        "step 0 · wrong1 of 16 samples right · 31 tokens, cut off · reward 1 · accuracy 0" in text
    )
    assert "step 300 · right16 of 16 samples right · 31 tokens · reward 1" in text
    assert ("article", ("class", "cell wrong")) in parsed.tags
    assert ("article", ("class", "cell right")) in parsed.tags
    assert not {"script", "img", "i"} & {tag[0] for tag in parsed.tags}
