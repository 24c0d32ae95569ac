"""`python -m r1_jax report RUN [RUN...]`: draws runs, compares a sweep, checks a run's curves."""

from absl import flags

from r1_jax.cli import flagset
from r1_jax.reports import ablations, ablations_page, band, emergence, runs

_DOC = """
Writes RUN/report/report.html (one self-contained page) and its figures as PNG files, and prints
the base against the trained policy in five lines. Words: run directories (the --workdir of train).
Several runs are drawn over each other; runs that differ only by their seed become one curve with
a band. A run that is still going on is drawn as far as it is.

The word may be a sweep instead (the --workdir of `sweep`): its cells are compared with the baseline
cell, paired over seeds and over problems, with intervals and tests.

--against=REFERENCE draws nothing: it says metric by metric whether one run's curves lie inside the
band of REFERENCE (made by `band`), and where they leave it. Exit status 1: they leave it.
"""


def main(argv):
    """Writes the report, or checks a run; exits with 2 if it cannot, 1 if the run is outside."""
    parsed = flagset.parse(argv, _DOC, _define)
    words, values = list(parsed.words), parsed.values
    is_sweep = any(map(ablations.is_sweep, words))
    if is_sweep and len(words) > 1:
        flagset.fail("a sweep is compared alone; give one sweep, or runs")
    if values.baseline is not None and not is_sweep:
        flagset.fail("--baseline names a cell of a sweep; give a sweep")
    if values.against is not None and (is_sweep or len(words) != 1):
        flagset.fail("--against checks one run; give one run directory")
    try:
        if values.against is not None:
            return _check(words[0], values.against)
        if is_sweep:
            report, lines = ablations_page.write(words[0], values.out, values.baseline)
        else:
            report, lines = emergence.write(words, values.out)
    except (OSError, ValueError) as error:
        return flagset.fail(error)
    print("\n".join(lines))
    print(f"report: {report}")


def _check(word, against) -> int:
    (run,) = runs.read([word])
    findings, notes = band.check(run, band.read(against))
    print("\n".join(finding.line() for finding in findings))
    print("\n".join(f"note: {note}" for note in notes))
    is_outside = band.is_outside(findings)
    is_whole = all(finding.num_points == finding.num_reference for finding in findings)
    verdict = "outside the band" if is_outside else "inside the band"
    print(verdict if is_outside or is_whole else f"{verdict} as far as the run has come")
    return int(is_outside)


def _define(values):
    flags.DEFINE_string(
        "out",
        None,
        "directory to write to instead of report/ in the first run's",
        flag_values=values,
    )
    flags.DEFINE_string(
        "baseline",
        None,
        "of a sweep: the cell that others are compared with (default: the unchanged one)",
        flag_values=values,
    )
    flags.DEFINE_string("against", None, "reference file to check one run with", flag_values=values)
