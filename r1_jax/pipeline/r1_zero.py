"""R1-Zero, the stage: a base model and rule rewards in, a policy and its curves out."""

import base64
import json
import pathlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from absl import logging

from r1_jax.checkpoints import manifest
from r1_jax.core import build, interrupt, keys, types
from r1_jax.data.tasks import load
from r1_jax.data.tasks import task as tasks
from r1_jax.evaluation import run as evaluation
from r1_jax.metrics import ceiling, compilations, hacking, jsonl, progress
from r1_jax.metrics import clock as metrics_clock
from r1_jax.metrics import log as metrics_log
from r1_jax.pipeline import (
    accounts,
    adapters,
    assemble,
    experiment,
    flat_reward,
    folders,
    general_reward,
    interruption,
    programs,
    shapes,
)
from r1_jax.pipeline import score as scoring
from r1_jax.rl import diagnostics
from r1_jax.sampling import engine
from r1_jax.sharding import hosts, place
from r1_jax.sharding import mesh as meshes
from r1_jax.text import chat, dialogue, tokenizer
from r1_jax.training import grpo, ppo, preflight

DIAGNOSE_EVERY = 20  # rollouts between two looks at why the reward is flat, if it is


def run(config: experiment.ExperimentConfig, workdir: str | pathlib.Path) -> bool:
    """Trains in `workdir`, going on from its last checkpoint; False if it was done already.

    Writes config.json, tokenizer.model, metrics.jsonl, eval.jsonl, samples/, checkpoints/ and
    manifest.json.
    """
    workdir = pathlib.Path(workdir)
    folders.same_run(workdir, config)
    equipped = programs.equip(load.load(config.task), config.sandbox, config.graders)
    programs.refuse_unread(equipped, config.sandbox)
    stage = assemble.add_critic(config, assemble.setup(config, config.grpo.num_steps))
    peak = ceiling.matmul_flops(config.model.compute_dtype) * stage.mesh.size
    with (
        meshes.activate(stage.mesh),
        folders.checkpoints(workdir, config) as checkpoints,
        compilations.Counter() as counter,
    ):
        return _run(config, workdir, equipped, stage, checkpoints, counter, peak)


