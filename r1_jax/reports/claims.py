"""The paper's claims held against runs of our own: claim, paper's figure, ours, verdict.

A claim is about a direction. It is reproduced where the 95% interval over seeds (Student's t, so
at least three seeds) lies on the claimed side of no effect, and not reproduced otherwise; nothing
is said of arms that have not been run.
"""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from r1_jax.reports import ablations, emergence, paired, runs

NUM_SEEDS = 3
QUICKSTART = ("quickstart", "r1_zero_countdown")
# Cells of sweeps that are the quickstart itself: its runs serve them all.
SAME = {
    "length": "response_schedule=_",
    "ppo": "variant=grpo",
    "advantage": "advantage=zscore,aggregation=sequence_mean",
    "base_behaviours": "variant=shipped",
}
COMPARED = ("kl",)  # sweeps of which the report's comparison is read, not the runs
KEPT = ("config.json", "eval.jsonl", "manifest.json")  # of a run, what claims are read from
YES, NO, NOT_RUN = "reproduced", "not reproduced", "not run yet"


class Effect(NamedTuple):
    """A mean over seeds with its interval, and whether it is what was claimed."""

    text: str
    is_claimed: bool


class Finding(NamedTuple):
    """A claim held against what was run."""

    ours: str
    verdict: str


@dataclasses.dataclass(frozen=True)
class Arms:
    """The finished runs in WORKDIR: sweeps (WORKDIR/SWEEP/CELL/seedK) and chains."""

    workdir: pathlib.Path

    def runs(self, sweep: str, cell: str) -> dict[int, runs.Run]:
        """Seed -> run, for those that came to their end."""
        if SAME.get(sweep) == cell:
            sweep, cell = QUICKSTART
        found = {}
        for path in sorted((self.workdir / sweep / cell).glob("seed*")):
            if (path / "eval.jsonl").exists():
                (run,) = runs.read([path])
                if ablations.final_row(run) is not None:
                    found[int(path.name.removeprefix("seed"))] = run
        return found

    def compared(self, sweep: str, metric: str) -> dict[str, paired.Paired]:
        """Cell -> difference to the sweep's baseline over seeds, from its report's numbers."""
        path = self.workdir / sweep / "report" / "comparison.json"
        if not path.exists():
            return {}
        cells = [one for one in json.loads(path.read_text())["cells"] if one["metric"] == metric]
        return {one["what"]: paired.Paired(**one["seeds"]) for one in cells if one["seeds"]}

    def tables(self) -> list[dict[str, dict[str, Any]]]:
        """Of every chain that came to its end: model -> its row of standing/table.json."""
        found = []
        for path in sorted((self.workdir / "chain").glob("seed*/standing/table.json")):
            found.append({row["model"]: row for row in json.loads(path.read_text())})
        return found


def effect(what: str, values: Sequence[float], *, at_least: float = 0.0) -> Effect | None:
    """The mean of one value a seed, claimed to be above `at_least`; None below three seeds."""
    if len(values) < NUM_SEEDS:
        return None
    found = paired.t_test(values)
    assert found.low is not None and found.high is not None
    text = f"{what} {found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}], n = {found.num}"
    return Effect(text, found.low > at_least)


def ratio(what: str, pairs: Sequence[tuple[float, float]]) -> Effect | None:
    """The geometric mean of second / first, claimed to be above 1."""
    found = effect("", [math.log(after / before) for before, after in pairs])
    if found is None:
        return None
    of = paired.t_test([math.log(after / before) for before, after in pairs])
    assert of.low is not None and of.high is not None
    mean, low, high = map(math.exp, (of.mean, of.low, of.high))
    return Effect(f"{what} x{mean:.2f} [{low:.2f}, {high:.2f}], n = {of.num}", low > 1)


def all_of(*effects: Effect | None) -> Finding:
    """Reproduced where every part is."""
    known = [one for one in effects if one is not None]
    if len(known) < len(effects):
        return Finding("; ".join(one.text for one in known) or "-", NOT_RUN)
    verdict = YES if all(one.is_claimed for one in known) else NO
    return Finding("; ".join(one.text for one in known), verdict)


def _ends(members: Mapping[int, runs.Run], key: str) -> list[tuple[float, float]]:
    """(before, after) of an evaluation's value, a pair a seed."""
    rows = [(run.task_evals[0], run.task_evals[-1]) for run in members.values()]
    return [(first[key], last[key]) for first, last in rows]


