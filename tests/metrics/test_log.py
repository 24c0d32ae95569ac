import json
import os
import signal
import struct
import subprocess
import sys

import numpy as np
import pytest

from r1_jax.metrics import jsonl, log, names


def row(step, **changes):
    values = {name: step + i / 10 for i, name in enumerate(names.ROW)}
    return values | changes


def eval_row(step):
    return {name: step + i / 10 for i, name in enumerate(names.EVAL_ROW)} | {"task": "countdown"}


def sample(step, number=0):
    return dict.fromkeys(names.SAMPLE, 0) | {"completion": f"at {step}", "sample": number}


def run(workdir, first_step, stop, eval_every=2):
    """The calls of a training loop; evaluates before the step, as step 0 shows the base."""
    with log.MetricsLog(workdir, first_step=first_step) as metrics:
        for step in range(first_step, stop):
            if step % eval_every == 0:
                metrics.eval_row(step, eval_row(step))
                metrics.eval_samples(step, [sample(step)])
            metrics.row(step, row(step))
            metrics.samples(step, [sample(step, i) for i in range(3)])


def files(workdir):
    paths = [p for p in sorted(workdir.rglob("*")) if p.is_file() and "tfevents" not in p.name]
    return {str(p.relative_to(workdir)): p.read_bytes() for p in paths}


def test_rows_and_samples_lie_where_the_names_say(tmp_path):
    run(tmp_path, 0, 3)
    assert sorted(files(tmp_path)) == [
        "eval.jsonl",
        "metrics.jsonl",
        "samples/eval_step_000000.jsonl",
        "samples/eval_step_000002.jsonl",
        "samples/step_000000.jsonl",
        "samples/step_000001.jsonl",
        "samples/step_000002.jsonl",
    ]
    rows, _ = jsonl.read(tmp_path / "metrics.jsonl")
    assert rows[1] == {"step": 1, **row(1)}
    samples, _ = jsonl.read(tmp_path / "samples/step_000002.jsonl")
    assert [s["sample"] for s in samples] == [0, 1, 2]
    assert all(s["step"] == 2 for s in samples)


@pytest.mark.parametrize("resume_at", [0, 1, 2, 5, 6])
def test_resumed_files_are_those_of_an_uninterrupted_run(tmp_path, resume_at):
    run(tmp_path / "whole", 0, 8)
    run(tmp_path / "resumed", 0, 6)
    with open(tmp_path / "resumed/metrics.jsonl", "ab") as file:
        file.write(b'{"step": 6, "reward/me')
    (tmp_path / "resumed/samples/step_000006.jsonl.tmp").write_bytes(b'{"st')
    run(tmp_path / "resumed", resume_at, 8)
    assert files(tmp_path / "resumed") == files(tmp_path / "whole")


def test_opening_at_a_step_leaves_only_what_came_before_it(tmp_path):
    run(tmp_path / "short", 0, 4)
    run(tmp_path / "long", 0, 8)
    (tmp_path / "long/samples/step_000099.jsonl.tmp").write_bytes(b'{"st')
    (tmp_path / "long/samples/notes.txt").write_bytes(b"a person's")
    run(tmp_path / "long", 4, 4)
    kept = files(tmp_path / "long")
    assert kept.pop("samples/notes.txt") == b"a person's"
    assert kept == files(tmp_path / "short")


def test_a_killed_writer_leaves_whole_rows_only_and_can_be_resumed(tmp_path):
    program = f"""
import sys, itertools
sys.path.insert(0, {str(os.path.dirname(__file__))!r})
import test_log
from r1_jax.metrics import log
metrics = log.MetricsLog({str(tmp_path / "killed")!r})
for step in itertools.count():
    metrics.row(step, test_log.row(step))
    metrics.samples(step, [test_log.sample(step)])
    print(step, flush=True)
"""
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    while int(child.stdout.readline()) < 20:
        pass
    child.send_signal(signal.SIGKILL)
    child.stdout.close()
    child.wait()
    rows, _ = jsonl.read(tmp_path / "killed/metrics.jsonl")
    assert [r["step"] for r in rows] == list(range(len(rows))) and len(rows) > 20
    run(tmp_path / "killed", 12, 14, eval_every=100)
    run(tmp_path / "whole", 0, 14, eval_every=100)
    got, expected = files(tmp_path / "killed"), files(tmp_path / "whole")
    assert got["metrics.jsonl"] == expected["metrics.jsonl"]
    assert sorted(got) == sorted(n for n in expected if not n.startswith("samples/eval"))


