"""Every file in configs/ builds, and the paper's one holds the paper's numbers (R1_FACTS 1.3)."""

import ast
import dataclasses
import importlib.util
import math
import pathlib
import shlex
import time
from functools import partial

import jax
import pytest

from r1_jax.cli import sft as sft_command
from r1_jax.cli import sweep as command
from r1_jax.cli import train as train_command
from r1_jax.core import build, trees
from r1_jax.data.tasks import benchmarks
from r1_jax.models import sizes, transformer
from r1_jax.pipeline import abstract, experiment, r1, suite, sweep
from r1_jax.sharding import axes, place
from r1_jax.training import optim

ALL = sorted((pathlib.Path(__file__).parents[2] / "configs").glob("*.py"))
FILES = [path for path in ALL if not path.stem.startswith("eval_")]  # those are suites


def _get_config(name: str):
    path = next(path for path in ALL if path.stem == name)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


def load(name: str) -> experiment.ExperimentConfig:
    return build.build(experiment.ExperimentConfig, _get_config(name))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_builds_and_its_docstring_gives_command_and_hardware(path):
    cls = r1.R1Config if path.stem in ("r1_tiny", "r1_paper") else experiment.ExperimentConfig
    assert isinstance(build.build(cls, _get_config(path.stem)), cls)
    text = path.read_text()
    assert f"--config=configs/{path.name}" in text
    assert "Hardware:" in text


def test_the_paper_s_numbers():
    config = load("r1_zero_paper")
    grpo = config.grpo
    assert config.optim.learning_rate == 3e-6
    assert (grpo.kl_coef, grpo.kl_estimator, grpo.kl_place) == (0.001, "k3", "loss")
    assert (grpo.group_size, grpo.prompts_per_rollout, grpo.num_minibatches) == (16, 512, 16)
    assert grpo.prompts_per_rollout * grpo.group_size // grpo.num_minibatches == 512
    assert grpo.inner_epochs == 1
    assert (grpo.num_steps, grpo.reference_every, grpo.reference_mix) == (10_400, 400, 1.0)
    assert config.sampling.temperature == 1.0
    assert grpo.response_limit(8199) == 32_768 and grpo.response_limit(8200) == 65_536
    assert config.reward.accuracy_weight == config.reward.format_weight


def test_the_paper_s_numbers_of_every_stage():
    """R1_FACTS 4.4 to 4.6 and 5: v2 B.4.2, 3.1, 3.2."""
    config = build.build(r1.R1Config, _get_config("r1_paper"))
    for tuned, rate, batch in (
        (config.dev1, 5e-5, 128), (config.dev3, 5e-5, 128), (config.student, 6e-5, 64),
    ):  # fmt: skip
        assert (tuned.optim.learning_rate, tuned.optim.final_share) == (rate, 0.1)
        assert (tuned.sft.batch_rows, tuned.sft.row_length, tuned.sft.epochs) == (batch, 32_768, 2)
        assert tuned.optim.schedule == "cosine"
    assert config.dev2.reward.language_weight == 1.0 and config.r1_zero.reward.language_weight == 0
    judged = config.reward_model.reward_model
    assert (judged.batch_size, judged.num_epochs, judged.max_tokens) == (256, 1, 8192)
    assert judged.optim.learning_rate == 6e-6 and judged.kind == "pairwise"
    assert (config.reward_model.preference.calls, config.reward_model.preference.min_margin) == (
        4,
        1,
    )
    last = config.r1
    general = last.general_reward
    assert (last.sampling.temperature, general.last_steps, general.asked_last_steps) == (
        0.7,
        400,
        400,
    )
    assert abs(last.grpo.num_steps - 1700) < 16
    assert (
        config.r1_zero.model.experts.num_routed == 256 and config.r1_zero.model.latent.rank == 512
    )
    assert config.student_rl.optim.learning_rate == 2e-6
    assert config.student.model.num_layers == config.student_rl.model.num_layers == 64


