"""Generates answers, greedy or sampled, in batches that rows join and leave."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import math
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeGuard

from ftlab.core.jobs import Stopped
from ftlab.evaluation.batches import pad, run_batches
from ftlab.evaluation.beginnings import common_beginning, read, reads_once
from ftlab.models.families import padding_changes_answers

if TYPE_CHECKING:
    import torch
    from transformers import DynamicCache

# Removing rows copies the cache of the remaining ones: worth it once an eighth of them is finished. If rows are
# waiting, adding them also costs a pass over their prompts, so that is done for a quarter of the batch at once.
_ENDED_SHARE = 1 / 8
_TAKEN_IN_SHARE = 1 / 4
# Prompts are read in groups of similar length: padding costs as much as text.
_PADDED = 1 / 4
_FEW_PLACES = 128
# Per-row state besides the cache. Anything else that a model keeps per batch requires all rows to stay.
_PER_ROW = ("attention_mask", "position_ids", "token_type_ids")


@dataclass(frozen=True)
class Work:
    """The rows of a batch, by names chosen by the caller, and those that wait. Each row generates at most `limit`
    tokens.

    `note` gets the names of the active rows and the token that each of them generated, and returns which of them are
    finished. Finished rows may be carried along, and are reported as well. `waits` says whether rows are waiting.
    `more` returns up to that many of them, the longest first, or None: names, token ids and mask (rows x tokens, padded
    on the left). It is called only if rows can be added. `choose` takes the names of rows and their scores (rows x
    vocabulary) and returns the token of each; without it, the most likely token is taken. `begin` is the number of
    tokens that all rows begin with and that are read once for all.
    """

    rows: Sequence[Any]
    limit: int
    note: Callable[[Sequence[Any], list[int]], list[bool]]
    waits: Callable[[], bool]
    more: Callable[[int], tuple[list[Any], Any, Any] | None]
    choose: Callable[[Sequence[Any], Any], Any] | None = None
    begin: int = 0

    def picker(self, rows: Sequence[Any]) -> Callable[[Any], Any]:
        """A function from the scores of `rows` (rows x vocabulary) to one token each."""
        choose = self.choose
        return (lambda scores: scores.argmax(dim=-1)) if choose is None else (lambda scores: choose(rows, scores))


def decode(
    model: Any,
    input_ids: Any,
    logits_processor: Any,
    stopping_criteria: Any,
    generation_config: Any,
    *,
    work: Work,
    **model_kwargs: Any,
) -> Any:
    """Continue each of `input_ids` (rows x tokens), with tokens chosen by `work`, until it reports that all are
    finished.

    The stopping criteria of `generate` itself are not used. Returns `input_ids`; the generated tokens go to `work`.
    Source of the steps: transformers 5.23, GenerationMixin._sample.
    """
    from ftlab.evaluation.roomy_cache import give_room

    if _is_plain(cache := model_kwargs.get("past_key_values")):
        give_room(cache)
    blank, at_once = _blank(model_kwargs), len(work.rows)

    def begun(blank: dict[str, Any], names: Sequence[Any], ids: Any, mask: Any) -> _State:
        """Rows that have generated their first token, in order."""
        state: _State | None = None
        for group in of_like_length(mask, common):
            width = max(1, int(mask[group].sum(dim=1).max()))
            part, seen = ids[group][:, -width:], mask[group][:, -width:]
            kwargs = _blank_for(model, blank, part, seen)
            if first is not None:
                part, kwargs = _after(model, first, part, kwargs)
            new = _begun(model, part, logits_processor, generation_config, kwargs, work.picker(names[group]))
            state = state.joined(new) if state else new
        assert state is not None
        return state

    asked, mask = input_ids, model_kwargs.get("attention_mask")
    rows = list(work.rows)
    common, first = 0, None
    if blank is not None and mask is not None and work.begin:
        common = work.begin
        first, _ = read(model, [input_ids[0][mask[0] > 0][:common].tolist()], 0)
    if blank is None or mask is None:
        state = _begun(model, input_ids, logits_processor, generation_config, model_kwargs, work.picker(rows))
    else:
        state = begun(blank, rows, input_ids, mask)
    over = work.note(rows, state.tokens)
    while True:
        ended = sum(over)
        free = at_once - len(rows) + ended
        takes_in = free >= _TAKEN_IN_SHARE * at_once and _can_join(state.kwargs)
        coming = work.more(free) if blank is not None and takes_in else None
        if coming is None and ended == len(rows):
            return asked
        # If rows will join soon, the same copy removes the finished ones.
        share = _TAKEN_IN_SHARE if blank is not None and work.waits() else _ENDED_SHARE
        # A finished row is not carried past its limit: the model's positions may end there.
        at_limit = any(made >= work.limit for made, ends in zip(state.made, over, strict=True) if ends)
        if ended == len(rows):
            rows, over = [], []
        elif ended and (coming or at_limit or ended >= share * len(rows)) and (smaller := state.without(over)):
            state, rows = smaller, [row for row, ends in zip(rows, over, strict=True) if not ends]
            over = [False] * len(rows)
        if blank is not None and coming:
            names, ids, seen = coming
            new = begun(blank, names, ids, seen)
            over = [*over, *work.note(names, new.tokens)]
            state, rows = (state.joined(new) if rows else new), [*rows, *names]
            continue  # a first token may be the last
        inputs = model.prepare_inputs_for_generation(
            state.input_ids, next_sequence_length=1 if state.kwargs["use_cache"] else None, **state.kwargs
        )
        outputs = model(**inputs, return_dict=True)
        pick = work.picker(rows)
        state = _next(model, outputs, state.input_ids, logits_processor, state.kwargs, state.made, pick)
        over = work.note(rows, state.tokens)


def of_like_length(mask: Any, begin: int = 0) -> list[slice]:
    """The rows of `mask` (rows x tokens, padded on the left, the longest first), divided where their length drops. The
    first `begin` tokens of each row do not count.

    At most _PADDED of the positions of a part are padding, unless they are too few to be worth a separate pass.
    """
    lengths = (mask.sum(dim=1) - begin).tolist()
    parts, first, filled = [], 0, 0
    for row, length in enumerate(lengths):
        places = lengths[first] * (row + 1 - first)
        if places - filled - length > max(_PADDED * places, _FEW_PLACES):
            parts.append(slice(first, row))
            first, filled = row, 0
        filled += length
    return [*parts, slice(first, len(lengths))]


@dataclass
class _State:
    """Rows with the last token each generated, which is not in the cache yet; `kwargs` as in generate.

    `made` counts the tokens of each row.
    """

    input_ids: Any
    kwargs: dict[str, Any]
    made: list[int]

    @property
    def tokens(self) -> list[int]:
        return self.input_ids[:, -1].tolist()

    def without(self, over: list[bool]) -> _State | None:
        """The rows that are not `over`. None if it is unknown how the model stores its rows."""
        import torch

        stay = torch.tensor(over, device=self.input_ids.device).logical_not()
        if (kwargs := _rows_of(self.kwargs, stay)) is None:
            return None
        made = [count for count, ends in zip(self.made, over, strict=True) if not ends]
        return _State(self.input_ids[stay], kwargs, made).cut()

    def joined(self, other: _State) -> _State:
        """The rows of both; the shorter ones are padded on the left."""
        import torch
        from torch.nn.functional import pad

        both, masks = (self, other), (_mask(self), _mask(other))
        width = max(mask.shape[1] for mask in masks)
        missing = [width - mask.shape[1] for mask in masks]

        def filled(tensors: Any, *inner: int) -> Any:
            wide = [
                pad(tensor, (*inner, short, 0)) if short else tensor
                for tensor, short in zip(tensors, missing, strict=True)
            ]
            return torch.cat(wide)

        for mine, theirs in zip(*(state.kwargs["past_key_values"].layers for state in both), strict=True):
            mine.replace(filled((mine.keys, theirs.keys), 0, 0), filled((mine.values, theirs.values), 0, 0))
        places = filled([state.kwargs["position_ids"] for state in both])
        kwargs = self.kwargs | {"attention_mask": filled(masks), "position_ids": places}
        return _State(filled([state.input_ids for state in both]), kwargs, [*self.made, *other.made]).cut()

    def cut(self) -> _State:
        """Without the positions on the left that are empty in every row."""
        mask = self.kwargs.get("attention_mask")
        if mask is None or not _can_join(self.kwargs) or not (empty := int(mask.any(dim=0).int().argmax())):
            return self
        for layer in self.kwargs["past_key_values"].layers:
            layer.keys, layer.values = layer.keys[:, :, empty:], layer.values[:, :, empty:]
        per_place = {name: self.kwargs[name][:, empty:] for name in ("attention_mask", "position_ids")}
        return _State(self.input_ids[:, empty:], self.kwargs | per_place, self.made)


def _begun(model: Any, input_ids: Any, logits_processor: Any, config: Any, kwargs: dict[str, Any], pick: Any) -> _State:
    """Rows that have generated their first token."""
    outputs = model._prefill(input_ids, config, kwargs)
    return _next(model, outputs, input_ids, logits_processor, kwargs, [0] * len(input_ids), pick)


def _next(
    model: Any,
    outputs: Any,
    input_ids: Any,
    logits_processor: Any,
    kwargs: dict[str, Any],
    made: list[int],
    pick: Callable[[Any], Any],
) -> _State:
    import torch

    kwargs = model._update_model_kwargs_for_generation(outputs, kwargs, is_encoder_decoder=False)
    # float() copies in half precision, and indexing keeps the whole prompt's logits alive: keep only the last ones.
    scores = logits_processor(input_ids, outputs.logits[:, -1].to(copy=True, dtype=torch.float32))
    input_ids = torch.cat([input_ids, pick(scores)[:, None]], dim=-1)
    return _State(input_ids, kwargs, [count + 1 for count in made])


def _blank(kwargs: dict[str, Any]) -> dict[str, Any] | None:
    """A starting state for other rows, taken before the cache is filled. None if that is unknown."""
    import torch

    own = {name: value for name, value in kwargs.items() if name not in ("attention_mask", "position_ids")}
    tensors = [name for name, value in own.items() if isinstance(value, torch.Tensor)]
    cache = kwargs.get("past_key_values")
    if tensors or "position_ids" not in kwargs or not _is_plain(cache):
        return None
    if cache.get_seq_length():  # virtual tokens are already in it, once per row of this batch
        return None
    return own | {"past_key_values": copy.deepcopy(cache)}


def _blank_for(model: Any, blank: dict[str, Any], ids: Any, mask: Any) -> dict[str, Any]:
    """`blank` for the rows `ids`."""
    places = model._prepare_position_ids_for_generation(ids, {"attention_mask": mask})
    cache = copy.deepcopy(blank["past_key_values"])
    return blank | {"past_key_values": cache, "attention_mask": mask, "position_ids": places}


def _after(model: Any, first: Any, ids: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """`ids` and `kwargs` for rows whose beginning is in the cache `first` (of one row): it comes before the padding."""
    import torch

    begin, mask = first.get_seq_length(), kwargs["attention_mask"]
    cache = kwargs["past_key_values"]
    for layer, read_once in zip(cache.layers, first.layers, strict=True):
        kept = [part.expand(len(ids), -1, -1, -1).contiguous() for part in (read_once.keys, read_once.values)]
        layer.update(*kept)
    lengths = mask.sum(dim=1, keepdim=True)
    # Of rows shorter than the longest, the remaining columns still hold a part of the beginning.
    rest = torch.arange(mask.shape[1] - 1, begin - 1, -1, device=mask.device) - begin < lengths - begin
    seen = torch.cat([torch.ones_like(mask[:, :begin]), rest.to(mask.dtype)], dim=1)
    longest = int(lengths.argmax())
    full = torch.cat([ids[longest, :begin].expand(len(ids), -1), ids[:, begin:]], dim=1)
    places = model._prepare_position_ids_for_generation(full, {"attention_mask": seen})
    return full, kwargs | {"attention_mask": seen, "position_ids": places}


def _can_join(kwargs: dict[str, Any]) -> bool:
    """Whether the cache holds one position for each position of the text, and nothing else."""
    cache, places = kwargs.get("past_key_values"), kwargs.get("position_ids")
    if not _is_plain(cache) or places is None or places.dim() != 2:
        return False
    keys: torch.Tensor = cache.layers[0].keys  # type: ignore[union-attr, assignment]  # _is_plain: a filled DynamicLayer
    rows, _, held, _ = keys.shape
    return (rows, held) == (len(places), places.shape[1] - 1)


def _is_plain(cache: Any, sliding: bool = False) -> TypeGuard[DynamicCache]:
    """Whether `cache` stores keys and values of each position, (rows, heads, positions, width) in each layer."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    from ftlab.evaluation.roomy_cache import RoomyLayer

    known = (DynamicLayer, RoomyLayer, *((DynamicSlidingWindowLayer,) if sliding else ()))
    return type(cache) is DynamicCache and all(type(layer) in known for layer in cache.layers)


