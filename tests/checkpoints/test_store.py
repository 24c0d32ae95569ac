"""What is saved comes back bit for bit or not at all; errors are loud and lose nothing."""

import asyncio
import errno
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from orbax.checkpoint._src.serialization import serialization

from r1_jax.checkpoints import store
from r1_jax.sharding import mesh, place


def _arrays(value=0.0, rows=8):
    """A tree of the kinds that a run has: matrices, integers, bfloat16, optimiser state."""
    params = {
        "embed": jnp.arange(rows * 4.0).reshape(rows, 4) + value,
        "scale": jnp.full((4,), value, jnp.bfloat16),
    }
    return {
        "params": params,
        "opt_state": optax.adamw(1e-3).init(params),
        "step": jnp.int32(value),
    }


def _same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


class _Gate:
    """Holds back the background write of array bytes until it is opened."""

    def __init__(self, monkeypatch):
        self.reached = threading.Event()
        self._open = threading.Event()
        real = serialization.async_serialize_from_host

        async def held(*args, **kwargs):
            self.reached.set()
            await asyncio.to_thread(self._open.wait, 30)
            return await real(*args, **kwargs)

        monkeypatch.setattr(serialization, "async_serialize_from_host", held)

    def open(self):
        self._open.set()


def test_what_was_saved_comes_back(tmp_path):
    host_state = {"data": {"position": 3, "seed": None}, "names": ["a", "ü"], "lr": 0.1 + 0.2}
    with store.Store(tmp_path / "new" / "checkpoints") as checkpoints:
        assert checkpoints.latest_step() is None
        checkpoints.save(10, _arrays(10), host_state)
        checkpoints.save(20, _arrays(20), {"data": 4})
        assert checkpoints.steps() == [10, 20]
    with store.Store(tmp_path / "new" / "checkpoints") as checkpoints:
        assert checkpoints.latest_step() == 20
        arrays, state = checkpoints.restore(10, _arrays())
        _same(arrays, _arrays(10))
        assert state == host_state
        _same(checkpoints.restore(20, _arrays())[0], _arrays(20))


def test_it_comes_back_onto_another_mesh(tmp_path):
    eight = place.batch_sharding(mesh.make_mesh(8))
    other = mesh.make_mesh(1, 2, 2, jax.devices()[:4])
    x = jax.device_put(np.arange(32.0, dtype=np.float32).reshape(8, 4), eight)
    wanted = jax.NamedSharding(other, jax.P("tensor", "fsdp"))
    with store.Store(tmp_path) as checkpoints:
        checkpoints.save(1, {"x": x}, {})
        abstract = {"x": jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=wanted)}
        back = checkpoints.restore(1, abstract)[0]["x"]
    assert back.sharding == wanted
    np.testing.assert_array_equal(back, x)


@pytest.mark.parametrize("num_devices", [1, 8])
def test_save_returns_before_the_write_and_donation_cannot_reach_it(
    tmp_path, monkeypatch, num_devices
):
    sharding = place.batch_sharding(
        mesh.make_mesh(num_devices, devices=jax.devices()[:num_devices])
    )
    update = jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0)
    x = {"x": jax.device_put(np.zeros((64, 64), np.float32), sharding)}
    x = update(x)
    gate = _Gate(monkeypatch)
    state = {"position": 1}
    with store.Store(tmp_path) as checkpoints:
        checkpoints.save(1, x, state)
        assert gate.reached.wait(30)
        assert not (tmp_path / "step_00000001").exists()
        state["position"] = 2
        for _ in range(5):
            x = jax.block_until_ready(update(x))
        gate.open()
        assert checkpoints.latest_step() == 1
        back, host_state = checkpoints.restore(1, x)
    np.testing.assert_array_equal(back["x"], 1.0)
    np.testing.assert_array_equal(x["x"], 6.0)
    assert host_state == {"position": 1}


def test_only_the_newest_are_kept_and_an_old_one_goes_last(tmp_path, monkeypatch):
    with store.Store(tmp_path, keep=2) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, _arrays(step), {})
        assert checkpoints.steps() == [2, 3]
        gate = _Gate(monkeypatch)
        checkpoints.save(4, _arrays(4), {})
        assert gate.reached.wait(30)
        on_disk = sorted(path.name for path in tmp_path.iterdir() if path.suffix == "")
        assert on_disk == ["step_00000002", "step_00000003"]
        gate.open()
        assert checkpoints.steps() == [3, 4]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_00000003", "step_00000004"]


def test_one_more_is_kept_until_another_takes_its_place(tmp_path):
    with store.Store(tmp_path, keep=1) as checkpoints:
        for step, also, kept in ((1, 1, [1]), (2, 1, [1, 2]), (3, 2, [1, 3]), (4, None, [4])):
            checkpoints.save(step, _arrays(step), {})
            assert checkpoints.steps() == kept
            checkpoints.keep_also(also)


