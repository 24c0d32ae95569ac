"""Which share of a text is in the wanted language."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1_jax.rewards import language

ENGLISH = "First we add the two numbers. Then we check that the sum is right, so it is done."
TEXTS = {
    "en": ENGLISH,
    "es": "Primero sumamos los dos n\u00fameros. Entonces tenemos el resultado que buscamos.",
    "fr": "Nous avons deux nombres dans cette liste. Donc la somme est juste et finie.",
    "de": "Zuerst addieren wir die beiden Zahlen. Dann ist das Ergebnis nicht mehr zu finden.",
    "zh": "\u9996\u5148\u6211\u4eec\u76f8\u52a0\u3002\u7136\u540e\u68c0\u67e5\u3002",
    "ja": "\u307e\u305a\u8db3\u3057\u307e\u3059\u3002\u6b21\u306b\u3057\u307e\u3059\u3002",
    "ko": "\uba3c\uc800 \ub450 \uc218\ub97c.",
    "ru": "\u0421\u043d\u0430\u0447\u0430\u043b\u0430 \u0447\u0438\u0441\u043b\u0430.",
    "ar": "\u0623\u0648\u0644\u0627 \u0646\u062c\u0645\u0639.",
}


@pytest.mark.parametrize("wanted", language.LANGUAGES)
@pytest.mark.parametrize("written", TEXTS)
def test_each_language_is_told_from_every_other(wanted, written):
    found = language.share(TEXTS[written], wanted)
    if wanted == written:
        assert found == 1.0
    else:
        assert found < 0.5 if {wanted, written} == {"zh", "ja"} else found == 0.0


def test_mixed_text_counts_by_words():
    # 4 English words, then 8 Han characters, which count as 4 words
    mixed = "This is the answer. " + "\u6211\u4eec\u6765\u68c0\u67e5\u7ed3\u679c\u4e86"
    assert language.share(mixed, "en") == pytest.approx(0.5)
    assert language.share(mixed, "zh") == pytest.approx(0.5)


@pytest.mark.parametrize(
    "extra",
    [
        r" $\alpha + \text{le les des}$",
        r" \[ \frac{a}{b} \text{und nicht} \]",
        r" \(x \in \mathbb{R}\)",
        " ```python\nfor el in los:\n    print(der, die, das)\n```",
        " `el = los`",
        " https://example.org/les/des/est",
        " <think> <answer>",
        " 12 345 x y z + = 7",
        " \\operatorname{der}",
    ],
)
def test_code_latex_tags_and_addresses_are_no_words(extra):
    assert language.share(ENGLISH + extra, "en") == 1.0
    assert language.share(extra, "en") == 0.0


@pytest.mark.parametrize(
    "hostile",
    [
        "",
        " \n",
        "12345 + 67 = ?",
        "\U0001f600" * 50,
        "asdf qwer zxcv " * 20,
        "lorem ipsum dolor sit amet consectetur adipiscing elit sed eiusmod tempor incididunt",
        "```the of and to is that",
        "$the of and to is$",
        "\u0442he \u043ef \u0430nd",  # Cyrillic letters that look Latin
    ],
)
def test_what_is_no_english_is_not_paid_as_english(hostile):
    assert language.share(hostile, "en") < 0.6
    assert language.share(hostile, "en") == 0.0 or "\u0442" in hostile


def test_an_unknown_language_is_an_error():
    with pytest.raises(ValueError, match="'tlh' is not one of en"):
        language.share("a", "tlh")


@settings(deadline=None)
@given(st.text(max_size=100), st.sampled_from(language.LANGUAGES))
def test_a_share_lies_in_its_range(text, wanted):
    assert 0.0 <= language.share(text, wanted) <= 1.0


@pytest.mark.parametrize(
    "piece", ["$", "`", "```", "\\(", "\\[", "\\a{", "the ", "\u6211", "<", "{"]
)
def test_a_megabyte_takes_less_than_seconds(piece):
    start = time.process_time()
    language.share(piece * (10**6 // len(piece)), "en")
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("Using the numbers [3, 5], write what equals 8.", "en"),
        ("用数字 [3, 5] 写出等于 8 的算式。", "zh"),
        ("la casa de los niños es una casa", "es"),
        ("3 + 5 = 8", "en"),
        ("", "en"),
    ],
)
def test_the_language_of_a_text(text, spoken):
    assert language.of(text) == spoken
