"""How long the evaluation of the base and of the run will take, measured on a few rows."""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ftlab.config import RunConfig
from ftlab.config.stages import REWARD_STAGES
from ftlab.core.run_directory import RunDirectory
from ftlab.evaluation.asking import kind_of
from ftlab.evaluation.beginnings import reads_once, tokens_to_read, tokens_to_score
from ftlab.evaluation.keeping import ToAnswer, ToScore, ToWrite
from ftlab.evaluation.probes import MOST_SHOWN
from ftlab.training.sizes import ComparisonSecondsJson

_MOST_EVALUATED = 16  # validation prompts that are answered for the time


def prompt_lengths(trainer: Any) -> list[int]:
    """Tokens of each training prompt with an answer of the maximum length."""
    ids, *_ = trainer._tokenize_prompts(trainer.train_dataset["prompt"])
    return [len(prompt) + trainer.max_completion_length for prompt in ids]


def train_on_answers(trainer: Any, clock: Any, notes: Any, *, usual_steps: int) -> None:
    """One step on the longest prompts with answers of full length, then a few on prompts in order."""
    from transformers import TrainerCallback

    dataset, arguments, lengths = trainer.train_dataset, trainer.args, notes.values["lengths"]
    prompts = arguments.generation_batch_size // trainer.num_generations
    longest = sorted(range(len(dataset)), key=lambda index: -lengths[index])[:prompts]
    others = itertools.islice(itertools.cycle(range(len(dataset))), prompts * usual_steps)
    order = [*longest, *others]
    trainer.train_dataset, trainer.shuffle_dataset = dataset.select(order), False
    arguments.max_steps = 1 + usual_steps
    trainer.generation_config.min_new_tokens = trainer.max_completion_length

    class EndsAsItLikes(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            trainer.generation_config.min_new_tokens = None

    trainer.add_callback(EndsAsItLikes())
    trainer.train()
    timed = clock.seconds[-max(1, len(clock.seconds) - 1) :]
    notes.add(
        {
            "longest_rows": arguments.per_device_train_batch_size,
            "longest_tokens": max(lengths) * arguments.per_device_train_batch_size,
            "step_seconds": statistics.median(timed),
            "steps_timed": len(timed),
            "answers_grow_to": clock.seconds[0],
        }
    )
    trainer.train_dataset = dataset


def evaluate_answers(trainer: Any, notes: Any) -> None:
    """The time of one validation, extrapolated from some of its prompts."""
    dataset = trainer.eval_dataset
    some = dataset.select(range(min(len(dataset), _MOST_EVALUATED)))
    began = time.monotonic()
    trainer.evaluate(eval_dataset=some)
    notes.add({"evaluation_seconds": (time.monotonic() - began) / len(some) * len(dataset)})


_ENOUGH_SECONDS = 6.0  # for the answers whose lengths are measured
_FIRST_TOKENS = 6
_MOST_SCORED = 64, 4096  # rows and tokens of the largest batch that is scored


@dataclass(frozen=True)
class Rates:
    """Seconds per token, in batches as large as those of the comparison: `scored` for text whose loss is computed,
    `read` for prompts, `written` for answers."""

    scored: float
    read: float
    written: float


@dataclass(frozen=True)
class Amount:
    """The tokens of a piece of work."""

    scored: int = 0
    read: int = 0
    written: float = 0

    def seconds(self, rates: Rates) -> float:
        return self.scored * rates.scored + self.read * rates.read + self.written * rates.written

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.scored + other.scored, self.read + other.read, self.written + other.written)


def amount_of(
    questions: Mapping[str, Any], lengths: Mapping[str, float], *, once: bool, follows: bool = False
) -> Amount:
    """The tokens of `questions` by name, with answers of the `lengths`. `once`: what several rows begin with is read
    once. `follows`: for a model that reads the base's own answers, and writes only the few that changed most; these
    count with the maximum length."""
    whole = Amount()
    for name, question in questions.items():
        if isinstance(question, ToWrite):
            read, most = sum(map(len, question.prompts)), question.max_new_tokens
            most_shown = MOST_SHOWN if name == "own" else 0
            writes = min(most_shown, len(question.prompts)) if follows else len(question.prompts)
            reads = read * writes / max(1, len(question.prompts))
            whole += Amount(scored=read + most * len(question.prompts), read=round(reads), written=most * writes)
        elif isinstance(question, ToAnswer):
            read = tokens_to_read(question.prompts, once)
            whole += Amount(read=read, written=lengths.get(kind_of(name), 0) * len(question.prompts))
        else:
            whole += Amount(scored=tokens_to_score(question.encoded, once))
    return whole


