"""How often XLA compiled: after the first step of a run it should not."""

import threading

import jax

_EVENT = "/jax/core/compile/backend_compile_duration"
_LOADED = "/jax/compilation_cache/cache_hits"


class Counter:
    """Counts the programs that XLA compiled, or loaded from its cache, while it is entered."""

    def __init__(self):
        self._count = self._loaded = 0
        self._lock = threading.Lock()

    def __enter__(self) -> "Counter":
        jax.monitoring.register_event_duration_secs_listener(self._hear)
        jax.monitoring.register_event_listener(self._hear_loaded)
        return self

    def __exit__(self, *_) -> None:
        jax.monitoring.unregister_event_duration_listener(self._hear)
        jax.monitoring.unregister_event_listener(self._hear_loaded)

    def lap(self) -> int:
        """Programs compiled, or loaded from the cache, since the last call."""
        with self._lock:
            count, self._count = self._count, 0
        return count

    def loaded(self) -> int:
        """Of those, the ones that were loaded, since its own last call."""
        with self._lock:
            count, self._loaded = self._loaded, 0
        return count

    def _hear(self, event: str, duration_secs: float, **_) -> None:
        if event == _EVENT:
            with self._lock:
                self._count += 1

    def _hear_loaded(self, event: str, **_) -> None:
        if event == _LOADED:
            with self._lock:
                self._loaded += 1
