"""Messages to tokens: the chat template of the base, and the mask of trained tokens.

Only assistant turns and their stop token are trained on. `encode` (training) and `encode_prompt` (evaluation, chat) use
the same rendering, so that prompts match training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ftlab.data.conversion import Message
from ftlab.data.documents import is_document
from ftlab.data.safe_templates import limit_templates
from ftlab.data.template import begins, facts_of, guard, guard_text, refused, render_text, shown, thinking_of, tokenise
from ftlab.errors import InputError


@dataclass
class Encoded:
    """One example as tokens: `trained[i]` says whether the loss covers `input_ids[i]`. Both have the same length."""

    input_ids: list[int]
    trained: list[bool]
    notes: tuple[str, ...] = ()

    @property
    def labels(self) -> list[int]:
        """The token ids if trained, else -100 (which PyTorch's loss ignores)."""
        return [token if on else -100 for token, on in zip(self.input_ids, self.trained, strict=True)]

    def cut(self, limit: int) -> Encoded:
        """The first `limit` tokens."""
        return Encoded(self.input_ids[:limit], self.trained[:limit], self.notes)


@dataclass
class Completion:
    """A completion of a prompt as tokens: `trained[i]` says whether `completion_ids[i]` counts (assistant turns and
    stop tokens do, other turns in between do not)."""

    prompt_ids: list[int]
    completion_ids: list[int]
    trained: list[bool]
    notes: tuple[str, ...] = ()

    @property
    def whole(self) -> Encoded:
        """Prompt and completion as one example in which only the completion is trained on."""
        return Encoded([*self.prompt_ids, *self.completion_ids], [False] * len(self.prompt_ids) + self.trained)


def prompt_messages(messages: Sequence[Message]) -> list[Message]:
    """All turns before the last answer; all turns if the last one is not an answer."""
    return list(messages[:-1] if messages and messages[-1]["role"] == "assistant" else messages)


def reference(messages: Sequence[Message]) -> str:
    """The last answer; empty if the last turn is not an answer."""
    return messages[-1]["content"] if messages and messages[-1]["role"] == "assistant" else ""


def render(messages: Sequence[Message], tokenizer: Any) -> str:
    """`messages` in the chat template. Raises InputError if the template rejects them."""
    return render_text(messages, tokenizer)


def encode_prompt(messages: Sequence[Message], tokenizer: Any) -> list[int]:
    """Token ids of everything before the last answer, including the generation prompt; plain text is encoded whole,
    without its end token."""
    if is_document(messages):
        return _encode_document(messages[0]["content"], tokenizer).input_ids[:-1]
    guarded, literals = guard(prompt_messages(messages), tokenizer)
    text = render_text(guarded, tokenizer, add_generation_prompt=True)
    return tokenise(text, literals, tokenizer, _starts(guarded, text, tokenizer))[0]


def encode(messages: Sequence[Message], tokenizer: Any) -> Encoded:
    """Token ids of a whole example and the mask of trained tokens: every answer with its stop token.

    If the chat template does not mark answers, they are located by rendering up to each of them. Plain text has no
    template: all its tokens and the end-of-text token are trained on. Raises InputError if the template rejects the
    messages, or renders the last answer differently from its generation prompt.
    """
    if is_document(messages):
        return _encode_document(messages[0]["content"], tokenizer)
    if not any(message["role"] == "assistant" for message in messages):
        raise InputError("The example has no answer to train on", given=f"{len(messages)} turns")
    guarded, literals = guard(messages, tokenizer)
    notes = []
    if literals:
        notes.append(f"{', '.join(dict.fromkeys(literals))} in the data is read as text, not as a control token.")
    facts = facts_of(tokenizer)
    if messages[0]["role"] == "system" and not facts.shows_system:
        notes.append("The chat template of this base drops the system prompt: the model never sees it.")
    if not facts.takes_text:
        raise InputError(
            "The chat template of this base does not accept plain text; it may be for images",
            given=tokenizer.name_or_path,
            try_="use a text-only base",
        )
    marked = _by_markers(messages, tokenizer) if facts.marks_answers and not literals else None
    ids, trained = marked or _by_rendering(guarded, literals, tokenizer, notes)
    _train_stop_tokens(ids, trained, tokenizer, notes)
    return Encoded(ids, trained, tuple(notes))


def windows(encoded: Encoded, length: int) -> list[Encoded]:
    """`encoded` split into windows of at most `length` tokens. Each starts with the last token of the previous one as
    context, so that every token is predicted exactly once."""
    parts = [Encoded(encoded.input_ids[:length], encoded.trained[:length], encoded.notes)]
    for start in range(length - 1, len(encoded.input_ids) - 1, length - 1):
        ids, trained = encoded.input_ids[start : start + length], encoded.trained[start : start + length]
        parts.append(Encoded(ids, [False, *trained[1:]]))
    return parts


def encode_completions(
    prompt: Sequence[Message], completions: Sequence[Sequence[Message]], tokenizer: Any
) -> list[Completion]:
    """Token ids of several completions of one prompt, all with the same `prompt_ids`.

    A completion is an answer, or several turns that end with one. Raises InputError like `encode`.
    """
    asked = encode_prompt([*prompt, {"role": "assistant", "content": ""}], tokenizer)
    encoded = [encode([*prompt, *completion], tokenizer) for completion in completions]
    # Templates of reasoning models render a prompt differently from a past answer: it starts where the two diverge.
    start = min(_shared(asked, example.input_ids) for example in encoded)
    return [
        Completion(example.input_ids[:start], example.input_ids[start:], example.trained[start:], example.notes)
        for example in encoded
    ]


def pieces(encoded: Encoded, tokenizer: Any) -> list[tuple[str, bool]]:
    """The example as (text, trained) runs, in order, to display the mask."""
    runs: list[tuple[str, bool]] = []
    start, decoded = 0, ""
    for end in range(1, len(encoded.trained) + 1):
        if end == len(encoded.trained) or encoded.trained[end] != encoded.trained[start]:
            # Decode from the beginning each time: decoding a run alone would lose spaces and split characters.
            text = tokenizer.decode(encoded.input_ids[:end], clean_up_tokenization_spaces=False)
            runs.append((text[len(decoded) :], encoded.trained[start]))
            start, decoded = end, text
    return runs


def stop_token_ids(tokenizer: Any, generation_config: Any = None) -> list[int]:
    """All tokens that end an answer: from the tokenizer, the generation config, and the chat template, which may write
    its own after an answer (many bases name only their end-of-text token)."""
    ids = set(facts_of(tokenizer).stop_ids)
    named = getattr(generation_config, "eos_token_id", None)
    ids.update([named] if isinstance(named, int) else named or [])
    return sorted(ids)


def _encode_document(text: str, tokenizer: Any) -> Encoded:
    """`text` with the beginning-of-text token, if the base uses one, and the end-of-text token."""
    if tokenizer.eos_token_id is None:
        raise InputError(
            "The tokenizer of this base has no end-of-text token to separate documents",
            given=tokenizer.name_or_path,
            try_="use a base whose tokenizer has an end-of-text token",
        )
    guarded, literals = guard_text(text, tokenizer)
    ids = tokenise(guarded, literals, tokenizer)[0]
    begin = [tokenizer.bos_token_id] if begins(tokenizer) else []
    notes = [f"{', '.join(dict.fromkeys(literals))} in the text is read as text, not as a control token."]
    return Encoded(
        [*begin, *ids, tokenizer.eos_token_id],
        [False] * len(begin) + [True] * (len(ids) + 1),
        tuple(notes if literals else ()),
    )


def _by_markers(messages: Sequence[Message], tokenizer: Any) -> tuple[list[int], list[bool]] | None:
    """The tokens and mask by the {% generation %} markers of the template; None if they mark nothing."""
    from jinja2 import TemplateError

    limit_templates()
    try:
        output = tokenizer.apply_chat_template(
            list(messages),
            tokenize=True,
            return_dict=True,
            return_assistant_tokens_mask=True,
            tokenizer_kwargs={"return_offsets_mapping": True},
            **thinking_of(tokenizer),
        )
    except TemplateError as error:
        raise refused(error) from None
    ids, trained = list(output["input_ids"]), [bool(on) for on in output["assistant_masks"]]
    if not any(trained):
        return None
    places = output["offset_mapping"]
    for index in range(1, len(ids)):
        # transformers' mask ends at the first token of the last character; an emoji can be four tokens.
        if trained[index - 1] and places[index] == places[index - 1] and places[index][0] < places[index][1]:
            trained[index] = True
    asked = encode_prompt(messages, tokenizer)
    if ids[: len(asked)] != asked:
        return None  # a token spans prompt and answer
    # Some templates also mark the heading of an answer, which belongs to the prompt.
    index = len(asked) - 1
    while index >= 0 and trained[index]:
        trained[index] = False
        index -= 1
    return ids, trained


def _by_rendering(
    messages: Sequence[Message], literals: Sequence[str], tokenizer: Any, notes: list[str]
) -> tuple[list[int], list[bool]]:
    """The tokens and mask by rendering: an answer is what a rendering adds to the one with the generation prompt."""
    full = render_text(messages, tokenizer)
    answers = [position for position, message in enumerate(messages) if message["role"] == "assistant"]
    spans, skipped = [], 0
    for position in answers:
        before = render_text(messages[:position], tokenizer, add_generation_prompt=True) if position else ""
        through = render_text(messages[: position + 1], tokenizer)
        # Some templates end every rendering with a token (end of text) that is absent in the middle.
        end = _shared_length(full, through)
        if full.startswith(before) and messages[position]["content"].strip() in through[len(before) : end]:
            spans.append((len(before), end))
        elif position == answers[-1]:
            raise InputError(
                "The chat template of this base renders an answer differently from its generation prompt, so the "
                "tokens of the answer cannot be located",
                given=f"prompt ends {shown(before[-40:])}, rendered {shown(through[max(0, len(before) - 40) :][:60])}",
                try_="use a base with another chat template",
            )
        else:
            skipped += 1
    if skipped:
        # Templates of reasoning models omit from earlier answers what they write before the last one.
        notes.append("Only the last answer is trained on: the chat template renders earlier answers differently.")
    ids, ends, cut = tokenise(full, literals, tokenizer, [start for start, _ in spans])
    if cut:
        notes.append("Prompt and answer are tokenized separately; otherwise a token would span both.")
    return ids, [any(start < end <= stop for start, stop in spans) for end in ends]


def _starts(messages: Sequence[Message], text: str, tokenizer: Any) -> list[int]:
    """Where earlier answers begin in the rendered `text`."""
    befores = (
        render_text(messages[:place], tokenizer, add_generation_prompt=True)
        for place, message in enumerate(messages)
        if place and message["role"] == "assistant"
    )
    return [len(before) for before in befores if text.startswith(before)]


def _shared(one: Sequence[Any], other: Sequence[Any]) -> int:
    """The length of the common prefix, in items."""
    differing = (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(differing, min(len(one), len(other)))


def _shared_length(one: str, other: str) -> int:
    """The length of the common prefix, in characters."""
    if one.startswith(other):
        return len(other)
    return _shared(one, other)


def _train_stop_tokens(ids: list[int], trained: list[bool], tokenizer: Any, notes: list[str]) -> None:
    """Extend every trained run to its stop token, in place.

    A mask that ends before the stop token is the most common cause of a model that never stops.
    """
    facts = facts_of(tokenizer)
    stops = facts.stop_ids
    start, stopped = 0, False
    while start < len(ids):
        if not trained[start]:
            start += 1
            continue
        end = next((index for index in range(start, len(ids)) if not trained[index]), len(ids))
        inside = [index for index in range(start, end) if ids[index] in stops]
        after = next((index for index in range(end, len(ids)) if not _is_blank(ids[index], tokenizer)), None)
        stopped = True
        if inside:
            # What follows the stop token (a line feed) comes from the template, never from the model.
            if all(_is_blank(ids[index], tokenizer) for index in range(inside[-1] + 1, end)):
                trained[inside[-1] + 1 : end] = [False] * (end - inside[-1] - 1)
        elif after is not None and ids[after] in stops:
            trained[end : after + 1] = [True] * (after + 1 - end)
            end = after + 1
        else:
            stopped = False
        start = end
    if not stopped:
        if tokenizer.eos_token_id is None:
            raise InputError(
                "Neither the chat template nor the tokenizer has a stop token, so a tuned model would never stop",
                given=f"tokenizer {tokenizer.name_or_path}",
                try_="use a base whose tokenizer has an end-of-text token",
            )
        while ids and not trained[-1]:  # a line feed after the last answer
            ids.pop()
            trained.pop()
        ids.append(tokenizer.eos_token_id)
        trained.append(True)
        notes.append(f"The chat template writes no stop token; {tokenizer.eos_token} was added after the last answer.")


def _is_blank(token: int, tokenizer: Any) -> bool:
    return not tokenizer.decode([token]).strip()
