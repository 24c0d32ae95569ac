"""bench/: what is measured is what it says, our side does all of it, readings become a table."""

import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys
from functools import partial

import jax
import numpy as np
import pytest

from bench import compare, decode, grpo, learner, machine, rollout, scaling, table
from bench import work as works
from r1_jax.core import trees
from r1_jax.models import flops, sizes, transformer

ROOT = pathlib.Path(__file__).parents[2]
TINY = dataclasses.replace(works.WORK["tiny"], num_layers=1, vocab_size=16, embed_dim=16)


class Record:
    """The turns of a run, without a clock."""

    def __init__(self):
        self.calls, self.rows, self.facts = [], [], {}

    def begin(self):
        self.calls.append("begin")

    def end(self, tokens, **facts):
        self.calls.append("end")
        self.rows.append({"tokens": tokens, **facts})

    turn = works.Turns.turn

    def finish(self, **facts):
        self.facts = facts


@pytest.fixture
def quick(monkeypatch):
    """Programs are compiled as tests do it: what they compute is of interest, not how fast."""
    monkeypatch.setattr(
        jax, "jit", partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    )


def test_our_step_does_all_of_the_work_once_compiled(quick):
    turns = Record()
    grpo.run(TINY, turns, num_steps=2, num_microbatches=2, devices=jax.devices()[:1])
    assert turns.calls == ["begin", "end"] * 3
    first, *others = turns.rows
    assert first["tokens"] == TINY.num_rows * TINY.response_length
    assert first["compilations"] and not any(row["compilations"] for row in others)
    assert all(row["gap/sampler_learner_max"] < 1e-4 for row in turns.rows)
    # the policy moves away from its reference: the updates are applied
    assert first["kl/reference"] < 1e-9 < others[1]["kl/reference"]


ROW = {
    "tokens/rollout": TINY.num_rows * TINY.response_length,
    "length/mean": TINY.response_length,
    "length/clipped_share": 1.0,
    "loss": 0.1,
    "update/skipped": 0.0,
    "gradient/norm": 0.5,
    "kl/reference": 0.0,
    "rows/included_share": 1.0,
    "groups/zero_spread_share": 0.0,
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tokens/rollout", 3),
        ("length/clipped_share", 0.9),
        ("loss", float("nan")),
        ("update/skipped", 1.0),
        ("gradient/norm", 0.0),
        ("kl/reference", None),
        ("rows/included_share", 0.5),
        ("groups/zero_spread_share", 1.0),
    ],
)
def test_a_step_that_leaves_work_out_is_no_reading(name, value):
    grpo.check(TINY, ROW)
    with pytest.raises(AssertionError):
        grpo.check(TINY, ROW | {name: value})


def test_our_rollout_has_the_drawn_lengths_with_and_without_refilling(quick):
    shares = []
    for num_slots in (3, 0):
        turns = Record()
        rollout.run(TINY, turns, num_steps=0, num_slots=num_slots, devices=jax.devices()[:1])
        assert [row["tokens"] for row in turns.rows] == [works.tail_lengths(TINY).sum()]
        shares.append(turns.facts["useful_share"])
    lengths = works.tail_lengths(TINY)
    assert shares[1] == pytest.approx(lengths.mean() / lengths.max()) and shares[0] > shares[1]


def test_our_decoding_is_timed_without_its_prefill_and_knows_what_it_reads(quick):
    work, turns = dataclasses.replace(TINY, compute_dtype="bfloat16"), Record()
    options = {"devices": jax.devices()[:1], "cache": "int8"}
    decode.run(work, turns, num_steps=0, batch=3, **options)
    assert [row["tokens"] for row in turns.rows] == [3 * (6 + 12)]
    # by hand: attention in, its biases, attention out, mlp, embedding; and norms in float32
    num = 16 * (16 + 8 + 8) + (16 + 8 + 8) + 16 * 16 + 3 * 16 * 48 + 16 * 16
    assert turns.facts["weight_bytes"] == 2 * num + 4 * 3 * 16
    # a byte for each of 2 heads of 4 features, of keys and of values, and their float32 scales
    assert decode.position_bytes(grpo.config(work).model, "int8") == 2 * 2 * (4 + 4)
    assert turns.facts["cache_bytes"] == 3 * (8 + 9) * 32  # at the mean of the steps between
    assert turns.facts["decode_tokens_per_second"] == 3 / turns.facts["decode_seconds"]


