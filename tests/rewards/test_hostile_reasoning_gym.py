"""reasoning-gym's own verifiers against hostile answers, in children as in a run."""

import json
import pathlib
import re
import warnings

import pytest

from r1_jax.data.tasks import reasoning_gym, task
from r1_jax.rewards import extract, pool, verdict
from tests.rewards import test_hostile

SIZE = 8  # problems of each data set
EVALUATED = reasoning_gym.AS_PYTHON + reasoning_gym.BY_SYMPY
# Other kinds of verifiers: text, numbers, words by letters, states of a game, what sympy prints.
DEFAULT = (*EVALUATED, "chain_sum", "gsm_symbolic", "word_ladder", "knights_knaves", "maze")
OPEN = {  # too dear to make, or without a problem that has an answer
    "composite",
    "game_of_life_halting",  # accepts anything; problems() refuses it
}
CODE = [  # that names the right answer where it is evaluated, or leaves a mark
    "entry['answer']",
    "[entry['answer']]",
    "oracle_answer",
    "[oracle_answer]",
    "list(oracle_answer)",
    "[row for row in entry['metadata']['solution']]",
    "entry",
    "self",
    "__import__('os').system('touch MARK')",
    "open('MARK', 'w')",
    "[open('MARK', 'w')]",
    "exec(\"open('MARK', 'w')\")",
    "().__class__.__base__.__subclasses__()",
    "(lambda: open('MARK', 'w'))()",
    "x.__class__",
    'S(\'open("MARK", "w")\')',
    "[x for x in (1, 2)]",
    'f\'{open("MARK", "w")}\'',
    "9**9**9",
    "99999999!",
]


def _dataset(name):
    return reasoning_gym._dataset(name, 0, SIZE)


def grade(name, index, answer):
    """[value, outcome] of an answer to one problem; children call it."""
    entry = reasoning_gym._entry(name, 0, SIZE, index)
    reference = json.dumps({"index": index, "answer": entry["answer"]})
    prompt = task.Prompt(0, entry["question"], reference)
    found = reasoning_gym.Verifier(name, 0, SIZE)(answer, prompt)
    return [found.value, int(found.outcome)]


def _texts():
    rows = [test_hostile.completion(row) for row in test_hostile.HOSTILE]
    return [t for t in (extract.answer(text, test_hostile.TAGS) for text in rows) if t is not None]


def _all_names():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from reasoning_gym import factory
    return sorted(factory.DATASETS)


def _check(items):
    """Of (data set, index, answer) none is right; the pool ends what hangs."""
    graders = pool.GraderPool(grade, pool.GraderConfig(deadline_seconds=20.0, workers=2))
    found = graders.submit(items)()
    graders.close()
    paid = []
    for item, result in zip(items, found, strict=True):
        if result.failure is not None:
            assert result.failure in (verdict.Outcome.TIMEOUT, verdict.Outcome.CRASH)
            continue
        value, outcome = result.value
        right = reasoning_gym._entry(item[0], 0, SIZE, item[1])["answer"]
        if str(right).strip() != item[2].strip() and (
            outcome == verdict.Outcome.RIGHT or value >= 1
        ):
            paid.append(item)
    assert not paid


def test_the_verifiers_that_evaluate_are_those_that_are_known():
    """Another version of the package may have more."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import reasoning_gym as package
        from reasoning_gym import factory
    names = {f"{cls.__module__}": name for name, (cls, _) in factory.DATASETS.items()}
    found = set()
    for path in pathlib.Path(package.__file__).parent.rglob("*.py"):
        text = path.read_text()
        graded = re.findall(r"def score_answer\(.*?(?=\n    def |\nclass |\Z)", text, re.DOTALL)
        if any(re.search(r"\b(eval|exec|parse_expr|sympify)\(", body) for body in graded):
            module = ".".join(path.relative_to(path.parents[2]).with_suffix("").parts)
            module = module[module.index("reasoning_gym.") :]
            found.add(names.get(module, module))
    # number_sorting evaluates its reference; propositional_logic has a parser of its own
    assert found - {"number_sorting", "propositional_logic"} == set(EVALUATED)


@pytest.mark.parametrize("name", EVALUATED)
def test_code_for_an_answer_is_not_run(name, tmp_path):
    mark = tmp_path / "mark"
    for text in (code.replace("MARK", str(mark)) for code in CODE[:-2]):
        value, outcome = grade(name, 0, text)
        assert outcome != verdict.Outcome.RIGHT and value < 1, text
        assert not mark.exists(), text


@pytest.mark.parametrize("name", EVALUATED)
def test_right_answers_still_are(name):
    answers = [(i, _dataset(name)[i]["answer"]) for i in range(SIZE)]
    safe = [(i, answer) for i, answer in answers if reasoning_gym.is_safe(name, answer)]
    assert len(safe) > SIZE / 2
    for index, answer in safe:
        assert grade(name, index, answer) == [1.0, verdict.Outcome.RIGHT], answer


def test_a_question_restated_as_its_integral_is_not_an_answer():
    """Its derivative is the integrand, so that the package's verifier accepts it."""
    entry = _dataset("intermediate_integration")[0]
    restated = f"Integral({entry['metadata']['integrand']}, x)"
    assert _dataset("intermediate_integration").score_answer(restated, entry) == 1.0
    assert grade("intermediate_integration", 0, restated) == [0.0, verdict.Outcome.UNPARSED]


def test_hostile_answers_earn_nothing():
    texts = _texts()[::3]
    _check([(name, i % SIZE, text) for name in DEFAULT[-5:] for i, text in enumerate(texts)])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # arc's, a file
@pytest.mark.parametrize("part", range(8))
def test_hostile_answers_earn_nothing_in_any_data_set(part):
    """Each data set sees every eighth of the texts, another eighth than its neighbour, and CODE."""
    names = [name for name in _all_names() if name not in OPEN]
    _check(
        [
            (name, k % SIZE, text)
            for i, name in enumerate(names)
            for k, text in enumerate(_texts()[i % 8 :: 8] + CODE)
            if i % 8 == part
        ]
    )