def test_a_step_is_saved_once_and_in_order(tmp_path):
    with store.Store(tmp_path) as checkpoints:
        checkpoints.save(5, _arrays(5), {})
        for step in (4, 5):
            with pytest.raises(ValueError, match=rf"step {step}: .*step_00000005 is as new"):
                checkpoints.save(step, _arrays(step), {})
        _same(checkpoints.restore(5, _arrays())[0], _arrays(5))


@pytest.mark.parametrize(
    ("directory", "options", "message"),
    [
        ("s3://bucket/run", {}, "to gs://BUCKET/NAME, not to s3://bucket/run"),
        ("x", {"keep": 0}, "keep=0 would delete"),
    ],
)
def test_impossible_stores(directory, options, message):
    with pytest.raises(ValueError, match=message):
        store.Store(directory, **options)


@pytest.mark.parametrize(
    "host_state", [{"a": (1, 2)}, {1: "a"}, {"a": float("nan")}, {"a": np.float32(1)}, {"a": b""}]
)
def test_host_state_that_json_would_change_is_refused(tmp_path, host_state):
    with store.Store(tmp_path) as checkpoints:
        with pytest.raises(ValueError, match="host_state"):
            checkpoints.save(1, _arrays(), host_state)
        assert checkpoints.steps() == []


def test_leaves_that_are_not_arrays_are_refused_by_name(tmp_path):
    with store.Store(tmp_path) as checkpoints:
        with pytest.raises(ValueError, match="a/b is a int"):
            checkpoints.save(1, {"a": {"b": 3}}, {})


def test_another_model_is_an_error_that_names_the_first_leaf(tmp_path):
    with store.Store(tmp_path) as checkpoints:
        checkpoints.save(1, _arrays(1, rows=512), {})
        message = r"embed is float32\[512, 4\] in the checkpoint and float32\[600, 4\] in this mod"
        with pytest.raises(ValueError, match=message):
            checkpoints.restore(1, _arrays(rows=600))
        model = _arrays(rows=512)
        more = model | {"params": model["params"] | {"bias": jnp.zeros(4)}}
        with pytest.raises(ValueError, match="has no params/bias, which this model needs"):
            checkpoints.restore(1, more)
        with pytest.raises(ValueError, match="has step, which this model lacks"):
            checkpoints.restore(1, {name: x for name, x in model.items() if name != "step"})
        retyped = model | {"step": jnp.float32(0)}
        with pytest.raises(ValueError, match=r"step is int32\[\] in the .* and float32\[\] in th"):
            checkpoints.restore(1, retyped)
        unplaced = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), model)
        with pytest.raises(ValueError, match="where it shall live"):
            checkpoints.restore(1, unplaced)


@pytest.fixture
def two_steps(tmp_path):
    with store.Store(tmp_path) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, _arrays(step), {"step": step})
    return tmp_path


def _data_files(step_dir):
    """Where orbax puts the bytes of arrays: per process, and merged."""
    files = [path for path in (step_dir / "arrays").rglob("d/*") if path.is_file()]
    assert files
    return files


def _truncate(step_dir):
    for path in _data_files(step_dir):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(step_dir):
    for path in _data_files(step_dir):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 255
        path.write_bytes(data)


def _other_arrays(step_dir):
    shutil.rmtree(step_dir / "arrays")
    shutil.copytree(step_dir.with_name("step_00000001") / "arrays", step_dir / "arrays")


def _no_arrays(step_dir):
    shutil.rmtree(step_dir / "arrays")


def _no_commit(step_dir):
    (step_dir / "commit_success.txt").unlink()


def _record_cut(step_dir):
    path = step_dir / "record" / "metadata"
    path.write_bytes(path.read_bytes()[:-20])


def _record_of_another_kind(step_dir):
    (step_dir / "record" / "metadata").write_text("{}")


@pytest.mark.parametrize(
    "damage",
    [_truncate, _flip, _other_arrays, _no_arrays, _no_commit, _record_cut, _record_of_another_kind],
)
def test_a_damaged_checkpoint_is_an_error_with_a_way_out(tmp_path, damage):
    # one leaf: of several reads that fail at once, orbax leaves all but the first unawaited
    noise = jnp.asarray(np.random.default_rng(0).normal(size=5000), jnp.float32)
    step_dir = tmp_path / "step_00000002"
    with store.Store(tmp_path) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, {"x": noise * step}, {})
        checkpoints.wait()
        damage(step_dir)
        assert checkpoints.latest_step() == 2
        with pytest.raises(ValueError, match=rf"{step_dir}.*move .* continue from step 1$"):
            checkpoints.restore(2, {"x": noise})
        assert step_dir.exists()
        step_dir.rename(tmp_path / "broken")
        assert checkpoints.latest_step() == 1
        np.testing.assert_array_equal(checkpoints.restore(1, {"x": noise})[0]["x"], noise)


