import math
import threading

import pytest

from r1_jax.metrics import clock


class Hands:
    """A clock's hands, moved by the test."""

    def __init__(self):
        self.seconds = 100.0

    def __call__(self):
        return self.seconds


def test_phases_add_up_and_a_lap_starts_anew():
    hands = Hands()
    timer = clock.Clock(now=hands)
    for rollout, update in [(3.0, 1.0), (5.0, 2.0)]:
        with timer.phase("rollout"):
            hands.seconds += rollout
        hands.seconds += 10.0  # between phases: nobody's
        with timer.phase("update"):
            hands.seconds += update
        assert timer.lap() == {"seconds/rollout": rollout, "seconds/update": update}
    assert timer.lap() == {}
    assert timer.totals() == {"rollout": 8.0, "update": 3.0}


def test_totals_of_a_resumed_run_go_on_from_those_before():
    hands = Hands()
    timer = clock.Clock({"rollout": 40.0, "compile": 7.0}, now=hands)
    with timer.phase("rollout"):
        hands.seconds += 2.0
    assert timer.totals() == {"rollout": 42.0, "compile": 7.0}
    assert timer.lap() == {"seconds/rollout": 2.0}


def test_a_phase_that_raises_is_counted_and_a_nested_one_counts_in_both():
    hands = Hands()
    timer = clock.Clock(now=hands)
    with pytest.raises(KeyError), timer.phase("step"), timer.phase("score"):
        hands.seconds += 4.0
        raise KeyError
    assert timer.totals() == {"step": 4.0, "score": 4.0}


def test_phases_of_many_threads_lose_nothing():
    hands = Hands()
    timer = clock.Clock(now=lambda: hands.seconds)

    def work():
        for _ in range(200):
            with timer.phase("score"):
                pass

    timer.totals()["score"] = 1e9  # a copy: changes nothing
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert timer.totals() == {"score": 0.0}


def test_a_real_clock_measures_what_sleep_takes():
    timer = clock.Clock()
    with timer.phase("sleep"):
        threading.Event().wait(0.05)
    assert 0.04 < timer.totals()["sleep"] < 60.0


def test_eta_leaves_out_the_first_step_that_compiled():
    eta = clock.Eta(num_steps=10)
    assert eta.update(1, seconds=60.0) == 9 * 60.0  # nothing better is known
    assert eta.update(2, seconds=2.0) == 8 * 2.0
    assert eta.update(3, seconds=4.0) == 7 * 3.0
    assert eta.update(10, seconds=3.0) == 0.0


def test_eta_follows_the_last_fifty_steps():
    eta = clock.Eta(num_steps=1000)
    for step in range(1, 102):
        eta.update(step, seconds=1.0 if step <= 51 else 9.0)
    assert eta.update(102, seconds=9.0) == 898 * 9.0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.4, "59s"), (59.6, "1m00s"), (190, "3m10s"), (7500, "2h05m"), (math.nan, "?")],
)
def test_durations_read_well(seconds, text):
    assert clock.duration(seconds) == text