def _rises(arms: Arms) -> Finding:
    members = arms.runs(*QUICKSTART)
    accuracy = [after - before for before, after in _ends(members, "pass@1")]
    return all_of(effect("pass@1", accuracy), ratio("length", _ends(members, "length/mean")))


def _votes(arms: Arms) -> Finding:
    members = arms.runs(*QUICKSTART).values()
    last = [run.task_evals[-1] for run in members]
    return all_of(effect("cons@16 - pass@1", [row["cons@16"] - row["pass@1"] for row in last]))


def _reflects(arms: Arms) -> Finding:
    members = arms.runs(*QUICKSTART)
    return all_of(ratio("words a completion", _ends(members, "reflection/per_completion")))


def between(arms: Arms, first: str, second: str, key: str) -> list[float]:
    """Per chain that has measured both: `key` of model `second` minus that of `first`."""
    both = [table for table in arms.tables() if {first, second} <= table.keys()]
    return [table[second][key] - table[first][key] for table in both]


def _languages(arms: Arms) -> Finding:
    return all_of(
        effect("language share, Dev2 - R1-Zero", between(arms, "R1-Zero", "Dev2", "language")),
        effect(
            "pass@1, Dev2 - R1-Zero (small cost: above -0.05)",
            between(arms, "R1-Zero", "Dev2", "pass@1"),
            at_least=-0.05,
        ),
    )


def _order(arms: Arms) -> Finding:
    return all_of(
        effect("cold start, pass@1 R1-Zero - Dev1", between(arms, "Dev1", "R1-Zero", "pass@1")),
        effect("RL, pass@1 Dev2 - Dev1", between(arms, "Dev1", "Dev2", "pass@1")),
        effect("SFT, general Dev3 - Dev2", between(arms, "Dev2", "Dev3", "general/pass@1")),
        effect("last RL, general R1 - Dev3", between(arms, "Dev3", "R1", "general/pass@1")),
    )


def _distilled(arms: Arms) -> Finding:
    names = ("RL on the student", "distilled student")
    return all_of(effect("pass@1, distilled - RL", between(arms, *names, "pass@1")))


def _reference(arms: Arms) -> Finding:
    found = arms.compared("kl", "pass@1")
    texts, cells = [], ("variant=none", "variant=k3_0.001", "variant=k3_1")
    for cell in cells:
        of = found.get(cell)
        if of is None or of.num < NUM_SEEDS:
            continue
        name = cell.removeprefix("variant=")
        texts.append(
            f"pass@1, {name} - k3_0.04 {of.mean:+.3f} [{of.low:+.3f}, {of.high:+.3f}], n = {of.num}"
        )
    verdict = NOT_RUN if len(texts) < len(cells) else "measured; the paper publishes no figure"
    return Finding("; ".join(texts) or "-", verdict)


def _random(arms: Arms) -> Finding:
    ends = _ends(arms.runs("reward", "variant=coin"), "pass@1")
    what = "pass@1 before - after (no gain: above -0.05)"
    found = effect(what, [a - b for a, b in ends], at_least=-0.05)
    coin = arms.compared("reward", "pass@1").get("variant=coin")
    rules = [after - before for before, after in _ends(arms.runs(*QUICKSTART), "pass@1")]
    if found is not None or coin is None or min(len(rules), coin.num) < NUM_SEEDS:
        return all_of(found)
    # Of runs that were compared and not kept: the rules' gain, and how far the coin is behind it.
    assert coin.low is not None and coin.high is not None
    gain = paired.t_test(rules)
    assert gain.low is not None and gain.high is not None
    low, high = -gain.high - coin.high, -gain.low - coin.low  # bounds added: no narrower than 95%
    text = f"{what} {-gain.mean - coin.mean:+.3f} [{low:+.3f}, {high:+.3f}], n = {coin.num}"
    return all_of(Effect(text, low > -0.05))


def _cells(arms: Arms, sweep: str, first: str, second: str, key: str) -> list[tuple[float, float]]:
    """(value in cell `first`, in cell `second`) at the end, a pair for each seed of both."""
    a, b = arms.runs(sweep, first), arms.runs(sweep, second)
    return [
        (a[seed].task_evals[-1][key], b[seed].task_evals[-1][key])
        for seed in sorted(a.keys() & b.keys())
    ]


def _gain(arms: Arms, sweep: str, first: str, second: str) -> list[float]:
    return [b - a for a, b in _cells(arms, sweep, first, second, "pass@1")]


