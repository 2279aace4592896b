"""RLOO and GRPO: prompts, the trainer of the policy, and rewards on held-out prompts before and after training."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl import GRPOTrainer, RLOOTrainer

from ftlab.config import RunConfig
from ftlab.core.files import append_jsonl, write_json, write_jsonl
from ftlab.core.jobs import Stopped
from ftlab.core.run_directory import RunDirectory
from ftlab.core.run_results import ComparedRewardsJson, RewardDifferenceJson, RewardedJson
from ftlab.core.workspace import Workspace
from ftlab.data.rendering import encode_prompt
from ftlab.errors import InputError
from ftlab.evaluation.asking import ask
from ftlab.evaluation.before_after import figures
from ftlab.evaluation.generate import Answer
from ftlab.evaluation.keeping import ToAnswer
from ftlab.evaluation.material import groups_of, some
from ftlab.evaluation.metrics.text import repetition
from ftlab.evaluation.significance import MEAN_TEST, Clusters, difference_p, mean_difference
from ftlab.training.checkpoints import WarmsUp
from ftlab.training.preferences import forget_reference, save_trained
from ftlab.training.rewards import Judge, build_judges, check_reinforcement, judged
from ftlab.training.setup import Training, context_of
from ftlab.training.signs import read_signs
from ftlab.training.status import StatusWriter

MOST_VALIDATION = 64  # prompts; each is answered at every validation
_SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Prompt:
    """`messages` before the answer, the `reference` answer (empty if there is none), the token ids of the prompt, and
    the value of data.group_by for a held-out prompt."""

    messages: list[dict[str, str]]
    reference: str
    ids: list[int]
    group: str = ""


def frozen_prompts(
    run: RunDirectory, config: RunConfig, tokenizer: Any, writer: StatusWriter
) -> dict[str, list[Prompt]]:
    """The prompts of each split of `run` that leave room for an answer.

    The others are counted in data/manifest.json and reported in a warning. Raises InputError when the answer leaves no
    room at all, or when no more than half of the training prompts are left.
    """
    from ftlab.data.rendering import encode_prompt, prompt_messages, reference
    from ftlab.data.splits import read_split

    limit = _room(config)
    manifest = run.manifest()
    by_split: dict[str, list[Prompt]] = {}
    for split in _SPLITS:
        rows = read_split(run, split)
        if not rows:
            continue
        groups = [""] * len(rows) if split == "train" else groups_of(run, split, rows, config.data.group_by)
        every = [
            Prompt(prompt_messages(messages), reference(messages), encode_prompt(messages, tokenizer), group)
            for messages, group in zip((row["messages"] for row in rows), groups, strict=True)
        ]
        kept = [prompt for prompt in every if len(prompt.ids) <= limit]
        longest, too_long = max(len(prompt.ids) for prompt in every), len(every) - len(kept)
        manifest.setdefault("tokens", {})[split] = {
            "rows": len(kept),
            "too_long": too_long,
            "longest": longest,
            "tokens": sum(len(prompt.ids) for prompt in kept),
            "trained_tokens": 0,
        }
        if too_long:
            writer.warn(
                f"{too_long} of {len(every)} {split} prompts are longer than {limit} tokens (the longest has "
                f"{longest}) and were left out: prompt and answer must fit together."
            )
        if split == "train" and len(kept) <= len(every) / 2:
            raise InputError(
                f"{too_long} of {len(every)} training prompts leave no room for an answer",
                given=f"the longest has {longest} tokens, and an answer may have {config.reinforcement.max_new_tokens}",
                allowed=f"at least half of the prompts within {limit} tokens",
                try_="a lower reinforcement.max_new_tokens, a higher optimisation.max_length up to the base's context, "
                "or shorter prompts",
            )
        by_split[split] = kept
    write_json(run.manifest_file, manifest)
    return by_split


def validation_prompts(prompts: Sequence[Prompt]) -> list[Prompt]:
    """At most `MOST_VALIDATION` of `prompts`, always the same ones."""
    return some(list(prompts), MOST_VALIDATION)


def as_dataset(prompts: Sequence[Prompt]) -> Any:
    """The prompts in TRL's form: columns prompt (messages) and reference."""
    import datasets

    return datasets.Dataset.from_dict(
        {"prompt": [prompt.messages for prompt in prompts], "reference": [prompt.reference for prompt in prompts]}
    )


