"""The paper's protocol of evaluation, on a run's policy: sampled, k times, never greedy.

DeepSeek-R1 (arXiv:2501.12948), section 3 and the revised supplement: temperature 0.6, top-p 0.95,
to 32,768 tokens, pass@1 as the mean over k samples (64 for AIME and GPQA, 16 for MATH-500, 8 for
LiveCodeBench, whose contests are those of 2024-08 to 2025-01), cons@64 for AIME. k of the other
test sets is not published for each; between 4 and 64 they are ours. Zero examples in the prompt.
The answers are asked for under the run's own template.

The files are yours to bring: benchmarks/aime_2024/, benchmarks/gpqa_diamond/, ... hold what is
published (an absent one is named). Leave an entry out by a file of your own that starts from this.
Mathematical answers are graded by value (rewards/math_equal), votes too. Programs run in the
sandbox (rewards/sandbox), which must reach namespaces; --suite.programs.require=limits for less.

Command:   python -m r1_jax evaluate --checkpoint=RUN --suite=configs/eval_paper.py
Hardware:  whatever samples RUN; not run by this project with a model that can read these questions
Expected:  DeepSeek-R1 had AIME 2024 79.8, MATH-500 97.3, GPQA Diamond 71.5, MMLU 90.8,
           LiveCodeBench 65.9
"""

import ml_collections


def get_config():
    config = ml_collections.ConfigDict()
    config.sampling = {"temperature": 0.6, "top_p": 0.95, "num_slots": 64}
    config.max_response = 32_768
    config.programs = {"require": "namespaces", "memory_mb": 1024}  # as contests give at most
    config.entries = {
        "aime_2024": {"num_samples": 64, "ks": (1, 16, 64)},
        "aime_2025": {"num_samples": 64, "ks": (1, 16, 64)},
        "math_500": {"num_samples": 16, "ks": (1, 16)},
        "gpqa_diamond": {"num_samples": 64, "ks": (1, 64)},
        "gsm8k": {"num_samples": 4, "ks": (1, 4)},
        "mmlu": {"num_samples": 4, "ks": (1, 4)},
        "ifeval": {"num_samples": 4, "ks": (1,)},
        # Programs have 6 s a test, and at most this long for all tests together.
        "livecodebench": {"num_samples": 8, "ks": (1, 8), "deadline_seconds": 900.0},
    }
    # A program may take as long over all its tests as its grading may, less what starting takes.
    config.programs = {"total_seconds": 890.0}
    return config
