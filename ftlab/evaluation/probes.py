"""General questions outside the task (bundled, from a user's file, or the base's own answers to neutral prompts), and
how many of them a run can afford: about a fifth of its cost. The cost is counted in tokens that are read once (a
training step reads each token and runs backward, at twice the price), so that the same run always gets the same
questions, on any machine."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftlab.config import DataConfig, RunConfig, load_config
from ftlab.config.evaluation import names, sized
from ftlab.core.files import read_jsonl
from ftlab.core.run_directory import RunDirectory
from ftlab.core.workspace import Workspace
from ftlab.errors import FtlabError
from ftlab.evaluation.batches import by_length, pad, run_batches, tokens_at_once
from ftlab.evaluation.generate import generate_answers
from ftlab.models.families import takes_logits_to_keep
from ftlab.samples import list_samples, sample_path

if TYPE_CHECKING:
    import numpy as np

# Of neutral_prompts. The minimum includes the thirty of kinds that self replay does not hold, judged separately: with
# fifteen, SmolLM2 held at 0.022 nats could not be distinguished from an unheld one.
MOST_PROMPTS, FEWEST_PROMPTS = 100, 50
MOST_PASSAGES, FEWEST_PASSAGES = 120, 35  # of general_reading, which does not decide if prompts do
UNSEEN_KINDS = ("refusal", "languages", "code")  # in neutral_prompts but not in replay_prompts
# With SmolLM2 on two cores, a neutral prompt takes 0.84 s and a passage 0.93 s, both sides together; reading a token
# takes 4 ms (docs/forgetting.md).
_TOKENS_EACH = 225
_PART = 4  # of the rest of the run that goes to it: a fifth of the whole
_TRAINED = 3
_CHARACTERS, _TOKENS_OF_TURN = 4, 8
_OWN_ANSWER = 80  # of a replayed prompt and the base's answer


def affordable(
    config: RunConfig, splits: Mapping[str, Sequence[Mapping[str, Any]]], own_answers: int = 0
) -> tuple[int, int]:
    """The number of neutral prompts and of passages of general text suited to a run of the resolved `config` on the
    rows `splits` and `own_answers` of the base."""
    settings = config.optimisation
    train = splits["train"]
    rows = len(train) + own_answers
    tokens = sum(map(_tokens, train)) + own_answers * _OWN_ANSWER
    epochs = settings.epochs or 1
    if settings.max_steps:
        drawn = settings.max_steps * (settings.batch_size or 1) * (settings.gradient_accumulation or 1)
        epochs = drawn * config.launcher.processes / max(1, rows)
    held_out = splits.get("test") or splits.get("validation") or []
    asked = sum(map(_tokens, held_out)) * min(1.0, config.evaluation.max_rows / max(1, len(held_out)))
    rest = _TRAINED * tokens * epochs + 4 * asked  # both sides answer each row, and are scored on it
    whole = int(rest / _PART / _TOKENS_EACH)
    prompts = min(MOST_PROMPTS, max(FEWEST_PROMPTS, whole - FEWEST_PASSAGES))
    return prompts, min(MOST_PASSAGES, max(FEWEST_PASSAGES, whole - prompts))


def _tokens(row: Mapping[str, Any]) -> int:
    """The estimated number of tokens of a frozen `row`: its messages, or a prompt with its answers."""
    turns = [turn for value in row.values() if isinstance(value, list) for turn in value]
    return sum(len(turn.get("content") or "") // _CHARACTERS + _TOKENS_OF_TURN for turn in turns)


def drawn_prompts(kinds: Sequence[str], most: int | None) -> list[int]:
    """The indices of at most `most` neutral prompts of these `kinds`. Three fifths, if available, are of kinds that
    self replay does not hold. Otherwise drawn evenly over kinds. A smaller draw is part of a larger one."""
    unseen = [place for place, kind in enumerate(kinds) if kind in UNSEEN_KINDS]
    others = [place for place, kind in enumerate(kinds) if kind not in UNSEEN_KINDS]
    if most is None or most >= len(kinds):
        return list(range(len(kinds)))
    first = min(len(unseen), round(0.6 * most))
    parts = ((unseen, first), (others, most - first))
    return sorted(place for of, count in parts for place in evenly(of, [kinds[place] for place in of], count))


def evenly(rows: Sequence[Any], kinds: Sequence[Any], most: int | None) -> list[Any]:
    """At most `most` of `rows`, drawn evenly over their `kinds` with a fixed seed. A smaller draw is part of a larger
    one."""
    if most is None or most >= len(rows):
        return list(rows)
    by_kind: dict[Any, list[int]] = {}
    for place, kind in enumerate(kinds):
        by_kind.setdefault(kind, []).append(place)
    for number, places in enumerate(by_kind.values()):
        random.Random(number).shuffle(places)
    turns = [place for turn in range(len(rows)) for places in by_kind.values() for place in places[turn : turn + 1]]
    return [rows[place] for place in sorted(turns[:most])]


# The measures of general questions: of kinds that were not replayed (or not known to be), and of kinds that were.
NOT_REPLAYED, REPLAYED = "general_accuracy", "general_accuracy_replayed"
# known_facts and known_choices ask for facts, as replay_prompts does.
_PART_OF = dict.fromkeys(("geography", "science", "nature", "history", "culture", "everyday", "language"), "facts")
SELF = "self"  # among the probes: how the base's answers to neutral prompts changed
HELD_RULE = (
    "an answer is right if it holds the reference, or one of its forms in the column also, as whole words, ignoring "
    "case"
)


@dataclass(frozen=True)
class Probe:
    """One question as `messages` that end with the user's turn, its short `reference`, its `kind` if the data names
    one, and whether questions of that kind were `replayed` in training (None: unknown). `held`: an answer is right if
    it contains the reference, or one of the forms in `also`."""

    row: int
    messages: list[dict[str, str]]
    reference: str
    kind: str | None = None
    replayed: bool | None = False
    held: bool = False
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Choice:
    """A multiple-choice question: `options[right]` is correct, and the model's answer is the option it finds most
    likely. `messages` end with the user's turn and do not name the options. `kind` and `replayed` are as in Probe."""

    row: int
    messages: list[dict[str, str]]
    options: tuple[str, ...]
    right: int
    kind: str | None = None
    replayed: bool | None = False