def _room(config: RunConfig) -> int:
    """The longest prompt, in tokens."""
    limit, answer = config.optimisation.max_length, config.reinforcement.max_new_tokens
    context_of(config)
    if answer >= limit:
        raise InputError(
            "The longest answer (reinforcement.max_new_tokens) leaves no room for a prompt",
            given=f"{answer} tokens",
            allowed=f"less than {limit} tokens (optimisation.max_length): prompt and answer have to fit together",
        )
    return limit - answer


@dataclass(frozen=True)
class Measured:
    """Answers to held-out prompts and their rewards: `scores` by the name of the reward, `rewards` the weighted
    sum, one for each answer."""

    answers: list[Answer]
    scores: dict[str, list[float]]
    rewards: list[float]

    def as_dict(self) -> RewardedJson:
        """The means, for rewards.json. `repetition` is the mean share of repeated word triples."""
        means = figures(self.answers)
        return {
            "reward": sum(self.rewards) / len(self.answers),
            "rewards": {name: sum(values) / len(values) for name, values in self.scores.items()},
            "completion_length": means["tokens"],
            "cut_share": means["cut_share"],
            "repetition": means["repetition"],
        }


def measure(
    model: Any,
    tokenizer: Any,
    question: ToAnswer,
    judge: Callable[[Sequence[str]], tuple[dict[str, list[float]], list[float]]],
    *,
    batch_rows: int,
    should_stop: Callable[[], bool] | None = None,
) -> Measured:
    """The answers of `model`, which is being trained, to `question`, and the scores that `judge` gives them.

    `judge` returns, for the answers in the order of the prompts, the scores by reward and their weighted sums. Raises
    Stopped when `should_stop` returns True.
    """
    was_training = model.training
    model.eval()
    try:
        reply = ask(model, tokenizer, question, batch_rows=batch_rows, should_stop=should_stop)
    finally:
        model.train(was_training)
    answers = reply.answers or []
    return Measured(answers, *judge([answer.text for answer in answers]))


def compare(start: Measured, adapted: Measured, clusters: Clusters = None) -> ComparedRewardsJson:
    """Both sides, their difference (adapted minus start), its 95% interval and p, over all and for each reward.

    `clusters`: what the prompt of each answer belongs to; see significance.py.
    """

    def difference(before: Sequence[float], after: Sequence[float]) -> RewardDifferenceJson:
        value, interval = mean_difference(before, after, clusters)
        return {"difference": value, "interval": interval, "p": difference_p(before, after, clusters)}

    return {
        "rows": len(adapted.answers),
        "start": start.as_dict(),
        "adapted": adapted.as_dict(),
        **difference(start.rewards, adapted.rewards),
        "rewards": {name: difference(start.scores[name], adapted.scores[name]) for name in adapted.scores},
        "test": MEAN_TEST,
    }


@dataclass(frozen=True)
class HeldOut:
    """What the measurements before and after training share. `split` is that of the prompts."""

    run: RunDirectory
    config: RunConfig
    tokenizer: Any
    judges: Sequence[Judge]
    split: str
    prompts: list[Prompt]


def held_out(
    run: RunDirectory,
    config: RunConfig,
    tokenizer: Any,
    judges: Sequence[Judge],
    prompts: dict[str, list[Prompt]],
) -> HeldOut | None:
    """The test prompts, else those of the validation split, at most evaluation.max_rows; None if there are none."""
    split = next((split for split in ("test", "validation") if prompts.get(split)), None)
    if split is None:
        return None
    return HeldOut(run, config, tokenizer, judges, split, some(prompts[split], config.evaluation.max_rows))


def measure_start(held: HeldOut, model: Any, writer: StatusWriter) -> None:
    """Reward the greedy answers of `model` before training; a resumed run has them already."""
    if _start_of(held) is not None:
        return
    measured = _measure(held, model, writer, "answers to the held-out prompts before training")
    if measured is not None:
        write_jsonl(held.run.reward_answers_file, _rows(held, {"start": measured}))


def measure_adapted(held: HeldOut, model: Any, writer: StatusWriter) -> None:
    """Reward the greedy answers of the trained `model`, and write rewards.json with both sides and their difference."""
    start = _start_of(held)
    adapted = _measure(held, model, writer, "answers to the held-out prompts after training")
    if start is None or adapted is None:
        writer.warn("The rewards on the held-out prompts were not compared: the run was stopped before that.")
        return
    write_jsonl(held.run.reward_answers_file, _rows(held, {"start": start, "adapted": adapted}))
    notes = []
    if held.split == "validation":
        notes.append(
            "There is no test split. Training selected its best weights on these prompts, so the result looks better "
            "than it is."
        )
    write_json(
        held.run.rewards_file,
        {
            "run": held.run.id,
            "created": time.time(),
            "split": held.split,
            **compare(start, adapted, [prompt.group or repr(prompt.messages) for prompt in held.prompts]),
            "settings": {
                "decoding": "greedy",
                "max_new_tokens": held.config.reinforcement.max_new_tokens,
                "weights": {judge.name: judge.weight for judge in held.judges},
                "start": held.config.model.start or held.config.model.base,
            },
            "notes": notes,
        },
    )


