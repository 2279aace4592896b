"""The raters' screens as HTML: a comparison, the guess after it, the end, and help if a link does not open.

Both answers go through the same code, which does not know the source of either. `t` holds the texts in the rater's
language. What the owner, a prompt or a model wrote is in a language we do not know, hence lang="". elem ids and classes
begin with `rt-`; buttons carry `data-do` (and `data-choice`), which rater.js turns into one message to the server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from ftlab.arena.links import LONGEST_NAME
from ftlab.arena.trials import LONGEST_COMMENT, Trial
from ftlab.errors import FtlabError
from ftlab.ui.kit.html import join
from ftlab.ui.kit.safe_markdown import look_alike, safe_markdown
from ftlab.ui.rater.texts import Texts

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
_ROLES = {"user": "Question", "system": "Instruction", "assistant": "Earlier answer"}
_ASPECTS = {"correctness": "Correctness", "completeness": "Completeness", "style": "Style", "safety": "Safety"}


def comparison(
    t: Texts, trial: Trial, *, instructions: str = "", intro: str = "", last: str | None = None, note: str = ""
) -> Markup:
    """One question, two answers, the buttons. `intro`: explains the task above the first one; `last`: the trial whose
    vote can be undone."""
    return Markup(
        '<article class="rt-trial" data-trial="{}">{}{}{}{}{}<div class="rt-bar">'
        '<div class="rt-votes" role="group" aria-label="{}">{}</div></div></article>'
    ).format(
        trial.id,
        _head(t, trial, last),
        Markup('<p class="rt-intro">{}</p>').format(intro) if intro else note,
        _instructions(t, instructions, trial.number == 1),
        _both(t, trial),
        _more(t, trial.rubric),
        t("Your vote"),
        join(_vote(t, choice) for choice in trial.options),
    )


def guess(t: Texts, trial: Trial, last: str | None) -> Markup:
    """A comparison after all votes, with a question about which answer came from which side. `last` is the comparison
    whose vote can be undone."""
    buttons = join(
        Markup(
            '<button type="button" class="rt-button" data-do="guess" data-choice="{}" data-key="{}" '
            'aria-keyshortcuts="{}" disabled><span>{}</span><kbd aria-hidden="true">{}</kbd></button>'
        ).format(side, key, key, text, key)
        for side, text, key in zip(
            ("left", "right", ""), (*map(t, _names(trial.turns)), t("No idea")), "12s", strict=True
        )
    )
    return Markup(
        '<article class="rt-trial" data-trial="{}">{}{}<div class="rt-bar"><p class="rt-ask" id="rt-ask">{}'
        '</p><div class="rt-votes rt-guesses" role="group" '
        'aria-labelledby="rt-ask">{}</div></div></article>'
    ).format(
        trial.id,
        _head(t, trial, last, judged=trial.total),
        _both(t, trial),
        guess_question(t, trial),
        buttons,
    )


def guess_question(t: Texts, trial: Trial) -> str:
    if trial.turns:
        return t("Your votes are saved. A last guess: which conversation is with the newly trained model?")
    return t("Your votes are saved. A last guess: which answer comes from the newly trained model?")


def intro(
    t: Texts, comparisons: int, seconds: float | None, *, at_most: bool = False, conversations: bool = False
) -> str:
    """One line about the task and its duration. `seconds` per comparison; `at_most`: raters share them."""
    if conversations:
        task = _task_of_conversations(t, comparisons, at_most)
    elif comparisons == 1:
        task = t("You see one question with two answers, and choose the better one.")
    elif at_most:
        task = t(
            "You see up to {count} questions, each with two answers, and choose the better one.", count=comparisons
        )
    else:
        task = t("You see {count} questions, each with two answers, and choose the better one.", count=comparisons)
    return t.together(task, _took(t, comparisons * seconds) if seconds else "", t("You can stop and come back."))


def _task_of_conversations(t: Texts, comparisons: int, at_most: bool) -> str:
    if comparisons == 1:
        return t("You see two conversations with the same questions, and choose the better one.")
    if at_most:
        return t(
            "You see up to {count} pairs of conversations with the same questions, and choose the better one of each.",
            count=comparisons,
        )
    return t(
        "You see {count} pairs of conversations with the same questions, and choose the better one of each.",
        count=comparisons,
    )


def _took(t: Texts, seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    if minutes > 20:
        minutes = 5 * round(minutes / 5)
    return t("About 1 minute.") if minutes == 1 else t("About {count} minutes.", count=minutes)


def intro_live(t: Texts) -> str:
    """Like `intro`, for a test in which raters write the questions."""
    task = t("You ask questions, see two answers to each, and choose the better one.")
    return t.together(task, t("You can stop and come back."))


def finished(t: Texts, *, last: str | None = None, note: str = "", completion: str = "") -> Markup:
    """The last screen. `completion` is a code for the panel that sent the rater, or the address leading back to it."""
    return Markup(
        '<section class="rt-message"><h1 tabindex="-1" data-focus>{}</h1>{}<p>{}</p>{}<p>{}</p>{}</section>'
    ).format(
        t("Thank you"),
        note,
        t("You have no more comparisons. Your votes are saved, and you can close this page."),
        _completion(t, completion),
        t(
            "What happens next: once everyone has voted, the person who invited you will see which answers were "
            "preferred. Ask them for the result."
        ),
        _undo(t, last),
    )


def _completion(t: Texts, text: str) -> Markup | str:
    if not text:
        return ""
    if text.lower().startswith("https://"):
        return Markup('<p><a class="rt-button rt-first" href="{}" rel="noopener noreferrer">{}</a></p>').format(
            text, t("Complete the study")
        )
    return Markup('<p>{} <strong class="rt-code" lang="">{}</strong></p>').format(t("Your completion code:"), text)


def ask(t: Texts, instructions: str, *, last: str | None = None, note: str = "") -> Markup:
    """In a live test: the rater's own question, which both models answer."""
    return Markup(
        '<form class="rt-message" data-form="ask"><h1 tabindex="-1" data-focus>{}</h1>{}{}'
        '<label class="rt-field" for="rt-question">{}</label>'
        '<textarea id="rt-question" name="text" rows="4" maxlength="{}" required lang=""></textarea>'
        '<p class="rt-help">{}</p><button type="submit" class="rt-button rt-first">{}</button>{}</form>'
    ).format(
        t("Ask both models"),
        note,
        _text(instructions),
        t("Your question"),
        LONGEST_QUESTION,
        t("Both answers appear together once complete. This can take a while."),
        t("Ask both"),
        _undo(t, last),
    )


