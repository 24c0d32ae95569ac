"""The last table: every model is sampled alike, and none is measured twice."""

import json
import pathlib

from r1_jax.pipeline import experiment, standing
from r1_jax.sampling import logits

MODELS = {
    "cool": experiment.ExperimentConfig(
        sampling=logits.SamplingConfig(temperature=0.7, num_slots=16)
    ),
    "warm model": experiment.ExperimentConfig(),
}


def _run(tmp_path, monkeypatch, temperature):
    seen = []

    def measure(config):
        how = config.sampling
        seen.append((pathlib.Path(config.base).name, how.temperature, how.num_slots))
        return {"pass@1": temperature}, [{"uid": 0}]

    monkeypatch.setattr(standing, "measure", measure)
    models = {name: (config, pathlib.Path(name)) for name, config in MODELS.items()}
    path = standing.run(models, logits.SamplingConfig(temperature=temperature), tmp_path)
    return seen, json.loads(path.read_text())


def test_every_model_is_sampled_alike_and_once(tmp_path, monkeypatch):
    seen, rows = _run(tmp_path, monkeypatch, 0.6)
    assert seen == [("cool", 0.6, 16), ("warm model", 0.6, 0)]  # its own number of slots
    assert rows == [{"pass@1": 0.6, "model": "cool"}, {"pass@1": 0.6, "model": "warm model"}]
    (tmp_path / "cool.jsonl").unlink()
    seen, rows = _run(tmp_path, monkeypatch, 1.0)
    assert seen == [("cool", 1.0, 16)] and [row["pass@1"] for row in rows] == [1.0, 0.6]
