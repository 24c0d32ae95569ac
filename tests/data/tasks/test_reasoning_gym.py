"""Which answers reasoning-gym's verifiers get to see; the verifiers run in test_load."""

import pytest

from r1_jax.data.tasks import reasoning_gym

CODE = [  # that names the right answer where it is evaluated, or does what it likes
    "entry['answer']",
    "[entry['answer']]",
    "oracle_answer",
    "[oracle_answer]",
    "list(oracle_answer)",
    "entry",
    "\n entry",
    "# a comment\nentry['answer']",
    "__import__('os').system('true')",
    "[open('mark', 'w')]",
    "().__class__",
    "x.__class__",
    "S('open')",
    "[x for x in (1, 2)]",
]
ANSWERS = {
    "binary_matrix": ["0 1\n1 0", "[[0, 1], [1, 0]]", "0"],
    "n_queens": ["_ Q _ _\n_ _ _ Q", "_", "[['_', 'Q']]"],
    "spiral_matrix": ["1 2 3", "[1, -2]"],
    "string_insertion": ["ABCDE", "['A', 'B']", "E"],
    "countdown": ["(3+5)*7 - 2/1"],
    "intermediate_integration": ["-x*cos(x) + sqrt(2)*asin(x) + 1.5*exp(x) + C"],
    "polynomial_multiplication": ["4*x**2*y + 3"],
    "puzzle24": ["8*3"],
    "simple_integration": ["3*X**2/2 + C"],
}


def test_every_verifier_that_evaluates_is_here():
    assert set(ANSWERS) == {*reasoning_gym.AS_PYTHON, *reasoning_gym.BY_SYMPY}


@pytest.mark.parametrize("name", ANSWERS)
def test_what_evaluates_answers_sees_none_that_is_code(name):
    assert not [text for text in CODE if reasoning_gym.is_safe(name, text)]
    assert all(reasoning_gym.is_safe(name, text) for text in ANSWERS[name])


def test_what_compares_answers_sees_all():
    assert all(reasoning_gym.is_safe("chain_sum", text) for text in CODE)


def test_a_data_set_whose_verifier_accepts_anything_is_refused():
    sizes = {"train": 8, "validation": 4, "test": 4}
    with pytest.raises(ValueError, match="verifier that accepts"):
        reasoning_gym.problems("game_of_life_halting", sizes, 0)