def test_a_missing_key_is_an_error_at_the_first_row_and_nothing_is_written(tmp_path):
    metrics = log.MetricsLog(tmp_path)
    short = row(0)
    del short["clip/share"], short["entropy"]
    with pytest.raises(
        ValueError, match=r"metrics\.jsonl: the first row lacks entropy, clip/share"
    ):
        metrics.row(0, short)
    with pytest.raises(ValueError, match=r"eval\.jsonl: the first row lacks .*pass@1"):
        metrics.eval_row(0, {"task": "countdown"})
    assert (tmp_path / "metrics.jsonl").read_bytes() == b""
    metrics.row(0, row(0))
    metrics.row(1, short)  # later rows may be sparse
    with pytest.raises(ValueError, match=r"step_000001\.jsonl lacks gap"):
        metrics.samples(1, [{k: v for k, v in sample(1).items() if k != "gap"}])
    metrics.close()


def test_other_loops_name_their_own_required_keys(tmp_path):
    with log.MetricsLog(tmp_path, required=["loss"]) as metrics:
        metrics.row(0, {"loss": 3.5})
    with log.MetricsLog(tmp_path / "b", required=["loss"]) as metrics:
        with pytest.raises(ValueError, match="lacks loss; it has step, los"):
            metrics.row(0, {"los": 3.5})


def test_a_step_is_logged_once_and_forwards(tmp_path):
    with log.MetricsLog(tmp_path, first_step=3) as metrics:
        with pytest.raises(ValueError, match="step=2 was already logged"):
            metrics.row(2, row(2))
        metrics.row(5, row(5))
        with pytest.raises(ValueError, match="step=5 was already logged; the next is 6"):
            metrics.row(5, row(5))
        with pytest.raises(ValueError, match="says step=7, but is logged at step=6"):
            metrics.row(6, {"step": 7} | row(6))


def test_nan_is_written_as_null_and_named(tmp_path):
    with log.MetricsLog(tmp_path) as metrics:
        metrics.row(0, row(0, **{"length/terminated_mean": np.float32("nan")}))
    text = (tmp_path / "metrics.jsonl").read_text()
    assert "NaN" not in text
    assert json.loads(text)["length/terminated_mean"] is None
    assert json.loads(text)["nonfinite"] == {"length/terminated_mean": "nan"}


def tensorboard_events(workdir):
    """Reads the event files in the order of their making: TFRecords of 8 + 4 + n + 4 bytes."""
    from tensorboardX.proto import event_pb2

    events = []
    for path in sorted((workdir / "tensorboard").iterdir(), key=lambda p: int(p.suffix[11:])):
        content = path.read_bytes()
        while content:
            (size,) = struct.unpack("<Q", content[:8])
            events.append(event_pb2.Event.FromString(content[12 : 12 + size]))
            content = content[16 + size :]
    return events


def test_tensorboard_holds_the_scalars_and_forgets_what_a_resume_took_back(tmp_path):
    run(tmp_path, 0, 4)
    run(tmp_path, 2, 4)
    scalars, starts = [], []
    for event in tensorboard_events(tmp_path):
        if event.session_log.status == 1:  # START: TensorBoard drops what came at step or later
            starts.append(event.step)
            scalars = [scalar for scalar in scalars if scalar[1] < event.step]
        scalars += [(v.tag, event.step, v.simple_value) for v in event.summary.value]
    assert starts == [0, 2]
    lengths = [(step, value) for tag, step, value in scalars if tag == "length/mean"]
    assert lengths == [(step, pytest.approx(row(step)["length/mean"])) for step in range(4)]
    passes = [step for tag, step, _ in scalars if tag == "eval/countdown/pass_at_1"]
    assert passes == [0, 2]


def test_the_hosts_that_do_not_write_take_the_same_calls():
    ours = {name for name in vars(log.MetricsLog) if not name.startswith("_")} - {"close"}
    assert ours <= vars(log.Silent).keys()
    with log.Silent() as silent:
        silent.row(0, {})
        silent.samples(0, [])


def test_a_log_does_not_load_torch_and_leaves_it_to_who_wants_it(tmp_path):
    (tmp_path / "torch.py").write_text("print('torch is loaded')")
    child = subprocess.run(
        [sys.executable, "-c", NO_TORCH, str(tmp_path / "run")],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert child.stdout.splitlines() == ["open", "torch is loaded"], child.stderr


NO_TORCH = """
import sys
from r1_jax.metrics import log
log.MetricsLog(sys.argv[1]).close()
print("open")
import torch
"""
