"""transformers' side of the long-tailed rollout, in the environment of bench/peers/trl.txt.

    python -m bench.peers.transformers S|M [--steps=5] [--rows=64] [--cache=dynamic]

`generate` on the CPU in float32, by batches of --rows completions; a stopping criterion ends every
completion at its drawn length (bench/work.py), and a batch when its last one has ended.
"""

import os

os.environ.update(
    HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", TOKENIZERS_PARALLELISM="false"
)

import numpy as np
import torch
import transformers

from bench import work as works
from bench.peers import qwen2


class Drawn(transformers.StoppingCriteria):
    """Ends row b after length_B[b] tokens."""

    def __init__(self, prompt_length: int, length_B: np.ndarray):
        self.until_B = prompt_length + torch.from_numpy(length_B.astype(np.int64))

    def __call__(self, input_ids, scores, **_):
        return input_ids.shape[1] >= self.until_B


def run(work: works.Work, turns: works.Turns, num_steps: int, num_rows: int, cache: str) -> None:
    """A warm-up and num_steps further rollouts."""
    model = qwen2.model(work).eval()
    prompts = np.repeat(works.prompts(work, work.tail_prompts), work.group_size, axis=0)
    length_B = works.tail_lengths(work)
    options = {"cache_implementation": "static"} if cache == "static" else {}
    config = transformers.GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_new_tokens=work.response_length,
        disable_compile=True,
        **options,
    )
    row_steps = 0
    for _ in range(num_steps + 1):
        with turns.turn() as found:
            row_steps = tokens = 0
            for first in range(0, work.tail_rows, num_rows):
                rows = slice(first, first + num_rows)
                stop = transformers.StoppingCriteriaList(
                    [Drawn(work.prompt_length, length_B[rows])]
                )
                ids = torch.from_numpy(prompts[rows].astype(np.int64))
                with torch.inference_mode():
                    made = model.generate(
                        ids,
                        attention_mask=torch.ones_like(ids),
                        generation_config=config,
                        stopping_criteria=stop,
                    )
                drawn = made.shape[1] - work.prompt_length
                assert drawn == length_B[rows].max(), (drawn, length_B[rows].max())
                row_steps += made.shape[0] * drawn
                tokens += int(length_B[rows].sum())
            found["tokens"] = tokens
    turns.finish(useful_share=tokens / row_steps)


def continuous(work: works.Work, turns: works.Turns, num_steps: int, num_rows: int) -> None:
    """The same by continuous batching: num_rows completions at a time, refilled, paged cache."""
    model = qwen2.model(work).eval()
    prompts = np.repeat(works.prompts(work, work.tail_prompts), work.group_size, axis=0)
    length_B = works.tail_lengths(work)
    config = transformers.GenerationConfig(
        do_sample=True, temperature=1.0, top_k=0, top_p=1.0, eos_token_id=-1
    )
    pages = -(-(work.prompt_length + work.response_length) // PAGE)
    batching = transformers.ContinuousBatchingConfig(
        page_size=PAGE,
        num_blocks=num_rows * pages + 1,
        max_batch_tokens=num_rows + work.prompt_length * work.group_size,
        max_requests_per_batch=num_rows,
        seed=0,
    )
    with model.continuous_batching_context_manager(
        generation_config=config, continuous_batching_config=batching
    ) as manager:
        for _ in range(num_steps + 1):
            with turns.turn() as found:
                for row, length in zip(prompts.tolist(), length_B.tolist(), strict=True):
                    manager.add_request(row, max_new_tokens=length)
                results = []
                while len(results) < work.tail_rows:
                    result = manager.get_result(timeout=1)
                    if result is not None and result.is_finished():
                        assert result.error is None, result.error
                        results.append(len(result.generated_tokens))
                    assert manager.is_running()
                found["tokens"] = sum(results)
            assert sorted(results) == sorted(length_B.tolist())
    turns.finish()


PAGE = 32  # tokens

if __name__ == "__main__":
    given = works.arguments(rows=64, cache="dynamic")
    if given.cache == "paged":
        turns = works.Turns("transformers, continuous", given.driven)
        continuous(given.work, turns, given.steps, given.rows)
    else:
        turns = works.Turns("transformers", given.driven)
        run(given.work, turns, given.steps, given.rows, given.cache)
