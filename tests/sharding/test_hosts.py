"""A program of one process; those of several are in tests/test_pod.py."""

import jax
import pytest

from r1_jax.sharding import hosts


def test_a_lone_process_meets_itself_and_does_everything():
    hosts.start("")
    hosts.meet("anything", seconds=0)
    assert hosts.gather("numbers", [1, "a"]) == [[1, "a"]]
    assert [*hosts.share(7)] == [*range(7)]
    assert hosts.is_first()
    hosts.same("what", 3, "way out")
    hosts.finish()


def test_shares_are_disjoint_and_cover_all(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    shares = []
    for me in range(3):
        monkeypatch.setattr(jax, "process_index", lambda me=me: me)
        shares.append([*hosts.share(7)])
    assert shares == [[0, 1], [2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    "words", ["yes", "host,2,0", "host:1", "host:1,2", "host:1,2,2", "host:1,x,0", "host:1,2,-1"]
)
def test_words_that_say_no_place_in_a_program_are_refused(words):
    with pytest.raises(ValueError, match=r"R1_JAX_DISTRIBUTED='.*' must be|INDEX=2 must lie below"):
        hosts.start(words)


def test_without_a_cluster_auto_names_the_way_out(monkeypatch):
    def initialize(**options):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    with pytest.raises(
        ValueError, match=r"auto, but jax finds no cluster .*unset it for one process"
    ):
        hosts.start("auto")


def test_hosts_that_do_not_see_the_same_are_named(monkeypatch):
    monkeypatch.setattr(hosts, "gather", lambda name, value: [value, [4]])
    monkeypatch.setattr(hosts, "_who", lambda i: f"process {i}")
    with pytest.raises(ValueError, match=r"steps: process 0 has \[3\], process 1 has \[4\]; share"):
        hosts.same("steps", [3], "share it")
