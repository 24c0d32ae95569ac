"""The processes of one program: how they find each other, where they meet, and what ends them all.

Everything goes through jax's coordination service, which runs in process 0; this is the one file
that touches it. A program of one process meets itself at once. What the devices exchange is not
seen here.
"""

import json
import os
import socket
import sys
import threading
import time
from typing import Any, NoReturn

import jax
from jax._src import distributed

VARIABLE = "R1_JAX_DISTRIBUTED"
EXIT_CODE = 76  # of a process that gave up because another one is lost: start all of them again
SILENCE_SECONDS = 60.0  # without a sign of life, and a process counts as lost
START_SECONDS = 120  # for all processes to come
_AT, _NAME, _ALIVE = "r1/at", "r1/name", "r1/alive"  # keys of the service; then /INDEX


class LostError(RuntimeError):
    """Another process did not come to where all have to meet."""


def start(words: str, *, silence_seconds: float = SILENCE_SECONDS) -> None:
    """Joins the processes that `words` (the environment's R1_JAX_DISTRIBUTED) speaks of.

    "": there is one process. "auto": as jax finds them on a TPU slice or under SLURM. Otherwise
    "HOST:PORT,NUM,INDEX": process 0's address, how many there are, and which one this is. Comes
    before any use of devices. The process ends with EXIT_CODE, saying so, when not all have come
    within START_SECONDS, and later, saying who is missing and where it waited, once another one
    has been silent for silence_seconds.

    Raises ValueError for other words and where jax finds no cluster.
    """
    if not words:
        return
    options = {} if words == "auto" else _explicit(words)
    jax.config.update("jax_enable_preemption_service", False)  # SIGTERM is heard by core/interrupt
    absent = (
        f"not all processes of {VARIABLE}={words} came within {START_SECONDS} s; see that the "
        "same command runs on every host and that this address can be reached from all"
    )
    late = threading.Timer(START_SECONDS, give_up, [absent])  # jax's own end is an abort
    late.start()
    try:
        jax.distributed.initialize(
            **options,
            initialization_timeout=START_SECONDS + 60,
            heartbeat_timeout_seconds=int(2 * silence_seconds) + 30,  # jax's own end is abrupt
            shutdown_timeout_seconds=30,
        )
    except ValueError as error:
        raise ValueError(
            f"{VARIABLE}={words}, but jax finds no cluster here ({error}); unset it for one "
            "process, or name the processes as HOST:PORT,NUM,INDEX"
        ) from error
    except jax.errors.JaxRuntimeError as error:
        raise LostError(f"{absent} ({str(error).splitlines()[0]})") from error
    finally:
        late.cancel()
    me = jax.process_index()
    _client().key_value_set(f"{_NAME}/{me}", socket.gethostname())
    meet("start")
    watch = threading.Thread(target=_watch, args=(silence_seconds,), daemon=True, name="hosts")
    watch.start()


def _explicit(words: str) -> dict[str, Any]:
    address, _, rest = words.partition(",")
    numbers = rest.split(",")
    if ":" not in address or len(numbers) != 2 or not all(n.isdecimal() for n in numbers):
        raise ValueError(
            f"{VARIABLE}={words!r} must be empty, auto, or HOST:PORT,NUM,INDEX, such as "
            "10.0.0.2:8482,4,0"
        )
    num, index = map(int, numbers)
    if not index < num:
        raise ValueError(f"{VARIABLE}={words!r}: INDEX={index} must lie below NUM={num}")
    return {"coordinator_address": address, "num_processes": num, "process_id": index}


