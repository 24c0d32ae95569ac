"""One process of a program of several: tests/test_pod.py.

    python -m tests.pod_child KIND WORKDIR SHARED NUM_DEVICES [PHASE AT INDEX SIGNAL]

KIND is grpo, sft, meet or alone. R1_JAX_DISTRIBUTED says which process of how many this is;
NUM_DEVICES are its own. SHARED holds tokenizer, problems, demonstrations and the compilation cache.
Process INDEX sends itself SIGNAL in PHASE of step AT, as tests/resume_child.py does; PHASE may be
compile, too: of the program number AT that this process asks the compiler for.
"""

import os
import signal
import sys
import threading

import jax
from jax._src import compiler

from r1_jax.cli import running
from r1_jax.core import build
from r1_jax.pipeline import experiment, r1_zero, sft
from r1_jax.sharding import hosts
from tests import resume_child

CONFIG = resume_child.CONFIG | {
    "model": resume_child.CONFIG["model"] | {"num_kv_heads": 2},
    "mesh": {"data": 2, "fsdp": 2, "tensor": 2},
    "grpo": resume_child.CONFIG["grpo"] | {"num_steps": 20, "num_minibatches": 1},
    "sft": {"epochs": 4, "batch_rows": 8, "row_length": 128},
    "eval": resume_child.CONFIG["eval"] | {"every": 2},
    "checkpoint": {"every": 2},
}  # fmt: skip


def config(shared: str) -> experiment.ExperimentConfig:
    """The program's configuration; its tokenizer and problems lie in `shared`."""
    mapping = build.merge(CONFIG, "task.data_dir", f"{shared}/data")
    mapping = build.merge(mapping, "tokenizer.path", f"{shared}/t.model")
    return build.build(experiment.ExperimentConfig, mapping)


def _die_in_compilation(at: int, by: signal.Signals) -> None:
    compile_or_get_cached, asked = compiler.compile_or_get_cached, []

    def compiled(*args, **kwargs):
        asked.append(None)
        if len(asked) == at:
            threading.Timer(0.01, os.kill, (os.getpid(), by)).start()
        return compile_or_get_cached(*args, **kwargs)

    compiler.compile_or_get_cached = compiled


def main(kind: str, workdir: str, shared: str, num_devices: str, *dies: str) -> None:
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", int(num_devices))
    jax.config.update("jax_compilation_cache_dir", f"{shared}/cache")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    if kind == "alone":
        hosts.START_SECONDS = 5
    with running.guarded(on_several=True, silence_seconds=20.0):
        if dies and jax.process_index() == int(dies[2]) and dies[0] == "compile":
            _die_in_compilation(int(dies[1]), signal.Signals[dies[3]])
        elif dies and jax.process_index() == int(dies[2]):
            resume_child.die_in(dies[0], int(dies[1]), signal.Signals[dies[3]])
        if kind == "grpo":
            r1_zero.run(config(shared), workdir)
        elif kind == "sft":
            sft.run(config(shared), f"{shared}/demonstrations.jsonl", workdir)
        else:
            me = jax.process_index()
            for _ in range(2):  # a name can be met at again
                assert hosts.gather("ours", [me, "é"]) == [[0, "é"], [1, "é"]]
            assert [*hosts.share(5)] == [[0, 1], [2, 3, 4]][me]
            if me == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            hosts.meet("after the loss", seconds=3)
    sys.stdout.write("done\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
