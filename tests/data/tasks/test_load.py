"""Every task end to end: prepared once, read back whole, judged right; bad input is named."""

import dataclasses
import json
import pathlib
import pickle
import subprocess
import sys

import pytest

from r1_jax.core import build
from r1_jax.data import sources
from r1_jax.data.tasks import countdown as countdown_task
from r1_jax.data.tasks import load, task
from r1_jax.rewards import countdown as countdown_reward
from r1_jax.rewards import verdict

SMALL = {"num_train": 24, "num_validation": 4, "num_test": 6}
CONFIGS = {
    "countdown": {"name": "countdown"},
    "arithmetic": {"name": "arithmetic"},
    "gsm_symbolic": {"name": "reasoning_gym", "dataset": "gsm_symbolic"},
    "chain_sum": {"name": "reasoning_gym", "dataset": "chain_sum", "seed": 3},
}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("data"))


@pytest.fixture(params=CONFIGS, scope="module")
def loaded(request, data_dir):
    config = load.TaskConfig(**CONFIGS[request.param], **SMALL, data_dir=data_dir)
    return config, load.load(config)


def test_splits_have_their_sizes_and_no_problem_twice(loaded):
    config, it = loaded
    assert {split: len(records) for split, records in it.splits.items()} == config.sizes
    everything = [prompt for split in task.SPLITS for prompt in it.splits[split]]
    assert [prompt.uid for prompt in everything] == list(range(34))
    assert len({" ".join(prompt.question.split()) for prompt in everything}) == 34
    for prompt in everything:
        json.loads(prompt.reference)


def test_ideal_answers_are_right_and_vote_and_others_are_not(loaded):
    _, it = loaded
    for prompt in it.splits["test"]:
        ideal = it.ideal(prompt)
        assert it.accuracy(ideal, prompt) == verdict.RIGHT
        assert it.vote(ideal) and it.vote(f" {ideal} ") == it.vote(ideal)
        assert it.accuracy("12345678", prompt).outcome == verdict.Outcome.WRONG
        assert it.accuracy("12345678", prompt).value < 1
        assert it.accuracy(None, prompt) == verdict.UNPARSED
        assert it.accuracy("", prompt).outcome != verdict.Outcome.RIGHT
    assert it.vote(None) is None and it.vote(" ") is None


def test_a_second_load_reads_the_same_files(loaded, monkeypatch):
    config, it = loaded
    monkeypatch.setattr(sources, "prepare", None)  # would raise if called
    again = load.load(dataclasses.replace(config))
    assert list(again.splits["train"]) == list(it.splits["train"])


def test_grading_works_in_another_process(loaded):
    _, it = loaded
    prompt = it.splits["train"][0]
    task_functions = pickle.loads(pickle.dumps((it.accuracy, it.ideal, it.vote)))
    assert task_functions[0](task_functions[1](prompt), prompt) == verdict.RIGHT