@pytest.mark.parametrize("damage", [_flip, _record_cut])
def test_a_damaged_newest_is_said_to_be_so_and_the_one_before_taken(tmp_path, damage, caplog):
    noise = jnp.asarray(np.random.default_rng(0).normal(size=5000), jnp.float32)
    with store.Store(tmp_path) as checkpoints:
        assert checkpoints.restore_newest({"x": noise}) is None
        for step in (1, 2):
            checkpoints.save(step, {"x": noise * step}, {"step": step})
        checkpoints.wait()
        damage(tmp_path / "step_00000002")
        with store.Store(tmp_path, read_only=True) as reader:
            assert reader.restore_newest({"x": noise})[0] == 1
        assert checkpoints.steps() == [1, 2]
        caplog.clear()
        step, arrays, host = checkpoints.restore_newest({"x": noise})
        assert (step, host) == (1, {"step": 1})
        np.testing.assert_array_equal(arrays["x"], noise)
        assert "step_00000002" in caplog.messages[0] and "00001 is sound and taken" in caplog.text
        assert checkpoints.steps() == [1] and (tmp_path / "step_00000002.damaged").is_dir()
        checkpoints.save(2, {"x": noise}, {})  # the run comes by there again
        checkpoints.wait()
        damage(tmp_path / "step_00000002")
        assert checkpoints.restore_newest({"x": noise})[0] == 1
        names = {path.name for path in tmp_path.glob("*.damaged*")}
        assert names == {"step_00000002.damaged", "step_00000002.damaged_2"}


def test_no_sound_checkpoint_and_another_model_s_are_errors(tmp_path):
    noise = jnp.asarray(np.random.default_rng(0).normal(size=5000), jnp.float32)
    with store.Store(tmp_path) as checkpoints:
        checkpoints.save(1, {"x": noise}, {})
        with pytest.raises(ValueError, match="has no y") as other:
            checkpoints.restore_newest({"y": noise})
        assert not isinstance(other.value, store.DamagedError)
        _flip(tmp_path / "step_00000001")
        with pytest.raises(store.DamagedError, match="no older checkpoint is left"):
            checkpoints.restore_newest({"x": noise})
        assert checkpoints.steps() == [1]


def test_a_lone_array_is_a_tree_too(tmp_path):
    with store.Store(tmp_path) as checkpoints:
        checkpoints.save(1, jnp.arange(5), {})
        np.testing.assert_array_equal(checkpoints.restore(1, jnp.zeros(5, int))[0], range(5))


def test_absent_step_lists_the_complete_ones(two_steps):
    with store.Store(two_steps) as checkpoints:
        with pytest.raises(ValueError, match=r"step_00000007: no .* complete steps: 1, 2$"):
            checkpoints.restore(7, _arrays())


def test_what_was_half_written_is_removed_with_a_message(two_steps, caplog):
    half = two_steps / "step_00000003.orbax-checkpoint-tmp"
    shutil.copytree(two_steps / "step_00000002", half)
    deleting = two_steps / "step_00000000.deleting"
    deleting.mkdir()
    (two_steps / "notes.txt").write_text("mine")
    with store.Store(two_steps, read_only=True) as reader:
        assert reader.steps() == [1, 2]
        with pytest.raises(ValueError, match="read-only"):
            reader.save(4, _arrays(), {})
    assert half.exists() and deleting.exists() and not caplog.messages
    with store.Store(two_steps) as checkpoints:
        assert not half.exists() and not deleting.exists()
        assert checkpoints.steps() == [1, 2]
    assert [str(half) in caplog.text, str(deleting) in caplog.text] == [True, True]
    assert (two_steps / "notes.txt").read_text() == "mine"


