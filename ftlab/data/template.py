"""The chat template of a tokenizer: rendering, protection against control tokens in the data, and a fallback."""

from __future__ import annotations

import re
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ftlab.data.conversion import Message
from ftlab.data.safe_templates import FALLBACK_TEMPLATE, limit_templates
from ftlab.errors import InputError, shorten

# The prefix of a template that supports thinking: the default for callers that do not set it.
_SETTLED = re.compile(
    r"^\{%- if enable_thinking is not defined %\}\{%- set enable_thinking = (?:true|false) %\}\{%- endif %\}"
)

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
        chosen = _SETTLED.match(tokenizer.chat_template)
        if not (
            chosen and "= true" in chosen.group()
        ):  # otherwise the answer starts with thoughts, and no heading is missing
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
    if not knows_thinking(template) or _SETTLED.match(template):
        return template
    choice = str(thinking).lower()
    return f"{{%- if enable_thinking is not defined %}}{{%- set enable_thinking = {choice} %}}{{%- endif %}}{template}"


def knows_thinking(template: str) -> bool:
    """Whether a chat template can turn thinking on and off."""
    return "enable_thinking" in _SETTLED.sub("", template)


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
    return render_text(
        turns if answer is None else [*turns, {"role": "assistant", "content": answer}],
        tokenizer,
        add_generation_prompt=ask,
    )


def begins(tokenizer: Any) -> bool:
    """Whether the base expects a beginning-of-text token before every text."""
    return tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]


def render_text(messages: Sequence[Message], tokenizer: Any, *, add_generation_prompt: bool = False) -> str:
    """`messages` in the chat template. Raises InputError if the template rejects them."""
    from jinja2 import TemplateError

    if not tokenizer.chat_template:
        raise InputError(
            "The base has no chat template", given=tokenizer.name_or_path, try_="call ensure_chat_template first"
        )
    limit_templates()
    try:
        return tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=add_generation_prompt, **thinking_of(tokenizer)
        )
    except TemplateError as error:
        raise refused(error) from None


def thinking_of(tokenizer: Any) -> dict[str, bool]:
    """The argument for a template without a default for thinking: templates of reasoning models think unless told
    otherwise, and most data holds no thoughts."""
    chosen = isinstance(tokenizer.chat_template, str) and _SETTLED.match(tokenizer.chat_template)
    return {} if chosen else {"enable_thinking": False}


def shown(text: str) -> str:
    """An excerpt of a rendered text for messages, without placeholders."""
    return repr(_PLACEHOLDER.sub("…", text))


def refused(error: Exception) -> InputError:
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
    turns = [{"role": "system", "content": "twenty-one"}, {"role": "user", "content": "seven"}]
    try:
        return "twenty-one" in render_text(turns, tokenizer, add_generation_prompt=True)
    except InputError:
        return True  # rejected when it is used


def guard(messages: Sequence[Message], tokenizer: Any) -> tuple[list[Message], list[str]]:
    """The messages with control tokens in their text (a literal <|im_end|>) replaced by placeholders, and the replaced
    tokens: text must not be able to end a turn or to impersonate another role."""
    control_tokens = facts_of(tokenizer).control_tokens
    literals: list[str] = []
    if control_tokens is None or not any(control_tokens.search(message["content"]) for message in messages):
        return list(messages), literals

    guarded = [
        {"role": message["role"], "content": _guarded(message["content"], control_tokens, literals)}
        for message in messages
    ]
    if _count(messages, tokenizer, control_tokens) == _count(guarded, tokenizer, control_tokens):
        return list(messages), []  # the template escapes them itself, as the starter's does
    return guarded, literals


def guard_text(text: str, tokenizer: Any) -> tuple[str, list[str]]:
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
    return len(control_tokens.findall(render_text(messages, tokenizer)))


def tokenise(
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