@dataclass(frozen=True)
class BaseTimes:
    """The base in a comparison: its `rates`, the seconds of `loading` and `measuring` it, the tokens of a mean answer
    by the name of the question (`lengths`), and how many answers were measured (`asked`)."""

    rates: Rates
    loading: float
    measuring: float
    lengths: dict[str, float]
    asked: int


class Comparison:
    """The questions of the comparison of a run that has not been trained."""

    def __init__(self, run: RunDirectory, config: RunConfig):
        from ftlab.evaluation.compare import asked_before_training

        self.run, self.config = run, config
        self.material, self.sides, self.asked = asked_before_training(run, config)
        self.of_base = self.asked["base"].questions
        self._once = False  # known once the base is loaded

    @property
    def rows_at_once(self) -> int:
        return self.config.evaluation.batch_size

    def measure_base(self) -> BaseTimes:
        """Load the base, time it on its largest batches and on some answers, and release its memory."""
        from ftlab.evaluation.batches import free_memory
        from ftlab.evaluation.sides import tokenizer_of
        from ftlab.models.load import load_trained_base

        began = time.monotonic()
        model = load_trained_base(self.config, device=self.config.launcher.device)
        loading = time.monotonic() - began
        tokenizer, self._once = tokenizer_of(self.sides[0]), reads_once(model)
        began = time.monotonic()
        # Including the base with examples before each prompt, if it is compared too: its prompts are the longest.
        rates, lengths = self._rates(model, tokenizer, self.asked), {}
        for name, question in self._to_answer():
            lengths[name] = self._mean_answer(model, tokenizer, question, rates)
        measuring = time.monotonic() - began
        del model
        free_memory()
        asked = sum(min(self.rows_at_once, len(question.prompts)) for _, question in self._to_answer())
        return BaseTimes(rates, loading, measuring, lengths, asked)

    def measure_adapted(self, model: Any) -> Rates:
        """The rates of the adapted `model` on the same batches: an adapter takes time in each layer."""
        from ftlab.evaluation.sides import tokenizer_of

        return self._rates(model, tokenizer_of(self.sides[0]), ["base"])

    def of(self, side: str, lengths: dict[str, float], *, follows: bool = False) -> Amount:
        """The tokens of the questions to `side`, with answers of the `lengths`; `follows` as for `amount_of`."""
        return self.amount(self.asked[side].questions, lengths, follows=follows)

    def amount(self, questions: Mapping[str, Any], lengths: dict[str, float], *, follows: bool = False) -> Amount:
        """The tokens of `questions`, some of this comparison: see `amount_of`."""
        return amount_of(questions, lengths, once=self._once, follows=follows)

    def of_forgetting(self, lengths: dict[str, float], *, follows: bool = False) -> Amount:
        """The part of the questions to the base that measures forgetting."""
        of_task = ("losses", "answers", "labels", "documents")
        asked = {name: question for name, question in self.of_base.items() if kind_of(name) not in of_task}
        return self.amount(asked, lengths, follows=follows)

    def lengths_of_references(self) -> dict[str, float]:
        """Tokens of a mean reference, with the stop token, by the name of the question."""
        from ftlab.evaluation.sides import tokenizer_of

        tokenizer = tokenizer_of(self.sides[0])
        texts = {"answers": self.material.references, "probes": [probe.reference for probe in self.material.probes]}
        return {
            name: 1 + sum(map(len, tokenizer(references, add_special_tokens=False).input_ids)) / len(references)
            for name, references in texts.items()
            if references
        }

    def of_memorisation(self) -> tuple[Amount, Amount]:
        """The tokens of the check for memorization, for the base and for the adapted model."""
        from ftlab.evaluation.memorisation import samples_of
        from ftlab.evaluation.sides import tokenizer_of

        samples = samples_of(self.run, self.config, tokenizer_of(self.sides[0])) or {}
        scored = sum(len(example.input_ids) for sample in samples.values() for example in sample.encoded)
        halves = [half for sample in samples.values() for half in sample.halves]
        continued = Amount(read=sum(len(half.prompt) for half in halves), written=sum(half.tokens for half in halves))
        base = Amount() if self.config.method.is_full else Amount(scored=scored)
        return base, Amount(scored=scored) + continued

    def _to_answer(self) -> list[tuple[str, Any]]:
        # Only the first of several answers to a row: the others take as long.
        return [
            (name, question)
            for name, question in self.of_base.items()
            if isinstance(question, ToAnswer) and question.sample == 1
        ]

    def _rates(self, model: Any, tokenizer: Any, sides: Iterable[str]) -> Rates:
        """Measured on the longest rows and the longest prompts of `sides`, where memory peaks."""
        from ftlab.evaluation.batches import by_length, trim
        from ftlab.evaluation.generate import rows_that_fit
        from ftlab.evaluation.losses import score_losses

        once = reads_once(model)
        encoded = [
            example
            for question in self.of_base.values()
            if isinstance(question, ToScore)
            for example in question.encoded
        ]
        rows, tokens = _MOST_SCORED
        largest = by_length([len(example.input_ids) for example in encoded], rows=rows, tokens=tokens)[0]
        batch = [encoded[index] for index in largest]
        score_losses(model, batch[-2:], pad_token_id=tokenizer.pad_token_id)  # the first pass is slower
        began = time.monotonic()
        score_losses(model, batch, pad_token_id=tokenizer.pad_token_id)
        scored = (time.monotonic() - began) / tokens_to_score(batch, once)
        trim()  # as between two questions (collect)
        questions = [question for side in sides for question in self.asked[side].questions.values()]
        written = [question for question in questions if isinstance(question, ToAnswer | ToWrite)]
        context = self.material.context or math.inf
        whole = {
            tuple(ids): len(ids) + question.max_new_tokens
            for question in written
            for ids in question.prompts
            if len(ids) < context
        }
        if not whole:
            return Rates(scored, 0.0, 0.0)
        prompts = sorted(whole, key=lambda ids: -whole[ids])
        prompts = prompts[: rows_that_fit(model, [whole[prompts[0]]], self.rows_at_once)[0]]
        counts, (began, first, *later) = self._answered(model, tokenizer, prompts, _FIRST_TOKENS)
        writing = (max(later, default=first) - first) / max(1, sum(counts) - len(prompts))
        return Rates(scored, (first - began) / tokens_to_read(prompts, once), writing)

    def _mean_answer(self, model: Any, tokenizer: Any, question: Any, rates: Rates) -> float:
        """Tokens of a mean answer, from rows across the question; answers that did not end count with the maximum."""
        most = question.max_new_tokens
        step = max(1, len(question.prompts) // self.rows_at_once)
        prompts = question.prompts[::step][: self.rows_at_once]
        affordable = int(_ENOUGH_SECONDS / max(1e-6, rates.written * len(prompts)))
        limit = max(_FIRST_TOKENS, min(most, affordable))
        counts, _ = self._answered(model, tokenizer, prompts, limit)
        return sum(most if tokens >= limit else tokens for tokens in counts) / len(counts)

    def _answered(
        self, model: Any, tokenizer: Any, prompts: Sequence[Sequence[int]], tokens: int
    ) -> tuple[list[int], list[float]]:
        """The token count of each answer, of at most `tokens`, to `prompts`, and the times (seconds) of the start and
        of each token of the batch."""
        from ftlab.data.rendering import stop_token_ids
        from ftlab.evaluation.generate import generate_answers

        times: list[float] = []

        def note_time() -> bool:  # called before a batch, and at each of its tokens
            times.append(time.monotonic())
            return False

        generated = generate_answers(
            model,
            tokenizer,
            [list(ids) for ids in prompts],
            max_new_tokens=tokens,
            stop_ids=stop_token_ids(tokenizer, model.generation_config),
            batch_rows=self.rows_at_once,
            context=self.material.context,
            should_stop=note_time,
        )
        return [max(1, answer.tokens) for answer in generated.answers], times


def comparison_of(run: RunDirectory, config: RunConfig) -> Comparison | None:
    """The comparison that `run` will make by itself; None if it makes none, or one of rewards."""
    if not config.evaluation.after_training or config.stage in REWARD_STAGES or config.is_reward_model:
        return None
    return Comparison(run, config)


def comparison_seconds(comparison: Comparison, base: BaseTimes, adapted: Rates) -> ComparisonSecondsJson:
    """Seconds of the base's part (`before`, without loading it) and of the rest (`after`), from the results of
    `measure_base` and `measure_adapted`."""
    rates = base.rates
    references = comparison.lengths_of_references()
    before = comparison.of("base", base.lengths).seconds(rates)
    if "prompted" in comparison.asked:
        # General questions, texts and others that need no examples are asked once.
        of_prompted = comparison.of("prompted", references)
        by_prompt = ("losses", "answers", "labels")
        both = comparison.asked["prompted"].questions.items()
        once = {name: question for name, question in both if kind_of(name) not in by_prompt}
        before += of_prompted.seconds(rates) - comparison.amount(once, references).seconds(rates)
    of_base, of_adapted = comparison.of_memorisation() if comparison.config.evaluation.memorisation else (Amount(),) * 2
    after = base.loading + of_base.seconds(rates)
    after += (comparison.of("base", references, follows=True) + of_adapted).seconds(adapted)
    return {"before": before, "after": after}


def forgetting_seconds(comparison: Comparison, base: BaseTimes, adapted: Rates) -> float:
    """The seconds of `comparison_seconds` that measure forgetting."""
    after = comparison.of_forgetting(comparison.lengths_of_references(), follows=True).seconds(adapted)
    return comparison.of_forgetting(base.lengths).seconds(base.rates) + after
