"""The raters' screens as HTML: a comparison, the guess after it, the end, and help if a link does not open.

Both answers go through the same code, which does not know the source of either. elem ids and classes begin with `rt-`;
buttons carry `data-do` (and `data-choice`), which rater.js turns into one message to the server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from ftlab.arena.links import LONGEST_NAME
from ftlab.arena.trials import LONGEST_COMMENT
from ftlab.errors import FtlabError, sentence
from ftlab.ui.kit.html import join
from ftlab.ui.kit.safe_markdown import look_alike, safe_markdown

LONGEST_QUESTION = 4000  # characters
# Display names of the sides. A phone stacks them, so "left" and "right" would not work.
NAMES = {"left": "Answer A", "right": "Answer B"}
_CHOICES = {
    "left": ("A is better", "1"),
    "right": ("B is better", "2"),
    "both_good": ("Both good", "3"),
    "both_bad": ("Both bad", "4"),
    "skip": ("Skip", "s"),
}
LIVE = "You ask questions, see two answers to each, and choose the better one. You can stop and come back."
_ROLES = {"user": "Question", "system": "Instruction", "assistant": "Earlier answer"}


def comparison(
    trial_id: str,
    place: tuple[int, int],
    messages: Sequence[Mapping[str, Any]],
    answers: tuple[str, str],
    options: Sequence[str],
    rubric: Sequence[str],
    *,
    instructions: str = "",
    intro: str = "",
    last: str | None = None,
    note: str = "",
) -> Markup:
    """One question, two answers, the buttons. `place`: number of this comparison and the total; `intro`: explains the
    task
    above the first one; `last`: the trial whose vote can be undone."""
    return Markup(
        '<article class="rt-trial" data-trial="{}" data-number="{}">{}{}{}{}{}{}<div class="rt-bar">'
        '<div class="rt-votes" role="group" aria-label="Your vote">{}</div></div></article>'
    ).format(
        trial_id,
        place[0],
        _head(place, last),
        Markup('<p class="rt-intro">{}</p>').format(intro) if intro else note,
        _instructions(instructions, place[0] == 1),
        _question(messages),
        _answers(answers),
        _more(rubric),
        join(_vote(choice) for choice in options),
    )


def guess(
    trial_id: str, place: tuple[int, int], messages: Sequence[Mapping[str, Any]], answers: tuple[str, str]
) -> Markup:
    """The same comparison after the vote, with a question about which answer came from which side."""
    buttons = join(
        Markup(
            '<button type="button" class="rt-button" data-do="guess" data-choice="{}" data-key="{}" '
            'aria-keyshortcuts="{}" disabled><span>{}</span><kbd aria-hidden="true">{}</kbd></button>'
        ).format(side, key, key, text, key)
        for side, text, key in (("left", "Answer A", "1"), ("right", "Answer B", "2"), ("", "No idea", "s"))
    )
    return Markup(
        '<article class="rt-trial" data-trial="{}">{}{}{}<div class="rt-bar"><p class="rt-ask" id="rt-ask">'
        "Your vote is saved. An occasional guess: which answer comes from the newly trained model?"
        '</p><div class="rt-votes rt-guesses" role="group" '
        'aria-labelledby="rt-ask">{}</div></div></article>'
    ).format(trial_id, _head(place, trial_id), _question(messages), _answers(answers), buttons)


def intro(comparisons: int, seconds: float | None, *, at_most: bool = False) -> str:
    """One line about the task and its duration. `seconds` per comparison; `at_most`: raters share them."""
    if comparisons == 1:
        pairs = "1 question"
    else:
        pairs = f"up to {comparisons:,} questions" if at_most else f"{comparisons:,} questions"
    took = f"About {_minutes(comparisons * seconds)}. " if seconds else ""
    return f"You see {pairs}, each with two answers, and choose the better one. {took}You can stop and come back."


def _minutes(seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    if minutes > 20:
        minutes = 5 * round(minutes / 5)
    return "1 minute" if minutes == 1 else f"{minutes} minutes"


def finished(*, last: str | None = None, note: str = "", completion: str = "") -> Markup:
    """The last screen. `completion` is a code for the panel that sent the rater, or the address leading back to it."""
    return Markup(
        '<section class="rt-message"><h1 tabindex="-1" data-focus>Thank you</h1>{}<p>You have no more comparisons. '
        "Your votes are saved, and you can close this page.</p>{}<p>What happens next: once everyone has voted, the "
        "person who invited you will see which answers were preferred. Ask them for the result.</p>{}</section>"
    ).format(note, _completion(completion), _undo(last))


def _completion(text: str) -> Markup | str:
    if not text:
        return ""
    if text.lower().startswith("https://"):
        return Markup(
            '<p><a class="rt-button rt-first" href="{}" rel="noopener noreferrer">Complete the study</a></p>'
        ).format(text)
    return Markup('<p>Your completion code: <strong class="rt-code">{}</strong></p>').format(text)


def ask(instructions: str, *, last: str | None = None, note: str = "") -> Markup:
    """In a live test: the rater's own question, which both models answer."""
    return Markup(
        '<form class="rt-message" data-form="ask"><h1 tabindex="-1" data-focus>Ask both models</h1>{}{}'
        '<label class="rt-field" for="rt-question">Your question</label>'
        '<textarea id="rt-question" name="text" rows="4" maxlength="{}" required></textarea>'
        '<p class="rt-help">Both answers appear together once complete. This can take a while.</p>'
        '<button type="submit" class="rt-button rt-first">Ask both</button>{}</form>'
    ).format(note, _text(instructions), LONGEST_QUESTION, _undo(last))


