"""Messages to tokens: the base's chat template, protection against control tokens in the data, and the mask of trained
tokens.

Only assistant turns and their stop token are trained on, except turns with weight 0. `encode` (training) and
`encode_prompt` (evaluation, chat) use the same rendering, so that prompts match training.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ftlab.data.conversion import is_document
from ftlab.data.safe_templates import FALLBACK_TEMPLATE, limit_templates
from ftlab.data.shapes import Message, is_trained, without_weights
from ftlab.data.tool_calls import Call, Said, parts_of, thinks, uses_tools
from ftlab.data.tool_templates import SETTLED, ToolFacts, examine, template_input, vllm_parser
from ftlab.errors import InputError, shorten

# Private-use characters around the number of a literal: absent from real text, and passed through by every template.
_PLACEHOLDER = re.compile("\uf8e0(\\d+)\uf8e1")


@dataclass(frozen=True)
class TemplateFacts:
    """Facts about a tokenizer and its template, determined once."""

    template: Any
    marks_answers: bool
    control_tokens: re.Pattern[str] | None
    stop_ids: frozenset[int]
    takes_text: bool
    shows_system: bool
    tools: ToolFacts | None = None  # not examined yet


_known: weakref.WeakKeyDictionary[Any, TemplateFacts] = weakref.WeakKeyDictionary()


def ensure_chat_template(tokenizer: Any, *, thinking: bool = False) -> str | None:
    """Make the template of `tokenizer` render its generation prompt as it renders answers; returns a note on changes.

    A tokenizer without a template gets ftlab's plain one. A template that supports thinking gets `thinking` as its
    default, and one whose generation prompt lacks the heading of an answer gets it. The template is saved with a run,
    so that every program prompts its model the same way. Raises InputError if the tokenizer has no end-of-text token to
    end an answer.
    """
    note = None if tokenizer.chat_template else _give_plain_template(tokenizer)
    if isinstance(tokenizer.chat_template, str):
        tokenizer.chat_template = with_thinking_chosen(tokenizer.chat_template, thinking=thinking)
        chosen = SETTLED.match(tokenizer.chat_template)
        # With thinking on, the answer starts with thoughts, and no heading is missing.
        if not (chosen and "= true" in chosen.group()):
            note = note or _ask_with_heading(tokenizer)
    return note


def _give_plain_template(tokenizer: Any) -> str:
    if tokenizer.eos_token is None:
        raise InputError(
            "The base has neither a chat template nor an end-of-text token to end an answer",
            given=tokenizer.name_or_path,
            try_="use a base whose tokenizer has an end-of-text token",
        )
    # A base trained with a beginning-of-text token gets it here: only the template adds tokens.
    tokenizer.chat_template = FALLBACK_TEMPLATE.replace("BOS", "{{- bos_token }}" if begins(tokenizer) else "")
    return "The base has no chat template. A plain one (### Question: / ### Answer:) is used and saved with the result."


def with_thinking_chosen(template: str, *, thinking: bool = False) -> str:
    """`template` with `thinking` as its default, since serving programs do not set it. An existing default is kept, and
    templates without thinking are unchanged."""
    if not knows_thinking(template) or SETTLED.match(template):
        return template
    choice = str(thinking).lower()
    return f"{{%- if enable_thinking is not defined %}}{{%- set enable_thinking = {choice} %}}{{%- endif %}}{template}"


def knows_thinking(template: str) -> bool:
    """Whether a chat template can turn thinking on and off."""
    return "enable_thinking" in SETTLED.sub("", template)


def base_thinks(tokenizer: Any) -> bool:
    """Whether the base thinks before it answers, by its chat template: it has a thinking mode, or every answer begins
    with a thought."""
    template = tokenizer.chat_template
    if isinstance(template, str) and knows_thinking(template):
        return True
    try:
        return "<think>" in _sample(tokenizer, ask=True)
    except InputError:
        return False


def _ask_with_heading(tokenizer: Any) -> str | None:
    """Add the heading of an answer (`### assistant`) to the generation prompt if the template lacks it."""
    before = tokenizer.chat_template
    try:
        asked, whole = _sample(tokenizer, ask=True), _sample(tokenizer, _ANSWER)
    except InputError:
        return None
    if not whole.startswith(asked) or _ANSWER not in whole[len(asked) :]:
        return None
    heading = whole[len(asked) :].partition(_ANSWER)[0]
    if not heading.strip():
        return None
    ending = f"{{% if add_generation_prompt %}}{{{{ {heading!r} }}}}{{% endif %}}"
    tokenizer.chat_template = before.removesuffix("\n") + ending
    if _sample(tokenizer, ask=True) != asked + heading or _sample(tokenizer, _ANSWER) != whole:
        tokenizer.chat_template = before
        return None
    return (
        f"The chat template of the base renders answers after {heading!r}, which its generation prompt lacks; it was "
        "added, and the template is saved with the result."
    )


_ANSWER = "fourteen"


def _sample(tokenizer: Any, answer: str | None = None, *, ask: bool = False) -> str:
    turns = [{"role": "user", "content": "seven"}]
    return render(
        turns if answer is None else [*turns, {"role": "assistant", "content": answer}],
        tokenizer,
        add_generation_prompt=ask,
    )


def begins(tokenizer: Any) -> bool:
    """Whether the base expects a beginning-of-text token before every text."""
    return tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]


def render(messages: Sequence[Message], tokenizer: Any, *, add_generation_prompt: bool = False) -> str:
    """`messages` in the chat template. Raises InputError if the template rejects them."""
    if not tokenizer.chat_template:
        raise InputError(
            "The base has no chat template", given=tokenizer.name_or_path, try_="call ensure_chat_template first"
        )
    turns, more = _as_taken(messages, tokenizer)
    return _applied(turns, tokenizer, tokenize=False, add_generation_prompt=add_generation_prompt, **more)


def _as_taken(messages: Sequence[Message], tokenizer: Any) -> tuple[list[Any], dict[str, Any]]:
    """`messages` as the chat template expects them, and the template arguments."""
    messages = without_weights(messages)  # an unknown key could change what a template renders
    if uses_tools(messages) or thinks(messages):
        return template_input(messages, tool_facts_of(tokenizer))
    return messages, {}


def _applied(turns: list[Any], tokenizer: Any, **settings: Any) -> Any:
    from jinja2 import TemplateError

    limit_templates()
    try:
        return tokenizer.apply_chat_template(turns, **settings, **_thinking_of(tokenizer))
    except TemplateError as error:
        raise _rejection(error) from None


def tool_facts_of(tokenizer: Any) -> ToolFacts:
    """How the chat template of `tokenizer` writes tools and thoughts, cached until it changes."""
    facts = facts_of(tokenizer)
    if facts.tools is None:

        def rendered(turns: list[Any], **settings: Any) -> str:
            return _applied(turns, tokenizer, tokenize=False, **settings)

        def plain(text: str) -> str:
            ids = tokenizer.encode(text, add_special_tokens=False)
            return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

        template = tokenizer.chat_template
        template = template if isinstance(template, str) else tokenizer.get_chat_template()
        tools = examine(template, rendered, plain, system=_takes_system(tokenizer))
        _known[tokenizer] = replace(facts, tools=tools)
        return tools
    return facts.tools


def _takes_system(tokenizer: Any) -> bool:
    try:
        return _system_in_sample(tokenizer)
    except InputError:
        return False


def vllm_parser_of(tokenizer: Any) -> str | None:
    """The --tool-call-parser of vLLM for the calls of this base; None if none is known."""
    call = {"role": "assistant", "content": Said("", "", (Call("look_up", {"word": "heron"}),)).whole}
    try:
        asked = render([{"role": "user", "content": "seven"}], tokenizer)
        return vllm_parser(render([{"role": "user", "content": "seven"}, call], tokenizer)[len(asked) :])
    except InputError:
        return None


def read_calls(text: str, tokenizer: Any) -> str:
    """A model's answer to a conversation with tools, with its calls as ftlab writes them."""
    form = tool_facts_of(tokenizer).form
    return form.read(text) if form else text


