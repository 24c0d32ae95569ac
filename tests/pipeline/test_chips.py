"""Slices by name: what does not exist is told before anything is compiled."""

from importlib import util

import pytest

from r1_jax.pipeline import chips

needs_libtpu = pytest.mark.skipif(util.find_spec("libtpu") is None, reason="make plan-deps")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("v9:4x4", r"v9:4x4.*one of v4, v5e, v5p, v6e"),
        ("v5p", r"'v5p'.*GENERATION:SHAPE"),
        ("v5p:8x8", r"v5p is a torus of 3 dimensions"),
        ("v5e:0x8", r"v5e is a torus of 2"),
    ],
)
def test_a_slice_that_cannot_be_is_named_with_the_choices(name, what):
    with pytest.raises(ValueError, match=what):
        chips.describe(name)


def test_without_libtpu_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="make plan-deps"):
        chips.describe("v5e:2x2")


@needs_libtpu
def test_a_shape_that_libtpu_does_not_know_is_one_error():
    with pytest.raises(ValueError, match=r"v5e:3x5.*does not exist"):
        chips.describe("v5e:3x5")


@needs_libtpu
def test_a_slice_has_its_chips():
    found = chips.describe("v5e:2x2")
    assert len(found.devices) == 4 and found.devices[0].platform == "tpu"
    assert found.chip.hbm_bytes == 15.75 * 2**30
    # a v4's two cores are one device
    assert len(chips.describe("v4:2x2x1").devices) == 4