def _measure(held: HeldOut, model: Any, writer: StatusWriter, phase: str) -> Measured | None:
    from ftlab.models.load import context_length

    prompts = held.prompts
    writer.update(phase=phase, eta_seconds=None, tokens_per_second=None)
    try:
        return measure(
            model,
            held.tokenizer,
            ToAnswer(
                [prompt.ids for prompt in prompts],
                held.config.reinforcement.max_new_tokens,
                context_length(held.config.model),
            ),
            lambda answers: judged(
                held.judges,
                [prompt.messages for prompt in prompts],
                answers,
                [prompt.reference for prompt in prompts],
            ),
            batch_rows=held.config.evaluation.batch_size,
            should_stop=held.run.stop_file.exists,
        )
    except Stopped:
        return None


def _rows(held: HeldOut, sides: dict[str, Measured]) -> list[dict[str, Any]]:
    rows = []
    for index, prompt in enumerate(held.prompts):
        row: dict[str, Any] = {"prompt": prompt.messages, "reference": prompt.reference}
        for side, measured in sides.items():
            row[side] = {
                **measured.answers[index].as_dict(),
                "rewards": {name: values[index] for name, values in measured.scores.items()},
                "reward": measured.rewards[index],
            }
        rows.append(row)
    return rows


def _start_of(held: HeldOut) -> Measured | None:
    """The measurement before the first step, by this process or an earlier attempt of the run."""
    rows = held.run.reward_answers()
    if [row.get("prompt") for row in rows] != [prompt.messages for prompt in held.prompts]:
        return None
    sides = [row["start"] for row in rows]
    return Measured(
        [Answer(side["answer"], side["tokens"], side["cut"]) for side in sides],
        {judge.name: [side["rewards"][judge.name] for side in sides] for judge in held.judges},
        [side["reward"] for side in sides],
    )


if TYPE_CHECKING:
    from transformers import Trainer
else:
    Trainer = object  # what both trainers share; one of TRL comes after it in each of them

_EQUAL = 1e-6


@dataclass(frozen=True)
class Sampled:
    """One sampled answer: `rewards` by name, `reward` their weighted sum."""

    prompt: list[dict[str, str]]
    completion: str
    rewards: dict[str, float]
    reward: float


class _Policy(Trainer):
    """What both trainers share. `sampled` are the answers of the latest generation in this process."""

    sampled: tuple[Sampled, ...] = ()
    tokens_before = 0  # read by an earlier attempt of this run; TRL's count continues from there
    num_generations: int | None
    processing_class: PreTrainedTokenizerBase
    reward_func_names: list[str]
    reward_weights: torch.Tensor
    _metrics: dict[str, defaultdict[Any, list[Any]]]

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[list[list[int]], None, dict[str, Any]]:
        """The prompts as evaluation and chat encode them: without thinking, and with control tokens as plain text."""
        known: dict[str, list[int]] = {}
        ids = []
        for prompt in prompts:
            key = repr(prompt)
            if key not in known:
                # encode_prompt leaves out the last assistant turn of an example.
                known[key] = encode_prompt([*prompt, {"role": "assistant", "content": ""}], self.processing_class)
            ids.append(known[key])
        return ids, None, {}

    def _watched(self, scores: torch.Tensor, prompts: Any, completion_ids_list: Any) -> torch.Tensor:
        """`scores` [answers, rewards] unchanged; logs figures of this step, and keeps its answers."""
        rewards = (scores * self.reward_weights.to(scores.device)).sum(dim=1)
        mode = "train" if self.model is not None and self.model.training else "eval"
        texts = self.processing_class.batch_decode(completion_ids_list, skip_special_tokens=True)
        repeated = torch.tensor([repetition(text) for text in texts], device=scores.device)
        self._metrics[mode]["repetition"].append(self.accelerator.gather(repeated).mean().item())
        if mode == "train":
            groups = rewards.view(-1, self.num_generations or 1)
            flat = (groups.amax(dim=1) - groups.amin(dim=1)) < _EQUAL
            self._metrics[mode]["flat_share"].append(flat.float().mean().item())
            # `scores` holds those of all processes, one after the other.
            mine = slice(first := self.accelerator.process_index * len(prompts), first + len(prompts))
            rows = zip(prompts, texts, scores[mine].tolist(), rewards[mine].tolist(), strict=True)
            self.sampled = tuple(
                Sampled(prompt, text, dict(zip(self.reward_func_names, row, strict=True)), reward)
                for prompt, text, row, reward in rows
            )
        return scores

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        logs.pop("eval_loss", None)  # meaningless for answers that were just sampled
        figures = self._metrics["train" if self.model is not None and self.model.training else "eval"]
        if counted := figures.get("num_tokens"):
            figures["num_tokens"] = [value - self.tokens_before for value in counted]
        super().log(logs, start_time)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        save_trained(self, super()._save, output_dir, state_dict)


