"""`python -m r1_jax band`: where a fresh seed's curves should lie."""

import json

from absl import flags

from r1_jax.checkpoints import atomic
from r1_jax.cli import flagset
from r1_jax.reports import band

_DOC = """
Words: five or more finished runs of one configuration with different seeds, such as those of
`sweep --seeds=5` without a --grid. Writes --out: for every metric and step a prediction interval
for a new seed, the values it comes from and the runs' provenance. A run is held against it with
`python -m r1_jax report RUN --against=FILE`.
"""


def main(argv):
    """Writes the reference; exits with 2 and one line for runs that make none."""
    parsed = flagset.parse(argv, _DOC, _define)
    out = parsed.values.out
    if not out:
        flagset.fail("--out is required; it names the file to write, such as references/x.json")
    try:
        reference = band.make(parsed.words)
        atomic.write(out, (json.dumps(reference, indent=1) + "\n").encode())
    except (OSError, ValueError) as error:
        return flagset.fail(error)
    print(f"{out}: {len(reference['points'])} points of {reference['num_runs']} seeds")
    commits = {(run["commit"], run["dirty"]) for run in reference["runs"]}
    if len(commits) > 1 or any(dirty for _, dirty in commits):
        print("note: the runs are of several commits, or of one with changes")


def _define(values):
    flags.DEFINE_string("out", None, "file to write", flag_values=values)
