"""Self replay: keep the base's own answers to general prompts from changing during training.

Before training the base answers the prompts in data/replay_prompts.jsonl once, greedily. Its probabilities along these
answers are stored: those of the likeliest tokens, and that of all others together. On these rows the loss is the KL
divergence from them. Huang et al. 2024 (arXiv 2403.01244) and Marek et al. 2026 (arXiv 2605.26097) replay such answers
as text; tests/benchmarks/forgetting_held.py compares the two. Stored probabilities work with every method, even those
that change the base's weights, and need no second forward pass in each step.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NotRequired, cast

from typing_extensions import TypedDict

from ftlab.config import RunConfig, why_not_held
from ftlab.config.evaluation import names
from ftlab.config.stages import REWARD_STAGES, WITH_REFERENCE
from ftlab.core.files import digest, read_jsonl, replacing
from ftlab.core.run_directory import RunDirectory
from ftlab.core.words import counted
from ftlab.data.shapes import Message
from ftlab.errors import FtlabError, shorten
from ftlab.training.launcher import shards
from ftlab.training.status import StatusWriter

if TYPE_CHECKING:
    from ftlab.training.trainer import Teacher

NEW_TOKENS = 48
TOP = 256  # words of the vocabulary whose probabilities are kept for each token; the rest counts as one word
_LOGITS_BYTES = 128 << 20  # of a batch that is scored
_SAME = 1e-2  # relative difference of logits from the same hidden states, computed in two ways


class ReplayPromptJson(TypedDict):
    """A prompt that the base answers: its `row` in the source and its `kind`."""

    row: int
    kind: str
    messages: list[Message]


class ReplayAnswerJson(ReplayPromptJson):
    """The prompt with the base's answer, as an example (-100 in `labels` where nothing is trained). `key` is the hash
    of everything that the answer depends on; missing in older runs."""

    input_ids: list[int]
    labels: list[int]
    key: NotRequired[str]


@dataclass(frozen=True)
class Held:
    """The base's answers as examples (`input_ids`, `labels`), with its probabilities if the loss is kl."""

    rows: list[dict[str, list[int]]]
    teacher: Teacher | None


def ensure_answers(
    run: RunDirectory,
    config: RunConfig,
    writer: StatusWriter,
    *,
    should_stop: Callable[[], bool] | None = None,
    sample: int | None = None,
) -> float:
    """Let the base answer the prompts of `run` unless it has already, and store answers and probabilities in the run's
    folder for later attempts and other processes. Returns the seconds this took.

    With `sample` only that many prompts are answered, for a measurement: the others get the same answers, and the
    seconds are extrapolated. Raises Stopped.
    """
    prompts = run_prompts(run) if config.data.replay_prompts else []
    if not prompts or run.self_replay_file.exists():
        return 0.0
    from ftlab.evaluation.batches import free_memory
    from ftlab.models.load import load_trained_base
    from ftlab.training.setup import chat_tokenizer

    tokenizer = chat_tokenizer(run, config, writer)
    asked = prompts[:sample] if sample else prompts
    keys, wants_teacher = _keys(run, config, tokenizer, asked), config.data.replay_loss == "kl"
    known = _known(run, keys, wants_teacher)
    missing = [place for place, key in enumerate(keys) if key not in known]
    seconds = 0.0
    if missing:
        base = load_trained_base(config, device=config.launcher.device)
        began = time.monotonic()
        rows = _answers(base, tokenizer, [asked[place] for place in missing], config, writer, should_stop)
        for place, row in zip(missing, rows, strict=True):
            row["key"] = keys[place]
        teacher = None
        if wants_teacher:
            writer.update(phase="storing the probabilities of the base", done=0, total=0)
            teacher = _teacher(base, rows, tokenizer.pad_token_id, writer)
        known |= _by_key(rows, teacher)
        seconds = (time.monotonic() - began) * len(prompts) / len(asked)
        del base
        free_memory()
    chosen = [known[keys[place % len(asked)]] for place in range(len(prompts))]
    # An answer may come from a repeated prompt, or from a run with another order: row and kind are those of this run.
    rows = [
        ReplayAnswerJson(**(row | {"row": prompt["row"], "kind": prompt["kind"]}))
        for prompt, (row, _) in zip(prompts, chosen, strict=True)
    ]
    _keep(run, rows, _joined([part for _, part in chosen]))
    writer.update(phase="loading the libraries", done=0, total=0)
    return seconds