def _thinking_of(tokenizer: Any) -> dict[str, bool]:
    """The argument for a template without a default for thinking: templates of reasoning models think unless told
    otherwise, and most data holds no thoughts."""
    chosen = isinstance(tokenizer.chat_template, str) and SETTLED.match(tokenizer.chat_template)
    return {} if chosen else {"enable_thinking": False}


def _quoted(text: str) -> str:
    """An excerpt of a rendered text for messages, without placeholders."""
    return repr(_PLACEHOLDER.sub("…", text))


def _rejection(error: Exception) -> InputError:
    text = shorten(error, 160)
    hint = "remove the system prompt, or use a base that supports one" if "system" in text.lower() else None
    return InputError(
        f"The chat template of the base rejects these messages: {text}",
        try_=hint or "check that user and assistant alternate, starting with the user",
    )


def facts_of(tokenizer: Any) -> TemplateFacts:
    """The facts about this tokenizer, cached until its template changes."""
    facts = _known.get(tokenizer)
    if facts is None or facts.template != tokenizer.chat_template:
        added = {i: token for i, token in tokenizer.added_tokens_decoder.items() if token.content.strip()}
        after, takes_text = _after_an_answer(tokenizer)
        turn_end = next((token for token in after if token in added), None)
        stops = frozenset({tokenizer.eos_token_id, turn_end} - {None})
        control = [token.content for i, token in added.items() if token.special or i in stops]
        written = "|".join(re.escape(text) for text in sorted(control, key=len, reverse=True))
        template = tokenizer.chat_template
        marks = bool(re.search(r"\{%-?\s*generation\s*-?%\}", template if isinstance(template, str) else ""))
        facts = TemplateFacts(
            template, marks, re.compile(written) if written else None, stops, takes_text, _shows_system(tokenizer)
        )
        _known[tokenizer] = facts
    return facts


