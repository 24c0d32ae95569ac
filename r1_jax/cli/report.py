"""`python -m r1_jax report RUN [RUN...]`: draws the emergence report of one or more runs."""

from absl import flags

from r1_jax.cli import flagset
from r1_jax.reports import emergence

_DOC = """
Writes RUN/report/report.html (one self-contained page) and its figures as PNG files, and prints
the base against the trained policy in five lines. Words: run directories (the --workdir of train).
Several runs are drawn over each other; runs that differ only by their seed become one curve with
a band. A run that is still going on is drawn as far as it is.
"""


def main(argv):
    """Writes the report on the runs in argv[1:] and prints its path; exits with 2 if it cannot."""
    parsed = flagset.parse(argv, _DOC, _define)
    try:
        report, lines = emergence.write(parsed.words, parsed.values.out)
    except (OSError, ValueError) as error:
        return flagset.fail(error)
    print("\n".join(lines))
    print(f"report: {report}")


def _define(values):
    flags.DEFINE_string(
        "out",
        None,
        "directory to write to instead of report/ in the first run's",
        flag_values=values,
    )
