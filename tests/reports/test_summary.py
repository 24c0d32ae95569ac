import pathlib

from r1_jax.reports import runs, summary


def run(rows=(), evals=(), manifest=None):
    return runs.Run(pathlib.Path("x"), "x", {}, manifest or {}, list(rows), list(evals), ())


EVALS = [
    {
        "step": 0,
        "num_problems": 512,
        "num_samples": 16,
        "pass@1": 0.15,
        "pass@1_low": 0.13,
        "pass@1_high": 0.17,
        "cons@16": 0.2,
        "length/mean": 40.0,
        "reflection/per_completion": 0.5,
        "reflection/markers": 0.4,
    },
    {"step": 50, "pass@1": 0.4},
    {
        "step": 100,
        "num_problems": 512,
        "num_samples": 16,
        "pass@1": 0.65,
        "pass@1_low": 0.62,
        "pass@1_high": 0.68,
        "cons@16": 0.75,
        "length/mean": 100.0,
        "reflection/per_completion": 2.0,
        "reflection/markers": 1.6,
    },
]


def test_five_lines_base_against_trained():
    lines = summary.lines(run(evals=EVALS, manifest={"seconds": {"update": 61.5, "rollout": 130}}))
    assert lines == [
        "pass@1               0.150 ->    0.650   95% in [0.620, 0.680], 512 problems x 16 samples,"
        " step 0 -> 100",
        "cons@16              0.200 ->    0.750",
        "mean length           40.0 ->    100.0   x2.5; tokens",
        "reflection words      0.50 ->     2.00   x4.0; task's markers 0.40 -> 1.60, x4.0",
        "seconds                  - ->      192   3m12s: rollout 2m10s, update 1m02s",
    ]


def test_a_run_that_is_only_at_its_base_says_so():
    lines = summary.lines(run(evals=EVALS[:1]))
    assert len(lines) == 5
    assert lines[0].startswith("pass@1               0.150 ->        -   95% in [0.130, 0.170]")
    assert lines[0].endswith("step 0 -> -")
    assert lines[4] == "seconds                  - ->        -"


def test_without_evaluations_lengths_are_those_of_training():
    rows = [
        {"step": 0, "length/mean": 30.0, "seconds/update": 1.0, "seconds/rollout": None},
        {"step": 1, "length/mean": 45.0, "seconds/update": 2.5},
    ]
    lines = summary.lines(run(rows))
    assert lines[0] == "pass@1                   - ->        -   not evaluated, step 0 -> 1"
    assert lines[2] == "mean length           30.0 ->     45.0   x1.5; tokens"
    assert lines[4].startswith("seconds                  - ->        4   4s: update 4s")


def test_fewer_samples_than_sixteen_show_the_vote_there_is():
    evals = [{"step": 0, "cons@16": None, "cons@4": 0.3}, {"step": 9, "cons@4": 0.5}]
    assert summary.lines(run(evals=evals))[1] == "cons@4               0.300 ->    0.500"


def test_evaluations_of_different_size_each_say_theirs():
    small = EVALS[2] | {"num_problems": 64}
    line = summary.lines(run(evals=[EVALS[0], small]))[0]
    assert "64 problems x 16 samples (base 512 problems x 16 samples), step 0 -> 100" in line


def test_a_base_of_zero_gives_no_ratio():
    evals = [{"step": 0, "length/mean": 0.0}, {"step": 9, "length/mean": 5.0}]
    assert summary.lines(run(evals=evals))[2] == "mean length            0.0 ->      5.0   tokens"
