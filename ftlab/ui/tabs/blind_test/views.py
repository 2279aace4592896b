"""A blind test as its owner sees it before the verdict: description, answers, links, and the number of votes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from markupsafe import Markup

from ftlab.arena import blind_tests
from ftlab.arena.blind_tests import CUT, must_be_looked_at
from ftlab.arena.links import RaterLink, qr_code
from ftlab.arena.results import FlagJson, ProgressJson
from ftlab.core.jobs import Status
from ftlab.core.words import counted
from ftlab.report.arena import contestant_in_words
from ftlab.ui.kit.html import badge, copy_js, count, details, error_box, facts, heading, join, notice, table, when

STATES = {
    "draft": ("Not open yet", "info"),
    "generating": ("Generating answers", "info"),
    "ready": ("Ready to open", "warn"),
    "open": ("Open for votes", "good"),
    "closed": ("Closed", "info"),
}
_REACHED = {
    "network": "Works on this network, while ftlab runs here. No account needed.",
    "public": "Works anywhere, while ftlab runs here. No account needed.",
    "machine": "Works on this computer only. To let phones in, choose another place under Details.",
    "elsewhere": "Works while that server runs. No account needed.",
}
_STEPS = ("Created", "Answers", "Check", "Votes", "Verdict")
VOID = "void "  # before the id of a rater: picked to exclude the rater's votes
_MOST_FLAGS = 20
# As html.PICK_JS, but what is picked here is done, not chosen.
LINKS_JS = (
    copy_js(".ft-link-line", ".ft-link")
    + """
