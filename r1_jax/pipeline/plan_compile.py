"""A phase compiled ahead of time: its program, and the memory that it takes of a chip.

Memory is what the compiler allots, by its own report (`allotted`); a program that it refuses for
its memory is an answer too.
"""

import contextlib
import dataclasses
import pathlib
import re
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

from r1_jax.pipeline import program_text as text
from r1_jax.sharding import mesh as meshes


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A phase's program, and what lies in the chips' memory when it runs."""

    name: str
    memory: dict[str, float]  # bytes; what the compiler would have needed, where it refused
    program: text.Program | None  # None where it refused
    seconds: float  # compiling took


def compile_phase(name: str, lower: Callable[[], Any], beside: float, mesh) -> Compiled:
    """The phase compiled for the mesh, or how much memory it was refused. beside: bytes."""
    start = time.monotonic()
    with meshes.activate(mesh), _compiling_anew(), tempfile.TemporaryDirectory() as folder:
        lowered = lower()
        try:
            compiled = lowered.compile(compiler_options={"xla_dump_to": folder})
        except jax.errors.JaxRuntimeError as error:
            memory = {"refused": refused(str(error)), "beside": beside}
            return Compiled(name, memory, None, time.monotonic() - start)
        memory = memory_of(compiled.memory_analysis(), allotted(folder)) | {"beside": beside}
    return Compiled(name, memory, text.read(compiled.as_text()), time.monotonic() - start)


@contextlib.contextmanager
def _compiling_anew():
    """Without the persistent cache: a program from there has no report, and a TPU's is not read."""
    was = jax.config.values["jax_enable_compilation_cache"]
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # whether it is used was decided at the first compilation
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", was)
        compilation_cache.reset_cache()


def allotted(folder: str) -> float:
    """Bytes of the device's memory that XLA's report on a program in `folder` says it takes.

    Arguments, results and temporaries, with the gaps between them. It is what libtpu holds against
    the chip; temp_size_in_bytes of `memory_analysis` is more than that wherever devices exchange
    anything: by up to 5 GiB in 16, of programs that compile (docs/PLAN.md).
    """
    reports = sorted(pathlib.Path(folder).glob("*memory-usage-report.txt"))
    texts = [path.read_text() for path in reports]
    found = [re.search(r"^Memory Space: default .*\nTotal bytes: (\d+)", t, re.M) for t in texts]
    if len(found) != 1 or found[0] is None:
        names = ", ".join(path.name for path in reports) or "none"
        raise RuntimeError(f"the compiler's reports on one program's memory are {names}")
    return float(found[0][1])


def refused(message: str) -> float:
    """Bytes that a program needs of which the compiler says that the chip has fewer.

    Raises what the message is where it says anything else.
    """
    number = r"([\d.]+)([KMGT])"
    found = rf"HLO temporaries \({number}\) exceeds available HBM|Used {number} of \S+ hbm"
    needs = re.search(found, message)
    if "RESOURCE_EXHAUSTED" not in message or needs is None:
        raise RuntimeError(f"the compiler failed: {message}")
    size, unit = (group for group in needs.groups() if group)
    return float(size) * 1024 ** (1 + "KMGT".index(unit))


def memory_of(analysis, total: float) -> dict[str, float]:
    """Bytes a chip: arguments, temporaries, results that reuse no argument, the program itself."""
    arguments = analysis.argument_size_in_bytes
    results = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return {
        "arguments": arguments,
        "temporaries": total - arguments - results,
        "results": results,
        "program": analysis.generated_code_size_in_bytes,
    }
