"""The scripts in launch/, against a gcloud that notes its calls and has folders for hosts."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
WHERE = ["--zone=us-east5-b", "--project=mine"]
KIND = ["--type=v5litepod-16"]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A small project under git that has our launch/."""
    project = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "launch", project / "launch")
    (project / "Makefile").write_text("env:\n\t@echo $(REQUIREMENTS) > prepared\n")
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "all"]):
        subprocess.run(["git", *words], cwd=project, check=True)
    return project


class Cloud:
    """A folder with the fake gcloud and two hosts, for the scripts of a project."""

    def __init__(self, path: pathlib.Path, project: pathlib.Path):
        self.path, self.project = path, project
        for host in ("0", "1"):
            (path / "hosts" / host).mkdir(parents=True)
        self._program(
            "gcloud", f'exec {sys.executable} -IS {ROOT}/tests/launch/fake_gcloud.py "$@"'
        )

    def _program(self, name, text):
        path = self.path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)

    def start(self, script, *words, **env):
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("R1_", "GIT_"))}
        return subprocess.Popen(
            [self.project / "launch" / script, *words],
            env=inherited
            | {
                "PATH": f"{self.path}/bin:{os.environ['PATH']}",
                "FAKE_GCLOUD": str(self.path),
                "R1_TPU_SECONDS_BETWEEN": "0.02",
                "R1_LAUNCH_GRACE": "1",
            }
            | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, script, *words, **env):
        """(exit status, standard output, standard error) of a script."""
        process = self.start(script, *words, **env)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def calls(self, verb):
        """The words behind `gcloud compute tpus` of the calls with `verb`, and clears them all."""
        path = self.path / "calls.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [words[2:] for words in map(json.loads, lines) if words[3] == verb]

    def states(self, *words):
        (self.path / "states").write_text("\n".join(words))

    def on_host(self, host, name):
        return (self.path / "hosts" / host / "r1_jax" / name).read_text()


@pytest.fixture
def cloud(tmp_path, project):
    return Cloud(tmp_path, project)


# --- words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "words", "error"),
    [
        ("run.sh", [*WHERE, "--", "true"], "no slice was named"),
        ("run.sh", ["s", "--", "true"], "no zone was named; give --zone=us-east5-b or set R1_TPU"),
        ("run.sh", ["s", *WHERE], "no command was given; write it behind --"),
        ("run.sh", ["s", *WHERE, "true"], "true: one slice at a time, s was named"),
        ("run.sh", ["Big_Slice", *WHERE, "--", "true"], "'Big_Slice' must be lower-case letters"),
        ("run.sh", ["s", "--zon=x", "--", "true"], "--zon=x is no flag of run.sh"),
        ("create.sh", ["s", *WHERE], "no type was named; give --type=v5litepod-16 or set R1_TPU"),
        ("create.sh", ["s", *WHERE, "--type=v9-8"], "no runtime is known for --type=v9-8"),
        ("watch.sh", ["s", *WHERE, *KIND, "--restarts=x", "--", "true"], "--restarts=x must be"),
    ],
)
def test_words_that_cannot_be_used_are_one_error_and_no_call(cloud, script, words, error):
    code, _, err = cloud.run(script, *words)
    assert code == 2 and error in err and err.startswith("error: ") and err.count("\n") == 1
    assert not (cloud.path / "calls.jsonl").exists()


def test_without_gcloud_the_way_out_is_named(cloud):
    (cloud.path / "bin/gcloud").unlink()
    for name in ("bash", "dirname"):
        (cloud.path / "bin" / name).symlink_to(shutil.which(name))
    code, _, err = cloud.run("stop.sh", "s", *WHERE, PATH=f"{cloud.path}/bin")
    assert code == 2 and "gcloud is not on the PATH; install" in err


@pytest.mark.parametrize("script", ["create", "run", "watch", "stop", "delete"])
def test_help_is_no_error(cloud, script):
    code, out, _ = cloud.run(f"{script}.sh", "--help")
    assert code == 0 and out.startswith(f"usage: launch/{script}.sh SLICE")


# --- slices ---------------------------------------------------------------------------------------


def test_create_asks_once_and_waits_until_the_slice_is_there(cloud):
    code, out, err = cloud.run("create.sh", "s", *WHERE, *KIND, "--spot")
    assert code == 0, err
    assert out.split() == ["s:", "ABSENT", "s:", "WAITING_FOR_RESOURCES", "s:", "PROVISIONING",
                           "s:", "ACTIVE"]  # fmt: skip
    (created,) = cloud.calls("create")
    assert created == [
        "queued-resources", "create", "s", "--node-id=s", "--accelerator-type=v5litepod-16",
        "--runtime-version=v2-alpha-tpuv5-lite", "--spot", *WHERE, "--quiet",
    ]  # fmt: skip