def _mask(state: _State) -> Any:
    """generate omits the mask if nothing is padded."""
    import torch

    mask = state.kwargs.get("attention_mask")
    return torch.ones_like(state.kwargs["position_ids"]) if mask is None else mask


def _rows_of(model_kwargs: dict[str, Any], stay: Any) -> dict[str, Any] | None:
    """`model_kwargs` for the rows that `stay`. None if it is unknown how the model stores its rows."""
    import torch

    cache = model_kwargs.get("past_key_values")
    tensors = {name: value for name, value in model_kwargs.items() if isinstance(value, torch.Tensor)}
    known = all(
        name in _PER_ROW and value.dim() == 2 and len(value) in (1, len(stay)) for name, value in tensors.items()
    )
    if not (_is_plain(cache, sliding=True) and known):
        return None
    cache.batch_select_indices(stay.nonzero()[:, 0])
    return model_kwargs | {name: value[stay] for name, value in tensors.items() if len(value) == len(stay)}


# Keys and values of a batch on a CPU, or a quarter of the weights if that is more. 32 rows of 2,755 tokens took 2 GB of
# them in addition to the 270 MB of SmolLM2 (dpo_en_demo.json).
_CACHE_BYTES = 512 << 20


@dataclass(frozen=True)
class Answer:
    """`text` without special tokens; the number of generated `tokens`, including the stop token; `cut` if the limit
    ended it. `ids` are those tokens if the answer was just generated; for a cached answer they are unknown."""

    text: str
    tokens: int
    cut: bool
    ids: tuple[int, ...] = field(default=(), compare=False, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """The form in which rows of answers are stored."""
        return {"answer": self.text, "tokens": self.tokens, "cut": self.cut}


@dataclass(frozen=True)
class Answers:
    """In the order of the prompts. `halved_to`: the number of rows that fit at once, if memory ran out in between."""

    answers: list[Answer]
    halved_to: int | None = None


def generate_answers(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    *,
    max_new_tokens: int,
    stop_ids: Sequence[int],
    batch_rows: int = 32,
    context: int | None = None,
    temperature: float = 0.0,
    sample: int = 1,
    advance: Callable[[int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Answers:
    """One answer to each of `prompts` (token ids) with at most `max_new_tokens`: greedy decoding, or sampling at a
    `temperature` above 0.

    Sampling depends only on the prompt and the number `sample`, not on batches: the same call gives the same answers,
    and models get the same draws for the same prompt. No top-p, no top-k.

    Prompts are sorted by length and padded on the left; if the model reads padding as text, a batch holds prompts of
    one length. Rows leave a batch as their answers end, and waiting prompts join. An answer ends with the first of
    `stop_ids`, or when prompt and answer fill `context` tokens. Raises Stopped, also in the middle of a batch.
    """
    import torch

    answers: list[Answer | None] = [None] * len(prompts)
    room = [min(max_new_tokens, context - len(ids)) if context else max_new_tokens for ids in prompts]
    for index, tokens in enumerate(room):
        if tokens < 1:
            answers[index] = Answer("", 0, True)
    queue: deque[int] = deque()  # rows with the same room that still wait, the longest first
    stops = set(stop_ids)
    unpadded = bool(prompts) and padding_changes_answers(model, max(prompts, key=len), tokenizer.pad_token_id)
    begin = 0 if unpadded or not reads_once(model) else common_beginning(prompts)

    def batches() -> Iterator[list[int]]:
        # Rows near the end of the context have less room. A batch shares one limit, so they form separate batches.
        both = list(zip(room, prompts, strict=True))
        fitting = rows_that_fit(model, [tokens + len(ids) for tokens, ids in both], batch_rows)
        kinds = [
            (tokens, len(ids) if unpadded else 0, -rows) for (tokens, ids), rows in zip(both, fitting, strict=True)
        ]
        for kind in sorted(set(kinds), reverse=True):
            members = [i for i in range(len(prompts)) if kinds[i] == kind and answers[i] is None]
            queue.extend(sorted(members, key=lambda i: -len(prompts[i])))
            while queue:
                yield _take(queue, -kind[-1])

    def padded(rows: list[int]) -> tuple[Any, Any]:
        ids = pad([list(prompts[i]) for i in rows], tokenizer.pad_token_id, left=True)
        mask = pad([[1] * len(prompts[i]) for i in rows], 0, left=True)
        return torch.tensor(ids, device=model.device), torch.tensor(mask, device=model.device)

    @torch.inference_mode()
    def work(batch: list[int]) -> None:
        rows = [i for i in batch if answers[i] is None]  # after memory ran out, some already have their answer
        if not rows:
            return
        limit = room[rows[0]]
        # Recreated with the answers: after memory ran out, a row starts again with its first draw.
        choose = _drawing(prompts, temperature, sample) if temperature else None
        made: dict[int, list[int]] = {i: [] for i in rows}
        untold: list[int] = []

        def tell() -> None:
            if advance and untold:
                advance(len(untold))
            untold.clear()

        def note(names: Sequence[int], tokens: list[int]) -> list[bool]:
            if should_stop and should_stop():
                raise Stopped
            for i, token in zip(names, tokens, strict=True):
                if answers[i] is None:
                    made[i].append(token)
                    if token in stops or len(made[i]) == limit:
                        answers[i] = _answer(made[i], tokenizer, stops)
                        untold.append(i)
            if len(untold) >= len(rows) / 4:  # each report may write a file
                tell()
            return [answers[i] is not None for i in names]

        def more(count: int) -> tuple[list[int], Any, Any] | None:
            names = _take(queue, count)
            made.update((i, []) for i in names)
            return (names, *padded(names)) if names else None

        ids, mask = padded(rows)
        try:
            with _plain_generation(model):
                model.generate(
                    input_ids=ids,
                    attention_mask=mask,
                    max_new_tokens=limit,
                    do_sample=False,
                    eos_token_id=list(stop_ids),
                    pad_token_id=tokenizer.pad_token_id,
                    custom_generate=decode,
                    work=Work(rows, limit, note, lambda: bool(queue), more, choose, begin),
                )
        except BaseException:
            queue.extendleft(reversed([i for i in made if i not in rows and answers[i] is None]))
            raise
        finally:
            tell()

    if advance and (skipped := sum(answer is not None for answer in answers)):
        advance(skipped)
    halved_to = run_batches(batches(), work, should_stop=should_stop)
    return Answers([answer for answer in answers if answer is not None], halved_to)


def rows_that_fit(model: Any, tokens: Sequence[int], most: int) -> list[int]:
    """The number of rows answered at once, for rows with that many `tokens` (prompt and answer): `most`, or on a CPU
    the power of two whose keys and values fit next to the model. The system kills a CPU process that takes too much
    memory. On a GPU, running out of memory is an error, after which half the rows are tried (`run_batches`)."""
    from ftlab.models.families import generating_model

    inner = generating_model(model)
    text = inner.config.get_text_config()
    layers, heads = getattr(text, "num_hidden_layers", None), getattr(text, "num_attention_heads", None)
    if inner.device.type != "cpu" or not layers or not heads:
        return [most] * len(tokens)
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    of_token = 2 * layers * (getattr(text, "num_key_value_heads", None) or heads) * width * inner.dtype.itemsize
    weights = sum(weights.numel() * weights.element_size() for weights in inner.parameters())
    room = max(_CACHE_BYTES, weights // 4) // of_token
    return [most if count * most <= room else 2 ** int(math.log2(max(1, room // count))) for count in tokens]


def _drawing(prompts: Sequence[list[int]], temperature: float, sample: int) -> Callable[[Sequence[int], Any], Any]:
    """A function that samples one token for each of some rows, from their scores (rows x vocabulary)."""
    import torch

    numbers: dict[int, random.Random] = {}

    def number(row: int) -> float:
        if row not in numbers:
            seed = hashlib.sha256(json.dumps([sample, list(prompts[row])]).encode()).digest()
            numbers[row] = random.Random(seed)
        return numbers[row].random()

    def choose(rows: Sequence[int], scores: Any) -> Any:
        shares = torch.softmax(scores.double() / temperature, dim=-1).cumsum(dim=-1)
        drawn = torch.tensor([number(row) for row in rows], dtype=shares.dtype, device=shares.device)[:, None]
        # The inverse of the cumulative distribution. Rounding may leave its end slightly off 1.
        return torch.searchsorted(shares, drawn * shares[:, -1:], right=True)[:, 0].clamp(max=shares.shape[1] - 1)

    return choose


def _take(queue: deque[int], count: int) -> list[int]:
    return [queue.popleft() for _ in range(min(count, len(queue)))]


def _answer(made: list[int], tokenizer: Any, stops: set[int]) -> Answer:
    end = next((at for at, token in enumerate(made) if token in stops), None)
    kept = made if end is None else made[: end + 1]
    return Answer(tokenizer.decode(kept, skip_special_tokens=True), len(kept), end is None, tuple(kept))


@contextlib.contextmanager
def _plain_generation(model: Any) -> Iterator[None]:
    """Within this context, the model has no generation settings of its own.

    transformers fills settings that a call leaves open from the model's generation_config, where bases keep a
    temperature, penalties and the like. Answers would not be greedy, and each batch would warn.
    """
    from transformers import GenerationConfig

    from ftlab.models.families import generating_model

    inner = generating_model(model)
    kept = inner.generation_config
    try:
        inner.generation_config = GenerationConfig()
        yield
    finally:
        inner.generation_config = kept