def _run(config, workdir, equipped, stage, checkpoints, counter, peak) -> bool:
    task = equipped.task
    seed, cfg = config.seed, config.grpo
    prompts = general_reward.stream(config, task)
    state = stage.state
    reference, reference_model, parents = None, None, stage.parents
    if config.teacher:
        reference_model, reference, digest = assemble.load_teacher(
            config.teacher, stage.mesh, stage.tokens
        )
        parents = parents | {"teacher": digest}
    elif cfg.kl_coef:
        reference = jax.tree.map(lambda x: x.copy(), state.params)
    host = {
        "batches": prompts.state(),
        "seconds": {},
        "preflight": {},
        "config": json.loads(json.dumps(build.to_dict(config))),  # lists for tuples, as read back
        "tokenizer": base64.b64encode(stage.tokens.model).decode(),
        **adapters.left_out(stage.frozen, stage.parents),
    }
    shared = "give all hosts one --workdir, or one checkpoint.directory, that they share"
    hosts.same(f"checkpoints in {workdir}", checkpoints.steps(), shared)
    latest = behind = None
    if found := checkpoints.restore_newest(_arrays(config, state, reference, state.params)):
        latest, arrays, host = found
        hosts.same(f"newest sound checkpoint in {workdir}", latest, shared)
        folders.same_source(checkpoints.path(latest), host, config, stage.tokens)
        adapters.same_base(checkpoints.path(latest), host, stage.frozen, stage.parents)
        state, reference = arrays["state"], arrays.get("reference", reference)
        behind = arrays.get("behind")
        prompts.restore(host["batches"])
        logging.info("going on from step %d in %s", latest, workdir)
    first_step = int(state.step)
    if latest is not None and first_step >= cfg.num_steps:
        evaluated, _ = jsonl.read(workdir / "eval.jsonl")
        # Process 0 writes it, and the others may not see its folder.
        if hosts.gather("done", any(row["step"] >= first_step for row in evaluated))[0]:
            return False  # else it was killed in its last evaluation

    clock = metrics_clock.Clock(host["seconds"])
    compiled = assemble.make_programs(
        config,
        stage.mesh,
        stage.tokens,
        stage.tx,
        stage.shardings,
        reference_model,
        stage.frozen,
    )
    scorer = scoring.Scorer(
        task,
        config.reward,
        stage.tokens,
        config.tags,
        seed=seed,
        clock=clock,
        graders=equipped.graders,
    )
    score = general_reward.add(config, scorer.start, task, stage.tokens, stage.mesh)
    root = keys.root(seed)
    saved = set(checkpoints.steps())
    # What stood when the last updates were done: an interrupted run saves this and nothing later.
    whole = {"arrays": _arrays(config, state, reference, behind), "batches": prompts.state()}

    def graded(*args):
        interruption.leave_if_asked()
        wait = score(*args)

        def finish():
            scored = wait()
            interruption.leave_if_asked()
            return scored

        return finish

    to_batch = partial(encode, config, stage.tokens)
    sample = compiled.generate
    if config.eval.num_samples != cfg.group_size:  # else one program serves both
        sample = assemble.make_generate(
            config, stage.mesh, stage.tokens, config.eval.num_samples, frozen=stage.frozen
        )
    held_out = evaluator(config, task, sample, scorer, to_batch)

    drawn_from = prompts.state()  # the place of the rollout drawn last

    def next_prompts():
        nonlocal drawn_from
        drawn_from = prompts.state()
        problems = next(prompts)
        return problems, to_batch(problems)

    if latest is None:
        folders.refuse_lost_checkpoints(workdir, config)
        for split in ("train", config.eval.split):
            to_batch(longest_questions(task.splits[split]))  # too long is told now, not midway
        problems = [task.splits["train"][i] for i in range(cfg.prompts_per_rollout)]
        with clock.phase("preflight"):
            host["preflight"] = preflight.check(
                cfg,
                state.params,
                compiled,
                problems,
                to_batch(problems),
                scorer.start,
                [ideal(scorer, task, p, stage.tokens, config) for p in problems[:16]],
                seed=seed,
            )

    def write_manifest():
        if not hosts.is_first():
            return
        record = manifest.collect(
            seed=seed,
            config=build.to_dict(config),
            parents=parents,
            seconds=clock.totals(),
        )
        record |= {"preflight": host["preflight"], "sandbox": equipped.level}
        record |= {"best_step": folders.best_step(workdir, saved)}
        manifest.write(workdir / "manifest.json", record)

    folders.claim(workdir, config, stage.tokens)
    with (
        scorer,
        metrics_log.MetricsLog(workdir, first_step=first_step)
        if hosts.is_first()
        else metrics_log.Silent() as log,
        progress.Progress(cfg.num_steps, first_step=first_step, is_shown=hosts.is_first()) as bar,
    ):
        rewards: list[float] = []
        accuracies: list[float] = []

        def log_row(step: int, row: dict[str, Any], samples: list[dict[str, Any]]):
            row.setdefault("kl/reference", None)  # nothing to measure against when kl_coef is 0
            row.setdefault("seconds/rollout", 0.0)  # the last one was drawn a step ahead
            row["compilations"], row["compilations/loaded"] = counter.lap(), counter.loaded()
            row |= accounts.speeds(config, row, peak)
            log.row(step, row)
            log.samples(step, samples)
            rewards.append(row["reward/mean"])
            accuracies.append(row["reward/accuracy"])
            bar.update(
                min(step + cfg.updates_per_rollout, cfg.num_steps) - 1,
                reward=row["reward/mean"],
                length=row["length/mean"],
            )
            recent = rewards[-DIAGNOSE_EVERY:]
            if len(rewards) % DIAGNOSE_EVERY == 0 and flat_reward.is_flat(recent):
                why = flat_reward.explain(cfg, row)
                if not flat_reward.is_flat(accuracies[-DIAGNOSE_EVERY:]):
                    why = "Accuracy rises; what it gains, another part loses (see reward/*)."
                bar.note(f"step {step}: reward is flat. {why}")

        def evaluate(params, step: int):
            is_end = step == 0 or step >= cfg.num_steps
            every = config.eval.every
            crossed = every and step // every > (step - cfg.updates_per_rollout) // every
            interruption.leave_if_asked()
            if not (is_end or crossed):
                return
            with clock.phase("eval"):
                row, samples = held_out(params, step, keys.at(root, "eval", step), is_end)
            log.eval_samples(step, samples)
            log.eval_row(step, row)  # last: a row says that its evaluation is complete
            cons = row["cons@16"]
            bar.note(
                f"eval at step {step}: pass@1 {row['pass@1']:.3f} "
                f"[{row['pass@1_low']:.3f}, {row['pass@1_high']:.3f}], "
                f"cons@16 {'-' if cons is None else f'{cons:.3f}'}, "
                f"length {row['length/mean']:.1f}, n {row['num_problems']}"
            )
            if hosts.is_first():
                checkpoints.keep_also(folders.best_step(workdir, saved))
                logged = [jsonl.read(workdir / f"{name}.jsonl")[0] for name in ("metrics", "eval")]
                if doubt := hacking.warning(*logged):
                    bar.note(f"step {step}: {doubt}")

        def save(state, reference, behind):
            step, every = int(state.step), config.checkpoint.every
            is_ahead = cfg.one_step_off and step < cfg.num_steps  # to be drawn again by `behind`
            whole["arrays"] = _arrays(config, state, reference, behind)
            whole["batches"] = drawn_from if is_ahead else prompts.state()
            crossed = every and step // every > (step - cfg.updates_per_rollout) // every
            if crossed or step >= cfg.num_steps:
                write_checkpoint(step)

        def write_checkpoint(step):
            with clock.phase("save"):
                host.update(batches=whole["batches"], seconds=clock.totals())
                checkpoints.save(step, whole["arrays"], host)
                saved.add(step)
            write_manifest()

        def save_interrupted() -> str:
            step = int(whole["arrays"]["state"].step)
            if step > max(first_step, checkpoints.latest_step() or 0):
                write_checkpoint(step)
                checkpoints.wait()
            return f"step {step} of {cfg.num_steps} is kept in {workdir}"

        checkpoints.keep_also(folders.best_step(workdir, saved))
        write_manifest()
        if equipped.level is not None:
            bar.note(f"sandbox: programs run at level {equipped.level}")
        bar.note(f"compiled shapes: {shapes.of(config)}")
        bar.note("pre-flight: " + ", ".join(f"{k} {v:.3g}" for k, v in host["preflight"].items()))
        if latest is None and host["preflight"]["pass_rate"] <= diagnostics.ALMOST_NONE:
            bar.note("pre-flight: almost no right answer to learn from; format alone may be learnt")
        make_batch = grpo.group_batch
        if config.ppo is not None:
            make_batch = ppo.make_batch(assemble.make_critic(config, stage.mesh))
        hooks = grpo.Hooks(next_prompts, graded, log_row, evaluate, save)
        try:
            grpo.train(
                cfg,
                state,
                reference,
                compiled,
                hooks,
                seed=seed,
                clock=clock,
                make_batch=make_batch,
                behind=behind,
            )
        except interrupt.Interrupted:
            raise interrupt.Interrupted(save_interrupted()) from None
        checkpoints.wait()
        write_manifest()
    return True


