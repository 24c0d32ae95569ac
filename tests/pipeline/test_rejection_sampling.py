"""Non-reasoning demonstrations, and what a stage that kept nothing says."""

import pytest

from r1_jax.data import demonstrations
from r1_jax.data.tasks import load
from r1_jax.pipeline import cold_start, rejection_sampling
from r1_jax.rewards import extract, format, verdict
from r1_jax.text import chat

TAGS = chat.Tags()


def test_every_train_request_is_answered_in_the_form_and_every_other_one_thinks(tmp_path):
    task = load.load(load.TaskConfig(name="general", data_dir=str(tmp_path)))
    found = rejection_sampling.non_reasoning(task, TAGS)
    train = list(task.splits["train"])
    assert [one.uid for one in found] == [prompt.uid for prompt in train]
    for one, prompt in zip(found, train, strict=True):
        assert format.strict(one.completion, TAGS) == 1.0
        answer = extract.answer(one.completion, TAGS)
        assert task.accuracy(answer, prompt) == verdict.RIGHT
    thinks = [bool(extract.thought(one.completion, TAGS)) for one in found]
    assert thinks[:4] == [False, True, False, True]


def test_a_stage_that_kept_nothing_names_what_became_of_the_samples(tmp_path):
    with pytest.raises(ValueError, match=r"no sample was kept.*language"):
        cold_start.finish(tmp_path, [], {"language": 7})
    assert not list(tmp_path.iterdir())
    one = demonstrations.Demonstration(1, "q", "c", "s")
    cold_start.finish(tmp_path, [one], {"kept": 1})
    assert demonstrations.read(tmp_path / cold_start.DATA) == [one]
