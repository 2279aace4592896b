"""Messages become tokens: the chat template of the base, and which of the tokens are trained.

Only what the assistant says is trained, and the stop token after it. `encode` (training) and `encode_prompt`
(evaluation, chat) go through the same rendering, so that a model is asked the way it was taught.
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
    """One example as tokens: `trained[i]` says whether `input_ids[i]` is learnt. Both lists are equally long."""

    input_ids: list[int]
    trained: list[bool]
    notes: tuple[str, ...] = ()

    @property
    def labels(self) -> list[int]:
        """The token ids where they are trained, else -100 (what the loss of PyTorch leaves out)."""
        return [token if on else -100 for token, on in zip(self.input_ids, self.trained, strict=True)]

    def cut(self, limit: int) -> Encoded:
        """The first `limit` tokens."""
        return Encoded(self.input_ids[:limit], self.trained[:limit], self.notes)


@dataclass
class Completion:
    """What follows a prompt, as tokens: `trained[i]` says whether `completion_ids[i]` counts (the assistant's words and
    stop tokens do, what others say in between does not)."""

    prompt_ids: list[int]
    completion_ids: list[int]
    trained: list[bool]
    notes: tuple[str, ...] = ()

    @property
    def whole(self) -> Encoded:
        """Prompt and completion as one example in which only the completion is learnt."""
        return Encoded([*self.prompt_ids, *self.completion_ids], [False] * len(self.prompt_ids) + self.trained)


def prompt_messages(messages: Sequence[Message]) -> list[Message]:
    """All turns before the last answer; all turns when the last one is not an answer."""
    return list(messages[:-1] if messages and messages[-1]["role"] == "assistant" else messages)


def reference(messages: Sequence[Message]) -> str:
    """The last answer; empty when the last turn is not an answer."""
    return messages[-1]["content"] if messages and messages[-1]["role"] == "assistant" else ""


def render(messages: Sequence[Message], tokenizer: Any) -> str:
    """The text that the chat template makes of `messages`. Raises InputError when the template refuses them."""
    return render_text(messages, tokenizer)


def encode_prompt(messages: Sequence[Message], tokenizer: Any) -> list[int]:
    """Token ids of everything before the last answer, up to where the assistant begins to speak; of plain text those
    of all of it, without the end."""
    if is_document(messages):
        return _encode_document(messages[0]["content"], tokenizer).input_ids[:-1]
    guarded, literals = guard(prompt_messages(messages), tokenizer)
    text = render_text(guarded, tokenizer, add_generation_prompt=True)
    return tokenise(text, literals, tokenizer, _starts(guarded, text, tokenizer))[0]


def encode(messages: Sequence[Message], tokenizer: Any) -> Encoded:
    """Token ids of a whole example and which of them are trained: every answer with the stop token after it.

    Where the chat template does not mark the answers, they are found by rendering up to each of them. Plain text has
    no template: every token of it is trained, and the end-of-text token after it.
    Raises InputError when the template refuses the messages, or shows the last answer otherwise than it asks for it.
    """
    if is_document(messages):
        return _encode_document(messages[0]["content"], tokenizer)
    if not any(message["role"] == "assistant" for message in messages):
        raise InputError("An example without an answer has nothing to train on", given=f"{len(messages)} turns")
    guarded, literals = guard(messages, tokenizer)
    notes = []
    if literals:
        notes.append(f"{', '.join(dict.fromkeys(literals))} in the data is taken as text, not as a control token.")
    facts = facts_of(tokenizer)
    if messages[0]["role"] == "system" and not facts.shows_system:
        notes.append("The chat template of this base leaves the system prompt out: the model never sees it.")
    if not facts.takes_text:
        raise InputError(
            "The chat template of this base takes no plain text, it is perhaps made for pictures",
            given=tokenizer.name_or_path,
            try_="use a base for text",
        )
    marked = _by_markers(messages, tokenizer) if facts.marks_answers and not literals else None
    ids, trained = marked or _by_rendering(guarded, literals, tokenizer, notes)
    _train_stop_tokens(ids, trained, tokenizer, notes)
    return Encoded(ids, trained, tuple(notes))


def windows(encoded: Encoded, length: int) -> list[Encoded]:
    """`encoded` cut into consecutive pieces of at most `length` tokens; each begins with the last token of the one
    before, which it only reads: so every token is predicted once, and none is lost."""
    parts = [Encoded(encoded.input_ids[:length], encoded.trained[:length], encoded.notes)]
    for start in range(length - 1, len(encoded.input_ids) - 1, length - 1):
        ids, trained = encoded.input_ids[start : start + length], encoded.trained[start : start + length]
        parts.append(Encoded(ids, [False, *trained[1:]]))
    return parts


def encode_completions(
    prompt: Sequence[Message], completions: Sequence[Sequence[Message]], tokenizer: Any
) -> list[Completion]:
    """Token ids of several ways to go on after one prompt, all with the same `prompt_ids`.

    A completion is one answer, or several turns that end with one. Raises InputError as `encode` does.
    """
    asked = encode_prompt([*prompt, {"role": "assistant", "content": ""}], tokenizer)
    encoded = [encode([*prompt, *completion], tokenizer) for completion in completions]
    # Templates of reasoning models ask for an answer in another way than they show one: it starts where they part.
    start = min(_shared(asked, example.input_ids) for example in encoded)
    return [
        Completion(example.input_ids[:start], example.input_ids[start:], example.trained[start:], example.notes)
        for example in encoded
    ]


def pieces(encoded: Encoded, tokenizer: Any) -> list[tuple[str, bool]]:
    """The example as (text, trained) runs, in order: what is shown to make the mask visible."""
    runs: list[tuple[str, bool]] = []
    start, decoded = 0, ""
    for end in range(1, len(encoded.trained) + 1):
        if end == len(encoded.trained) or encoded.trained[end] != encoded.trained[start]:
            # From the beginning each time: decoding a run alone would lose spaces and halves of characters.
            text = tokenizer.decode(encoded.input_ids[:end], clean_up_tokenization_spaces=False)
            runs.append((text[len(decoded) :], encoded.trained[start]))
            start, decoded = end, text
    return runs


def stop_token_ids(tokenizer: Any, generation_config: Any = None) -> list[int]:
    """Every token that ends an answer: of the tokenizer, of the model's generation settings, and what the chat
    template writes after an answer (a base often names only its end-of-text token)."""
    ids = set(facts_of(tokenizer).stop_ids)
    named = getattr(generation_config, "eos_token_id", None)
    ids.update([named] if isinstance(named, int) else named or [])
    return sorted(ids)


def _encode_document(text: str, tokenizer: Any) -> Encoded:
    """`text` as it is, after the beginning token where the base knows one, with the end-of-text token after it."""
    if tokenizer.eos_token_id is None:
        raise InputError(
            "The tokenizer of this base has no end-of-text token, so nothing could tell documents apart",
            given=tokenizer.name_or_path,
            try_="use a base whose tokenizer has an end-of-text token",
        )
    guarded, literals = guard_text(text, tokenizer)
    ids = tokenise(guarded, literals, tokenizer)[0]
    begin = [tokenizer.bos_token_id] if begins(tokenizer) else []
    notes = [f"{', '.join(dict.fromkeys(literals))} in the text is taken as text, not as a control token."]
    return Encoded(
        [*begin, *ids, tokenizer.eos_token_id],
        [False] * len(begin) + [True] * (len(ids) + 1),
        tuple(notes if literals else ()),
    )


def _by_markers(messages: Sequence[Message], tokenizer: Any) -> tuple[list[int], list[bool]] | None:
    """Through the {% generation %} markers of the template; None when they mark nothing."""
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
        # The mask of transformers ends at the first token of the last character; an emoji can be four tokens.
        if trained[index - 1] and places[index] == places[index - 1] and places[index][0] < places[index][1]:
            trained[index] = True
    asked = encode_prompt(messages, tokenizer)
    if ids[: len(asked)] != asked:
        return None  # a token reaches from the prompt into the answer
    # Some templates mark the heading of an answer too, which the model is given and never has to write.
    index = len(asked) - 1
    while index >= 0 and trained[index]:
        trained[index] = False
        index -= 1
    return ids, trained


def _by_rendering(
    messages: Sequence[Message], literals: Sequence[str], tokenizer: Any, notes: list[str]
) -> tuple[list[int], list[bool]]:
    """An answer is what a rendering with it has more than one that stops where the assistant begins to speak."""
    full = render_text(messages, tokenizer)
    answers = [position for position, message in enumerate(messages) if message["role"] == "assistant"]
    spans, skipped = [], 0
    for position in answers:
        before = render_text(messages[:position], tokenizer, add_generation_prompt=True) if position else ""
        through = render_text(messages[: position + 1], tokenizer)
        # Some templates end every rendering with something (an end-of-text token) that is not there in the middle.
        end = _shared_length(full, through)
        if full.startswith(before) and messages[position]["content"].strip() in through[len(before) : end]:
            spans.append((len(before), end))
        elif position == answers[-1]:
            raise InputError(
                "The chat template of this base shows an answer in another way than it asks for it, "
                "so it cannot be said which tokens are the answer",
                given=f"asked after {shown(before[-40:])}, shown as {shown(through[max(0, len(before) - 40) :][:60])}",
                try_="use a base with another chat template",
            )
        else:
            skipped += 1
    if skipped:
        # Templates of reasoning models write earlier answers without what they write before the last one.
        notes.append("Only the last answer is trained: the chat template shows earlier answers in another way.")
    ids, ends, cut = tokenise(full, literals, tokenizer, [start for start, _ in spans])
    if cut:
        notes.append("A question and its answer are tokenised apart: else a token would reach over both.")
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
    """How many items the two begin with alike."""
    differing = (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(differing, min(len(one), len(other)))


def _shared_length(one: str, other: str) -> int:
    """How many characters the two texts begin with alike."""
    if one.startswith(other):
        return len(other)
    return _shared(one, other)


def _train_stop_tokens(ids: list[int], trained: list[bool], tokenizer: Any, notes: list[str]) -> None:
    """Let every trained run end with its stop token, in place.

    A mask that ends before the stop token is the commonest cause of a model that never stops: it learns what to say
    and not that it is over.
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
            # What follows the stop token (a line feed) is written by the template, never by the model.
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
                "The chat template writes no stop token and the tokenizer has none, so a tuned model would never stop",
                given=f"tokenizer {tokenizer.name_or_path}",
                try_="use a base whose tokenizer has an end-of-text token",
            )
        while ids and not trained[-1]:  # a line feed after the last answer
            ids.pop()
            trained.pop()
        ids.append(tokenizer.eos_token_id)
        trained.append(True)
        notes.append(f"The chat template writes no stop token; {tokenizer.eos_token} was put after the last answer.")


def _is_blank(token: int, tokenizer: Any) -> bool:
    return not tokenizer.decode([token]).strip()
