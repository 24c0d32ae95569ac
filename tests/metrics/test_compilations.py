"""The counter hears every program that is compiled, and only while it is entered."""

import jax
import jax.numpy as jnp
import pytest

from r1_jax.metrics import compilations


@pytest.fixture
def counter():
    with compilations.Counter() as counter:
        x = jnp.arange(3.0)
        x.block_until_ready()
        counter.lap()
        yield counter


def test_a_program_counts_once_and_its_second_call_not_at_all(counter):
    double = jax.jit(lambda x: 2 * x)
    x = jnp.arange(4.0)
    counter.lap()
    double(x)
    assert counter.lap() == 1
    double(x + 0)
    counter.lap()
    double(x)
    assert counter.lap() == 0


def test_another_shape_is_another_program(counter):
    double = jax.jit(lambda x: 2 * x)
    one, other = jnp.zeros(5), jnp.zeros(6)
    double(one)
    counter.lap()
    double(other)
    assert counter.lap() == 1


def test_nothing_is_heard_outside():
    with compilations.Counter() as counter:
        pass
    jax.jit(lambda x: x - 1)(jnp.zeros(7))
    assert counter.lap() == 0


def test_two_counters_hear_the_same(counter):
    x = jnp.zeros(8)
    with compilations.Counter() as other:
        counter.lap()
        jax.jit(lambda x: x - 2)(x)
        assert counter.lap() == other.lap() == 1