def ask_consent(t: Texts, consent: str) -> Markup:
    """The text that a rater agrees to before the first comparison."""
    return Markup(
        '<section class="rt-message"><h1 tabindex="-1" data-focus>{}</h1>{}'
        '<button type="button" class="rt-button rt-first" data-do="agree">{}</button></section>'
    ).format(t("Before you begin"), _text(consent), t("I agree, begin"))


def ask_name(t: Texts, intro: str, instructions: str, note: str = "", consent: str = "") -> Markup:
    """The first screen of an open link: the task, what to look for, what to agree to, and a field for the rater's
    name."""
    return Markup(
        '<form class="rt-message" data-form="join"><h1 tabindex="-1" data-focus>{}</h1>{}<p>{}</p>{}{}'
        '<label class="rt-field" for="rt-name">{}</label>'
        '<input id="rt-name" name="name" maxlength="{}" required autocomplete="nickname">'
        '<button type="submit" class="rt-button rt-first">{}</button></form>'
    ).format(
        t("Compare answers"),
        note,
        intro,
        _criterion(t, instructions),
        Markup('<div class="rt-criterion"><h2>{}</h2>{}</div>').format(t("Before you begin"), _text(consent))
        if consent
        else "",
        t("Your name or a nickname"),
        LONGEST_NAME,
        t("I agree, begin") if consent else t("Begin"),
    )


def cannot_open(t: Texts, error: FtlabError) -> Markup:
    """A page that explains why there is nothing to vote on now."""
    return Markup(
        '<section class="rt-message"><h1 tabindex="-1" data-focus>{}</h1>{}'
        '<button type="button" class="rt-button" data-do="open">{}</button></section>'
    ).format(t.sentence(error.what), _tried(t, error), t("Look again"))