def test_a_failed_background_write_is_fatal_at_every_later_call(two_steps, monkeypatch, caplog):
    async def fails(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    checkpoints = store.Store(two_steps)
    with monkeypatch.context() as patch:
        patch.setattr(serialization, "async_serialize_from_host", fails)
        checkpoints.save(3, _arrays(3), {})
        message = "step_00000003 could not be saved: the disk is full .* step 2 is intact"
        with pytest.raises(store.SaveError, match=message):
            checkpoints.save(4, _arrays(4), {})
    for call in (
        checkpoints.wait,
        checkpoints.latest_step,
        lambda: checkpoints.save(5, _arrays(5), {}),
        lambda: checkpoints.restore(2, _arrays()),
        checkpoints.close,
    ):
        with pytest.raises(store.SaveError, match=message):
            call()
    assert "Traceback" not in caplog.text
    assert sorted(path.name for path in two_steps.iterdir()) == ["step_00000001", "step_00000002"]
    with store.Store(two_steps) as again:
        _same(again.restore(again.latest_step(), _arrays())[0], _arrays(2))


def test_leaving_the_block_raises_a_failed_save_but_hides_no_other_error(tmp_path, monkeypatch):
    async def fails(*args, **kwargs):
        raise ValueError("PERMISSION_DENIED: bad weather")

    monkeypatch.setattr(serialization, "async_serialize_from_host", fails)
    with pytest.raises(store.SaveError, match=r"bad weather.*no checkpoint is complete yet"):
        with store.Store(tmp_path) as checkpoints:
            checkpoints.save(1, _arrays(), {})
    with pytest.raises(KeyError), store.Store(tmp_path) as checkpoints:
        checkpoints.save(1, _arrays(), {})
        raise KeyError


def test_a_file_size_limit_is_one_error_and_loses_nothing(two_steps):
    noise = np.random.default_rng(0).normal(size=300_000).astype(np.float32)  # 1.2 MB, dense
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    checkpoints = store.Store(two_steps)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        checkpoints.save(3, {"x": jnp.asarray(noise)}, {})
        with pytest.raises(
            store.SaveError, match=r"step_00000003 could not be saved.*step 2 is int"
        ):
            checkpoints.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with pytest.raises(store.SaveError):
        checkpoints.close()
    with store.Store(two_steps) as again:
        assert again.steps() == [1, 2]
        _same(again.restore(2, _arrays())[0], _arrays(2))


def test_a_directory_that_cannot_be_made_is_a_save_error(tmp_path):
    (tmp_path / "checkpoints").write_text("a file")
    checkpoints = store.Store(tmp_path / "checkpoints")
    with pytest.raises(store.SaveError, match="could not be saved: FileExistsError"):
        checkpoints.save(1, _arrays(), {})


_CHILD = """
import asyncio, sys
import jax, jax.numpy as jnp
from orbax.checkpoint._src.serialization import serialization
from r1_jax.checkpoints import store

directory, num_steps, hang_at = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
update = jax.jit(lambda x: x * 1.001 + 1, donate_argnums=0)
real = serialization.async_serialize_from_host
hang = False

async def held(*args, **kwargs):
    if hang:
        say("hanging")
        await asyncio.sleep(60)
    return await real(*args, **kwargs)

def say(line):  # one write: two threads talk
    sys.stdout.write(line + "\\n")
    sys.stdout.flush()

serialization.async_serialize_from_host = held
x = jnp.linspace(0, 1, 200_000)
with store.Store(directory, keep=2) as checkpoints:
    first = checkpoints.latest_step() or 0
    if first:
        x = checkpoints.restore(first, x)[0]
    say(f"from {first}")
    for step in range(first + 1, num_steps + 1):
        x = update(x)
        if step == hang_at:
            checkpoints.wait()
            hang = True
        checkpoints.save(step, x, {"position": step})
        say(f"saving {step}")
"""


@pytest.fixture
def start():
    """Starts a child that saves at each of its steps; what still runs at the end is killed."""
    children = []

    def start(directory, num_steps, hang_at=-1):
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(directory), str(num_steps), str(hang_at)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=pathlib.Path(__file__).parents[2],
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
        )
        children.append(child)
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate()


@pytest.mark.kill
def test_killed_in_the_middle_of_a_save_it_goes_on_from_the_last_complete_one(tmp_path, start):
    child = start(tmp_path / "killed", 12, hang_at=4)
    while (line := child.stdout.readline().strip()) != "hanging":
        assert line, "the child ended before it was killed"
    child.kill()
    child.wait()
    assert child.returncode == -signal.SIGKILL
    names = sorted(path.name for path in (tmp_path / "killed").iterdir())
    assert names[-2:] == ["step_00000003", "step_00000004.orbax-checkpoint-tmp"]

    child = start(tmp_path / "killed", 12)  # killed again, at a moment nobody chose
    assert child.stdout.readline() == "from 3\n"
    while (line := child.stdout.readline()) != "saving 8\n":
        assert line, "the child ended before it was killed"
    time.sleep(np.random.default_rng(time.time_ns()).uniform(0, 0.1))
    child.kill()
    child.wait()

    update = jax.jit(lambda x: x * 1.001 + 1)
    straight = x = jnp.linspace(0, 1, 200_000)
    for _ in range(12):
        straight = update(straight)
    with store.Store(tmp_path / "killed") as checkpoints:
        first = checkpoints.latest_step()
        assert 7 <= first <= 12
        x, host_state = checkpoints.restore(first, x)
    assert host_state == {"position": first}
    for _ in range(first, 12):
        x = update(x)
    np.testing.assert_array_equal(x, straight)