def _lengths(arms: Arms) -> Finding:
    free, held, lifted = (f"response_schedule={name}" for name in ("_", "0_96", "0_96_50_176"))
    return all_of(
        effect("pass@1, cap 176 - cap 96", _gain(arms, "length", held, free)),
        effect("pass@1, cap lifted midway - cap 96", _gain(arms, "length", held, lifted)),
    )


def _actor_critic(arms: Arms) -> Finding:
    grpo, low, high = (f"variant={name}" for name in ("grpo", "0.95", "1.0"))
    return all_of(
        effect("pass@1, GRPO - PPO 0.95", _gain(arms, "ppo", low, grpo)),
        effect(
            "pass@1, PPO 1.0 - GRPO (close: above -0.05)",
            _gain(arms, "ppo", grpo, high),
            at_least=-0.05,
        ),
    )


def _biases(arms: Arms) -> Finding:
    ours = "advantage=zscore,aggregation=sequence_mean"
    theirs = "advantage=mean_only,aggregation=constant_length"
    pairs = _cells(arms, "advantage", theirs, ours, "length/mean")
    return all_of(ratio("length, GRPO / Dr. GRPO", pairs))


def _behaviours(arms: Arms) -> Finding:
    return all_of(
        effect(
            "pass@1, base that searches - base that does not",
            _gain(arms, "base_behaviours", "variant=no_search", "variant=shipped"),
        )
    )


def _hacked(arms: Arms) -> Finding:
    rules, late, always = (f"variant={name}" for name in ("rules", "late", "always"))
    return all_of(
        effect("pass@1, rules - always", _gain(arms, "preference", always, rules)),
        effect("pass@1, late - always", _gain(arms, "preference", always, late)),
    )


class Claim(NamedTuple):
    """number: as in docs/CLAIMS. arms: the folders of WORKDIR that it reads."""

    number: int
    text: str
    paper: str
    arms: tuple[str, ...]
    judge: Callable[[Arms], Finding]


CLAIMS = (
    Claim(1, "RL alone raises accuracy and length", "AIME 15.6 -> 77.9", ("quickstart",), _rises),
    Claim(2, "cons@k is above pass@1", "AIME 86.7 against 77.9", ("quickstart",), _votes),
    Claim(3, "reflection words grow", "5- to 7-fold", ("quickstart",), _reflects),
    Claim(4, "accuracy grows with allowed length; the cap matters", "a jump at 64K", ("length",),
          _lengths),
    Claim(5, "R1-Zero mixes languages; the consistency reward mends it at a small cost",
          "slight degradation", ("chain",), _languages),
    Claim(6, "cold start costs reasoning, RL restores it, SFT adds general ability, RL lifts it",
          "Table 3", ("chain",), _order),
    Claim(7, "distilled small beats RL on small", "Qwen-32B: 72.6 against 47.0", ("chain",),
          _distilled),
    Claim(8, "a preference reward used too long is hacked, rules are not", "last 400 of 1,700",
          ("chain", "preference"), _hacked),
    Claim(9, "PPO with lambda 1.0 comes close to GRPO, 0.95 does not", "figure in A.3", ("ppo",),
          _actor_critic),
    Claim(10, "reference and KL: what they change", "coefficient 0.001, refresh at 400", ("kl",),
          _reference),
    Claim(11, "1/length and std bias length (Dr. GRPO)", "not the paper's", ("advantage",),
          _biases),
    Claim(12, "base behaviours decide whether RL takes off", "not the paper's",
          ("base_behaviours",), _behaviours),
    Claim(13, "random rewards do not help here", "not the paper's", ("reward",), _random),
)  # fmt: skip


def keep(workdir: str | os.PathLike[str], out: str | os.PathLike[str]) -> int:
    """Copies what claims are read from, a few kilobytes a run, to `out`; the number of files.

    What is there already from other runs stays: arms add up over machines and days.
    """
    workdir, out, num = pathlib.Path(workdir), pathlib.Path(out), 0
    kept = [path for name in KEPT for path in workdir.glob(f"*/*/seed*/{name}")]
    kept += [
        *workdir.glob("*/report/comparison.json"),
        *workdir.glob("chain/seed*/standing/table.json"),
    ]
    for path in sorted(kept):
        target = out / path.relative_to(workdir)
        target.parent.mkdir(parents=True, exist_ok=True)
        emergence.replace(target, path.read_bytes())
        num += 1
    return num
