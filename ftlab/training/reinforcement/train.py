"""RLOO and GRPO: the trainer of the policy, from start to result."""

from __future__ import annotations

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
from ftlab.core.files import append_jsonl
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.data.rendering import encode_prompt
from ftlab.errors import InputError
from ftlab.evaluation.metrics.text import repetition
from ftlab.training.checkpoints import WarmsUp
from ftlab.training.preferences.trainers import forget_reference, save_trained
from ftlab.training.reinforcement.held_out import (
    HeldOut,
    Prompt,
    as_dataset,
    frozen_prompts,
    held_out,
    measure_adapted,
    measure_start,
    validation_prompts,
)
from ftlab.training.reinforcement.rewards import Judge, build_judges, check_reinforcement
from ftlab.training.sft import Training
from ftlab.training.signs import read_signs
from ftlab.training.status import StatusWriter

if TYPE_CHECKING:
    from transformers import Trainer
else:
    Trainer = object  # what both trainers share; one of TRL comes after it in each of them

_EQUAL = 1e-6


@dataclass(frozen=True)
class Tried:
    """One answer that was tried: `rewards` by name, `reward` their weighted sum."""

    prompt: list[dict[str, str]]
    completion: str
    rewards: dict[str, float]
    reward: float


class _Policy(Trainer):
    """What both trainers share. `tried` holds the answers of this process's latest generation."""

    tried: tuple[Tried, ...] = ()
    tokens_before = 0  # what an earlier attempt of this run read; TRL's count goes on from there
    num_generations: int | None
    processing_class: PreTrainedTokenizerBase
    reward_func_names: list[str]
    reward_weights: torch.Tensor
    _metrics: dict[str, defaultdict[Any, list[Any]]]

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[list[list[int]], None, dict[str, Any]]:
        """The prompts as evaluation and chat ask them: without room for thoughts, control tokens in them spelled."""
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
        """`scores` [answers, rewards] as they are; what they say of this step is logged and kept."""
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
            self.tried = tuple(
                Tried(prompt, text, dict(zip(self.reward_func_names, row, strict=True)), reward)
                for prompt, text, row, reward in rows
            )
        return scores

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        logs.pop("eval_loss", None)  # of answers that were just sampled: it says nothing
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


def reward_functions(
    judges: Sequence[Judge], tokenizer: Any
) -> list[str | PreTrainedModel | Callable[..., list[float | None]]]:
    """The judges as TRL calls them; what they read is the text that the evaluation would read."""

    def function(judge: Judge) -> Callable[..., list[float | None]]:
        def reward(prompts: Any, completion_ids: Any, reference: list[str], **_: Any) -> list[float | None]:
            texts = tokenizer.batch_decode(completion_ids, skip_special_tokens=True)
            return [*judge.score(prompts, texts, reference)]

        reward.__name__ = judge.name  # TRL's name for it in the logs
        return reward

    return [function(judge) for judge in judges]


_SAMPLES = 8  # answers kept of each logged step


@dataclass(frozen=True)
class Rewarded:
    """What trains one run from rewards, up to its first step: the same for the run and for the probe before it."""

    training: Training
    held: HeldOut | None


def prepare_reinforcement(
    run: RunDirectory, config: RunConfig, writer: StatusWriter, workspace: Workspace | None = None
) -> Rewarded:
    """Read the frozen prompts of `run`, load what rewards them and what it starts from, and build its trainer.

    Reward models that are runs are those of `workspace` (default: that of `run`). With
    `config.evaluation.after_training` the model's rewards before the first step are measured here. Raises InputError
    and FtlabError for what a person can mend.
    """
    from ftlab.models.peft_methods import keep_start
    from ftlab.training.log_probs import use_small_tiles
    from ftlab.training.setup import begin, chat_tokenizer, load_model, progress_callbacks

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
        forget_reference(model)  # a fresh adapter changes nothing: without it the model is the reference
    return Rewarded(Training(trainer, model, tokenizer, report, checkpoint, start, []), held)


def train_reinforcement(run: RunDirectory, config: RunConfig, writer: StatusWriter) -> str:
    """Train `run` on its frozen prompts and leave adapter/ (or model/) behind. Returns completed or stopped.

    Answers are sampled and rewarded; those better than their siblings become likelier. Where there are validation
    prompts, the weights with the highest mean reward on them are kept. Before and after, greedy answers to the
    held-out prompts are rewarded (evaluation/rewards.json). Raises as `prepare_reinforcement` does.
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
    """Writes samples.jsonl at each logged step, and warns, each once, of signs that the run goes wrong."""

    trainer: Any = None

    def __init__(self, run: RunDirectory, config: RunConfig, writer: StatusWriter):
        self._run, self._writer = run, writer
        self._length_counts = any(reward.kind == "length" for reward in config.reinforcement.rewards)
        self._said: set[str] = set()

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
        tried = self.trainer.tried
        # Evenly over the batch: the rewards in the file are those of the batch, not the best of them.
        for index in range(0, len(tried), max(1, -(-len(tried) // _SAMPLES))):
            answer = tried[index]
            row = {"step": state.global_step, "prompt": answer.prompt, "completion": answer.completion}
            append_jsonl(self._run.samples_file, row | {"rewards": answer.rewards, "reward": answer.reward})
        for sign in read_signs(self._run.metrics(), length_counts=self._length_counts):
            if sign.code not in self._said:
                self._said.add(sign.code)
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
    if config.method.name == "full" and rewarded.beta:
        # How TRL loads the reference of full training: the same class, and no pickled weights.
        more["model_init_kwargs"] = {"architecture": type(model), "use_safetensors": True}
        if config.model.revision:
            more["model_init_kwargs"]["revision"] = config.model.revision
    if validation:
        more |= {"metric_for_best_model": "eval_reward", "greater_is_better": True}
        more["eval_on_start"] = not resumed  # it was evaluated at this step already
    # Whole steps only: prompts that fill none are drawn in another epoch.
    arguments = stage_arguments(
        run, config, device, rows=len(train) // at_once * batch, validation=bool(validation), more=more
    )
    # TRL ends an answer at the tokens that the model names; a base often names only its end-of-text token.
    model.generation_config.eos_token_id = stop_token_ids(tokenizer, model.generation_config)
    kind = GroupPolicy if config.stage == "grpo" else LeaveOneOutPolicy
    try:
        with unrounded(model):
            return kind(
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