def _after_an_answer(tokenizer: Any) -> tuple[list[int], bool]:
    """The tokens that the template writes right after an answer (<|im_end|>, <end_of_turn> ...), and whether it renders
    the answer at all: templates of vision models drop content that is not a list of parts."""
    try:
        text = _sample(tokenizer, _ANSWER)
    except InputError:
        return [], True
    if _ANSWER not in text:
        return [], False
    return tokenizer.encode(text.rpartition(_ANSWER)[2], add_special_tokens=False), True


def _shows_system(tokenizer: Any) -> bool:
    """Whether a system prompt reaches the model; some templates drop it silently."""
    try:
        return _system_in_sample(tokenizer)
    except InputError:
        return True  # rejected when it is used


def _system_in_sample(tokenizer: Any) -> bool:
    turns = [{"role": "system", "content": "twenty-one"}, {"role": "user", "content": "seven"}]
    return "twenty-one" in render(turns, tokenizer, add_generation_prompt=True)


def guard(messages: Sequence[Message], tokenizer: Any) -> tuple[list[Message], list[str]]:
    """The messages with control tokens in their text (a literal <|im_end|>) replaced by placeholders, and the replaced
    tokens: text must not be able to end a turn or to impersonate another role."""
    control_tokens = facts_of(tokenizer).control_tokens
    literals: list[str] = []
    if control_tokens is None or not any(control_tokens.search(message["content"]) for message in messages):
        return list(messages), literals

    guarded = [message | {"content": _guarded(message["content"], control_tokens, literals)} for message in messages]
    if _count(messages, tokenizer, control_tokens) == _count(guarded, tokenizer, control_tokens):
        return list(messages), []  # the template escapes them itself, as the starter template does
    return guarded, literals


def _guard_text(text: str, tokenizer: Any) -> tuple[str, list[str]]:
    """Like `guard`, for plain text without a template."""
    control_tokens = facts_of(tokenizer).control_tokens
    literals: list[str] = []
    return (_guarded(text, control_tokens, literals) if control_tokens else text), literals


def _guarded(text: str, control_tokens: re.Pattern[str], literals: list[str]) -> str:
    def replace(match: re.Match[str]) -> str:
        literals.append(match.group())
        return f"\uf8e0{len(literals) - 1}\uf8e1"

    return control_tokens.sub(replace, _PLACEHOLDER.sub("", text))


def _count(messages: Sequence[Message], tokenizer: Any, control_tokens: re.Pattern[str]) -> int:
    return len(control_tokens.findall(render(messages, tokenizer)))


def _tokenize(
    text: str, literals: Sequence[str], tokenizer: Any, starts: Sequence[int] = ()
) -> tuple[list[int], list[int], bool]:
    """Token ids of a rendered text, the end of each in `text` (characters), and whether it was cut.

    No beginning-of-text token is added: the template writes it. Placeholders become their literal, tokenized as plain
    text. If a token would span one of `starts` (the start of an answer), the text is tokenized in two parts there:
    otherwise the prompt alone would have different tokens than in training.
    """
    ids, ends = _pieces(text, literals, tokenizer, [])
    reached = set(ends)
    cuts = [start for start in starts if 0 < start < len(text) and start not in reached]
    return (*_pieces(text, literals, tokenizer, cuts), True) if cuts else (ids, ends, False)


