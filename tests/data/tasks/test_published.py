"""The formats that data sets are published in, from files made here; what is wrong is named."""

import csv
import json

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from r1_jax.data.tasks import published

SOURCE = published.Source("toys", ("*_test.*", "*.jsonl"), "someone/toys")
ROWS = [{"question": 'é, "quoted"\nand broken', "answer": "1"}, {"question": "b", "answer": "2"}]


def _write(path, rows):
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".csv":
        with open(path, "w", encoding="utf-8-sig", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_every_format_gives_the_same_records(suffix, tmp_path):
    _write(tmp_path / f"a_test.{suffix}", ROWS)
    found = published.records(SOURCE, tmp_path)
    assert [{k: record[k] for k in ROWS[0]} for record in found] == ROWS


def test_files_come_in_order_and_the_first_pattern_that_finds_any_wins(tmp_path):
    for name in ("b_test.jsonl", "a_test.jsonl", "train.jsonl", "c_test.txt"):
        _write(tmp_path / name, [{"name": name}]) if name[-1] == "l" else (
            tmp_path / name
        ).write_text("no data")
    assert [r["name"] for r in published.records(SOURCE, tmp_path)] == [
        "a_test.jsonl",
        "b_test.jsonl",
    ]


def test_csv_without_a_header_has_the_columns_it_is_told(tmp_path):
    (tmp_path / "x_test.csv").write_text('"one, two",A\nthree,B\n')
    source = published.Source("toys", ("*.csv",), "someone/toys", columns=("q", "a"))
    found = published.records(source, tmp_path)
    assert [(r["q"], r["a"], r["file"]) for r in found] == [
        ("one, two", "A", "x_test"),
        ("three", "B", "x_test"),
    ]


def test_a_prepared_tensorflow_dataset_is_read_without_tensorflow(tmp_path):
    import sys

    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import registered

    with registered.skip_registration():

        class Toys(tfds.core.GeneratorBasedBuilder):
            """Two records."""

            VERSION = tfds.core.Version("1.0.0")
            name = "toys"
            code_path = None

            def _info(self):
                features = {
                    "question": tfds.features.Text(),
                    "choices": tfds.features.Sequence(tfds.features.Text()),
                    "answer": np.int64,
                }
                return tfds.core.DatasetInfo(
                    builder=self, features=tfds.features.FeaturesDict(features)
                )

            def _split_generators(self, dl_manager):
                return {"test": self._generate_examples()}

            def _generate_examples(self):
                yield 0, {"question": "é?", "choices": ["x", "y"], "answer": 1}

    builder = Toys(data_dir=tmp_path, file_format="array_record")
    builder.download_and_prepare()
    (record,) = published.records(SOURCE, tmp_path)
    assert record == {"question": "é?", "choices": ["x", "y"], "answer": 1}
    assert "tensorflow" not in sys.modules
    with pytest.raises(ValueError, match="has the splits test, but no train"):
        published.records(published.Source("toys", ("*",), "x", split="train"), tmp_path)


def test_absent_files_are_named_with_what_they_are_published_as(tmp_path):
    expected = rf"toys: no file {tmp_path}/nowhere/\*_test.* published as someone/toys"
    with pytest.raises(ValueError, match=expected):
        published.records(SOURCE, tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a_test.jsonl", '{"a": 1}\n{"a": ', r"a_test.jsonl:2 is not JSON"),
        ("a_test.jsonl", "[1]\n", r"a_test.jsonl:1 is not a JSON object"),
        ("a_test.jsonl", "\n", "no record of toys inside"),
        ("a_test.csv", "a,b\n1\n", "a_test.csv:2 has more or fewer fields"),
        ("a_test.csv", 'a,b\n"1,2\n', "a_test.csv is not CSV after line 1"),
        ("a_test.parquet", "PAR1 no", "a_test.parquet is not a parquet file"),
    ],
)
def test_a_damaged_file_is_named(name, content, message, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        published.records(SOURCE, tmp_path)


def test_a_record_of_another_kind_is_named():
    with pytest.raises(ValueError, match="toys: record 3 has no q or question, only a, b"):
        published.field({"a": 1, "b": 2}, ("q", "question"), SOURCE, 3)
    assert published.field({"q": None, "question": 0}, ("q", "question"), SOURCE, 3) == 0
