"""TRL's side of the whole GRPO step, in an environment made from bench/peers/trl.txt.

    python -m bench.peers.trl S|M [--steps=5] [--rows=64] [--checkpointing=0]

GRPOTrainer on the CPU in float32: generation by transformers with its dynamic cache, attention by
scaled_dot_product_attention, k3 against a reference model, one AdamW update on all rows. --rows:
of a forward and backward pass, whose gradients add up. Gradient checkpointing, TRL's default, is
off: it computes every layer twice. A turn ends with the update; what the trainer logs is not
counted.
"""

import math
import os
import tempfile

os.environ.update(
    HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", TOKENIZERS_PARALLELISM="false"
)

import datasets
import transformers
import trl

from bench import work as works
from bench.peers import qwen2


class Steps(transformers.TrainerCallback):
    """Begins a turn before a step of the trainer and ends it after its update."""

    def __init__(self, work: works.Work, turns: works.Turns):
        self.work, self.turns, self.lengths = work, turns, []

    def on_step_begin(self, args, state, control, **_):
        if not self.lengths:  # once a step, however many passes it takes
            self.turns.begin()

    def on_step_end(self, args, state, control, **_):
        assert len(self.lengths) == self.work.num_rows
        assert set(self.lengths) == {self.work.response_length}, set(self.lengths)
        tokens = sum(self.lengths)
        self.lengths.clear()
        self.turns.end(tokens)


def run(
    work: works.Work, turns: works.Turns, num_steps: int, num_rows: int, checkpointing: bool
) -> None:
    """A warm-up and num_steps further steps of the trainer."""
    steps = Steps(work, turns)

    def reward(completions, completion_ids, **_):
        steps.lengths.extend(len(row) for row in completion_ids)
        return [works.reward(text) for text in completions]

    with tempfile.TemporaryDirectory() as folder:
        qwen2.save(work, folder)
        texts = [works.text(row) for row in works.prompts(work, work.num_prompts)]
        trainer = trl.GRPOTrainer(
            model=folder,
            reward_funcs=reward,
            args=trl.GRPOConfig(
                output_dir=folder,
                use_cpu=True,
                bf16=False,
                model_init_kwargs={"dtype": "float32", "attn_implementation": "sdpa"},
                per_device_train_batch_size=num_rows,
                gradient_accumulation_steps=work.num_rows // num_rows,
                gradient_checkpointing=checkpointing,
                num_generations=work.group_size,
                max_completion_length=work.response_length,
                temperature=1.0,
                beta=work.kl_coef,
                num_iterations=1,
                loss_type="grpo",
                learning_rate=work.learning_rate,
                lr_scheduler_type="constant",
                max_steps=num_steps + 1,
                save_strategy="no",
                logging_steps=1,
                report_to="none",
                disable_tqdm=True,
                seed=0,
            ),
            train_dataset=datasets.Dataset.from_dict({"prompt": texts}),
            processing_class=qwen2.tokenizer(work),
            callbacks=[steps],
        )
        assert (
            trainer.ref_model is not None and next(trainer.model.parameters()).dtype.itemsize == 4
        )
        trainer.train()
    logged = [row for row in trainer.state.log_history if "loss" in row]
    assert len(logged) == num_steps + 1 and all(math.isfinite(row["loss"]) for row in logged)
    assert all(row["grad_norm"] > 0 and "kl" in row for row in logged), logged[-1]
    turns.finish(loss=logged[-1]["loss"], gradient_norm=float(logged[-1]["grad_norm"]))


if __name__ == "__main__":
    given = works.arguments(rows=0, checkpointing=0)
    rows = given.rows or given.work.num_rows
    run(given.work, works.Turns("trl", given.driven), given.steps, rows, bool(given.checkpointing))
