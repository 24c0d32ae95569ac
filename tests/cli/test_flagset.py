"""flagset: a configuration file, overrides on the command line, help, and one line per mistake."""

import dataclasses

import pytest
from absl import flags

from r1_jax.cli import flagset


@dataclasses.dataclass(frozen=True)
class Grpo:
    kl_coef: float = 0.001
    clip_high: float | None = None
    group_size: int = 16


@dataclasses.dataclass(frozen=True)
class Experiment:
    name: str = "x"
    grpo: Grpo = dataclasses.field(default_factory=Grpo)


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "config.py"
    path.write_text(
        "import ml_collections\n"
        "def get_config(text='plain'):\n"
        "  c = ml_collections.ConfigDict({'name': text, 'grpo': {'group_size': 4}})\n"
        "  return c\n"
    )
    return str(path)


def _define(values):
    flags.DEFINE_string("workdir", None, "the run directory", flag_values=values, required=True)
    flags.DEFINE_integer("steps", 3, "how many", flag_values=values)


def _parse(*words):
    return flagset.parse(["prog", *words], "What it does.", _define, Experiment)


def test_file_overrides_and_flags_meet(config_file):
    parsed = _parse(
        "RUN", f"--config={config_file}", "--workdir=w", "--config.grpo.kl_coef=1", "--steps=5"
    )
    assert parsed.words == ("RUN",)
    assert (parsed.values.workdir, parsed.values.steps) == ("w", 5)
    assert parsed.config == Experiment("plain", Grpo(kl_coef=1.0, group_size=4))


def test_keys_that_the_file_leaves_out_can_be_overridden_in_any_order(config_file):
    parsed = _parse(
        "--config.grpo.clip_high=10", "--workdir=w", f"--config={config_file}:hard",
        "--config.grpo.group_size", "8",
    )  # fmt: skip
    assert parsed.config == Experiment("hard", Grpo(clip_high=10.0, group_size=8))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config.grpo.kl_coeff=1"], "unknown key grpo.kl_coeff='1'; did you mean grpo.kl_coef?"),
        (["--config.kl_coef=1"], "did you mean grpo.kl_coef?"),
        (["--config.grpo.group_size=1.5"], "grpo.group_size=1.5 is a float, not a int"),
        (["--config.grpo.group_size"], "--config.grpo.group_size has no value"),
        (["--stesp=1"], "Unknown command line flag 'stesp'. Did you mean: steps ?"),
        (["--steps=x"], "flag --steps=x"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(words, message, config_file, capsys):
    with pytest.raises(SystemExit) as stop:
        _parse(f"--config={config_file}", "--workdir=w", *words)
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert message in err and err.startswith("error: ") and err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--workdir=w"], "--config is required"),
        (["--workdir=w", "--config=nowhere.py"], "nowhere.py"),
        (["--config={}"], "flag --workdir=None"),
    ],
)
def test_what_is_missing_is_named(words, message, config_file, capsys):
    with pytest.raises(SystemExit) as stop:
        _parse(*(word.format(config_file) for word in words))
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_help_shows_flags_and_every_key(capsys):
    with pytest.raises(SystemExit) as stop:
        _parse("--help")
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: prog [flags]\n\nWhat it does.\n")
    assert "--workdir  the run directory\n" in out
    assert "--steps    how many (default: 3)" in out
    assert "grpo.clip_high   float | None = None" in out


def test_a_command_without_a_configuration_takes_flags_and_words():
    parsed = flagset.parse(["prog", "a", "--workdir=w", "b"], "Doc.", _define)
    assert parsed.words == ("a", "b")
    assert parsed.config is None


def test_two_commands_in_one_process_do_not_share_flags(config_file):
    assert _parse(f"--config={config_file}", "--workdir=1").values.workdir == "1"
    assert _parse(f"--config={config_file}", "--workdir=2").values.workdir == "2"
