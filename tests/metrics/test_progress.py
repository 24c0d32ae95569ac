import io

from r1_jax.metrics import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def run(stream, num_steps=100, seconds_per_step=1.0, **kwargs):
    seconds = [0.0]
    with progress.Progress(num_steps, stream=stream, now=lambda: seconds[0], **kwargs) as bar:
        for step in range(kwargs.get("first_step", 0), num_steps):
            seconds[0] += seconds_per_step
            bar.update(step, reward=1.25, length=40.0)
            if step == 50:
                bar.note("flat: 97% of completions are cut off")
    return stream.getvalue()


def test_into_a_file_go_the_first_line_one_a_period_and_the_last():
    lines = run(io.StringIO(), every_seconds=30.0).splitlines()
    assert lines[0] == "step 1/100  reward 1.25  length 40  ETA 1m39s"
    steps = [int(line.split()[1].split("/")[0]) for line in lines if line.startswith("step")]
    assert steps == [1, 31, 61, 91, 100]
    assert lines[-1].endswith("ETA 0s")
    assert "flat: 97% of completions are cut off" in lines
    assert not any("\r" in line for line in lines)


def test_slow_steps_give_a_line_each():
    lines = run(io.StringIO(), num_steps=60, seconds_per_step=61.0, every_seconds=60.0).splitlines()
    assert len([line for line in lines if line.startswith("step")]) == 60


def test_a_terminal_gets_one_bar_with_step_reward_length_and_eta(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    text = run(Terminal(), first_step=40)
    assert "100/100" in text and "reward 1.25  length 40  ETA 0s" in text
    assert "flat: 97% of completions are cut off\n" in text
    assert "step 41/100" not in text


def test_a_host_that_shows_nothing_is_silent():
    assert run(io.StringIO(), is_shown=False) == "" == run(Terminal(), is_shown=False)
