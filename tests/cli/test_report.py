import subprocess
import sys

import pytest

from r1_jax.cli import report
from r1_jax.metrics import log, names


@pytest.fixture
def run(tmp_path):
    with log.MetricsLog(tmp_path / "run") as metrics:
        for step in range(3):
            metrics.row(step, dict.fromkeys(names.ROW, step + 1.0))
            metrics.eval_row(step, dict.fromkeys(names.EVAL_ROW, step / 4) | {"task": "countdown"})
    return tmp_path / "run"


def test_it_prints_five_lines_and_the_path_without_starting_jax(run, tmp_path):
    program = f"""
import sys
from r1_jax.cli import main
try:
    main.main(["report", {str(run)!r}, "--out", {str(tmp_path / "out")!r}])
finally:
    assert "jax" not in sys.modules, "a report needs no accelerator"
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == 6
    assert lines[0].split()[:4] == ["pass@1", "0.000", "->", "0.500"]
    assert lines[5] == f"report: {tmp_path / 'out/report.html'}"
    assert (tmp_path / "out/report.html").stat().st_size > 10_000
    assert (tmp_path / "out/accuracy.png").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "error: no run directory given"),
        (["{}/nowhere"], "nowhere is no directory"),
        (["{}"], "holds no row of metrics.jsonl or eval.jsonl"),
        (["{}/run", "--out={}/run/metrics.jsonl"], "File exists"),
        (["{}/run", "--ouy=x"], "ouy"),
    ],
)
def test_bad_input_is_one_line_and_status_2(run, tmp_path, capsys, words, message):
    with pytest.raises(SystemExit) as stopped:
        report.main(["report", *(word.replace("{}", str(tmp_path)) for word in words)])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1
