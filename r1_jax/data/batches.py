"""The endless, resumable stream of prompt batches."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from r1_jax.data.tasks import task


class Stream(Protocol):
    """Batches of prompts without end that can go on from a `state`."""

    def __next__(self) -> list[task.Prompt]: ...
    def state(self) -> dict[str, Any]: ...
    def restore(self, state: Mapping[str, Any]) -> None: ...


class Batches:
    """An endless iterator over batches of prompts, each a list of batch_size / num_hosts Prompts.

    Every epoch is a fresh shuffle of all of `prompts`, a function of `seed` and the epoch alone.
    Batches follow one another across the border of two epochs, so none of an epoch is lost or
    repeated (a batch on the border can hold a problem twice). The hosts share out each batch:
    together they see what one host would see, in any number. `state` may be restored under
    another number of hosts.

    prompts: random access, read when needed. batch_size: prompts per step over all hosts. Raises
    ValueError if prompts do not fill one batch or the hosts cannot share it equally.
    """

    def __init__(
        self,
        prompts: Sequence[task.Prompt],
        *,
        batch_size: int,
        seed: int,
        host: int = 0,
        num_hosts: int = 1,
    ):
        import grain

        if not 1 <= batch_size <= len(prompts):
            raise ValueError(
                f"batch_size={batch_size} prompts cannot be drawn from {len(prompts)} problems; "
                "use fewer prompts per step or prepare more problems"
            )
        if not 0 <= host < num_hosts or batch_size % num_hosts:
            raise ValueError(
                f"batch_size={batch_size} does not split over host={host} of "
                f"num_hosts={num_hosts}; use a multiple of num_hosts"
            )
        self._identity = {"num_prompts": len(prompts), "batch_size": batch_size, "seed": seed}
        stream = grain.MapDataset.source(prompts).shuffle(seed=seed).repeat(None)
        shard = stream[host::num_hosts].batch(batch_size // num_hosts, batch_fn=list)
        options = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
        self._iterator = iter(shard.to_iter_dataset(options))

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> list[task.Prompt]:
        return next(self._iterator)

    def state(self) -> dict[str, Any]:
        """Where the stream stands, JSON-able and the same on every host."""
        return {**self._identity, "iterator": self._iterator.get_state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on as the stream whose `state` it was. Raises ValueError for another stream's."""
        for key, value in self._identity.items():
            if state.get(key) != value:
                raise ValueError(
                    f"the saved stream of prompts has {key}={state.get(key)}, this one has "
                    f"{key}={value}; go on with the saved value or start a new run"
                )
        self._iterator.set_state(dict(state["iterator"]))


class Successive:
    """`num_first` batches of `first`, then those of `then`, from its beginning on."""

    def __init__(self, first: Stream, then: Stream, num_first: int):
        self._first, self._then, self._num_first = first, then, num_first
        self._num_drawn = 0

    def __iter__(self) -> "Successive":
        return self

    def __next__(self) -> list[task.Prompt]:
        self._num_drawn += 1
        return next(self._first if self._num_drawn <= self._num_first else self._then)

    def state(self) -> dict[str, Any]:
        """Where both streams stand, JSON-able."""
        states = {"first": self._first.state(), "then": self._then.state()}
        return {"num_first": self._num_first, "num_drawn": self._num_drawn, **states}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on as the stream whose `state` it was. Raises ValueError for another stream's."""
        if state.get("num_first") != self._num_first:
            raise ValueError(
                f"the saved stream of prompts has num_first={state.get('num_first')}, this one has "
                f"num_first={self._num_first}; go on with the saved value or start a new run"
            )
        self._first.restore(state["first"])
        self._then.restore(state["then"])
        self._num_drawn = state["num_drawn"]