def share(num: int) -> range:
    """Which of `num` things are this process' to do: each is one process', all are done."""
    me, processes = jax.process_index(), jax.process_count()
    return range(num * me // processes, num * (me + 1) // processes)


def await_loss(*, silence_seconds: float = SILENCE_SECONDS) -> None:
    """Gives this process the time to find out that another one is lost, and to end by that.

    For an error of the devices' own exchange, which says nothing of who is missing.
    """
    if jax.process_count() > 1:
        time.sleep(1.5 * silence_seconds + 5)


def finish() -> None:
    """Waits for the others, so that all end together: one that ended before would count as lost."""
    meet("end", seconds=600.0)


def is_first() -> bool:
    """Whether this is the process that writes reports: process 0."""
    return jax.process_index() == 0


def meet(name: str, *, seconds: float = 120.0) -> None:
    """Returns once every process has called this with `name`.

    Raises LostError, naming who is missing and where it was last, when `seconds` have passed.
    """
    if jax.process_count() == 1:
        return
    client, me = _client(), jax.process_index()
    client.key_value_set(f"{_AT}/{me}", name, allow_overwrite=True)
    try:
        client.wait_at_barrier(name, int(1000 * seconds))
    except jax.errors.JaxRuntimeError as error:
        at = _table(_AT)
        missing = [i for i in range(jax.process_count()) if at.get(i) != name]
        where = ", ".join(f"{_who(i)} (last at {at.get(i, 'nothing')!r})" for i in missing)
        raise LostError(
            f"barrier {name!r}: {where or 'somebody'} did not come within {seconds:g} s of "
            f"{_who(me)}; see its log, then start all processes again"
        ) from error


def gather(name: str, value: Any, *, seconds: float = 120.0) -> list[Any]:
    """The `value` of every process, in their order; each must be what JSON gives back unchanged.

    name: as of `meet`, whose errors it has.
    """
    if jax.process_count() == 1:
        return [value]
    client, me = _client(), jax.process_index()
    client.key_value_set_bytes(f"r1/{name}/{me}", json.dumps(value).encode())
    meet(name, seconds=seconds)
    found = [
        json.loads(client.blocking_key_value_get_bytes(f"r1/{name}/{i}", 60_000))
        for i in range(jax.process_count())
    ]
    meet(f"{name}, read", seconds=seconds)
    client.key_value_delete(f"r1/{name}/{me}")
    return found


def same(name: str, value: Any, way_out: str) -> None:
    """Raises ValueError, on every process, unless all give the same `value`."""
    found = gather(name, value)
    for i, other in enumerate(found):
        if other != found[0]:
            raise ValueError(
                f"{name}: {_who(0)} has {found[0]!r:.200}, {_who(i)} has {other!r:.200}; {way_out}"
            )


def _client() -> Any:
    client = distributed.global_state.client
    assert client is not None
    return client


def _table(key: str) -> dict[int, str]:
    pairs = _client().key_value_dir_get(key)
    return {int(name.rsplit("/", 1)[1]): value for name, value in pairs}


def _who(index: int) -> str:
    name = _table(_NAME).get(index, "unknown")
    return f"process {index} of {jax.process_count()} ({name})"


def _watch(silence_seconds: float) -> None:
    """Gives a sign of life now and then, and ends this process when another gives none.

    Only changes are looked at, by this process' own clock: hosts need not agree on the time.
    """
    client, me, num = _client(), jax.process_index(), jax.process_count()
    seen: dict[int, tuple[str, float]] = {}
    beat, pause = 0, min(5.0, silence_seconds / 6)
    while True:
        try:
            client.key_value_set(f"{_ALIVE}/{me}", str(beat), allow_overwrite=True)
            signs = _table(_ALIVE)
            now, beat = time.monotonic(), beat + 1
            for i in range(num):
                sign = signs.get(i, "")
                if i not in seen or seen[i][0] != sign:
                    seen[i] = sign, now
                elif now - seen[i][1] > silence_seconds:
                    waiting = _table(_AT).get(me, "start")
                    give_up(
                        f"{_who(i)} has been silent for {silence_seconds:g} s; {_who(me)} was last "
                        f"at barrier {waiting!r}; start all processes again"
                    )
        except jax.errors.JaxRuntimeError:
            pass  # the service is gone with process 0: jax itself ends this process
        time.sleep(pause)


def give_up(message: object) -> NoReturn:
    """Ends this process, whatever it is waiting for: a device program cannot be interrupted."""
    sys.stdout.flush()
    if distributed.global_state.process_id == 0 and distributed.global_state.service is not None:
        time.sleep(5.0)  # with this process the service ends: let the others say so first
    os.write(2, f"error: {message}\n".encode())
    os._exit(EXIT_CODE)