def test_settings_come_from_the_environment_and_flags_beat_them(cloud):
    env = {"R1_TPU_ZONE": "z", "R1_TPU_TYPE": "v6e-8", "R1_TPU_RUNTIME": "image"}
    assert cloud.run("create.sh", "s", "--type=v4-8", **env)[0] == 0
    (created,) = cloud.calls("create")
    assert {"--zone=z", "--accelerator-type=v4-8", "--runtime-version=image"} <= set(created)
    assert not any(word.startswith(("--project", "--spot")) for word in created)


@pytest.mark.parametrize("state", ["FAILED", "SUSPENDED"])
def test_create_does_not_wait_for_what_will_not_come(cloud, state):
    cloud.states("WAITING_FOR_RESOURCES", state)
    code, _, err = cloud.run("create.sh", "s", *WHERE, *KIND)
    assert code == 1 and f"s is {state}" in err and "launch/delete.sh s" in err
    assert cloud.calls("create") == []


def test_an_error_of_gcloud_is_shown_and_ends_the_script(cloud):
    cloud.states("DENIED")
    code, _, err = cloud.run("create.sh", "s", *WHERE, *KIND)
    assert code != 0 and "PERMISSION_DENIED" in err
    assert cloud.calls("create") == []


def test_delete_takes_the_node_too_and_is_content_when_there_is_none(cloud):
    cloud.states("ACTIVE")
    assert cloud.run("delete.sh", "s", *WHERE)[0] == 0
    assert cloud.calls("delete") == [
        ["queued-resources", "delete", "s", "--force", *WHERE, "--quiet"]
    ]
    code, out, _ = cloud.run("delete.sh", "s", *WHERE)
    assert code == 0 and "there is none" in out
    assert len(cloud.calls("delete")) == 1


# --- runs -----------------------------------------------------------------------------------------

SAY = (
    "import os, sys; print(os.getcwd().split('/')[-2], os.environ['R1_JAX_DISTRIBUTED'], sys.argv)"
)


def test_a_command_runs_on_every_host_as_it_was_given_and_host_0_is_heard(cloud):
    words = ["two words", "it's", '"$HOME" *', ""]
    code, out, err = cloud.run("run.sh", "s", *WHERE, "--", sys.executable, "-c", SAY, *words)
    assert code == 0, err
    assert out.splitlines()[-1] == f"0 auto {['-c', *words]}"
    assert not any(line.startswith("1 ") for line in out.splitlines())
    assert cloud.on_host("1", ".launch/log") == f"1 auto {['-c', *words]}\n"
    assert cloud.on_host("1", "prepared") == "requirements/tpu.txt\n"


def test_what_is_not_committed_stays_here_and_is_mentioned(cloud):
    committed = (cloud.project / "Makefile").read_text()
    (cloud.project / "Makefile").write_text("env:\n\t@echo dirty > prepared\n")
    code, _, err = cloud.run("run.sh", "s", *WHERE, "--", "true")
    (cloud.project / "Makefile").write_text(committed)
    assert code == 0 and "not committed stay here" in err
    assert cloud.on_host("0", "prepared") == "requirements/tpu.txt\n"


@pytest.mark.parametrize(("of_0", "of_1", "expected"), [(0, 3, 3), (75, 76, 75), (76, 1, 1)])
def test_the_worst_host_speaks_for_all(cloud, of_0, of_1, expected):
    command = f"case $PWD in */0/r1_jax) exit {of_0};; *) exit {of_1};; esac"
    code, _, err = cloud.run("run.sh", "s", *WHERE, "--", "bash", "-c", command)
    assert code == expected and f"exit {expected} x 1" in err


@pytest.mark.parametrize("command", ["echo done", "sleep 0.5; echo done"])
def test_a_broken_connection_ends_the_showing_and_not_the_run(cloud, command):
    (cloud.path / "next.py").write_text(
        "if 'follow' in command and not (HERE / 'broke').exists():\n"
        "    (HERE / 'broke').touch()\n"
        "    sys.exit(255)\n"
    )
    code, out, err = cloud.run("run.sh", "s", *WHERE, "--", "bash", "-c", command)
    assert (cloud.path / "broke").exists()
    assert code == 0 and out == "done\n", err