def no_way_in(t: Texts, error: FtlabError, became: str = "", *, waits: bool = False) -> Markup:
    """A page for people without a valid link to vote: whom to contact, no buttons. `became`: what became of a vote that
    they just sent. `waits`: the link is valid, and the page checks again by itself until the test begins."""
    again = Markup(' data-again="5"') if waits else ""
    soon = t("This page shows the first question as soon as voting begins.")
    tail = Markup("<p>{}</p>").format(soon) if waits else _tried(t, error)
    return Markup(
        '<section class="rt-message" data-closed{}><h1 tabindex="-1" data-focus>{}</h1>{}{}</section>'
    ).format(again, t.sentence(error.what), notice(became) if became else "", tail)


def _tried(t: Texts, error: FtlabError) -> Markup:
    return Markup("<p>{}</p>").format(t.sentence(error.try_)) if error.try_ else Markup("")


def problem(t: Texts, error: FtlabError) -> Markup:
    """What failed, in a box above the comparison. The page's live region reads it out."""
    words = t.together(t.sentence(error.what), t.sentence(error.try_) if error.try_ else "")
    return Markup('<p class="rt-problem">{}</p>').format(words)


def notice(text: str) -> Markup:
    return Markup('<p class="rt-notice">{}</p>').format(text)


def _head(t: Texts, trial: Trial, last: str | None, *, judged: int | None = None) -> Markup:
    """`judged`: how many comparisons, if not all before this one."""
    number, total = trial.number, trial.total
    judged = number - 1 if judged is None else judged
    return Markup(
        '<header class="rt-head"><h1 tabindex="-1" data-focus>{}</h1>{}'
        '<progress max="{}" value="{}" aria-label="{}"></progress></header>'
    ).format(
        t("Comparison {number} of {total}", number=number, total=total),
        _undo(t, last),
        total,
        judged,
        t("Comparisons judged: {number} of {total}", number=judged, total=total),
    )


def _undo(t: Texts, last: str | None) -> Markup | str:
    if last is None:
        return ""
    return Markup(
        '<button type="button" class="rt-quiet" data-do="undo" data-last="{}" data-key="u" aria-keyshortcuts="u">'
        '{} <kbd aria-hidden="true">u</kbd></button>'
    ).format(last, t("Undo last vote"))


def _instructions(t: Texts, text: str, is_open: bool) -> Markup | str:
    if not text.strip():
        return ""
    return Markup('<details class="rt-details"{}><summary>{}</summary>{}</details>').format(
        Markup(" open") if is_open else "", t("What to look for"), _text(text)
    )


def _criterion(t: Texts, text: str) -> Markup | str:
    if not text.strip():
        return ""
    return Markup('<div class="rt-criterion"><h2>{}</h2>{}</div>').format(t("What to look for"), _text(text))


def _text(text: str) -> Markup | str:
    return Markup('<div class="rt-text" lang="">{}</div>').format(safe_markdown(text)) if text.strip() else ""


def _both(t: Texts, trial: Trial) -> Markup:
    """The question and both answers, or both conversations, each with all turns of the user."""
    messages, turns = trial.messages, trial.turns
    if turns is None:
        return join([_question(t, messages), _answers(t, (trial.left, trial.right))])
    system = [message for message in messages if message["role"] == "system"]
    cards = join(_conversation(t, t(name), messages, texts) for name, texts in zip(_names(turns), turns, strict=True))
    alike = any(look_alike(pair) for pair in zip(*turns, strict=True))
    return Markup('{}{}<div class="rt-answers{}">{}</div>').format(
        _question(t, system) if system else "",
        Markup('<p class="rt-help">{}</p>').format(
            t("Some of these answers differ only in how they are typed, so all are shown as written.")
        )
        if alike
        else "",
        " rt-alike" if alike else "",
        cards,
    )


def _names(turns: tuple[Sequence[str], Sequence[str]] | None) -> tuple[str, str]:
    return ("Conversation A", "Conversation B") if turns else (NAMES["left"], NAMES["right"])