def test_the_paper_s_protocol_of_evaluation():
    config = build.build(suite.SuiteConfig, _get_config("eval_paper"))
    assert (config.sampling.temperature, config.sampling.top_p) == (0.6, 0.95)
    assert config.max_response == 32_768
    samples = {name: entry.num_samples for name, entry in config.entries.items()}
    assert samples["aime_2024"] == samples["gpqa_diamond"] == 64 and samples["math_500"] == 16
    assert all(4 <= num <= 64 for num in samples.values())
    assert 64 in config.entries["aime_2024"].ks
    assert samples["livecodebench"] == 8 and config.programs.require == "namespaces"
    # A test may take `seconds`, and a problem has up to a hundred of them.
    assert config.entries["livecodebench"].deadline_seconds > 100 * config.programs.seconds
    published = {name for name, entry in config.entries.items() if entry.task is None}
    assert published == set(benchmarks.BENCHMARKS)
    assert "--suite=configs/eval_paper.py" in (ALL[0].parent / "eval_paper.py").read_text()


def test_the_control_differs_from_the_quickstart_in_what_is_paid_alone():
    quickstart, control = load("r1_zero_countdown"), load("ablate_random_reward")
    differing = [
        room
        for room in build.to_dict(quickstart)
        if getattr(quickstart, room) != getattr(control, room)
    ]
    assert differing == ["grpo", "reward"]
    assert dataclasses.replace(control.grpo, truncated="zero_reward") == quickstart.grpo
    assert control.grpo.truncated == "mask"  # 0 for what is cut off would not be random
    assert control.reward.accuracy_weight == control.reward.format_weight == 0


ABLATIONS = [path for path in FILES if "r1_jax sweep" in path.read_text()]


def swept(path, monkeypatch, workdir):
    """The jobs of the sweep command that the docstring of `path` gives."""
    doc = ast.get_docstring(ast.parse(path.read_text()))
    assert doc is not None
    line = " ".join(doc.partition("Command:")[2].partition("Hardware:")[0].split())
    words = shlex.split(line)
    assert words[:4] == ["python", "-m", "r1_jax", "sweep"]
    jobs = []

    def run(found, **_):
        jobs.extend(found)
        return []

    monkeypatch.setattr(sweep, "run", run)
    kept = [word for word in words[3:] if not word.startswith("--workdir=")]
    assert command.main([*kept, f"--workdir={workdir}"]) == 0
    return jobs


@pytest.mark.parametrize("path", ABLATIONS, ids=lambda path: path.stem)
def test_an_ablation_s_command_is_a_sweep_in_which_every_cell_is_another_run(
    path, monkeypatch, tmp_path
):
    jobs = swept(path, monkeypatch, tmp_path)
    configs = {job.cell: {**job.config, "seed": 0} for job in jobs}
    assert len(configs) >= 3 and len(jobs) == 3 * len(configs)
    unlike = list(configs.values())
    assert all(a != b for i, a in enumerate(unlike) for b in unlike[:i])
    count = [line for line in path.read_text().splitlines() if " runs" in line]
    assert f"{len(jobs)} runs" in " ".join(count)


def test_the_issue_s_ablations_are_all_here():
    names = "kl reward clip advantage length reference_refresh base_behaviours preference".split()
    assert {path.stem for path in ABLATIONS} == {f"ablate_{n}" for n in names} | {"ppo_countdown"}


@pytest.mark.parametrize("name", ["ablate_kl", "ablate_reward", "ablate_base_behaviours"])
def test_these_start_from_the_quickstart_itself(name):
    assert load(name) == load("r1_zero_countdown")


def test_ppo_sees_as_many_completions_as_the_quickstart():
    quickstart, ppo = load("r1_zero_countdown"), load("ppo_countdown")
    assert quickstart.ppo is None and ppo.ppo is not None
    kl = {name: getattr(quickstart.grpo, name) for name in ("kl_place", "kl_estimator", "kl_coef")}
    assert (
        dataclasses.replace(ppo, ppo=None, grpo=dataclasses.replace(ppo.grpo, **kl)) == quickstart
    )


OF_THE_PAPER = {  # configuration -> the size it names
    "r1_zero_qwen2p5_0p5b": "qwen2p5_0p5b",
    "r1_zero_qwen2p5_1p5b": "qwen2p5_1p5b",
    "r1_zero_qwen2p5_3b": "qwen2p5_3b",
    "r1_zero_qwen2p5_7b": "qwen2p5_7b",
    "r1_zero_qwen2p5_32b": "qwen2p5_32b",
    "r1_zero_deepseek_v3": "deepseek_v3",
    "distill_qwen_1p5b": "qwen2p5_math_1p5b",
    "distill_qwen_7b": "qwen2p5_math_7b",
    "distill_qwen_14b": "qwen2p5_14b",
    "distill_qwen_32b": "qwen2p5_32b",
    "distill_llama_8b": "llama3p1_8b",
    "distill_llama_70b": "llama3p3_70b",
}