def _keys(run: RunDirectory, config: RunConfig, tokenizer: Any, prompts: Sequence[ReplayPromptJson]) -> list[str]:
    """For each of `prompts` the hash of everything that this base's answer depends on."""
    from ftlab.data.rendering import encode_prompt
    from ftlab.evaluation.sides import base_side, identity
    from ftlab.models.load import text_length

    base = [identity(base_side(run, config)), NEW_TOKENS, TOP, text_length(config)]
    texts = [[*base, encode_prompt([*prompt["messages"], _answer("")], tokenizer)] for prompt in prompts]
    return [digest(text, 24, sort_keys=True) for text in texts]


# An answer, and its part of the teacher: rows of `top` and `log_probs`.
_Part = tuple[Any, Any] | None
_Answer = tuple[ReplayAnswerJson, _Part]


def _known(run: RunDirectory, keys: Sequence[str], wants_teacher: bool) -> dict[str, _Answer]:
    """The answers with these `keys` that other runs have stored, so that a base is asked once. Files that cannot be
    read are skipped."""
    import pyarrow.parquet as pq
    from safetensors.torch import load_file

    from ftlab.training.trainer import Teacher

    wanted, answers = set(keys), dict[str, _Answer]()
    for folder in sorted(run.path.parent.iterdir()):
        other = RunDirectory(folder)
        if wanted <= answers.keys() or not other.self_replay_file.exists():
            continue
        if wants_teacher and not other.teacher_file.exists():
            continue
        try:
            rows = pq.read_table(other.self_replay_file).to_pylist()
            if not any(row.get("key") in wanted - answers.keys() for row in rows):
                continue
            tensors = load_file(other.teacher_file) if wants_teacher else None
            starts = _starts([_held_tokens(row) for row in rows])
            if tensors and starts[-1] != len(tensors["top"]):
                continue
        except Exception:  # the file of another run may be damaged in any way
            continue
        teacher = Teacher(tensors["top"], tensors["log_probs"], starts) if tensors else None
        answers |= {key: part for key, part in _by_key(rows, teacher).items() if key in wanted}
    return answers


def _by_key(rows: Sequence[ReplayAnswerJson], teacher: Teacher | None) -> dict[str, _Answer]:
    """The rows with a key, and their parts of the teacher."""
    answers: dict[str, _Answer] = {}
    for number, row in enumerate(rows):
        if row.get("key"):
            tokens = teacher.of(number) if teacher else slice(0)
            answers[row["key"]] = row, (teacher.top[tokens], teacher.log_probs[tokens]) if teacher else None
    return answers


def _joined(parts: Sequence[_Part]) -> Teacher | None:
    """One teacher from the parts of all rows; None if the logits of this base cannot be recomputed from its head."""
    import torch

    from ftlab.training.trainer import Teacher

    present = [part for part in parts if part is not None]
    if len(present) < len(parts):
        return None
    tops, log_probs = zip(*present, strict=True)
    return Teacher(torch.cat(tops), torch.cat(log_probs), _starts([len(top) for top in tops]))


def _held_tokens(row: ReplayAnswerJson) -> int:
    return sum(label != -100 for label in row["labels"])


