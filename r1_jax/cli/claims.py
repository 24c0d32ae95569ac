"""`python -m r1_jax claims`: the paper's claims as experiments; runs what is missing."""

import pathlib
import subprocess
import sys

from absl import flags

from r1_jax.cli import flagset
from r1_jax.reports import claims, claims_page

_DOC = """
Holds the paper's claims against runs in --workdir and writes WORKDIR/CLAIMS.md and claims.html:
claim, paper's figure, ours with its interval over seeds, verdict. --run=1,2,13 first runs what
these claims lack, sweeps and chains that go on where they stopped; claims share their arms. Without
it only what exists is read. --keep=FOLDER copies what the claims are read from, a few kilobytes a
run, and holds them against all that FOLDER has: docs/claims is what was run so far.
"""
# Without the cells that are the quickstart itself (reports.claims.SAME), but for those of `kl`:
# its report compares with one.
_CONFIG = {
    "quickstart": ("r1_zero_countdown", ()),
    "kl": ("ablate_kl", ("variant=k3_0.04,none,k3_0.001,k3_1",)),
    "reward": ("ablate_reward", ("variant=coin",)),
    "length": ("ablate_length", ("grpo.response_schedule=((0,96),),((0,96),(50,176))",)),
    "ppo": ("ppo_countdown", ("variant=0.95,1.0",)),
    "advantage": (
        "ablate_advantage",
        ("grpo.advantage=mean_only", "grpo.aggregation=constant_length"),
    ),
    "preference": ("ablate_preference", ("variant=rules,late,always",)),
    "base_behaviours": ("ablate_base_behaviours", ("variant=no_search",)),
}


def main(argv):
    """Runs and reads; exits with 2 for input that cannot be used, 1 where an arm failed."""
    values = flagset.parse(argv, _DOC, _define).values
    if not values.workdir:
        flagset.fail("--workdir is required; it names the folder of the claims' runs")
    workdir = pathlib.Path(values.workdir)
    known = {str(claim.number): claim for claim in claims.CLAIMS}
    unknown = [number for number in values.run if number not in known]
    if unknown:
        flagset.fail(f"--run={','.join(unknown)}: the claims are 1 to {len(known)}")
    arms = dict.fromkeys(arm for number in values.run for arm in known[number].arms)
    status = 0
    for arm in arms:
        for command in words(arm, workdir, values.workers):
            status = max(status, subprocess.call([sys.executable, "-m", "r1_jax", *command]) != 0)
    if values.keep:
        print(f"kept {claims.keep(workdir, values.keep)} files in {values.keep}")
    path, lines = claims_page.write(values.keep or workdir)
    print("\n".join(lines))
    print(f"claims: {path}")
    return int(status)


def words(arm: str, workdir: pathlib.Path, workers: int) -> list[list[str]]:
    """The commands that make an arm, or finish it."""
    if arm == "chain":
        return [
            [
                "pipeline",
                "--config=configs/r1_tiny.py",
                f"--config.seed={seed}",
                f"--workdir={workdir / 'chain' / f'seed{seed}'}",
            ]
            for seed in range(claims.NUM_SEEDS)
        ]
    config, grids = _CONFIG[arm]
    grid = [word for text in grids for word in ("--grid", text)]
    sweep = [
        "sweep",
        f"--config=configs/{config}.py",
        *grid,
        f"--seeds={claims.NUM_SEEDS}",
        f"--workers={workers}",
        f"--workdir={workdir / arm}",
    ]
    if arm == "preference":  # all of one chain's Dev3, and paid by its reward model
        chain = (workdir / "chain" / "seed0").absolute()
        sweep.append(f"--config.base={chain / 'dev3' / 'policy.safetensors'}")
        model = chain / "reward_model" / "reward_model.safetensors"
        sweep.append(f"--config.general_reward.path={model}")
    if arm in claims.COMPARED:
        return [sweep, ["report", str(workdir / arm)]]
    return [sweep]


def _define(values):
    flags.DEFINE_string("workdir", None, "folder of the claims' runs", flag_values=values)
    flags.DEFINE_string("keep", None, "folder that gathers what was run", flag_values=values)
    flags.DEFINE_list("run", [], "claims whose missing runs are made first", flag_values=values)
    flags.DEFINE_integer("workers", 1, "runs of a sweep at a time", flag_values=values)