class GroupPolicy(WarmsUp, _Policy, GRPOTrainer):
    """GRPO (Shao et al. 2024, arXiv 2402.03300)."""

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> torch.Tensor:
        scores = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        return self._watched(scores, prompts, completion_ids_list)


class LeaveOneOutPolicy(WarmsUp, _Policy, RLOOTrainer):
    """RLOO (Ahmadian et al. 2024, arXiv 2402.14740)."""

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> torch.Tensor:
        scores = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        return self._watched(scores, prompts, completion_ids_list)


# A new stage of rewards is a row of `config.stages.STAGES`, and one of these.
_POLICIES = {"rloo": LeaveOneOutPolicy, "grpo": GroupPolicy}


def reward_functions(
    judges: Sequence[Judge], tokenizer: Any
) -> list[str | PreTrainedModel | Callable[..., list[float | None]]]:
    """The judges as functions for TRL. They read the text that the evaluation would read."""

    def function(judge: Judge) -> Callable[..., list[float | None]]:
        def reward(prompts: Any, completion_ids: Any, reference: list[str], **_: Any) -> list[float | None]:
            texts = tokenizer.batch_decode(completion_ids, skip_special_tokens=True)
            return [*judge.score(prompts, texts, reference)]

        reward.__name__ = judge.name  # TRL's name for it in the logs
        return reward

    return [function(judge) for judge in judges]


_SAMPLES = 8  # answers kept per logged step


@dataclass(frozen=True)
class Rewarded:
    """A run that learns from rewards, ready for its first step, and its held-out prompts."""

    training: Training
    held: HeldOut | None


def prepare_reinforcement(
    run: RunDirectory, config: RunConfig, writer: StatusWriter, workspace: Workspace | None = None
) -> Rewarded:
    """Read the frozen prompts of `run`, load its rewards and its model, and build its trainer.

    Reward models that are runs are looked up in `workspace` (default: that of `run`). With
    `config.evaluation.after_training` the rewards of the model before the first step are measured here. Raises
    InputError and FtlabError for anything that a person can fix.
    """
    from ftlab.models.methods import keep_start
    from ftlab.training.setup import begin, chat_tokenizer, load_model, progress_callbacks
    from ftlab.training.speed import use_small_tiles

    check_reinforcement(config)
    device, checkpoint = begin(run, config, writer)
    use_small_tiles()
    writer.update(phase="preparing the prompts")
    tokenizer = chat_tokenizer(run, config, writer)
    prompts = frozen_prompts(run, config, tokenizer, writer)
    writer.update(phase="loading the rewards")
    place = workspace or Workspace(run.path.parents[1])
    judges = build_judges(config, device=device, warn=writer.warn, workspace=place)

    model = load_model(run, config, tokenizer, device, writer)
    start = keep_start(model, config.method, run.checkpoints / "start")
    held = held_out(run, config, tokenizer, judges, prompts) if config.evaluation.after_training else None
    if held:
        measure_start(held, model, writer)
    validation = validation_prompts(prompts.get("validation", []))
    report, *others = progress_callbacks(run, config, writer, checkpoint, validation=bool(validation))
    watch = WatchAnswers(run, config, writer)
    trainer = _build_trainer(
        run, config, device, model, tokenizer, judges, prompts["train"], validation, [report, watch, *others],
        resumed=checkpoint is not None,
    )  # fmt: skip
    watch.trainer = trainer
    trainer.tokens_before = checkpoint.tokens if checkpoint else 0
    if not config.reinforcement.beta or not (start or run.start.exists()):
        forget_reference(model)  # a fresh adapter changes nothing: the base is the reference
    return Rewarded(Training(trainer, model, tokenizer, report, checkpoint, start, []), held)