def mixed_in_words(config: RunConfig, manifest: Mapping[str, Any]) -> str:
    """In a sentence, what is mixed into the training rows of the resolved `config` against forgetting, or why nothing
    is. `manifest` is that of its data."""
    parts = []
    if replay := manifest.get("replay"):
        if replay.get("answers"):
            times = f", {replay['times']} times in each epoch" if replay.get("times", 1) > 1 else ""
            parts.append(f"{replay['rows'] // replay.get('times', 1):,} of the base's own answers{times}")
        else:
            parts.append(f"{counted(replay['rows'], 'row')} of {replay['source']}")
    if replay := manifest.get("replay_text"):
        parts.append(f"{counted(replay['rows'], 'document')} of {replay['source']}")
    if parts:
        return f"{' and '.join(parts)} are mixed in against forgetting"
    nothing = "nothing is mixed in against forgetting"
    if (why := why_not_held(config)) is None:
        why = "data.replay is none"
        if shards(config.launcher):
            why = "no process has all weights, so the base cannot answer first"
    if config.stage in WITH_REFERENCE:
        why += "; the reference model keeps it close to its start (preference.beta)"
    elif config.stage in REWARD_STAGES and config.reinforcement.beta:
        why += "; the reference model keeps it close to its start (reinforcement.beta)"
    measured = config.evaluation.after_training and names(config.evaluation.probes) not in ([], ["none"])
    if config.stage in REWARD_STAGES:
        why += "; forgetting is measured if the prompts have reference answers" if measured else ""
    elif measured and not config.is_reward_model:
        why += "; forgetting is measured after training"
    return f"{nothing}: {why}"


def run_prompts(run: RunDirectory) -> list[ReplayPromptJson]:
    """The prompts that the base answers for `run`."""
    return cast(list[ReplayPromptJson], read_jsonl(run.replay_prompts_file))


def read_answers(run: RunDirectory, limit: int) -> Held:
    """The stored answers of at most `limit` tokens, prompts included."""
    import pyarrow.parquet as pq
    from safetensors.torch import load_file

    from ftlab.training.trainer import Teacher

    rows = pq.read_table(run.self_replay_file, columns=["input_ids", "labels"]).to_pylist()
    short = [len(row["input_ids"]) <= limit for row in rows]
    kept = [row for row, fits in zip(rows, short, strict=True) if fits]
    if not run.teacher_file.exists():
        return Held(kept, None)
    tensors = load_file(run.teacher_file)
    counts = list(map(_held_tokens, rows))
    starts = _starts(counts)
    tokens = [token for row, fits in enumerate(short) if fits for token in range(starts[row], starts[row + 1])]
    starts = _starts([count for count, fits in zip(counts, short, strict=True) if fits])
    return Held(kept, Teacher(tensors["top"][tokens], tensors["log_probs"][tokens], starts))


def mixed_in(train: Any, run: RunDirectory, config: RunConfig, writer: StatusWriter) -> tuple[Any, Teacher | None]:
    """The data set `train` (input_ids, labels) followed by the base's answers, each as many `times` as the manifest
    says, and the base's probabilities along them. The column `held` is the number of such an answer, -1 in all other
    rows."""
    import datasets

    if not config.data.replay_prompts or not run.self_replay_file.exists():
        return train, None
    limit = config.optimisation.max_length
    held = read_answers(run, limit)
    if (too_long := len(run_prompts(run)) - len(held.rows)) > 0:
        writer.warn(f"{too_long} of the base's own answers are longer than {limit} tokens and are not replayed.")
    if not held.rows:
        return train, None
    replay = run.manifest().get("replay")
    numbers = list(range(len(held.rows))) * (replay["times"] if replay else 1)
    columns = {name: [held.rows[number][name] for number in numbers] for name in ("input_ids", "labels")}
    answers = datasets.Dataset.from_dict(columns | {"held": numbers})
    both = datasets.concatenate_datasets([train.add_column("held", [-1] * len(train)), answers])
    return both, held.teacher


def _answers(
    base: Any,
    tokenizer: Any,
    prompts: Sequence[ReplayPromptJson],
    config: RunConfig,
    writer: StatusWriter,
    should_stop: Callable[[], bool] | None,
) -> list[ReplayAnswerJson]:
    from ftlab.data.rendering import encode_prompt, stop_token_ids
    from ftlab.evaluation.generate import generate_answers
    from ftlab.models.load import text_length

    stops = stop_token_ids(tokenizer, base.generation_config)
    done, phase = 0, "before training: the base's own answers"
    writer.update(phase=phase, done=0, total=len(prompts), eta_seconds=None, tokens_per_second=None)

    def advance(count: int) -> None:
        nonlocal done
        done += count
        writer.update(phase=phase, done=done, total=len(prompts))

    generated = generate_answers(
        base,
        tokenizer,
        [encode_prompt([*prompt["messages"], _answer("")], tokenizer) for prompt in prompts],
        max_new_tokens=NEW_TOKENS,
        stop_ids=stops,
        batch_rows=config.evaluation.batch_size,
        context=text_length(config),
        advance=advance,
        should_stop=should_stop,
    )
    rows: list[ReplayAnswerJson] = []
    for prompt, answer in zip(prompts, generated.answers, strict=True):
        messages = [*prompt["messages"], _answer(answer.text)]
        ids, labels = _encoded(messages, answer.cut, tokenizer, set(stops))
        rows.append(
            {"row": prompt["row"], "kind": prompt["kind"], "messages": messages, "input_ids": ids, "labels": labels}
        )
    return rows