@pytest.mark.parametrize("name", OF_THE_PAPER)
def test_a_published_model_s_run_fits_its_mesh_and_says_what_it_would_cost(name):
    config = load(name)
    assert config.model == sizes.SIZES[OF_THE_PAPER[name]]
    params = jax.eval_shape(partial(transformer.init_boxed, config.model), jax.random.key(0))
    num_params = trees.num_params(params)  # of the size itself: tests/models/test_sizes.py
    of = config.mesh
    shape = (1, of.fsdp, of.tensor, of.expert, of.context)
    mesh = jax.sharding.AbstractMesh(shape, axes.MESH_AXES)
    place.shardings(params, mesh)  # raises where a dimension does not divide
    text = " ".join((ALL[0].parent / f"{name}.py").read_text().split())
    assert f"Hardware: {math.prod(shape)} TPU chips" in text
    # float32 weights, gradient, two moments
    assert f"take {16 * num_params / 1e9:,.0f} GB" in text
    for part in ("Command: ", "Expected: ", "Obtained: not run by this project", "see plan"):
        assert part in text
    ways = of.fsdp * of.expert  # that rows are split; a step of the sampler's, by context too
    if name.startswith("distill"):
        assert config.sft.batch_rows // config.sft.num_microbatches % ways == 0
    else:
        grpo = config.grpo
        rows = grpo.prompts_per_rollout * grpo.group_size // grpo.num_minibatches
        assert rows // grpo.num_microbatches % ways == 0
        assert config.sampling.num_slots % (ways * of.context) == 0
        assert grpo.prompts_per_rollout % (ways * of.context) == 0


def test_the_state_of_671_billion_parameters_is_described_in_seconds():
    began = time.process_time()
    config = load("r1_zero_deepseek_v3")
    mesh = jax.sharding.AbstractMesh((1, 32, 1, 8, 1), axes.MESH_AXES)
    params = abstract.params(config, mesh)
    tx = optim.make_optimizer(config.optim, config.grpo.num_steps)
    state, _ = abstract.state(params, tx, mesh)
    assert time.process_time() - began < 20  # of a machine with much else to do
    assert trees.num_params(state.params) == 671_026_419_200  # R1_FACTS 7.3
    assert abstract.bytes_of(state) == pytest.approx(12 * 671_026_419_200, rel=1e-6)
    # weights and two moments in float32: of 58 layers 256 experts over all chips, the rest over 32
    of_experts = 58 * 256 * 3 * 7168 * 2048
    a_chip = 12 * (of_experts / 256 + (671_026_419_200 - of_experts) / 32)
    assert abstract.bytes_per_chip(state) == pytest.approx(a_chip, rel=1e-3)


@pytest.mark.parametrize("name", OF_THE_PAPER)
def test_a_published_model_s_run_sets_nothing_that_its_command_does_not_read(name):
    command = sft_command if name.startswith("distill") else train_command
    assert not set(_get_config(name).keys()) & set(command.UNREAD)


def test_the_paper_s_students():
    """R1_FACTS 5: v2 B.4.3 and Table 6."""
    rates = {
        "distill_qwen_1p5b": 1e-4, "distill_qwen_7b": 8e-5, "distill_qwen_14b": 7e-5,
        "distill_qwen_32b": 6e-5, "distill_llama_8b": 5e-5, "distill_llama_70b": 2e-5,
    }  # fmt: skip
    assert rates.keys() == {name for name in OF_THE_PAPER if name.startswith("distill")}
    for name, rate in rates.items():
        config = load(name)
        assert (config.optim.learning_rate, config.optim.schedule) == (rate, "cosine")
        assert config.optim.final_share == 0.1 and config.sft.epochs in (2, 3)
        assert (config.sft.row_length, config.sft.batch_rows) == (32_768, 64)
    assert load("r1_zero_qwen2p5_32b").optim.learning_rate == 2e-6
    assert load("r1_zero_deepseek_v3").optim.learning_rate == 3e-6


def test_clipping_can_bind_where_it_is_ablated():
    assert load("ablate_clip").grpo.updates_per_rollout > 1
