"""The names in a run's files, what each is and in which unit; tools outside rely on these."""

# metrics.jsonl, one row per rollout of R1-Zero; `step` is the number of updates before it. Means
# are over the rollout's completions; those of the loss over the updates made on it.
ROW = {
    "reward/mean": "weighted sum of the parts, before grpo.truncated and a KL term change it",
    "reward/shaped": "what advantages are made of, over the rows of the loss, without a KL term",
    "reward/accuracy": "accuracy part, unweighted",
    "reward/format": "format part, unweighted",
    "length/mean": "tokens, the stop token included",
    "length/terminated_mean": "tokens, over completions that ended by themselves; null without any",
    "length/clipped_share": "share of completions cut off at the limit",
    "reflection/per_completion": "R1's ten reflective words (R1_WORDS) per completion",
    "reflection/markers": "the task's own markers per completion",
    "kl/reference": "nats per token to the reference policy, by k3; null, unmeasured, at kl_coef 0",
    "entropy": "nats per token",
    "clip/share": "share of tokens at which the ratio was clipped",
    "gap/sampler_learner_max": "nats: largest |log p sampler - log p learner| of one token of the "
    "first minibatch, the one whose update still starts from the weights that sampled; with "
    "grpo.one_step_off of the whole rollout, by those weights",
    "groups/zero_spread_share": "share of groups whose rewards are all equal",
    "seconds/rollout": "wall seconds; with grpo.one_step_off those of the rollout drawn ahead",
    "seconds/score": "wall seconds",
    "seconds/update": "wall seconds",
    "tokens/rollout": "tokens generated in this step",
}

# Beside those, in rows of runs that kept accounts: older runs are read without them.
ACCOUNTS = {
    "policy/lag": "updates between the policy that sampled and the one that began to learn from it",
    "compilations": "programs compiled, or loaded from the persistent cache, since the last row",
    "compilations/loaded": "of those, the ones that were loaded",
    "tokens/sequences": "tokens of the rollout's sequences, prompts included: what is learnt from",
    "pairs/sequences": "pairs of a query and a key that causal attention looks at in them",
    "pairs/completions": "those of the queries that are completions' tokens",
    "speed/rollout_tokens": "tokens/rollout a second of seconds/rollout; so reference and update, "
    "which read tokens/sequences, the update once an inner epoch",
    "speed/rollout_share": "FLOP/s of the model's own work as a share of the fastest matrix "
    "product measured on these devices (pipeline.accounts); so reference and update",
}

# eval.jsonl, one row per evaluation of one held-out task.
EVAL_ROW = {
    "task": "name of the task",
    "num_problems": "problems",
    "num_samples": "samples per problem",
    "pass@1": "mean over problems of the share of right samples",
    "pass@1_low": "lower end of the 95% interval over problems",
    "pass@1_high": "upper end of the 95% interval over problems",
    "cons@16": "majority vote over 16 samples; null with fewer samples",
    "length/mean": "tokens, the stop token included",
    "reflection/per_completion": "R1's ten reflective words per completion",
}

# samples/step_*.jsonl and samples/eval_step_*.jsonl, one row per completion.
SAMPLE = {
    "uid": "the problem's identity in its task",
    "sample": "index within the group",
    "question": "text",
    "completion": "text, without pad and stop tokens",
    "reward": "weighted sum of the parts",
    "parts": "every part of the reward, unweighted",
    "outcome": "rewards.verdict.Outcome by name, in lower case",
    "length": "tokens, the stop token included",
    "stop": '"stop" or "length"',
    "gap": "nats: largest |log p sampler - log p learner| of one token; null where not measured",
}