def ask_name(intro: str, instructions: str, note: str = "") -> Markup:
    """The first screen of an open link: the task, what to look for, and a field for the rater's name."""
    return Markup(
        '<form class="rt-message" data-form="join"><h1 tabindex="-1" data-focus>Compare answers</h1>{}<p>{}</p>{}'
        '<label class="rt-field" for="rt-name">Your name or a nickname</label>'
        '<input id="rt-name" name="name" maxlength="{}" required autocomplete="nickname">'
        '<button type="submit" class="rt-button rt-first">Begin</button></form>'
    ).format(note, intro, _criterion(instructions), LONGEST_NAME)


def cannot_open(error: FtlabError) -> Markup:
    """A page that explains why there is nothing to vote on now."""
    return Markup(
        '<section class="rt-message"><h1 tabindex="-1" data-focus>{}</h1>{}'
        '<button type="button" class="rt-button" data-do="open">Look again</button></section>'
    ).format(sentence(error.what), _tried(error))


def no_way_in(error: FtlabError, *, waits: bool = False) -> Markup:
    """A page for people without a valid link to vote: whom to contact, no buttons. `waits`: the link is valid, and the
    page checks again by itself until the test begins."""
    again = Markup(' data-again="5"') if waits else ""
    tail = Markup("<p>This page shows the first question as soon as voting begins.</p>") if waits else _tried(error)
    return Markup('<section class="rt-message" data-closed{}><h1 tabindex="-1" data-focus>{}</h1>{}</section>').format(
        again, sentence(error.what), tail
    )


def _tried(error: FtlabError) -> Markup:
    return Markup("<p>{}</p>").format(_try(error)) if error.try_ else Markup("")


def problem(error: FtlabError) -> Markup:
    """What failed, in a box above the comparison. The page's live region reads it out."""
    return Markup('<p class="rt-problem">{} {}</p>').format(sentence(error.what), _try(error))


def notice(text: str) -> Markup:
    return Markup('<p class="rt-notice">{}</p>').format(text)


def _try(error: FtlabError) -> str:
    return sentence(error.try_[0].upper() + error.try_[1:]) if error.try_ else ""


def _head(place: tuple[int, int], last: str | None) -> Markup:
    number, total = place
    return Markup(
        '<header class="rt-head"><h1 tabindex="-1" data-focus>Comparison {} of {}</h1>{}'
        '<progress max="{}" value="{}" aria-label="Comparisons judged: {} of {}"></progress></header>'
    ).format(number, total, _undo(last), total, number - 1, number - 1, total)