element.addEventListener('click', event => {
  const pick = event.target.closest('[data-pick]');
  if (pick) trigger('pick', {value: pick.dataset.pick});
});
"""
)


def places(reach: Mapping[str, tuple[str, str]]) -> Markup:
    """The question of where the raters are, with a button for each answer."""
    buttons = join(
        Markup(
            '<button type="button" class="ft-place" data-pick="{}"><strong>{}</strong> <span>{}</span></button>'
        ).format(name, title, help)
        for name, (title, help) in reach.items()
    )
    return heading("Where are your voters?", "ftlab remembers your choice.") + Markup(
        '<div class="ft-places" role="group" aria-label="Where are your voters?">{}</div>'
    ).format(buttons)


def about(test: Any, contestants: Sequence[Any]) -> Markup:
    """What is compared, and its progress."""
    title, kind = STATES[test.state]
    who = " against ".join(contestant.title for contestant in reversed(contestants))
    beside = Markup(' <span class="ft-help">{}</span>').format(who) if who not in test.title else ""
    return Markup('<div data-test="{}"><h3 class="ft-test">{} {}</h3>{}</div>').format(
        test.id, test.title, badge(title, kind), beside
    )


def settings(test: Any, contestants: Sequence[Any], prompts: int, known: Mapping[str, Any]) -> Markup:
    """The contestants, the prompts and settings, and the current step."""
    reached = {"draft": 1, "generating": 1, "ready": 2, "open": 3, "closed": 4}[test.state]
    if known["revealed"]:
        reached = 4
    classes = {True: Markup(' class="ft-step-done"'), False: ""}
    steps = join(
        Markup("<li{}>{}</li>").format(
            Markup(' class="ft-step-now" aria-current="step"') if i == reached else classes[i < reached], step
        )
        for i, step in enumerate(_STEPS)
    )
    settings = test.settings
    who = join(
        Markup("<li><strong>{}</strong> <span class='ft-help'>{}</span></li>").format(
            contestant.title, contestant_in_words(contestant.spec)
        )
        for contestant in contestants
    )
    votes = f"{settings['votes_per_prompt']} per prompt"
    if 0 < settings["overlap"] < 1 and settings["votes_per_prompt"] > 1:
        votes += f" on {100 * settings['overlap']:.0f}% of them"
    asked = "written by the raters" if settings["live"] else "the same for all"
    if settings.get("conversations"):
        asked += "; each turn is answered, and raters see whole conversations"
    if gone := settings.get("gave_away"):
        asked += f"; {count(gone)} left out: an answer could reveal its side"
    numbers = facts(
        [
            ("Prompts", count(prompts), asked),
            ("Planned votes", count(test.planned_votes), "" if settings["live"] else votes),
            ("Longest answer", f"{settings['generation'].get('max_new_tokens', 0)} tokens", "for every contestant"),
            ("Rubric", ", ".join(settings["rubric"]), ""),
            ("Created", when(test.created), "local time"),
        ]
    )
    criterion = Markup('<p class="ft-help">Raters judge: {}</p>').format(settings["instructions"])
    return Markup('<ol class="ft-steps">{}</ol><ul class="ft-notes">{}</ul>{}{}').format(
        steps, who, criterion if settings["instructions"] else "", numbers
    )


def answers(state: str, known: Mapping[str, Any], job: Status | None, live: bool) -> Markup:
    """The progress of the answers, and any errors."""
    made, wanted = known["answers"], known["answers_wanted"]
    parts = []
    if job is not None and job.error and state in ("draft", "generating"):
        parts.append(_failure(job.error))
    if live:
        parts.append(notice("Answers are generated live. The models load with the first question."))
    elif job is not None and job.is_active:
        text = f"{count(made)} of {count(wanted)} answers: {job.phase}. Voting opens when all are ready."
        if job.state == "stopping":
            text = f"{count(made)} of {count(wanted)} answers: stopping. Finished answers are kept."
        parts.append(_card(text, made, wanted))
    elif state in ("draft", "generating"):
        text = f"{count(made)} of {count(wanted)} answers are ready."
        if made:
            text += " Press Go on to continue. Finished answers are kept."
        else:
            text += " Each contestant answers every prompt once, with the same settings."
        parts.append(_card(text, made, wanted))
    return join(parts)


def flags(flagged: Sequence[FlagJson], known: Mapping[str, Any]) -> Markup:
    """Answers that could give a side away, for the owner to review."""
    if not flagged and known["answers"] < known["answers_wanted"]:
        return Markup("")
    if not flagged:
        return notice("Nothing in the answers names a contestant or a model, and none is empty or cut.", kind="good")
    rows = [
        [flag["prompt"] or "", flag["contestant"] or "", flag["what"], flag["excerpt"]]
        for flag in flagged[:_MOST_FLAGS]
    ]
    more = f" The first {_MOST_FLAGS} are shown." if len(flagged) > _MOST_FLAGS else ""
    kinds = Counter("cut at the maximum length" if flag["what"] == CUT else "to look at" for flag in flagged)
    text = "The answers: " + ", ".join(f"{count(number)} {kind}" for kind, number in kinds.items()) + f".{more}"
    if must_be_looked_at(flagged):
        text += (
            " They could reveal a side to raters. Check them before you open the test, or leave their prompts out for "
            "every contestant."
        )
    return notice(text, kind="warn") + table(
        ["Prompt", "Contestant", "What", "Words"], rows, label="Flagged answers", numbers=(0,), css="ft-rows"
    )


def share(base: str, token: str, reach: str) -> Markup:
    """The link for everybody, and its QR code if a phone can open it."""
    url = address(base, token)
    local = reach == "machine"
    code = Markup("") if local else Markup('<div class="ft-qr">{}</div>').format(_qr(url))
    return Markup(
        '<section class="ft-card ft-invite">{}<div><h3>{}</h3>{}<p class="ft-help">{}</p></div></section>'
    ).format(
        code,
        "Open this link to vote" if local else "Scan to vote, or send the link",
        _line(url, "the link"),
        _REACHED[reach],
    )


def links(
    base: str, people: Sequence[RaterLink], known: Mapping[str, Any], open_token: str | None, *, phones: bool = True
) -> Markup:
    """The link of each rater with its QR code, and the open link; each can be revoked."""
    by_id = {rater["id"]: rater for rater in known["raters"]}
    cards = []
    if open_token:
        cards.append(
            _link(
                "Open link",
                "anyone who enters a name",
                address(base, open_token),
                "open",
                "End the open link",
                phones=phones,
            )
        )
    names = {rater["number"]: rater["pseudonym"] for rater in known["raters"]}
    for person in people:
        rater = by_id.get(person.rater_id)
        parts = (person.pseudonym, _came(rater, names), address(base, person.token), person.rater_id, "End this link")
        cards.append(_link(*parts, more=_void(rater), phones=phones))
    ended = [rater for rater in known["raters"] if rater["revoked"]]
    gone = join(
        Markup('<p class="ft-help">Ended: {}. {}</p>{}').format(
            rater["pseudonym"], "The votes are voided." if rater["voided"] else "The votes count.", _void(rater)
        )
        for rater in ended
    )
    if not cards:
        return notice("No links yet. Make one for each rater, or an open link.") + gone
    return Markup('<div class="ft-links">{}</div>{}').format(join(cards), gone)


def _came(rater: Mapping[str, Any] | None, names: Mapping[int, str]) -> str:
    """How a rater joined. Several who joined by the open link from one network address may be one person."""
    if rater is None or not rater["open_link"]:
        return ""
    text = f"by the open link, {when(rater['joined'])}"
    beside = [names[number] for number in rater["beside"]]
    more = f" and {len(beside) - 3} more" if len(beside) > 3 else ""
    return f"{text}, from the same network address as {', '.join(beside[:3])}{more}" if beside else text


def _void(rater: Mapping[str, Any] | None) -> Markup:
    if rater is None or rater["voided"] or not rater["votes"]:
        return Markup("")
    button = Markup(
        '<p class="ft-help">They no longer count, the link ends, and every verdict says so. '
        'This cannot be undone.</p><button type="button" class="ft-pick" data-pick="{}{}" '
        'aria-label="Void the votes of {}">Yes, void them'
        "</button>"
    ).format(VOID, rater["id"], rater["pseudonym"])
    return details(f"Void the votes of {rater['pseudonym']}", button)


def address(base: str, token: str) -> str:
    from ftlab.ui.rater.page import rater_address

    return rater_address(base, token)


def progress(known: ProgressJson) -> Markup:
    """The number of votes so far; does not reveal who leads."""
    votes, planned = blind_tests.votes_of_people(known)
    raters = sum(bool(rater["votes"]) for rater in known["raters"])
    text = f"{blind_tests.votes_in_words(known)} cast"
    text += f", from {count(raters)} {'rater' if raters == 1 else 'raters'}." if raters else "."
    text += f" {alike}" if (alike := blind_tests.identical_in_words(known)) else ""
    text += " The tally stays hidden until all are in. To end sooner, close the test."
    return _card(text, min(votes, planned), planned)


def revealed(known: Mapping[str, Any]) -> Markup:
    """Why the tally is visible."""
    why = {
        "planned": "The planned number of votes is in.",
        "evidence": "The evidence is conclusive for these raters. You can end the vote.",
        "early": "You opened the tally early. The report says so, too.",
        "closed": "",  # its badge says so
    }[known["revealed"]]
    if not why:
        return Markup("")
    return Markup('<p class="ft-help">{}</p>').format(why)


def people(known: Mapping[str, Any]) -> Markup:
    """Votes by rater, and other counts."""
    beside = []
    if known["automatic"]:
        beside.append(f"{count(known['automatic'])} ties between identical answers, never shown to raters")
    if known["skipped"]:
        beside.append(f"{count(known['skipped'])} skipped in addition")
    if known["voided"]:
        beside.append(f"{count(known['voided'])} voided and not counted")
    rows = [
        [
            f"{rater['group']}: {rater['pseudonym']}" if rater["group"] else rater["pseudonym"],
            count(rater["votes"]),
            count(rater["skipped"]),
            when(rater["last"]),
            "votes voided"
            if rater["voided"]
            else "link ended"
            if rater["revoked"]
            else "open link"
            if rater["open_link"]
            else "",
        ]
        for rater in known["raters"]
    ]
    text = Markup('<p class="ft-help">Votes: {}.</p>').format("; ".join(beside)) if beside else Markup("")
    columns = ["Rater", "Votes", "Skipped", "Last vote", ""]
    return text + (table(columns, rows, label="Votes by rater", numbers=(1, 2), css="ft-runs") if rows else Markup(""))


def _card(text: str, done: int, total: int, below: str = "") -> Markup:
    share = f"{100 * done / total:.0f}" if total else "0"
    return Markup(
        '<div class="ft-line-card" role="status"><div>{0}</div><div class="ft-bar" role="progressbar" '
        'aria-label="progress" aria-valuemin="0" aria-valuemax="100" aria-valuenow="{1}"><i style="width:{1}%"></i>'
        "</div>{2}</div>"
    ).format(text, share, below)


def _line(url: str, whose: str) -> Markup:
    return Markup(
        '<div class="ft-link-line"><a class="ft-link" href="{0}" target="_blank" rel="noreferrer">{0}</a>'
        '<button type="button" class="ft-pick" data-copy aria-label="Copy {1}">Copy</button></div>'
    ).format(url, whose)


def _link(name: str, beside: str, url: str, key: str, end: str, more: str = "", *, phones: bool) -> Markup:
    return Markup(
        '<section class="ft-link-card"><header><strong>{}</strong> <span class="ft-help">{}</span></header>{}'
        '<div class="ft-link-more">{}{}{}</div></section>'
    ).format(
        name,
        beside,
        _line(url, f"the link of {name}"),
        details("QR code", Markup('<div class="ft-qr">{}</div>').format(_qr(url))) if phones else "",
        details(
            end,
            Markup(
                '<p class="ft-help">The link stops working. Votes already cast still count.</p>'
                '<button type="button" class="ft-pick" data-pick="{}" aria-label="{}: {}">Yes, end it</button>'
            ).format(key, end, name),
        ),
        more,
    )


@lru_cache(maxsize=256)
def _qr(url: str) -> Markup:
    return Markup(qr_code(url))  # drawn by segno from the link alone


def _failure(error: Mapping[str, Any]) -> Markup:
    from ftlab.errors import FtlabError

    return error_box(FtlabError(error["what"], why=error.get("why"), try_=error.get("try")))


def open_early_warning(known: ProgressJson) -> Markup:
    text = (
        f"So far there are {blind_tests.votes_in_words(known)}. Looking early and stopping when it suits finds "
        "differences too often. The tally will stay open, and the verdict and every report will say that it was opened "
        "early."
    )
    return heading("Open the tally early?") + notice(text, kind="warn")


def close_warning(known: ProgressJson) -> Markup:
    text = "Voting closes. The verdict uses the votes so far."
    if known["votes"] < (known["planned"] or 0):
        text += f" There are {blind_tests.votes_in_words(known)}, so the test may end without a verdict."
    return heading("Close the test?") + notice(text, kind="warn")


def delete_warning(known: ProgressJson) -> Markup:
    votes = counted(blind_tests.votes_of_people(known)[0], "vote")
    text = f"This deletes the test, its answers and {votes}. It cannot be undone."
    return heading("Delete the test?") + notice(text, kind="bad")
