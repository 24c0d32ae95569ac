"""Checkpoints in a bucket: the store's promises where nothing can be renamed at once.

gcsfs and tensorstore as they are, against a bucket in memory (tests/fake_bucket.py).
"""

import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1_jax.checkpoints import store
from tests import fake_bucket

RUN = "gs://bucket/run"
# A refused write leaves connections of gcsfs behind whose event loop orbax has closed by then.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def bucket(monkeypatch):
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # else it looks for Google
    fs = pytest.importorskip("gcsfs")
    with fake_bucket.serve() as (url, bucket):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        monkeypatch.setenv("TENSORSTORE_GCS_HTTP_URL", url)
        monkeypatch.setenv("GOOGLE_AUTH_TOKEN_FOR_TESTING", "a token")
        fs.GCSFileSystem.clear_instance_cache()
        yield bucket
        gc.collect()  # those, here and not in another file's test
        fs.GCSFileSystem.clear_instance_cache()


def _arrays(value):
    return {"x": jnp.arange(1000.0) * value, "y": jnp.full((3, 4), value, jnp.bfloat16)}


def _newest(checkpoints):
    found = checkpoints.restore_newest(_arrays(0))
    assert found is not None
    return found


def _commits(bucket):
    names = (name.split("/") for name in bucket.objects)
    return {parts[1] for parts in names if parts[-1] == "commit_success.txt"}


def test_what_is_saved_comes_back_and_only_the_newest_stay(bucket):
    with store.Store(RUN, keep=2) as checkpoints:
        assert checkpoints.restore_newest(_arrays(0)) is None
        for step in (1, 2, 3):
            checkpoints.save(step, _arrays(step), {"position": step})
        assert checkpoints.steps() == [2, 3]
    assert {name.split("/")[1] for name in bucket.objects} == {"step_00000002", "step_00000003"}
    with store.Store(RUN, read_only=True) as checkpoints:
        step, arrays, host = _newest(checkpoints)
    assert (step, host) == (3, {"position": 3})
    jax.tree.map(np.testing.assert_array_equal, arrays, _arrays(3))


def test_half_a_save_and_half_a_removal_are_no_checkpoints_and_go(bucket, caplog):
    with store.Store(RUN) as checkpoints:
        checkpoints.save(1, _arrays(1), {})
        checkpoints.save(2, _arrays(2), {})
    del bucket.objects["run/step_00000002/commit_success.txt"]
    with store.Store(RUN, read_only=True) as reader:
        assert reader.steps() == [1]
        assert "run/step_00000002/_CHECKPOINT_METADATA" in bucket.objects
    with store.Store(RUN) as checkpoints:
        assert "removing gs://bucket/run/step_00000002" in caplog.text
        assert _newest(checkpoints)[0] == 1
        checkpoints.save(2, _arrays(2), {})
        assert checkpoints.steps() == [1, 2]
    assert _commits(bucket) == {"step_00000001", "step_00000002"}


def test_a_damaged_newest_is_set_aside(bucket):
    with store.Store(RUN) as checkpoints:
        checkpoints.save(1, _arrays(1), {})
        checkpoints.save(2, _arrays(2), {})
        checkpoints.wait()
        bucket.put("run/step_00000002/record/metadata", b"{")
        assert _newest(checkpoints)[0] == 1
        assert checkpoints.steps() == [1]
    assert "run/step_00000002.damaged/record/metadata" in bucket.objects


def test_a_bucket_that_may_not_be_read_is_one_error(bucket):
    bucket.denied |= {"GET"}
    with pytest.raises(ValueError, match=r"gs://bucket/run cannot be listed: .*Forbidden"):
        store.Store(RUN)


def test_a_bucket_that_may_not_be_written_stops_the_run_and_names_what_is_kept(bucket):
    with store.Store(RUN) as checkpoints:
        checkpoints.save(1, _arrays(1), {})
        checkpoints.wait()
    with pytest.raises(store.SaveError, match="step 1 is intact"):
        with store.Store(RUN) as checkpoints:
            bucket.denied |= {"POST", "PUT", "DELETE"}
            checkpoints.save(2, _arrays(2), {})
