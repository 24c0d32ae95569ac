"""The stream: every problem once an epoch, the same after a resume and over any number of hosts."""

import itertools
import json

import pytest

from r1_jax.data import batches, sources
from r1_jax.data.tasks import task

NUM = 10
PROMPTS = [task.Prompt(100 + i, f"q{i}", "{}") for i in range(NUM)]


def _uids(stream, num_batches):
    return [[p.uid for p in batch] for batch in itertools.islice(stream, num_batches)]


def _make(seed=5, **kwargs):
    return batches.Batches(PROMPTS, **{"batch_size": 4, "seed": seed, **kwargs})


def test_every_problem_comes_once_in_every_epoch_also_across_batches():
    flat = list(itertools.chain(*_uids(_make(), 15)))
    epochs = [flat[i : i + NUM] for i in range(0, 60, NUM)]
    assert all(sorted(epoch) == [p.uid for p in PROMPTS] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == len(epochs)  # shuffled anew


def test_the_order_is_a_function_of_the_seed():
    assert _uids(_make(), 9) == _uids(_make(), 9)
    assert _uids(_make(), 9) != _uids(_make(seed=6), 9)


@pytest.mark.parametrize("num_hosts", [2, 4])
def test_hosts_together_see_what_one_host_sees(num_hosts):
    whole = _uids(_make(), 10)
    parts = [_uids(_make(host=host, num_hosts=num_hosts), 10) for host in range(num_hosts)]
    for step, batch in enumerate(whole):
        assert all(len(part[step]) == 4 // num_hosts for part in parts)
        assert sorted(itertools.chain(*(part[step] for part in parts))) == sorted(batch)


@pytest.mark.parametrize("num_done", [0, 1, 3, 7])
def test_a_resumed_stream_is_the_uninterrupted_one(num_done):
    whole = _uids(_make(), 12)
    stream = _make()
    assert _uids(stream, num_done) == whole[:num_done]
    state = json.loads(json.dumps(stream.state()))
    assert _uids(stream, 2) == whole[num_done : num_done + 2]  # goes on after saving
    again = _make()
    again.restore(state)
    assert again.state() == state
    assert _uids(again, 12 - num_done) == whole[num_done:]


def test_a_stream_resumes_on_another_number_of_hosts():
    whole = _uids(_make(), 8)
    old = [_make(host=host, num_hosts=2) for host in range(2)]
    for stream in old:
        _uids(stream, 3)
    assert old[0].state() == old[1].state()
    new = [_make(host=host, num_hosts=4) for host in range(4)]
    for stream in new:
        stream.restore(old[0].state())
    parts = [_uids(stream, 5) for stream in new]
    for step, batch in enumerate(whole[3:]):
        assert sorted(itertools.chain(*(part[step] for part in parts))) == sorted(batch)


def _late(num_first=3):
    other = [task.Prompt(i, f"o{i}", "{}") for i in range(5)]
    return batches.Successive(_make(), batches.Batches(other, batch_size=2, seed=1), num_first)


@pytest.mark.parametrize("num_done", [0, 2, 3, 5])
def test_one_stream_follows_another_and_both_resume(num_done):
    whole = _uids(_late(), 7)
    assert whole[:3] == _uids(_make(), 3)
    assert [len(batch) for batch in whole] == [4] * 3 + [2] * 4
    stream = _late()
    _uids(stream, num_done)
    again = _late()
    again.restore(json.loads(json.dumps(stream.state())))
    assert again.state() == stream.state()
    assert _uids(again, 7 - num_done) == whole[num_done:]
    with pytest.raises(ValueError, match="num_first=3, this one has num_first=4"):
        _late(4).restore(stream.state())


def test_problems_are_read_from_disk_when_they_are_needed(tmp_path):
    splits = dict.fromkeys(task.SPLITS, PROMPTS)
    train = sources.open_or_prepare("toy", {}, str(tmp_path), lambda: splits)["train"]
    on_disk = batches.Batches(train, batch_size=4, seed=5)
    assert list(itertools.islice(on_disk, 5)) == list(itertools.islice(_make(), 5))


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"batch_size": 11}, "batch_size=11 prompts cannot be drawn from 10 problems"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"num_hosts": 3}, "batch_size=4 does not split over host=0 of num_hosts=3"),
        ({"num_hosts": 2, "host": 2}, "host=2"),
    ],
)
def test_impossible_batches_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        _make(**kwargs)


@pytest.mark.parametrize("change", [{"seed": 6}, {"batch_size": 2}])
def test_the_state_of_another_stream_is_an_error(change):
    ((key, value),) = change.items()
    with pytest.raises(ValueError, match=f"{key}={value}"):
        _make().restore(_make(**change).state())