def train_reinforcement(run: RunDirectory, config: RunConfig, writer: StatusWriter) -> str:
    """Train `run` on its frozen prompts and write adapter/ (or model/). Returns completed or stopped.

    Answers are sampled and rewarded; those better than the others to the same prompt become likelier. With validation
    prompts, the weights with the highest mean reward on them are kept. Before and after training, greedy answers to
    the held-out prompts are rewarded (evaluation/rewards.json). Raises as `prepare_reinforcement` does.
    """
    from ftlab.training.setup import save_result

    prepared = prepare_reinforcement(run, config, writer)
    training = prepared.training
    checkpoint = training.checkpoint
    training.trainer.train(resume_from_checkpoint=str(checkpoint.path) if checkpoint else None)
    forget_reference(training.model)
    save_result(run, config, training.trainer, training.tokenizer, writer, start=training.start)
    if training.report.stop_asked:
        return "stopped"
    if prepared.held:
        measure_adapted(prepared.held, training.model, writer)
    return "completed"


class WatchAnswers(TrainerCallback):
    """Writes samples.jsonl at each logged step, and warns once of each sign that the run goes wrong."""

    trainer: Any = None

    def __init__(self, run: RunDirectory, config: RunConfig, writer: StatusWriter):
        self._run, self._writer = run, writer
        self._length_counts = any(reward.kind == "length" for reward in config.reinforcement.rewards)
        self._warned: set[str] = set()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if "loss" not in (logs or {}) or not state.is_world_process_zero:
            return
        sampled = self.trainer.sampled
        # Evenly across the batch, so that the rewards in the file are typical of it.
        for answer in sampled[:: max(1, -(-len(sampled) // _SAMPLES))]:
            row = {"step": state.global_step, "prompt": answer.prompt, "completion": answer.completion}
            append_jsonl(self._run.samples_file, row | {"rewards": answer.rewards, "reward": answer.reward})
        for sign in read_signs(self._run.metrics(), length_counts=self._length_counts):
            if sign.code not in self._warned:
                self._warned.add(sign.code)
                self._writer.warn(sign.text)


def _build_trainer(
    run: RunDirectory,
    config: RunConfig,
    device: str,
    model: Any,
    tokenizer: Any,
    judges: Sequence[Judge],
    train: Sequence[Prompt],
    validation: Sequence[Prompt],
    callbacks: list[Any],
    *,
    resumed: bool,
) -> Any:
    from ftlab.data.rendering import stop_token_ids
    from ftlab.training.arguments import stage_arguments
    from ftlab.training.setup import unrounded

    settings, rewarded = config.optimisation, config.reinforcement
    batch = settings.rows_per_step
    at_once = batch * config.launcher.processes // rewarded.generations
    if len(train) < at_once:
        raise InputError(
            "There are fewer prompts than one step needs",
            given=f"{len(train)} training prompts; {at_once} in a step ({batch} answers, {rewarded.generations} to a "
            "prompt)",
            allowed=f"at most {len(train) * rewarded.generations} answers in a step",
            try_="a smaller optimisation.batch_size, or more prompts",
        )
    more: dict[str, Any] = {
        "num_generations": rewarded.generations,
        "num_generations_eval": 1,
        "max_completion_length": rewarded.max_new_tokens,
        "temperature": rewarded.temperature,
        "beta": rewarded.beta,
        "reward_weights": [judge.weight for judge in judges],
    }
    if config.method.is_full and rewarded.beta:
        # For the reference of full training, which TRL loads: the same class, and no pickled weights.
        more["model_init_kwargs"] = {"architecture": type(model), "use_safetensors": True}
        if config.model.revision:
            more["model_init_kwargs"]["revision"] = config.model.revision
    if validation:
        more |= {"metric_for_best_model": "eval_reward", "greater_is_better": True}
        more["eval_on_start"] = not resumed  # already evaluated at this step
    # Whole steps only: prompts that do not fill one are drawn in another epoch.
    arguments = stage_arguments(
        run, config, device, rows=len(train) // at_once * batch, validation=bool(validation), more=more
    )
    # TRL ends an answer at the tokens that the model names; a base often names only its end-of-text token.
    model.generation_config.eos_token_id = stop_token_ids(tokenizer, model.generation_config)
    try:
        with unrounded(model):
            return _POLICIES[config.stage](
                model=model,
                reward_funcs=reward_functions(judges, tokenizer),
                args=arguments,
                train_dataset=as_dataset(train),
                eval_dataset=as_dataset(validation) if validation else None,
                processing_class=tokenizer,
                callbacks=callbacks,
            )
    except (ValueError, NotImplementedError) as error:
        raise InputError(f"TRL cannot train this with {config.stage}: {error}", given=config.model.base) from None
