"""build: values arrive where they belong; every mistake is named with path and way out."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Literal

import ml_collections
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1_jax.core import build


@dataclasses.dataclass(frozen=True)
class Optim:
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    warmup_steps: int = 0
    schedule: Literal["constant", "cosine"] = "constant"

    def __post_init__(self):
        if self.learning_rate < 0:
            raise ValueError(f"learning_rate={self.learning_rate} is negative")


@dataclasses.dataclass(frozen=True)
class Grpo:
    kl_coef: float = 0.001
    clip_high: float | None = None
    stop_ids: tuple[int, ...] = ()
    stages: tuple[Optim, ...] = ()
    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    overlong: int | str = 0
    is_masked: bool = False


@dataclasses.dataclass(frozen=True)
class Sampling:
    top_p: float = 1.0


@dataclasses.dataclass(frozen=True)
class Experiment:
    name: str
    grpo: Grpo = dataclasses.field(default_factory=Grpo)
    optim: Optim = dataclasses.field(default_factory=Optim)
    sampling: Sampling | None = None


def test_nested_values_arrive_and_absent_ones_keep_their_defaults():
    built = build.build(Experiment, {"name": "x", "grpo": {"kl_coef": 0.5, "clip_high": 10}})
    assert built == Experiment("x", grpo=Grpo(kl_coef=0.5, clip_high=10.0))
    assert isinstance(built.grpo.clip_high, float)


def test_config_dict_is_a_mapping_and_its_lists_become_tuples():
    config = ml_collections.ConfigDict({"name": "x", "grpo": {"stop_ids": [1, 2]}})
    config.optim = ml_collections.ConfigDict({"betas": (0.5, 1)})
    built = build.build(Experiment, config.lock())
    assert built.grpo.stop_ids == (1, 2)
    assert built.optim.betas == (0.5, 1.0)


def test_tuples_and_mappings_of_dataclasses_and_optional_dataclasses():
    built = build.build(
        Experiment,
        {
            "name": "x",
            "grpo": {"stages": [{"warmup_steps": 3}], "weights": {"format": 1}, "overlong": "mask"},
            "sampling": {"top_p": 1},
        },
    )
    assert built.grpo.stages == (Optim(warmup_steps=3),)
    assert built.grpo.weights == {"format": 1.0}
    assert built.grpo.overlong == "mask"
    assert built.sampling == Sampling(top_p=1.0)
    assert build.build(Experiment, {"name": "x", "sampling": None}).sampling is None


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"grpo": {"kl_coeff": 1}}, r"unknown key grpo\.kl_coeff=1; did you mean grpo\.kl_coef\?"),
        ({"kl_coef": 1}, r"unknown key kl_coef=1; did you mean grpo\.kl_coef\?"),
        ({"grpo": {"lerning_rate": 1}}, r"grpo\.lerning_rate=1; did you mean optim\.learning_rate"),
        ({"optim": {"top_p": 1}}, r"unknown key optim\.top_p=1; did you mean sampling\.top_p\?"),
        ({"qqqq": 1}, r"unknown key qqqq=1; the configuration has the keys name, grpo, optim"),
        ({"optim": {"warmup_steps": 1.5}}, r"^optim\.warmup_steps=1\.5 is a float, not a int$"),
        ({"optim": {"warmup_steps": 1e3}}, r"optim\.warmup_steps=1000\.0 .* write 1000$"),
        ({"optim": {"warmup_steps": True}}, r"optim\.warmup_steps=True is a bool, not a int"),
        ({"optim": {"learning_rate": True}}, r"optim\.learning_rate=True is a bool, not a float"),
        ({"optim": {"learning_rate": "1e-3"}}, r"optim\.learning_rate='1e-3' is a str"),
        ({"optim": {"learning_rate": None}}, r"optim\.learning_rate=None is a NoneType"),
        ({"optim": {"learning_rate": -1}}, r"^optim: learning_rate=-1\.0 is negative$"),
        ({"grpo": {"stages": [{}, {"learning_rate": -1}]}}, r"^grpo\.stages\[1\]: learning_rate"),
        ({"grpo": {"is_masked": 1}}, r"grpo\.is_masked=1 is a int, not a bool; write True"),
        ({"grpo": {"stop_ids": 3}}, r"grpo\.stop_ids=3 is a int, not a tuple; write \(3,\)"),
        ({"grpo": {"stop_ids": [1, "a"]}}, r"grpo\.stop_ids\[1\]='a' is a str, not a int"),
        ({"grpo": {"overlong": 0.5}}, r"grpo\.overlong=0\.5 is a float, not a int \| str"),
        ({"grpo": {"weights": {"format": "a"}}}, r"grpo\.weights\.format='a' is a str"),
        ({"grpo": {"weights": 3}}, r"grpo\.weights=3 is not a "),
        ({"optim": {"betas": [0.9]}}, r"optim\.betas=\[0\.9\] has 1 entries; it takes 2"),
        (
            {"optim": {"schedule": "cosin"}},
            r"optim\.schedule='cosin' is not one of 'constant', 'cosine'; did you mean 'cosine'\?",
        ),
        ({"optim": 3}, r"optim: 3 is not a mapping of Optim's keys"),
    ],
)
def test_each_mistake_is_named(mapping, message):
    with pytest.raises(ValueError, match=message):
        build.build(Experiment, {"name": "x", **mapping})


def test_a_required_key_is_asked_for():
    with pytest.raises(ValueError, match="name is required; give it a str"):
        build.build(Experiment, {})


def test_a_built_part_is_taken_as_it_is():
    grpo = Grpo(kl_coef=3.0)
    assert build.build(Experiment, {"name": "x", "grpo": grpo}).grpo is grpo


@given(
    st.builds(
        Experiment,
        name=st.text(),
        grpo=st.builds(
            Grpo,
            kl_coef=st.floats(allow_nan=False),
            clip_high=st.none() | st.floats(allow_nan=False),
            stop_ids=st.lists(st.integers()).map(tuple),
            stages=st.lists(st.builds(Optim, warmup_steps=st.integers())).map(tuple),
            overlong=st.integers() | st.text(),
        ),
        sampling=st.none() | st.just(Sampling(0.5)),
    )
)
def test_to_dict_survives_json_and_builds_the_same_object(experiment):
    text = json.dumps(build.to_dict(experiment))
    assert build.build(Experiment, json.loads(text)) == experiment


@pytest.mark.parametrize(
    ("dotted", "text", "value"),
    [
        ("grpo.kl_coef", "3e-4", 3e-4),
        ("grpo.kl_coef", "1", 1.0),
        ("grpo.clip_high", "none", None),
        ("grpo.clip_high", "0.28", 0.28),
        ("grpo.stop_ids", "(1, 2)", (1, 2)),
        ("grpo.stop_ids", "[]", ()),
        ("grpo.stages", "[{'warmup_steps': 2}]", (Optim(warmup_steps=2),)),
        ("grpo.overlong", "mask", "mask"),
        ("grpo.overlong", "7", 7),
        ("grpo.is_masked", "true", True),
        ("grpo.is_masked", "False", False),
        ("name", "12", "12"),
        ("name", "none", "none"),
        ("optim.schedule", "cosine", "cosine"),
        ("sampling.top_p", "0.9", 0.9),
    ],
)
def test_typed_text_is_read_as_the_type_of_its_key(dotted, text, value):
    mapping = build.merge({"name": "x"}, dotted, build.Text(text))
    built = build.build(Experiment, mapping)
    for key in dotted.split("."):
        built = getattr(built, key)
    assert built == value and type(built) is type(value)


@pytest.mark.parametrize(
    ("dotted", "text", "message"),
    [
        ("optim.warmup_steps", "abc", r"optim\.warmup_steps='abc' is a str, not a int"),
        ("optim.warmup_steps", "1e3", r"optim\.warmup_steps=1000\.0 .* write 1000"),
        ("optim.warmup_steps", "none", r"optim\.warmup_steps='none' is a str, not a int"),
        ("grpo.is_masked", "maybe", r"grpo\.is_masked='maybe' is a str, not a bool"),
        ("grpo.stop_ids", "3", r"grpo\.stop_ids=3 is a int, not a tuple"),
        ("name.x", "3", r"name=\{'name': 'x', 'x': '3'\} is a dict, not a str"),
        ("grpo.kl", "3", r"unknown key grpo\.kl='3'; did you mean grpo\.kl_coef"),
    ],
)
def test_typed_text_of_another_type_is_named(dotted, text, message):
    with pytest.raises(ValueError, match=message):
        build.build(Experiment, build.merge({"name": "x"}, dotted, build.Text(text)))


@dataclasses.dataclass(frozen=True)
class Size:
    width: int = 1
    optim: Optim = dataclasses.field(default_factory=Optim)

    @classmethod
    def named(cls, name):
        if name != "wide":
            raise ValueError(f"{name!r} is no size; there is wide")
        return cls(7, Optim(warmup_steps=5))


def test_a_dataclass_can_be_given_by_name_and_changed():
    @dataclasses.dataclass(frozen=True)
    class Outer:
        size: Size = dataclasses.field(default_factory=Size)

    def built(mapping):
        return build.build(Outer, mapping).size

    assert built({"size": "wide"}) == Size.named("wide")
    assert built({"size": {"name": "wide", "optim": {"schedule": "cosine"}}}) == Size(
        7, Optim(warmup_steps=5, schedule="cosine")
    )
    # as flags: a name takes the place of what the file says, and later flags change it
    mapping = build.merge({"size": {"width": 3}}, "size", build.Text("wide"))
    assert built(mapping) == Size.named("wide")
    assert built(build.merge(mapping, "size.optim.warmup_steps", build.Text("6"))) == Size(
        7, Optim(warmup_steps=6)
    )
    with pytest.raises(ValueError, match=r"size: 'wid' is no size; there is wide"):
        built({"size": "wid"})


def test_merge_leaves_its_argument_alone():
    mapping = {"grpo": {"kl_coef": 1.0}, "name": "x"}
    assert build.merge(mapping, "grpo.kl_coef", 2) == {"grpo": {"kl_coef": 2}, "name": "x"}
    assert mapping["grpo"]["kl_coef"] == 1.0


def test_describe_lists_every_key_with_the_default_it_really_has():
    @dataclasses.dataclass(frozen=True)
    class Outer:
        seed: int
        optim: Optim = dataclasses.field(default_factory=lambda: Optim(warmup_steps=9))
        sampling: Sampling | None = None

    rows = {key: (kind, default) for key, kind, default in build.describe(Outer)}
    assert rows["seed"] == ("int", "")
    assert rows["optim.warmup_steps"] == ("int", "9")
    assert rows["optim.schedule"] == ("Literal['constant', 'cosine']", "'constant'")
    assert rows["sampling"][1] == "None"
    assert rows["sampling.top_p"] == ("float", "1.0")
    assert "optim" not in rows


def test_an_int_stays_an_int_where_both_are_allowed():
    @dataclasses.dataclass(frozen=True)
    class Either:
        value: float | int = 0

    assert type(build.build(Either, {"value": 3}).value) is int
    assert type(build.build(Either, {"value": 3.0}).value) is float


def test_of_two_keys_elsewhere_the_one_nearer_to_the_root_is_advised():
    @dataclasses.dataclass(frozen=True)
    class Deep:
        optim: Optim = dataclasses.field(default_factory=Optim)

    @dataclasses.dataclass(frozen=True)
    class Outer:
        deep: Deep = dataclasses.field(default_factory=Deep)
        zone: Optim = dataclasses.field(default_factory=Optim)
        zzzz: Deep = dataclasses.field(default_factory=Deep)

    with pytest.raises(ValueError, match=r"did you mean zone\.warmup_steps\?"):
        build.build(Outer, {"warmup_steps": 3})