def _undo(last: str | None) -> Markup | str:
    if last is None:
        return ""
    return Markup(
        '<button type="button" class="rt-quiet" data-do="undo" data-last="{}" data-key="u" aria-keyshortcuts="u">'
        'Undo last vote <kbd aria-hidden="true">u</kbd></button>'
    ).format(last)


def _instructions(text: str, is_open: bool) -> Markup | str:
    if not text.strip():
        return ""
    return Markup('<details class="rt-details"{}><summary>What to look for</summary>{}</details>').format(
        Markup(" open") if is_open else "", _text(text)
    )


def _criterion(text: str) -> Markup | str:
    return (
        Markup('<div class="rt-criterion"><h2>What to look for</h2>{}</div>').format(_text(text))
        if text.strip()
        else ""
    )


def _text(text: str) -> Markup | str:
    return Markup('<div class="rt-text">{}</div>').format(safe_markdown(text)) if text.strip() else ""


def _question(messages: Sequence[Mapping[str, Any]]) -> Markup:
    several = sum(message["role"] == "user" for message in messages) > 1
    turns = join(
        Markup('<div class="rt-turn rt-turn-{}"><h2>{}</h2><div class="rt-plain">{}</div></div>').format(
            message["role"] if message["role"] in _ROLES else "user",
            _ROLES.get(message["role"], message["role"]) if not (several and message["role"] == "user") else "Person",
            str(message["content"]).strip(),
        )
        for message in messages
    )
    return Markup('<section class="rt-question" aria-label="The question">{}</section>').format(turns)


def _answers(answers: tuple[str, str]) -> Markup:
    cards = join(_answer(name, text) for name, text in zip(NAMES.values(), answers, strict=True))
    if not look_alike(answers):
        return Markup('<div class="rt-answers">{}</div>').format(cards)
    return Markup(
        '<p class="rt-help">These answers differ only in how they are typed, so both are shown as written.</p>'
        '<div class="rt-answers rt-alike">{}</div>'
    ).format(cards)


def _answer(name: str, text: str) -> Markup:
    """The answer both rendered and as written. The reader's choice of view applies to both answers at once."""
    text = text.strip()
    if text:
        body = Markup('<div class="rt-text">{}</div><pre class="rt-raw" tabindex="0">{}</pre>').format(
            safe_markdown(text), text
        )
    else:
        body = Markup('<p class="rt-help">This answer is empty.</p>')
    return Markup('<section class="rt-answer" aria-label="{}"><h2>{}</h2>{}</section>').format(name, name, body)


def _vote(choice: str) -> Markup:
    text, key = _CHOICES[choice]
    return Markup(
        '<button type="button" class="rt-button rt-{}" data-do="vote" data-choice="{}" data-key="{}" '
        'aria-keyshortcuts="{}" disabled><span>{}</span><kbd aria-hidden="true">{}</kbd></button>'
    ).format(choice, choice, key, key, text, key)


def _more(rubric: Sequence[str]) -> Markup:
    """Aspect ratings and a comment. Both come before the vote, which submits them."""
    aspects = join(_aspect(name) for name in rubric if name != "overall")
    return Markup(
        '<details class="rt-details rt-more"{}><summary>{} <kbd aria-hidden="true">c</kbd></summary>{}'
        '<label class="rt-field" for="rt-comment">Comment (optional)</label>'
        '<textarea id="rt-comment" rows="2" maxlength="{}"></textarea></details>'
    ).format(
        Markup(" open") if aspects else "", "Aspects and comment" if aspects else "Comment", aspects, LONGEST_COMMENT
    )


def _aspect(name: str) -> Markup:
    title = name.replace("_", " ").capitalize()
    picks = join(
        Markup('<label><input type="radio" name="rt-{}" value="{}" data-aspect="{}"><span>{}</span></label>').format(
            name, value, name, text
        )
        for value, text in (("left", "A"), ("same", "Same"), ("right", "B"))
    )
    return Markup('<fieldset class="rt-aspect"><legend>{}</legend>{}</fieldset>').format(title, picks)
