"""The files for other engines agree with the program, with each other and with themselves."""

import importlib.util
import math
import pathlib
import re
import shlex

import pytest
import yaml

LAUNCH = pathlib.Path(__file__).parents[2] / "launch"
CHIPS_A_HOST = {"tpu-v5-lite-podslice": 4, "tpu-v5p-slice": 4, "tpu-v6e-slice": 4}


@pytest.fixture(scope="module")
def jobset():
    return yaml.safe_load((LAUNCH / "gke.yaml").read_text())


@pytest.fixture(scope="module")
def sky():
    return yaml.safe_load((LAUNCH / "sky.yaml").read_text())


def test_a_jobset_has_one_pod_a_host_and_all_of_its_chips(jobset):
    (slice_,) = jobset["spec"]["replicatedJobs"]
    job = slice_["template"]["spec"]
    pod = job["template"]["spec"]
    selector = pod["nodeSelector"]
    a_host = CHIPS_A_HOST[selector["cloud.google.com/gke-tpu-accelerator"]]
    topology = selector["cloud.google.com/gke-tpu-topology"]
    hosts = math.prod(map(int, topology.split("x"))) // a_host
    assert job["parallelism"] == job["completions"] == hosts
    assert pod["containers"][0]["resources"]["limits"] == {"google.com/tpu": a_host}


def test_a_jobset_starts_again_unless_the_error_is_the_program_s_own(jobset):
    job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    (rule,) = job["podFailurePolicy"]["rules"]
    assert job["backoffLimit"] == 0 and job["template"]["spec"]["restartPolicy"] == "Never"
    assert rule["action"] == "FailJob" and rule["onExitCodes"]["containerName"] == "r1"
    assert container["name"] == "r1"
    assert not {75, 76, 134} & set(rule["onExitCodes"]["values"])
    assert jobset["spec"]["failurePolicy"]["rules"][0]["action"] == "FailJobSet"


def test_commands_name_configs_that_exist_and_a_folder_that_is_mounted(jobset, sky):
    pod = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    mounted = [volume["mountPath"] for volume in container["volumeMounts"]]
    ours = shlex.split(sky["run"].replace("\\\n", " "))
    for words, folders in ((container["command"], mounted), (ours, list(sky["file_mounts"]))):
        (config,) = (w.split("=")[1] for w in words if w.startswith("--config="))
        (workdir,) = (w.split("=")[1] for w in words if w.startswith("--workdir="))
        assert (LAUNCH.parent / config).is_file()
        assert any(workdir.startswith(folder + "/") for folder in folders)
        assert words[words.index("-m") + 1] == "r1_jax"
    assert {e["name"]: e["value"] for e in container["env"]} == {"R1_JAX_DISTRIBUTED": "auto"}
    assert "R1_JAX_DISTRIBUTED=auto" in ours
    assert sky["resources"]["job_recovery"]["recover_on_exit_codes"] == [75, 76, 134]


def test_the_image_is_made_of_files_that_exist_by_targets_that_exist():
    text = (LAUNCH / "Dockerfile").read_text()
    for sources in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE):
        for source in sources.split():
            assert (LAUNCH.parent / source).exists()
    assert "REQUIREMENTS=requirements/tpu.txt" in text
    assert (LAUNCH.parent / "requirements/tpu.txt").is_file()
    assert "\nenv:" in (LAUNCH.parent / "Makefile").read_text()
    assert importlib.util.find_spec("r1_jax.__main__")