def _pieces(text: str, literals: Sequence[str], tokenizer: Any, cuts: Sequence[int]) -> tuple[list[int], list[int]]:
    ids: list[int] = []
    ends: list[int] = []
    position = 0

    def up_to(end: int) -> None:
        nonlocal position
        for cut in [*(cut for cut in cuts if position < cut < end), end]:
            _append(ids, ends, text[position:cut], position, tokenizer)
            position = cut

    for match in _PLACEHOLDER.finditer(text) if literals else ():
        up_to(match.start())
        spelled = _spell(literals[int(match.group(1))], tokenizer)
        ids += spelled
        ends += [match.end()] * len(spelled)
        position = match.end()
    up_to(len(text))
    return ids, ends


def _append(ids: list[int], ends: list[int], text: str, position: int, tokenizer: Any) -> None:
    if text:
        new, new_ends = _continue(text, tokenizer, first=position == 0)
        ids += new
        ends += [position + end for end in new_ends]


def _continue(text: str, tokenizer: Any, *, first: bool = False, **settings: Any) -> tuple[list[int], list[int]]:
    """Tokens of `text` in the middle of a longer one, and the end of each.

    Some tokenizers prepend a space to a text; after a line feed they do not.
    """
    for lead in ("",) if first else ("\n", ""):
        output = tokenizer(lead + text, add_special_tokens=False, return_offsets_mapping=True, **settings)
        skip = tokenizer.encode(lead, add_special_tokens=False) if lead else []
        if list(output["input_ids"][: len(skip)]) == skip:  # otherwise the line feed merged with the text
            break
    ends = [end - len(lead) for _, end in output["offset_mapping"][len(skip) :]]
    return list(output["input_ids"][len(skip) :]), ends


def _spell(literal: str, tokenizer: Any) -> list[int]:
    """The tokens of a control token's name as ordinary text; as a last resort, letter by letter."""
    control = tokenizer.convert_tokens_to_ids(literal)
    for ids in (
        _continue(literal, tokenizer, split_special_tokens=True)[0],
        [token for letter in literal for token in _continue(letter, tokenizer)[0]],
    ):
        if control not in ids:
            return ids
    raise InputError(
        f"The tokenizer cannot encode {literal!r} as plain text; as a control token it would break the conversation",
        given=literal,
        try_="remove it from the data",
    )


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
    return without_weights(messages[:-1] if messages and messages[-1]["role"] == "assistant" else messages)


def reference(messages: Sequence[Message]) -> str:
    """The last answer; empty if the last turn is not an answer."""
    return messages[-1]["content"] if messages and messages[-1]["role"] == "assistant" else ""


def encode_prompt(messages: Sequence[Message], tokenizer: Any) -> list[int]:
    """Token ids of everything before the last answer, including the generation prompt; plain text is encoded whole,
    without its end token."""
    if is_document(messages):
        return _encode_document(messages[0]["content"], tokenizer).input_ids[:-1]
    guarded, literals = guard(prompt_messages(messages), tokenizer)
    text = render(guarded, tokenizer, add_generation_prompt=True)
    return _tokenize(text, literals, tokenizer, _starts(guarded, text, tokenizer))[0]


def encode(messages: Sequence[Message], tokenizer: Any) -> Encoded:
    """Token ids of a whole example and the mask of trained tokens: every answer with its stop token, unless it has
    weight 0.

    If the chat template does not mark answers, they are located by rendering up to each of them. Plain text has no
    template: all its tokens and the end-of-text token are trained on. Raises InputError if the template rejects the
    messages, or renders the last answer differently from its generation prompt.
    """
    if is_document(messages):
        return _encode_document(messages[0]["content"], tokenizer)
    if not any(message["role"] == "assistant" and is_trained(message) for message in messages):
        raise InputError("The example has no answer to train on", given=f"{len(messages)} turns")
    guarded, literals = guard(messages, tokenizer)
    notes = []
    if literals:
        notes.append(f"{', '.join(dict.fromkeys(literals))} in the data is read as text, not as a control token.")
    facts = facts_of(tokenizer)
    notes += _lost_in_template(messages, tokenizer)
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


def _lost_in_template(messages: Sequence[Message], tokenizer: Any) -> list[str]:
    """Notes on how the template writes tools and thoughts if it has no form of its own."""
    notes = []
    if uses_tools(messages) and not tool_facts_of(tokenizer).own:
        notes.append(TOOLS_ADDED)
    if thinks(messages) and not tool_facts_of(tokenizer).kept:
        notes.append("The chat template of this base drops thoughts: the model neither sees nor learns them.")
    return notes


