"""What a run says of itself: the right commit, versions that are installed, a file that reads."""

import json
import subprocess

import jax
import pytest

from r1_jax.checkpoints import manifest


@pytest.fixture
def checkout(tmp_path):
    """A repository with one commit of code.py; returns (directory, git)."""

    def git(*args):
        settings = ["-c", "user.name=n", "-c", "user.email=e@e", "-c", "commit.gpgsign=false"]
        done = subprocess.run(
            ["git", "-C", tmp_path, *settings, *args], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    (tmp_path / "code.py").write_text("x = 1\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    return tmp_path, git


def test_commit_of_a_clean_then_a_changed_checkout(checkout):
    directory, git = checkout
    assert manifest.git_commit(directory / "code.py") == (git("rev-parse", "HEAD"), False)
    (directory / "runs.txt").write_text("an untracked file does not count")
    assert manifest.git_commit(directory / "code.py")[1] is False
    (directory / "code.py").write_text("x = 2\n")
    assert manifest.git_commit(directory / "code.py") == (git("rev-parse", "HEAD"), True)


def test_outside_of_a_checkout_the_commit_is_unknown(tmp_path, monkeypatch):
    (tmp_path / "code.py").write_text("x = 1\n")
    assert manifest.git_commit(tmp_path / "code.py") == ("unknown", False)
    monkeypatch.setenv("PATH", str(tmp_path))  # no git at all
    assert manifest.git_commit() == ("unknown", False)


def test_a_copy_installed_below_another_repository_is_not_that_commit(checkout):
    directory, _ = checkout
    installed = directory / "env" / "site-packages" / "code.py"
    installed.parent.mkdir(parents=True)
    installed.write_text("x = 1\n")
    assert manifest.git_commit(installed) == ("unknown", False)


def test_manifest_names_what_a_rerun_needs_and_survives_the_disk(tmp_path):
    config = {"seed": 3, "model": {"num_layers": 2}}
    made = manifest.collect(
        seed=3, config=config, parents={"base": "abc"}, seconds={"compile": 1.23456}
    )
    assert made["versions"]["jax"] == jax.__version__
    assert made["versions"].keys() >= {"python", "jaxlib", "flax", "optax", "numpy"}
    assert made["devices"]["platform"] == "cpu"
    assert made["devices"]["count"] == len(jax.devices())
    assert made["seed"] == 3 and made["parents"] == {"base": "abc"}
    assert made["seconds"] == {"compile": 1.235}
    assert made["config_digest"] == manifest.config_digest(config)
    manifest.write(tmp_path / "run" / "manifest.json", made)
    assert manifest.read(tmp_path / "run" / "manifest.json") == made


def test_config_digest_sees_values_and_not_the_order():
    digest = manifest.config_digest({"a": 1, "b": {"c": 2.0, "d": None}})
    assert digest == manifest.config_digest({"b": {"d": None, "c": 2.0}, "a": 1})
    assert digest != manifest.config_digest({"a": 1, "b": {"c": 2.5, "d": None}})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"manifest\.json: no manifest there"),
        ('{"seed": ', r"manifest\.json is not JSON"),
        (json.dumps([1]), r"manifest\.json holds a list"),
    ],
)
def test_unreadable_manifests_name_the_file(tmp_path, text, message):
    path = tmp_path / "manifest.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=message):
        manifest.read(path)