def _arrays(config, state, reference, behind) -> dict[str, Any]:
    """What a checkpoint holds."""
    held = {"state": state} | ({"reference": reference} if config.keeps_reference else {})
    return held | ({"behind": behind} if config.grpo.one_step_off else {})


def render(
    config: experiment.ExperimentConfig, question: str, examples: Sequence[tuple[str, str]] = ()
) -> str:
    """The whole prompt of a question, behind the examples, (question, completion) each."""
    if not config.layout:
        return chat.few_shot(examples, question, config.tags)
    return dialogue.question(dialogue.LAYOUTS[config.layout], question, examples)


def encode(
    config: experiment.ExperimentConfig,
    tokens: tokenizer.Tokenizer,
    problems: list[tasks.Prompt],
    examples: Sequence[tuple[str, str]] = (),
) -> types.PromptBatch:
    """Problems under the template, behind the examples, as one PromptBatch of the run's one shape.

    examples: (question, completion) each.
    """
    texts = [render(config, problem.question, examples) for problem in problems]
    return engine.encode(texts, [p.uid for p in problems], tokens, config.grpo.max_prompt)


def longest_questions(problems: Sequence[tasks.Prompt], num: int = 64) -> list[tasks.Prompt]:
    """The problems with the longest questions, in characters: the ones that may not fit."""
    return sorted(problems, key=lambda problem: len(problem.question))[-num:]


def evaluator(config, task, generate, scorer, to_batch):
    """held_out(params, step, key, is_end) -> (row, samples) on the task's held-out problems.

    generate: draws eval.num_samples a prompt. Raises Interrupted between batches on SIGTERM.
    """
    cfg, size = config.eval, config.grpo.prompts_per_rollout
    problems = task.splits[cfg.split]
    if len(problems) < cfg.num_problems:
        raise ValueError(
            f"eval.num_problems={cfg.num_problems}, but {task.name}'s {cfg.split} split holds "
            f"{len(problems)}; ask for fewer or prepare more (task.num_{cfg.split})"
        )

    def held_out(params, step, key, is_end: bool):
        num = cfg.num_problems if is_end else min(cfg.num_problems_between, cfg.num_problems)

        def sample(batch):
            interruption.leave_if_asked()
            padded = list(batch) + [batch[0]] * (size - len(batch))  # one shape, one program
            limit = config.grpo.response_limit(step)
            rollouts = place.to_host(generate(params, to_batch(padded), key, step, limit))
            rows = len(batch) * cfg.num_samples
            return jax.tree.map(lambda x: x[:rows] if np.ndim(x) else x, rollouts)

        return evaluation.evaluate(
            [problems[i] for i in range(num)],
            sample,
            partial(scorer.judge, step=step),
            task=task.name,
            num_samples=cfg.num_samples,
            batch_size=size,
        )

    return held_out


def ideal(
    scorer: scoring.Scorer,
    task: tasks.Task,
    problem: tasks.Prompt,
    tokens: tokenizer.Tokenizer,
    config: experiment.ExperimentConfig,
) -> preflight.Ideal:
    """The task's own answer in the asked form, as this tokenizer gives it back, and its grade.

    Raises ValueError when no completion may be so long.
    """
    text = chat.completion("So.", task.ideal(problem), config.tags)
    ids = tokens.encode(text)
    limit = config.grpo.response_limit(0)
    if len(ids) + 1 > limit:  # and the stop token
        raise ValueError(
            f"the ideal answer {text!r} takes {len(ids) + 1} tokens, but a completion may have "
            f"{limit} (grpo.max_response, grpo.response_schedule); raise them"
        )
    completion = tokens.decode(ids)
    grade = scorer.grade(problem, completion, step=0, sample=0, num_tokens=len(ids) + 1)
    return preflight.Ideal(problem.question, completion, grade.parts)