def by_replay(replayed: Sequence[bool | None]) -> dict[str, list[int]]:
    """The indices of questions by measure, from the `replayed` flag of each (see `Probe`). Only measures with
    questions."""
    by_name: dict[str, list[int]] = {NOT_REPLAYED: [], REPLAYED: []}
    for place, known in enumerate(replayed):
        by_name[REPLAYED if known else NOT_REPLAYED].append(place)
    return {name: places for name, places in by_name.items() if places}


def replayed_kinds(runs: Sequence[RunDirectory], configs: Sequence[RunConfig]) -> frozenset[str] | None:
    """The kinds of general examples and documents that at least one of `runs`, or the run it started from, was trained
    on.

    Empty if nothing was replayed. None if replayed data does not name its kinds.
    """
    replayed: set[str] = set()
    for run, config in zip(runs, configs, strict=True):
        manifest = run.manifest()
        for mixed_in in filter(None, (manifest.get("replay"), manifest.get("replay_text"))):
            if (kinds := mixed_in.get("kinds")) is None:
                return None
            replayed |= set(kinds)
        if config.model.start:
            try:
                parent = Workspace.of(run).run(config.model.start)
                earlier = replayed_kinds([parent], [load_config(parent.config_file)])
            except FtlabError:
                return None  # deleted, or only an adapter
            if earlier is None:
                return None
            replayed |= earlier
    return frozenset(replayed)


def was_replayed(kind: Any, kinds: frozenset[str] | None) -> bool | None:
    """Whether this `kind`, or one that it is part of, is among the replayed `kinds` (see `replayed_kinds`). None if
    unknown."""
    if kinds is not None and not kinds:
        return False
    if kinds is None or not isinstance(kind, str):
        return None
    return kind in kinds or _PART_OF.get(kind) in kinds


def is_right(answer: str, probe: Probe) -> bool:
    """Whether `answer` equals the reference of `probe` (PROBE_RULE), or contains it or one of its other forms if
    answers may be sentences (HELD_RULE)."""
    from ftlab.evaluation.metrics.form import holds
    from ftlab.evaluation.metrics.text import is_general_match

    if is_general_match(answer, probe.reference):
        return True
    return probe.held and any(holds(answer, form) for form in (probe.reference, *probe.also))


