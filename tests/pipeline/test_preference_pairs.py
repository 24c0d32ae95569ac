"""Samples of a request against each other; what is judged, kept and said of the rest."""

import json

import pytest

from r1_jax.data import preferences
from r1_jax.pipeline import experiment, preference_data, preference_pairs, sampled


def _row(uid, sample, completion):
    return {"uid": uid, "sample": sample, "question": f"q{uid}", "completion": completion}


ROWS = [_row(uid, sample, f"{uid}.{sample}") for uid in (4, 9) for sample in range(4)]


def test_neighbours_of_one_request_are_pairs():
    found = list(preference_pairs.paired(ROWS))
    shown = [(c.uid, c.first, c.second, c.pair) for c in found]
    assert shown == [(4, "4.0", "4.1", 0), (4, "4.2", "4.3", 1), (9, "9.0", "9.1", 0),
                     (9, "9.2", "9.3", 1)]  # fmt: skip
    assert list(preference_pairs.paired([_row(1, 0, "a"), _row(2, 1, "b")])) == []


@pytest.mark.parametrize("changes", [{"num_samples": 3}, {"num_samples": 0}, {"num_prompts": 0}])
def test_an_odd_number_of_answers_is_refused(changes):
    with pytest.raises(ValueError, match="judged in pairs"):
        preference_pairs.PairsConfig(**changes)


@pytest.mark.parametrize("num_kept", [0, 2])
def test_the_pairs_come_last_and_none_is_an_error(num_kept, tmp_path, monkeypatch):
    def draw(config, workdir, **numbers):
        assert config.sampling.temperature == 1.5
        return iter(ROWS)

    monkeypatch.setattr(sampled, "draw", draw)
    asked = []
    config = experiment.ExperimentConfig()

    def collect(config, candidates, by, out):
        asked.extend(preferences.read(candidates, preferences.Candidate))
        assert by.better("q", "a a", "a") == -2
        out.write_text("pairs\n")
        return {"counts": {"pairs": 4, "kept": num_kept}}

    monkeypatch.setattr(preference_data, "collect", collect)
    choice = preference_pairs.PairsConfig(2, 4, 1.5, "r1_jax.data.tasks.general:briefer")
    if not num_kept:
        with pytest.raises(ValueError, match="no pair was kept"):
            preference_pairs.run(config, choice, tmp_path)
        assert not (tmp_path / "pairs.jsonl").exists()
        return
    path = preference_pairs.run(config, choice, tmp_path)
    assert len(asked) == 4 and path.read_text() == "pairs\n"
    assert json.loads((tmp_path / "fate.json").read_text())["kept"] == 2
    monkeypatch.setattr(preference_data, "collect", None)
    assert preference_pairs.run(config, choice, tmp_path) == path  # done already