def test_the_shapes_are_those_of_the_issue():
    # layers * (attention + mlp + norms) + embedding + last norm, by hand
    s = 4 * (256 * 64 * 12 + 64 * 8 + 3 * 256 * 1024 + 2 * 256) + 512 * 256 + 256
    m = 12 * (512 * 64 * 20 + 64 * 12 + 3 * 512 * 1536 + 2 * 512) + 8192 * 512 + 512
    for name, size in (("S", s), ("M", m)):
        work = works.WORK[name]
        init = partial(transformer.init, grpo.config(work).model)
        assert trees.num_params(jax.eval_shape(init, jax.random.key(0))) == size
        assert (work.num_rows, work.prompt_length, work.response_length) == (64, 64, 192)
        model = grpo.config(work).model
        assert (model.qkv_bias, model.tied_embeddings) == (True, True)
        assert model.compute_dtype == "float32"
    model = grpo.config(works.WORK["1.5B"]).model
    assert model == dataclasses.replace(sizes.SIZES["qwen2p5_1p5b"], remat="none")
    assert works.WORK["1.5B"].prompt_length + works.WORK["1.5B"].response_length == 4096


def test_lengths_are_geometric_and_cut():
    lengths = works.tail_lengths(works.WORK["S"])
    assert lengths.shape == (512,) and lengths.min() >= 1 and lengths.max() <= 192
    assert abs(lengths.mean() - 32) < 4 * 32 / 512**0.5
    np.testing.assert_array_equal(lengths, works.tail_lengths(works.WORK["M"]))


def test_a_reward_is_the_share_of_even_ids():
    assert works.reward("12 7 3 40") == 0.5 and works.reward("") == 0
    assert works.ids(works.text([5, 0, 17])) == [5, 0, 17]


def test_turns_are_lines_of_json_and_wait_for_the_word():
    code = (
        "import sys, time; from bench import work; t = work.Turns('a', True)\n"
        "for i in range(3):\n"
        "    with t.turn() as found: found['tokens'] = 10 + i; print('noise')\n"
        "t.finish(extra=1)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        input="\n" * 3,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    *steps, last = map(json.loads, done.stdout.splitlines())
    assert [row["step"] for row in steps] == [0, 1, 2]
    assert last["name"] == "a" and last["tokens"] == 12 and last["extra"] == 1
    assert len(last["step_seconds"]) == 2  # the first one is the warm-up
    assert last["peak_bytes"] > 2**20 and 0 < last["start_seconds"] < 600
    assert "noise" in done.stderr


def reading(name, seconds, tokens=100, work="S step", **more):
    return {
        "name": name,
        "work": work,
        "step_seconds": seconds,
        "cpu_seconds": [2 * s for s in seconds],
        "tokens": tokens,
        "peak_bytes": 3 * 2**20,
        "start_seconds": 1.25,
        **more,
    }


def test_a_table_has_medians_minima_and_ratios_of_time_a_token():
    rows = [
        reading("r1_jax", [2.0, 1.0, 4.0], warm_start_seconds=0.5),
        reading("peer", [6.0, 5.0, 9.0]),
        reading("r1_jax, 4 slots", [1.0], work="S tail", useful_share=0.9),
        reading("other", [1.0], tokens=50, work="S tail"),
    ]
    lines = ["noise", json.dumps({"machine": {}}), *map(json.dumps, rows)]
    assert table.readings(lines) == rows
    _, _, ours, peer, tail, other = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in table.table(rows).strip().splitlines()
    ]
    assert ours == [
        "S step", "r1_jax", "2.00", "1.00", "4.00", "3", "1.00", "50", "", "3", "1.2", "0.5"
    ]  # fmt: skip
    assert peer[2:8] == ["6.00", "5.00", "12.00", "3", "3.00", "17"]
    assert tail[8] == "0.900" and other[6] == "2.00"
    with pytest.raises(ValueError, match="no timed step"):
        table.table([reading("r1_jax", [])])


def test_entrants_take_turns(monkeypatch, capsys):
    code = (
        "from bench import work; t = work.Turns({name!r}, True)\n"
        "for i in range(3):\n    with t.turn() as found: found['tokens'] = 7\n"
        "t.finish()"
    )

    def command(entrant, *more):
        return [sys.executable, "-c", code.format(name=entrant.module)]

    monkeypatch.setattr(compare.Entrant, "command", command)
    entrants = [compare.Entrant("a"), compare.Entrant("b")]
    rows = list(compare.session("S", "tail", entrants, 2))
    assert [row["name"] for row in rows] == ["a", "b"]
    assert all(row["work"] == "S tail" and len(row["step_seconds"]) == 2 for row in rows)
    said = [line.split(": ")[1] for line in capsys.readouterr().err.splitlines()[-4:]]
    assert said == ["a", "b", "a", "b"]


def test_an_entrant_that_fails_says_why(monkeypatch):
    monkeypatch.setattr(
        compare.Entrant, "command", lambda *_: [sys.executable, "-c", "raise SystemExit('so sad')"]
    )
    with pytest.raises(RuntimeError, match="so sad"):
        list(compare.session("S", "tail", [compare.Entrant("a")], 1))