def load_general(
    config: RunConfig, replayed: frozenset[str] | None = frozenset()
) -> tuple[list[Probe], list[Choice], list[Probe], str | None]:
    """The items that `config.evaluation.probes` names (nothing for None and "none"): questions with a reference,
    multiple-choice questions, and the neutral prompts of SELF, which have no reference; and a note if something is
    unavailable.

    `replayed` are the kinds used in training, as from `replayed_kinds`; the column `kind` gives that of a question.
    Unreadable items must not cost the comparison on the task, so they yield a note and not an error.
    """
    probes: list[Probe] = []
    choices: list[Choice] = []
    neutral: list[Probe] = []
    notes: list[str] = []
    read = 0
    named = config.resolved().evaluation.probes or ""
    for source in [named] if Path(named).is_file() else dict.fromkeys(names(named)):
        if source.lower() == "none":
            continue
        name, most = sized(source.lower())
        if name == SELF:
            neutral = _neutral(config, replayed, most)
            if len(neutral) < len(_prompts()):
                notes.append(
                    f"How the base's own answers changed was measured on {len(neutral)} of {len(_prompts())} neutral "
                    "prompts, drawn over all kinds. That takes less time, and its intervals are wider than with all of "
                    "them (evaluation.probes=self)."
                )
            continue
        try:
            rows, messages_of = _read(source, config)
        except FtlabError as error:
            notes.append(f"No general questions were asked: {error.message()}")
            continue
        questions: list[Any] = []
        before, read = read, read + len(rows)  # number questions uniquely
        for number, row in enumerate(rows):
            kind = kind if isinstance(kind := row.get("kind"), str) else None
            about = kind, was_replayed(kind, replayed)
            if is_choice(row):
                questions.append(_choice(before + number, row, config.data.system_prompt, *about))
            elif (messages := messages_of(row)) is not None:
                # Real bases answer in sentences, which never equal a word.
                held = "also" in row or not config.is_starter
                also = tuple(map(str, row.get("also") or ()))
                asked, reference = messages
                questions.append(Probe(before + number, asked, reference, *about, held=held, also=also))
        probes += [question for question in questions if isinstance(question, Probe)]
        choices += [question for question in questions if isinstance(question, Choice)]
        if len(questions) < len(rows):
            notes.append(
                f"{len(rows) - len(questions)} of {len(rows)} rows of {source} are not questions and were left out."
            )
    return probes, choices, neutral, " ".join(notes) or None


def from_elsewhere(probes: str | None) -> bool:
    """Whether one of `probes` may have to be downloaded: it is neither a sample nor a file."""
    here = {SELF, "auto", "none", *(sample.name for sample in list_samples())}
    return any(sized(name)[0] not in here and not Path(name).exists() for name in names(probes))


def is_choice(row: Mapping[str, Any]) -> bool:
    """Whether `row` is a multiple-choice question: a question, A, B, ... and the letter of the right option as the
    answer."""
    return {"question", "A", "B", "answer"} <= row.keys() and str(row["answer"]).strip() in _letters(row)


def _letters(row: Mapping[str, Any]) -> list[str]:
    return [letter for letter in "ABCDEFGH" if row.get(letter) not in (None, "")]


def _choice(number: int, row: Mapping[str, Any], system_prompt: str | None, *about: Any) -> Choice:
    letters = _letters(row)
    asked = [{"role": "user", "content": str(row["question"])}]
    if system_prompt:
        asked.insert(0, {"role": "system", "content": system_prompt})
    right = letters.index(str(row["answer"]).strip())
    return Choice(number, asked, tuple(str(row[letter]) for letter in letters), right, *about)