def _answer(text: str) -> Message:
    return {"role": "assistant", "content": text}


def _encoded(messages: list[Message], cut: bool, tokenizer: Any, stops: set[int]) -> tuple[list[int], list[int]]:
    """The tokens and labels of an answer; if the limit `cut` it, without the stop token, which the base did not
    write."""
    from ftlab.data.rendering import encode

    encoded = encode(messages, tokenizer)
    end = 1 + max(index for index, on in enumerate(encoded.trained) if on)
    while cut and encoded.input_ids[end - 1] in stops and encoded.trained[end - 1]:
        end -= 1
    encoded = encoded.cut(end)
    return encoded.input_ids, encoded.labels


def _teacher(base: Any, rows: Sequence[ReplayAnswerJson], pad_token_id: int, writer: StatusWriter) -> Teacher | None:
    """The probabilities of `base` (in evaluation mode) along the labels of `rows`. None, with a warning, if its head
    does not compute what `head_logits` does: its answers are then learned as text."""
    import torch

    from ftlab.evaluation.batches import by_length, pad
    from ftlab.training.trainer import head_logits, hidden_states, shortened

    vocabulary = base.get_output_embeddings().weight.shape[0]
    by_row: dict[int, tuple[Any, Any]] = {}
    compared = False
    tokens = max(1, _LOGITS_BYTES // (4 * vocabulary))
    with torch.inference_mode():
        for batch in by_length([len(row["input_ids"]) for row in rows], rows=16, tokens=tokens):
            ids = torch.tensor(pad([rows[i]["input_ids"] for i in batch], pad_token_id), device=base.device)
            mask = torch.tensor(pad([[1] * len(rows[i]["input_ids"]) for i in batch], 0), device=base.device)
            labels = torch.tensor(pad([rows[i]["labels"] for i in batch], -100), device=base.device)
            with hidden_states(base) as states:
                logits = base(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
            on = labels[:, 1:] != -100
            # A base that ends at once, or never within the limit, may leave no label in a whole batch.
            if not compared and on.any():
                compared = True
                again = head_logits(base, states[-1][:, :-1][on][:4])
                if (again - logits[on][:4].float()).abs().max() > _SAME * (1 + again.abs().max()):
                    writer.warn(
                        "The base's own answers are learned as text, not by their probabilities, which prevents less "
                        "forgetting: the logits of this base do not come from its head alone."
                    )
                    return None
            for index, row in enumerate(batch):
                top, log_probs = shortened(logits[index][on[index]].float(), TOP)
                by_row[row] = top.cpu(), log_probs.cpu()
    return _joined([by_row[row] for row in range(len(rows))])


def _starts(counts: Sequence[int]) -> list[int]:
    return [*itertools.accumulate(counts, initial=0)]


def _keep(run: RunDirectory, rows: list[ReplayAnswerJson], teacher: Teacher | None) -> None:
    """Write the teacher first, so that it is complete once there are answers."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from safetensors.torch import save_file

    try:
        if teacher is not None:
            with replacing(run.teacher_file) as part:
                save_file({"top": teacher.top, "log_probs": teacher.log_probs}, part)
        with replacing(run.self_replay_file) as part:
            pq.write_table(pa.Table.from_pylist(rows), part)
    except OSError as error:
        raise FtlabError("The base's own answers cannot be stored", why=shorten(error, 200)) from None
