"""What the emergence report shows, as data: figures, their panels, their lines."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Line:
    """One quantity of a panel."""

    pattern: str  # key, or glob over keys, of the rows
    label: str = ""  # default: the key, shortened
    source: str = "rows"  # metrics.jsonl; "evals": eval.jsonl, drawn with a dot per evaluation
    band: tuple[str, str] | None = None  # keys of an interval's ends


@dataclasses.dataclass(frozen=True)
class Panel:
    """One pair of axes; the horizontal one is the policy update."""

    title: str  # with the unit
    lines: tuple[Line, ...]
    is_share: bool = False  # drawn from 0 to 100%
    is_log: bool = False


@dataclasses.dataclass(frozen=True)
class Figure:
    """One PNG and what is written under it."""

    name: str  # file name without .png
    title: str
    caption: str
    panels: tuple[Panel, ...]


FIGURES = (
    Figure(
        "accuracy",
        "Accuracy",
        "pass@1 is the mean over all samples, its band the 95% interval over problems; cons is the "
        "majority vote of that many samples. The paper's Figure 2.",
        (
            Panel(
                "held-out accuracy",
                (
                    Line("pass@1", source="evals", band=("pass@1_low", "pass@1_high")),
                    Line("cons@*", source="evals"),
                ),
                is_share=True,
            ),
        ),
    ),
    Figure(
        "reward",
        "Reward and its parts",
        "The mean reward and every part of it, unweighted.",
        (Panel("reward per completion", (Line("reward/*"),)),),
    ),
    Figure(
        "length",
        "Response length",
        "Mean over all completions and over those that ended by themselves, stop token included; "
        "dots are held-out problems. A mean near the limit with a high cut-off share is not "
        "thinking but running on. The paper's Figure 3.",
        (
            Panel(
                "response length (tokens)",
                (
                    Line("length/mean", "all"),
                    Line("length/terminated_mean", "terminated"),
                    Line("length/mean", "held-out", source="evals"),
                ),
            ),
            Panel("share cut off at the limit", (Line("length/clipped_share", "cut off"),), True),
        ),
    ),
    Figure(
        "reflection",
        "Reflection",
        "Left: the ten words R1's authors counted (wait, mistake, however, but, retry, error, "
        "verify, wrong, evaluate, check). Right: the task's own markers.",
        (
            Panel(
                "R1's ten words per completion",
                (
                    Line("reflection/per_completion", "training"),
                    Line("reflection/per_completion", "held-out", source="evals"),
                ),
            ),
            Panel(
                "task's markers per completion",
                (
                    Line("reflection/markers", "training"),
                    Line("reflection/markers", "held-out", source="evals"),
                ),
            ),
        ),
    ),
    Figure(
        "kl",
        "KL to the reference",
        "How far the policy has moved from the reference policy.",
        (Panel("KL (nats per token)", (Line("kl/*"),)),),
    ),
    Figure(
        "entropy",
        "Entropy",
        "Of the policy's next-token distribution; near zero there is nothing left to explore.",
        (Panel("entropy (nats per token)", (Line("entropy"),)),),
    ),
    Figure(
        "clip",
        "Clipped tokens",
        "Share of tokens whose ratio to the sampling policy was clipped in the update.",
        (Panel("clipped share of tokens", (Line("clip/share"),)),),
    ),
    Figure(
        "groups",
        "Groups without spread",
        "Share of prompts whose completions all got one reward: they teach nothing.",
        (Panel("groups without spread", (Line("groups/zero_spread_share"),), True),),
    ),
    Figure(
        "gap",
        "Sampler against learner",
        "Largest difference of one token's log-probability between sampler and learner.",
        (Panel("sampler-learner gap (nats)", (Line("gap/sampler_learner_max"),), is_log=True),),
    ),
    Figure(
        "seconds",
        "Time",
        "Wall seconds of one step; scoring goes on while the reference does.",
        (
            Panel(
                "seconds per step",
                tuple(Line(f"seconds/{x}") for x in ("rollout", "reference", "update", "score")),
                is_log=True,
            ),
        ),
    ),
)


def label(line: Line, key: str) -> str:
    """Returns what `line` is called in a legend where its pattern matched `key`."""
    return line.label or key.rpartition("/")[2]