def _read(source: str, config: RunConfig) -> tuple[list[dict[str, Any]], Any]:
    """The rows of `source`, and a function from a row to its messages and reference, or None if it is not a question.
    Raises FtlabError."""
    from ftlab.data.conversion import is_document, to_messages
    from ftlab.data.load import load_rows
    from ftlab.data.rendering import prompt_messages, reference
    from ftlab.data.shapes import UnusableRow
    from ftlab.data.splits import detect_format

    data = DataConfig(source=source, system_prompt=config.data.system_prompt)
    loaded = load_rows(data)
    rows = list(loaded.splits["test" if "test" in loaded.splits else loaded.main])
    if rows and all(map(is_choice, rows)):
        return rows, lambda row: None
    detected = detect_format(loaded, data)

    def messages_of(row: dict[str, Any]) -> tuple[list[dict[str, str]], str] | None:
        try:
            messages = to_messages(row, detected, data.system_prompt)
        except UnusableRow:
            return None
        return None if is_document(messages) else (prompt_messages(messages), reference(messages))

    return rows, messages_of


def _prompts() -> list[dict[str, Any]]:
    return read_jsonl(sample_path("neutral_prompts") / "test.jsonl")


def _neutral(config: RunConfig, replayed: frozenset[str] | None, most: int | None) -> list[Probe]:

    rows = _prompts()
    system = [{"role": "system", "content": config.data.system_prompt}] if config.data.system_prompt else []
    return [
        Probe(
            number,
            row["prompt"] if row["prompt"][0]["role"] == "system" else [*system, *row["prompt"]],
            "",
            row["kind"],
            was_replayed(row["kind"], replayed),
        )
        for number in drawn_prompts([row["kind"] for row in rows], most)
        for row in [rows[number]]
    ]


def probe_limit(probes: list[Probe], tokenizer: Any, at_most: int | None) -> int:
    """The number of new tokens sufficient for a probe: an answer much longer than every reference is wrong anyway.

    `at_most` is the limit set for all answers, or None.
    """
    longest = max(len(tokenizer(probe.reference, add_special_tokens=False).input_ids) for probe in probes)
    # Room for a sentence: SmolLM2-135M-Instruct gives the answer within 24 tokens in 16 of the 18 cases in which it
    # gives it at all (50 of general_probes, answers of up to 96 tokens).
    enough = max(2 * longest + 8, 24)
    return min(at_most or enough, enough)


TOP = 256  # of a distribution that are stored individually
NEW_TOKENS = 40  # of a base's answer at most
MOST_SHOWN = 5  # prompts whose answers changed most, which each side also answers itself


@dataclass(frozen=True)
class Written:
    """An answer of a base: its token `ids` (including the stop token), `text`, and whether the limit `cut` it. At each
    position `top` holds the most likely tokens in order, shape (tokens, k). `logs` holds their log-probabilities,
    followed by that of all other tokens together, in nats, shape (tokens, k + 1)."""

    ids: tuple[int, ...]
    text: str
    cut: bool
    top: np.ndarray
    logs: np.ndarray


@dataclass(frozen=True)
class Followed:
    """How a model predicts an answer of its base: the forward `kl` from base to model summed over its `tokens`
    positions, in nats; the number of positions with the `same` most likely token; and, for the prompts with the largest
    KL, its own `answer`."""

    kl: float
    same: int
    tokens: int
    answer: str | None = None


def write_own(
    model: Any, tokenizer: Any, prompts: Sequence[list[int]], *, max_new_tokens: int, **more: Any
) -> tuple[list[Written], int | None]:
    """The greedy answers of the base `model` to `prompts` (token ids), with at most `max_new_tokens`, and the number of
    rows that fit at once if memory ran out. `more` is as in `generate_answers`. Raises Stopped."""
    import numpy as np
    import torch

    made = generate_answers(model, tokenizer, prompts, max_new_tokens=max_new_tokens, **more)
    kept: list[tuple[Any, Any]] = [(np.zeros((0, 0), np.int32), np.zeros((0, 1), np.float32))] * len(prompts)

    def use(row: int, logs: Any) -> None:
        values, top = logs.topk(min(TOP, logs.shape[1]), dim=1)
        logs_kept = torch.cat([values, _rest(logs, top)], dim=1)
        kept[row] = top.to(torch.int32).cpu().numpy(), logs_kept.cpu().numpy()

    answers = [list(answer.ids) for answer in made.answers]
    halved = _predict(model, tokenizer.pad_token_id, prompts, answers, use, should_stop=more.get("should_stop"))
    written = [
        Written(answer.ids, answer.text, answer.cut, *arrays) for answer, arrays in zip(made.answers, kept, strict=True)
    ]
    return written, min((rows for rows in (made.halved_to, halved) if rows), default=None)