def test_the_files_are_a_tensorflow_dataset_and_tensorflow_is_not_needed(data_dir):
    config = load.TaskConfig(**CONFIGS["countdown"], **SMALL, data_dir=data_dir)
    load.load(config)
    assert "tensorflow" not in sys.modules
    (path,) = pathlib.Path(data_dir).glob("countdown_*/*")
    code = f"""
import sys
import tensorflow_datasets as tfds

builder = tfds.builder_from_directory({str(path)!r})
train = builder.as_data_source(split="train")
print(builder.info.file_format.value, len(train), train[0]["question"].decode())
assert "tensorflow" not in sys.modules
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("array_record 24 Using the numbers [")


def test_arithmetic_values_are_right_and_within_bounds(data_dir):
    config = load.TaskConfig(**CONFIGS["arithmetic"], **SMALL, data_dir=data_dir)
    it = load.load(config)
    for prompt in it.splits["train"]:
        text = prompt.question.removeprefix("What is ").removesuffix("?")
        numbers = [int(n) for n in text.replace("*", " ").split() if n.isdigit()]
        assert len(numbers) == 3 and all(1 <= n <= 20 for n in numbers)
        value = int(it.ideal(prompt))
        assert countdown_reward.verdict(text, numbers, value) == verdict.RIGHT
        assert 10 <= value <= 99
        assert it.vote(f"+0{value}") == str(value)


def test_another_setting_never_reads_these_files(data_dir):
    settings = {"num_train": 5, "seed": 0}
    paths = {
        sources.directory("a", {**settings, **change}, data_dir)
        for change in ({}, {"num_train": 6}, {"seed": 1}, {"max_number": 9})
    }
    assert len(paths) == 4
    default = load.TaskConfig(data_dir=data_dir, **SMALL)
    changes = [{}, {"max_target": 98}, {"seed": 1}, {"num_train": 25}, {"num_numbers": 4}]
    uses = [list(load.load(dataclasses.replace(default, **c)).splits["train"]) for c in changes]
    assert len({tuple(p.question for p in prompts) for prompts in uses}) == len(changes)


def test_reasoning_gym_counts_what_its_verifier_does(monkeypatch, data_dir):
    config = load.TaskConfig(**CONFIGS["chain_sum"], **SMALL, data_dir=data_dir)
    it = load.load(config)
    prompt = it.splits["train"][0]
    from r1_jax.data.tasks import reasoning_gym

    half = it.accuracy(it.ideal(prompt) + " is what I get", prompt)
    assert half.outcome == verdict.Outcome.WRONG and 0 < half.value < 1
    other = dataclasses.replace(prompt, question="What else?")
    assert it.accuracy(it.ideal(prompt), other) == verdict.BAD_REFERENCE

    def broken(answer, entry):
        raise ZeroDivisionError

    dataset = reasoning_gym._dataset("chain_sum", 3, reasoning_gym.num_candidates(config.sizes))
    monkeypatch.setattr(dataset, "score_answer", broken)
    assert it.accuracy("1", prompt).outcome == verdict.Outcome.CRASH


FEW = {"num_numbers": 2, "max_number": 4, "min_target": 2, "max_target": 8}


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"name": "contdown"}, "name='contdown' is no task; did you mean 'countdown'"),
        ({"name": "reasoning_gym"}, "dataset='' names no data set"),
        ({"name": "reasoning_gym", "dataset": "gsm_symbolik"}, "'gsm_symbolik'.*gsm_symbolic"),
        ({"name": "reasoning_gym", "dataset": "composite"}, "'composite' cannot be made"),
        ({"name": "reasoning_gym", "dataset": "graph_color"}, "no worked answer"),
        (
            {"name": "reasoning_gym", "dataset": "self_reference", "num_train": 2000},
            "num_train=2000, but no more than .* another data set than dataset='self_reference'",
        ),
        ({"dataset": "gsm_symbolic"}, "only read by name='reasoning_gym' and name='code'"),
        ({"num_validation": 0}, "num_validation=0: every split needs"),
        ({"data_dir": ""}, "data_dir=''"),
        ({"max_number": 3, "min_target": 50}, "no target in 50..99"),
        ({"name": "arithmetic", "max_number": 2, "min_target": 50}, "no more than 0 distinct"),
        ({**FEW, "num_train": 999}, r"num_train=999, .* widen min_number\.\.max"),
        ({"num_numbers": 1}, "num_numbers=1 must lie in"),
    ],
)
def test_bad_configurations_are_named_and_write_nothing(tmp_path, changes, message):
    config = load.TaskConfig(**{"data_dir": str(tmp_path), **SMALL, **changes})
    with pytest.raises(ValueError, match=message):
        load.load(config)
    assert not list(tmp_path.iterdir())


def test_task_config_survives_the_way_through_json():
    config = load.TaskConfig(max_number=12, data_dir="x")
    text = json.dumps(build.to_dict(config))
    assert build.build(load.TaskConfig, json.loads(text)) == config


def test_importing_a_task_imports_nothing_heavy():
    code = """
import sys
from r1_jax.data import sources
from r1_jax.data.tasks import load
heavy = {"tensorflow_datasets", "grain", "reasoning_gym", "sympy", "jax"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_default_sizes_exist():
    config = load.TaskConfig()
    splits = countdown_task.problems(config.difficulty, config.sizes, config.seed)
    assert {split: len(prompts) for split, prompts in splits.items()} == config.sizes


def test_countdown_asks_in_its_languages_in_turn(data_dir):
    config = load.TaskConfig(**SMALL, data_dir=data_dir, languages=("en", "zh"))
    asked = [p.question for p in load.load(config).splits["train"]]
    assert [text.startswith("Using") for text in asked] == [True, False] * 12
    for languages in ((), ("en", "fr")):
        with pytest.raises(ValueError, match="must be some of en, zh"):
            load.load(dataclasses.replace(config, languages=languages))


def test_scenarios_are_countdown_and_general_requests_in_their_shares(data_dir):
    config = load.TaskConfig(name="scenarios", **SMALL, data_dir=data_dir, shares=(1, 2))
    it = load.load(config)
    train = list(it.splits["train"][:30])
    assert sum("numbers" in prompt.question for prompt in train) == 10
    assert all(it.accuracy(it.ideal(prompt), prompt) == verdict.RIGHT for prompt in train)
    alone = load.load(dataclasses.replace(config, name="general"))
    assert sum(len(split) for split in alone.splits.values()) == 531