TOOLS_ADDED = (
    "The chat template of this base does not take tools, or writes calls in a form that ftlab cannot read. They are "
    "written in the form of Hermes (<tools> in the system prompt, <tool_call>, <tool_response>); the template saved "
    "with the result does so too."
)


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
    guarded, literals = _guard_text(text, tokenizer)
    ids = _tokenize(guarded, literals, tokenizer)[0]
    begin = [tokenizer.bos_token_id] if begins(tokenizer) else []
    notes = [f"{', '.join(dict.fromkeys(literals))} in the text is read as text, not as a control token."]
    return Encoded(
        [*begin, *ids, tokenizer.eos_token_id],
        [False] * len(begin) + [True] * (len(ids) + 1),
        tuple(notes if literals else ()),
    )


def _by_markers(messages: Sequence[Message], tokenizer: Any) -> tuple[list[int], list[bool]] | None:
    """The tokens and mask by the {% generation %} markers of the template; None if they mark nothing."""
    turns, more = _as_taken(messages, tokenizer)
    output = _applied(
        turns,
        tokenizer,
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
        tokenizer_kwargs={"return_offsets_mapping": True},
        **more,
    )
    ids, trained = list(output["input_ids"]), [bool(on) for on in output["assistant_masks"]]
    if not any(trained):
        return None
    answers = [is_trained(message) for message in messages if message["role"] == "assistant"]
    if not all(answers):
        starts = [at for at, on in enumerate(trained) if on and not (at and trained[at - 1])]
        if len(starts) != len(answers):
            return None  # it is not certain which tokens belong to which answer
        for start, end, on in zip(starts, [*starts[1:], len(ids)], answers, strict=True):
            if not on:
                trained[start:end] = [False] * (end - start)
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
    full = render(messages, tokenizer)
    answers = [position for position, message in enumerate(messages) if message["role"] == "assistant"]
    spans: list[tuple[int, int]] = []
    starts, skipped = [], 0
    for position in answers:
        before = render(messages[:position], tokenizer, add_generation_prompt=True) if position else ""
        through = render(messages[: position + 1], tokenizer)
        # Some templates end every rendering with a token (end of text) that is absent in the middle.
        end = _shared(full, through)
        if full.startswith(before) and _is_rendered(messages[position]["content"], through[len(before) : end]):
            starts.append(len(before))
            if is_trained(messages[position]):
                spans.append((len(before), end))
        elif not is_trained(messages[position]):
            pass
        elif position == answers[-1]:
            raise InputError(
                "The chat template of this base renders an answer differently from its generation prompt, so the "
                "tokens of the answer cannot be located",
                given=f"prompt ends {_quoted(before[-40:])}, "
                f"rendered {_quoted(through[max(0, len(before) - 40) :][:60])}",
                try_="use a base with another chat template",
            )
        else:
            skipped += 1
    if skipped:
        # In earlier answers, templates of reasoning models omit what they write before the last one.
        notes.append("Only the last answer is trained on: the chat template renders earlier answers differently.")
    ids, ends, cut = _tokenize(full, literals, tokenizer, starts)
    if cut:
        notes.append("Prompt and answer are tokenized separately; otherwise a token would span both.")
    return ids, [any(start < end <= stop for start, stop in spans) for end in ends]


def _is_rendered(content: str, answer: str) -> bool:
    """Whether a rendered `answer` holds what an assistant says. For calls, only their names are checked: templates
    write them in their own form, and some drop the accompanying text."""
    parts = parts_of(content)
    if parts.calls:
        return all(call.name in answer for call in parts.calls)
    return (parts.text if parts.thought else content).strip() in answer


def _starts(messages: Sequence[Message], text: str, tokenizer: Any) -> list[int]:
    """Where earlier answers begin in the rendered `text`."""
    befores = (
        render(messages[:place], tokenizer, add_generation_prompt=True)
        for place, message in enumerate(messages)
        if place and message["role"] == "assistant"
    )
    return [len(before) for before in befores if text.startswith(before)]


def _shared(left: Sequence[Any], right: Sequence[Any]) -> int:
    """The length of the common prefix, in items or characters."""
    if left[: len(right)] == right:
        return len(right)
    differing = (i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b)
    return next(differing, min(len(left), len(right)))


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