def follow(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    written: Sequence[Written],
    *,
    max_new_tokens: int,
    examples: int = MOST_SHOWN,
    advance: Callable[[int], None] | None = None,
    **more: Any,
) -> tuple[list[Followed], int | None]:
    """How `model` predicts what a base has `written` to `prompts`, and its own answers to the `examples` with the
    largest KL per token; otherwise like `write_own`. Both must have the same vocabulary. Raises Stopped."""
    import torch

    followed = [Followed(0.0, 0, 0)] * len(prompts)

    def use(row: int, logs: Any) -> None:
        top = torch.as_tensor(written[row].top, dtype=torch.long, device=logs.device)
        base = torch.as_tensor(written[row].logs, device=logs.device).double()
        own = torch.cat([logs.gather(1, top), _rest(logs, top)], dim=1).double()
        # If the base leaves no remainder (a vocabulary stored in full), p log p is 0.
        terms = torch.where(base.isneginf(), 0.0, base.exp() * (base - own))
        # Several tokens can tie for most likely, in bfloat16 at one position in a hundred. Check whether the base's is
        # among them.
        same = int((logs.gather(1, top[:, :1])[:, 0] == logs.amax(dim=1)).sum())
        # Rounding may push the KL of a model to itself slightly below 0.
        followed[row] = Followed(max(0.0, float(terms.sum())), same, len(top))

    answers = [list(answer.ids) for answer in written]
    should_stop = more.get("should_stop")
    halved = _predict(model, tokenizer.pad_token_id, prompts, answers, use, advance=advance, should_stop=should_stop)
    order = sorted(range(len(followed)), key=lambda row: -followed[row].kl / max(1, followed[row].tokens))
    most = [row for row in order[:examples] if followed[row].tokens]
    made = generate_answers(model, tokenizer, [prompts[row] for row in most], max_new_tokens=max_new_tokens, **more)
    for row, answer in zip(most, made.answers, strict=True):
        followed[row] = Followed(followed[row].kl, followed[row].same, followed[row].tokens, answer.text)
    return followed, min((rows for rows in (made.halved_to, halved) if rows), default=None)


def _rest(logs: Any, top: Any) -> Any:
    """The log-probability of all tokens outside `top`, shape (positions, 1)."""
    return logs.scatter(1, top, float("-inf")).logsumexp(dim=1, keepdim=True)


def _predict(
    model: Any,
    pad_token_id: int,
    prompts: Sequence[list[int]],
    answers: Sequence[list[int]],
    use: Callable[[int, Any], None],
    *,
    advance: Callable[[int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> int | None:
    """Call `use` with each row number and the log-probabilities (tokens of its answer, vocabulary) with which `model`
    predicts the answer. Rows are padded on the right, and logits are computed only for answers."""
    import torch

    rows = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
    device, keeps = model.device, takes_logits_to_keep(model)
    vocabulary = model.config.get_text_config().vocab_size
    tokens = min(4096, tokens_at_once(device, vocabulary))

    @torch.inference_mode()
    def work(batch: list[int]) -> None:
        ids = torch.tensor(pad([rows[i] for i in batch], pad_token_id), device=device)
        mask = torch.tensor(pad([[1] * len(rows[i]) for i in batch], 0), device=device)
        keep = torch.zeros_like(mask, dtype=torch.bool)
        for place, i in enumerate(batch):
            # The logits at one position predict the token at the next.
            keep[place, len(prompts[i]) - 1 : len(rows[i]) - 1] = True
        places = {"logits_to_keep": keep} if keeps else {}
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False, **places).logits
        logits, at = logits if keeps else logits[keep], 0
        logits = logits.reshape(-1, logits.shape[-1])
        for i in batch:
            use(i, torch.log_softmax(logits[at : at + len(answers[i])].float(), dim=-1))
            at += len(answers[i])

    asked = [row for row, answer in enumerate(answers) if answer]
    batches = by_length([len(rows[row]) for row in asked], rows=64, tokens=tokens)
    if advance and len(asked) < len(rows):
        advance(len(rows) - len(asked))
    return run_batches(
        [[asked[place] for place in batch] for batch in batches], work, advance=advance, should_stop=should_stop
    )