def test_every_entrant_is_a_script_and_every_peer_is_pinned():
    accelerated = [entrant for (entrant,) in compare.ACCELERATOR.values()]
    for entrant in (*compare.STEP, *compare.TAIL, *accelerated):
        assert (ROOT / "bench" / f"{entrant.module.replace('.', '/')}.py").exists()
        if entrant.environment:
            assert (ROOT / f"bench/peers/{entrant.environment}.txt").exists()
    pins = {"trl": ("trl==1.16.0", "torch==2.13.0"), "tunix": ("google-tunix==0.1.7",)}
    for name, wanted in pins.items():
        lines = (ROOT / f"bench/peers/{name}.txt").read_text().splitlines()
        assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
        assert set(wanted) <= set(lines)


def test_the_machine_is_read():
    found = machine.read(size=64, num_bytes=2**16)
    assert found["cores"] >= 1 and found["matmul_gflops"] > 0 and found["copy_gb_s"] > 0


def test_growth_of_seconds_is_held_against_that_of_flops():
    work = works.WORK["tiny"]
    variants = {"": work} | works.doubled(work)
    found = {
        name: [{key: scaling.step_flops(of) * 1e-9 for key in ("seconds", "cpu_seconds", *PHASES)}]
        for name, of in variants.items()
    }
    rows = scaling.summary("tiny", found)
    assert [row["twice"] for row in rows] == ["rows", "length", "layers"]
    assert [row["over_flops"] for row in rows] == pytest.approx([1, 1, 1])
    assert rows[0]["flops"] == pytest.approx(2)
    assert rows[1]["flops"] > 2 > rows[2]["flops"] > 1.5  # of pairs; the head has no layers
    found["rows"][0]["seconds"] *= 1.2
    assert scaling.summary("tiny", found)[0]["over_flops"] == pytest.approx(1.2)


PHASES = scaling.PHASES


def test_the_learner_s_products_are_all_that_weights_cost():
    model = grpo.config(works.WORK["S"]).model
    shapes = learner.products(model, num_positions=1000, num_scored=300)
    total = sum(2.0 * m * k * n * times for m, k, n, times in shapes)
    assert total == pytest.approx(flops.of(model).forward(1000, 300, 0))


def test_a_device_is_read():
    found = machine.read_device(size=64, num_bytes=2**16)
    assert found["platform"] == "cpu" and found["matmul_gflops"] > 0 and found["copy_gb_s"] > 0


DEVICE = {"platform": "cpu", "device": "one", "matmul_gflops": 2000.0, "copy_gb_s": 50.0}


def test_a_cpu_is_no_accelerator_and_is_told_so_in_a_sentence(monkeypatch, capsys):
    monkeypatch.setattr(compare, "machine", lambda *_, where: {"machine": DEVICE})
    with pytest.raises(SystemExit, match=r"^error: --accelerator measures .* or add --tiny"):
        compare.main(["--accelerator"])
    assert not capsys.readouterr().out
    with pytest.raises(SystemExit):
        compare.main(["XL"])
    assert "no work is called XL; use S, M" in capsys.readouterr().err


def test_of_an_accelerator_the_shares_of_its_ceilings_are_told(monkeypatch, capsys):
    code = (
        "from bench import work; t = work.Turns('r1_jax, {module}', True)\n"
        "for i in range(2):\n    with t.turn() as found: found['tokens'] = 7\n"
        "t.finish(**{facts})"
    )
    facts = {
        "decode": {
            "decode_seconds": 0.004, "decode_tokens_per_second": 16000.0, "weight_bytes": 8e7,
            "cache_bytes": 2e7, "device_peak_bytes": 3 * 2**30,
        },
        "grpo": {"update_flops": 0.9e12, "device_peak_bytes": None},
    }  # fmt: skip

    def command(entrant, *more):
        assert not more or more[0] == "1.5B-tiny"
        text = code.format(module=entrant.module, facts=facts[entrant.module])
        return [sys.executable, "-c", text]

    monkeypatch.setattr(compare.Entrant, "command", command)
    said = {"bench.machine": DEVICE, "bench.kernels": {"kernels": {}}}
    monkeypatch.setattr(compare, "_output", lambda module, *_, where: json.dumps(said[module]))
    compare.main(["--accelerator", "--tiny", "--steps=1", "--kinds=step,decode64"])
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines[:2]] == [{"machine": DEVICE}, {"kernels": {}}]
    step, decoded = ([cell.strip() for cell in line.split("|")[3:-1]] for line in lines[-4:-2])
    assert step == ["", "", "", "0.9", "0.450", ""]
    # 100 MB at 50 GB/s are 2 ms of 4
    assert decoded == ["16,000", "4.00", "0.500", "", "", "3.0"]
    assert lines[-1] == "one: product 2,000 GFLOP/s, copy 50 GB/s"


@pytest.mark.slow
def test_the_accelerator_s_benchmark_runs_of_a_tiny_model():
    command = [sys.executable, "-m", "bench.compare", "--accelerator", "--tiny", "--steps=1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    rows = table.readings(done.stdout.splitlines())
    assert [row["work"] for row in rows] == [f"1.5B-tiny {kind}" for kind in compare.ACCELERATOR]
    assert rows[0]["update_flops"] > 0 and rows[2]["decode_tokens_per_second"] > 0