def test_hosts_out_of_reach_have_a_status_of_their_own(cloud):
    (cloud.path / "next.py").write_text("if 'status' in command: sys.exit(255)")
    assert cloud.run("run.sh", "s", *WHERE, "--", "true")[0] == 69


def test_a_second_run_beside_the_first_is_refused(cloud):
    (cloud.path / "next.py").write_text("if 'follow' in command: sys.exit(0)")
    first = cloud.start("run.sh", "s", *WHERE, "--", "sleep", "30")
    while not (cloud.path / "hosts/1/r1_jax/.launch/pid").exists():
        assert first.poll() is None
    code, _, err = cloud.run("run.sh", "s", *WHERE, "--", "true")
    assert code == 69 and "already runs sleep 30; end it with launch/stop.sh" in err
    assert cloud.run("stop.sh", "s", *WHERE)[0] == 0
    assert first.wait(timeout=20) == 128 + signal.SIGTERM
    first.communicate()


def test_stop_lets_a_run_save_on_every_host(cloud):
    save = "trap 'echo saved; exit 75' TERM; echo up; while true; do sleep 0.05; done"
    running = cloud.start("run.sh", "s", *WHERE, "--", "bash", "-c", save)
    for host in ("0", "1"):
        log = cloud.path / "hosts" / host / "r1_jax/.launch/log"
        while not (log.exists() and log.read_text()):
            assert running.poll() is None
    assert cloud.run("stop.sh", "s", *WHERE)[0] == 0
    out, _ = running.communicate(timeout=20)
    assert (running.returncode, out) == (75, "up\nsaved\n")
    assert cloud.on_host("1", ".launch/log") == "up\nsaved\n"


def test_stop_kills_what_does_not_end_by_itself(cloud):
    deaf = "trap '' TERM; echo up; while true; do sleep 0.05; done"
    running = cloud.start("run.sh", "s", *WHERE, "--", "bash", "-c", deaf)
    log = cloud.path / "hosts/1/r1_jax/.launch/log"
    while not (log.exists() and log.read_text()):
        assert running.poll() is None
    code, _, err = cloud.run("stop.sh", "s", *WHERE, R1_LAUNCH_GRACE="0")
    assert code == 0 and "still there after 0 s; killed" in err
    running.communicate(timeout=20)
    assert running.returncode == 128 + signal.SIGKILL


# --- watching -------------------------------------------------------------------------------------


def test_watch_brings_back_a_slice_that_was_taken_away_and_goes_on(cloud):
    # The second start finds what the first one saved; the slice of the first goes with it.
    command = (
        f"if [[ -f $HOME/saved ]]; then exit 0; fi; touch $HOME/saved;"
        f" echo SUSPENDED > {cloud.path}/states; exit 75"
    )
    words = [*WHERE, *KIND, "--spot", "--", "bash", "-c", command]
    code, out, err = cloud.run("watch.sh", "s", *words)
    assert code == 0, err
    assert "ended with 75, slice is SUSPENDED; restart 1 of 100" in err
    assert len(cloud.calls("create")) == 2 and len(cloud.calls("delete")) == 1
    assert out.count("s: ACTIVE") == 2


def test_watch_starts_again_where_the_slice_stands_after_ending_what_still_runs(cloud):
    # Host 0 lost another host; host 1 hangs.
    command = (
        "if [[ -f $HOME/again ]]; then exit 0; fi; touch $HOME/again;"
        " case $HOME in */0) exit 76;; *) exec sleep 30;; esac"
    )
    cloud.states("ACTIVE")
    words = [*WHERE, *KIND, "--", "bash", "-c", command]
    code, _, err = cloud.run("watch.sh", "s", *words, R1_LAUNCH_PATIENCE="0")
    assert code == 0, err
    stops = [c for c in cloud.calls("ssh") if any("host.sh stop" in word for word in c)]
    assert len(stops) == 1 and cloud.calls("create") == []


def test_watch_ends_with_the_program_s_own_error(cloud):
    code, _, err = cloud.run("watch.sh", "s", *WHERE, *KIND, "--", "bash", "-c", "exit 2")
    assert code == 2 and "restart" not in err
    assert len([c for c in cloud.calls("ssh") if any("start" in word for word in c)]) == 1


def test_watch_gives_up_after_its_restarts(cloud):
    words = [*WHERE, *KIND, "--restarts=1", "--", "bash", "-c", "exit 75"]
    code, _, err = cloud.run("watch.sh", "s", *words)
    assert code == 1 and "not done after 1 restarts" in err
    assert len([c for c in cloud.calls("ssh") if any("host.sh start" in w for w in c)]) == 2