def _conversation(t: Texts, name: str, script: Sequence[Mapping[str, Any]], texts: Sequence[str]) -> Markup:
    asked = [message["content"] for message in script if message["role"] == "user"]
    bubbles = join(
        Markup(
            '<div class="rt-bubble rt-person"><h3>{}</h3><div class="rt-plain" lang="">{}</div></div>'
            '<div class="rt-bubble"><h3>{}</h3>{}</div>'
        ).format(t("Person"), str(question).strip(), t("Answer"), _rendered(t, text))
        for question, text in zip(asked, texts, strict=True)
    )
    return Markup('<section class="rt-answer" aria-label="{}"><h2>{}</h2>{}</section>').format(name, name, bubbles)


def _question(t: Texts, messages: Sequence[Mapping[str, Any]]) -> Markup:
    several = sum(message["role"] == "user" for message in messages) > 1
    turns = join(
        Markup('<div class="rt-turn rt-turn-{}"><h2>{}</h2><div class="rt-plain" lang="">{}</div></div>').format(
            message["role"] if message["role"] in _ROLES else "user",
            t("Person" if several and message["role"] == "user" else _ROLES.get(message["role"], message["role"])),
            str(message["content"]).strip(),
        )
        for message in messages
    )
    return Markup('<section class="rt-question" aria-label="{}">{}</section>').format(t("The question"), turns)


def _answers(t: Texts, answers: tuple[str, str]) -> Markup:
    cards = join(_answer(t, t(name), text) for name, text in zip(NAMES.values(), answers, strict=True))
    if not look_alike(answers):
        return Markup('<div class="rt-answers">{}</div>').format(cards)
    return Markup('<p class="rt-help">{}</p><div class="rt-answers rt-alike">{}</div>').format(
        t("These answers differ only in how they are typed, so both are shown as written."), cards
    )


def _answer(t: Texts, name: str, text: str) -> Markup:
    body = _rendered(t, text)
    return Markup('<section class="rt-answer" aria-label="{}"><h2>{}</h2>{}</section>').format(name, name, body)


def _rendered(t: Texts, text: str) -> Markup:
    """The answer both rendered and as written. The reader's choice of view applies to both answers at once."""
    text = text.strip()
    if not text:
        return Markup('<p class="rt-help">{}</p>').format(t("This answer is empty."))
    return Markup('<div class="rt-text" lang="">{}</div><pre class="rt-raw" lang="" tabindex="0">{}</pre>').format(
        safe_markdown(text), text
    )


def _vote(t: Texts, choice: str) -> Markup:
    text, key = _CHOICES[choice]
    return Markup(
        '<button type="button" class="rt-button rt-{}" data-do="vote" data-choice="{}" data-key="{}" '
        'aria-keyshortcuts="{}" disabled><span>{}</span><kbd aria-hidden="true">{}</kbd></button>'
    ).format(choice, choice, key, key, t(text), key)


def _more(t: Texts, rubric: Sequence[str]) -> Markup:
    """Aspect ratings and a comment. Both come before the vote, which submits them."""
    aspects = join(_aspect(t, name) for name in rubric if name != "overall")
    return Markup(
        '<details class="rt-details rt-more"{}><summary>{} <kbd aria-hidden="true">c</kbd></summary>{}'
        '<label class="rt-field" for="rt-comment">{}</label>'
        '<textarea id="rt-comment" rows="2" maxlength="{}" lang=""></textarea></details>'
    ).format(
        Markup(" open") if aspects else "",
        t("Aspects and comment") if aspects else t("Comment"),
        aspects,
        t("Comment (optional)"),
        LONGEST_COMMENT,
    )


def _aspect(t: Texts, name: str) -> Markup:
    picks = join(
        Markup('<label><input type="radio" name="rt-{}" value="{}" data-aspect="{}"><span>{}</span></label>').format(
            name, value, name, text
        )
        for value, text in (("left", "A"), ("same", t("Same")), ("right", "B"))
    )
    return Markup('<fieldset class="rt-aspect"><legend>{}</legend>{}</fieldset>').format(t(_ASPECTS[name]), picks)
