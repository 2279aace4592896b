"""Access for raters: one signed link each, or an open link with a name. No account needed.

The secret that signs them is FTLAB_SECRET, else a file in the workspace that only its owner can read.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import os
import secrets
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itsdangerous import BadData, URLSafeSerializer
from sqlalchemy import Connection, Row, bindparam, func, select, update

from ftlab.arena.blind_tests import find_test, reveal, votes_given
from ftlab.arena.store import PUBLIC, Store, blind_tests, new_id, note, now, raters, storable
from ftlab.core.files import locked, write_text
from ftlab.data.normal import LATIN_LOOKS
from ftlab.errors import InputError

SECRET_VARIABLE = "FTLAB_SECRET"
LONGEST_NAME = 60
LONGEST_GROUP = 40
MOST_RATERS = 1000
LONGEST_TOKEN = 300
# How many may join by an open link within this many seconds: from one address, and in total. A room may share an
# address.
JOINS = {60: (10, 30), 3600: (60, 240)}


# Run several times for every vote: building these statements takes longer than running them.
_ONE = select(raters).where(raters.c.id == bindparam("rater"))
_RATER = {False: _ONE, True: _ONE.with_for_update(key_share=True)}
# Without the plan, which is long and needed only for assignment.
_KNOWN = [column for column in PUBLIC if column.name != "plan"]
_ITS = select(*_KNOWN).where(raters.c.id == bindparam("rater"), raters.c.test_id == blind_tests.c.id)
_TEST_OF = {
    (False, False): _ITS,
    (True, False): _ITS.with_for_update(key_share=True, of=blind_tests),
    (False, True): _ITS.with_for_update(read=True, of=blind_tests),
}


class NotBegun(InputError):
    """The link is valid, but its test is not open yet."""


@dataclass(frozen=True)
class RaterLink:
    """`token` is the end of the link. Whoever has it votes as this rater."""

    rater_id: str
    pseudonym: str
    token: str


@dataclass(frozen=True)
class Rater:
    """The rater of a token, with the data for their page. Nothing in it names a contestant. `consent` is the text that
    they have not agreed to yet."""

    id: str
    test_id: str
    number: int
    pseudonym: str
    instructions: str
    options: tuple[str, ...]
    rubric: tuple[str, ...]
    live: bool
    consent: str


def create_raters(store: Store, test_id: str, names: Sequence[str]) -> list[RaterLink]:
    """A rater with a link for each name, in a group for "nurses: Ana". An empty name becomes "Rater 3". Raises
    InputError for a closed test."""
    with store.writing() as connection:
        test = find_test(connection, test_id, lock=True)
        _must_not_be_closed(test)
        return [
            _add_rater(store, connection, test_id, name, group, open_link=False) for group, name in map(_grouped, names)
        ]


def open_link(store: Store, test_id: str) -> str:
    """The token of the open link, which anyone can use after giving a name; unchanged until it is revoked."""
    with store.writing() as connection:
        test = find_test(connection, test_id, lock=True)
        _must_not_be_closed(test)
        key = test.open_link_key
        if key is None:
            key = new_id()
            connection.execute(update(blind_tests).where(blind_tests.c.id == test_id).values(open_link_key=key))
            note(connection, test_id, "open link made")
    return _signer(store).dumps({"t": test_id, "k": key})


def is_open_link(store: Store, token: str) -> bool:
    """Whether `token` is that of an open link, whose visitor must enter a name and `join`."""
    return "t" in _read(store, token)


def join(store: Store, token: str, name: str, address: str = "", *, group: str = "", agreed: bool = False) -> RaterLink:
    """A new rater who joins by the open link from the network `address` (stored only as a keyed hash). `group` is that
    of the link they came by, `agreed` whether they agreed to the text of consent.

    Raises InputError: no name, unknown, revoked, closed, or too many at once (`JOINS`).
    """
    if not _cleaned(name):
        raise InputError("Please enter your name", try_="use any name that your host knows")
    payload = _read(store, token)
    with store.writing() as connection:
        test = _invited(connection, payload, lock=True)
        came_from = _hashed(store, test.id, address) if address else None
        _must_not_be_many(connection, test.id, came_from)
        at = now() if agreed and consent_of(test.settings) else None
        return _add_rater(
            store, connection, test.id, name, _cleaned(group), open_link=True, came_from=came_from, agreed_at=at
        )


def consent_of(settings: Mapping[str, Any]) -> str:
    """The text that raters agree to. Empty if there is none: older tests lack it, and blanks ask for nothing."""
    return settings.get("consent", "").strip()


def agree(store: Store, rater_id: str) -> None:
    """The rater agrees to the text of consent of their test. Raises InputError if they may not vote."""
    with store.writing() as connection:
        _, rater = find_rater(connection, rater_id, share=True)
        if rater.agreed_at is None:
            connection.execute(update(raters).where(raters.c.id == rater_id).values(agreed_at=now()))


def invitation(store: Store, token: str) -> Row[Any]:
    """The test that an open link leads to. Raises InputError: unknown, revoked, closed; NotBegun: not open yet."""
    payload = _read(store, token)
    with store.reading() as connection:
        return _invited(connection, payload)


def _invited(connection: Connection, payload: dict[str, str], *, lock: bool = False) -> Row[Any]:
    try:
        test = find_test(connection, payload.get("t", ""), lock=lock)
    except InputError:
        raise _unknown() from None
    if test.open_link_key is None or not secrets.compare_digest(test.open_link_key, payload["k"]):
        raise _unknown()
    _must_be_open(test)
    return test


def links(store: Store, test_id: str) -> list[RaterLink]:
    """The links of all raters, except revoked ones."""
    with store.reading() as connection:
        query = select(raters).where(raters.c.test_id == test_id, raters.c.revoked_at.is_(None))
        return [_link(store, row.id, row.pseudonym) for row in connection.execute(query.order_by(raters.c.number))]


def revoke(store: Store, rater_id: str) -> None:
    """Revoke the link of a rater. Their votes stay: removing them would mean selecting votes."""
    with store.writing() as connection:
        row = connection.execute(select(raters).where(raters.c.id == rater_id)).first()
        if row is None:
            raise InputError("There is no such rater", given=rater_id)
        if row.revoked_at is None:
            connection.execute(update(raters).where(raters.c.id == rater_id).values(revoked_at=now()))
            note(connection, row.test_id, "link revoked", rater=row.number)


def void(store: Store, rater_id: str) -> None:
    """Exclude the votes of a rater and revoke their link. Every verdict says so. This cannot be undone.

    A visible tally stays visible: otherwise the owner could select votes.
    """
    with store.writing() as connection:
        row = connection.execute(select(raters).where(raters.c.id == rater_id)).first()
        if row is None:
            raise InputError("There is no such rater", given=rater_id)
        if row.voided_at is not None:
            return
        test = find_test(connection, row.test_id, lock=True)
        before, seen = votes_given(connection, test.id), reveal(connection, test)
        ended = {"voided_at": now(), "revoked_at": row.revoked_at or now()}
        connection.execute(update(raters).where(raters.c.id == rater_id).values(ended))
        if seen == "planned" and reveal(connection, test) is None:
            opened = {"opened_early_at": now(), "opened_early_votes": before}
            connection.execute(update(blind_tests).where(blind_tests.c.id == test.id).values(opened))
        note(connection, test.id, "votes voided", rater=row.number, tally_seen=seen is not None)


def revoke_open_link(store: Store, test_id: str) -> None:
    """Revoke the open link. Raters who joined through it keep their own links."""
    with store.writing() as connection:
        test = find_test(connection, test_id, lock=True)
        if test.open_link_key is not None:
            connection.execute(update(blind_tests).where(blind_tests.c.id == test_id).values(open_link_key=None))
            note(connection, test_id, "open link revoked")


def read_token(store: Store, token: str) -> Rater:
    """The rater of `token`. Raises InputError: unknown or forged, revoked, test not open."""
    payload = _read(store, token)
    with store.reading() as connection:
        test, rater = find_rater(connection, payload.get("r", ""))
    settings = test.settings
    return Rater(
        rater.id,
        test.id,
        rater.number,
        rater.pseudonym,
        settings["instructions"],
        tuple(settings["options"]),
        tuple(settings["rubric"]),
        bool(settings["live"]),
        "" if rater.agreed_at is not None else consent_of(settings),
    )


def find_rater(
    connection: Connection, rater_id: str, *, lock: bool = False, share: bool = False
) -> tuple[Row[Any], Row[Any]]:
    """The rows of the test and the rater. Raises InputError if the rater may not vote now.

    `lock` and `share` are those of `find_test`. With either, requests of the same rater run one at a time.
    """
    # In sequence, the test first, to prevent deadlocks.
    test = connection.execute(_TEST_OF[lock, share], {"rater": rater_id}).first()
    if test is None:
        raise _unknown()
    rater = connection.execute(_RATER[lock or share], {"rater": rater_id}).one()
    if rater.revoked_at is not None:
        raise InputError("This link was revoked", try_="ask the sender for a new one")
    _must_be_open(test)
    return test, rater


def qr_code(url: str) -> str:
    """`url` as a QR code: an SVG element, dark on white in every theme, so that every camera reads it."""
    import segno

    code = segno.make(url, micro=False)
    # Without a fixed size: a page that draws it smaller then scales it instead of cutting it off.
    return code.svg_inline(scale=5, border=4, dark="#000", light="#fff", title="QR code", omitsize=True)


def _add_rater(
    store: Store,
    connection: Connection,
    test_id: str,
    name: str,
    group: str = "",
    *,
    open_link: bool,
    came_from: str | None = None,
    agreed_at: float | None = None,
) -> RaterLink:
    names = connection.execute(select(raters.c.pseudonym).where(raters.c.test_id == test_id)).scalars()
    known = {looks_like(name_) for name_ in names}
    if len(known) >= MOST_RATERS:
        raise InputError("This test has reached its maximum number of raters", allowed=f"at most {MOST_RATERS}")
    highest = connection.execute(select(func.max(raters.c.number)).where(raters.c.test_id == test_id)).scalar()
    number = (highest or 0) + 1
    wanted = _cleaned(name) or f"Rater {number}"
    # A name is not a password: anyone who enters a taken or lookalike name becomes another rater.
    pseudonym, count = wanted, 1
    while looks_like(pseudonym) in known:
        count += 1
        pseudonym = f"{wanted} ({count})"
    # Not as a formula begins: the analysis is opened as a spreadsheet.
    group = group.lstrip("=+-@ ")[:LONGEST_GROUP].strip()
    if group:  # "Nurses" and "nurses" are one
        query = select(raters.c.group_name).where(raters.c.test_id == test_id, raters.c.group_name.is_not(None))
        groups = connection.execute(query.order_by(raters.c.number)).scalars()
        group = next((name_ for name_ in groups if name_.casefold() == group.casefold()), group)
    rater_id = new_id()
    connection.execute(
        raters.insert().values(
            id=rater_id,
            test_id=test_id,
            number=number,
            pseudonym=pseudonym,
            created=now(),
            open_link=open_link,
            came_from=came_from,
            group_name=group or None,
            agreed_at=agreed_at,
        )
    )
    return _link(store, rater_id, pseudonym)


def _grouped(name: str) -> tuple[str, str]:
    """The group and the name of "nurses: Ana"; no group without a colon between the two."""
    group, colon, own = name.partition(":")
    return (_cleaned(group), own) if colon and _cleaned(group) and _cleaned(own) else ("", name)


def _must_not_be_many(connection: Connection, test_id: str, came_from: str | None) -> None:
    """Raises InputError if this many have joined by the open link recently."""
    for seconds, (each, in_all) in JOINS.items():
        lately = (raters.c.test_id == test_id) & raters.c.open_link & (raters.c.created > now() - seconds)
        mine = lately & (raters.c.came_from == came_from)
        for most, which in ((in_all, lately), *([(each, mine)] if came_from else [])):
            if connection.execute(select(func.count()).where(which)).scalar_one() >= most:
                when = "a minute" if seconds == 60 else "an hour"
                raise InputError(
                    "Too many people are joining this test right now",
                    try_=f"again in {when}, or ask your host for your own link",
                )


def _hashed(store: Store, test_id: str, address: str) -> str:
    """A hash that distinguishes the addresses of a test and cannot be reversed without the secret of the workspace."""
    key = _secret(store.workspace.arena_secret, os.environ.get(SECRET_VARIABLE))
    return hmac.new(key.encode(), f"{test_id} {address}".encode(), hashlib.sha256).hexdigest()[:16]


def _cleaned(name: str) -> str:
    """`name` for display: on one line, without invisible characters (control, zero width, bidi)."""
    seen = (
        " " if character.isspace() else character
        for character in storable(name)
        if character.isspace() or _is_seen(character)
    )
    return " ".join("".join(seen).split())[:LONGEST_NAME].strip()


def _is_seen(character: str) -> bool:
    return unicodedata.category(character) not in ("Cc", "Cf", "Co", "Cn") and character not in _BLANK_LETTERS


_BLANK_LETTERS = "\u115f\u1160\u3164\uffa0\u2800\u034f"
# Names are compared by eye. So besides letters that are drawn alike, these only look alike in most fonts: Cyrillic,
# Greek, Latin and Armenian letters, then digits and signs.
_READS_AS = str.maketrans(
    {letter: latin for letter, latin in LATIN_LOOKS.items() if letter.islower()}
    | dict(zip("кмтвньτκηεχβıɡոօս01i|", "kmtbhbtknexbignouolll", strict=True))
)


@functools.lru_cache(maxsize=4096)
def looks_like(name: str) -> str:
    """A key that is equal for names that look alike: without case, blanks, accents or punctuation, in one script
    (NFKC)."""
    plain = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", name).casefold())
    read = "".join(character for character in plain if character.isalnum()).translate(_READS_AS)
    # Twice: a letter that looks like an i also looks like an l.
    return read.translate(_READS_AS).replace("rn", "m").replace("vv", "w") or plain


def _link(store: Store, rater_id: str, pseudonym: str) -> RaterLink:
    return RaterLink(rater_id, pseudonym, _signer(store).dumps({"r": rater_id}))


def _read(store: Store, token: str) -> dict[str, str]:
    """The content of a signed token. Raises InputError if it was not signed here."""
    try:
        if len(token) > LONGEST_TOKEN:
            raise _unknown()
        payload = _signer(store).loads(token)
    except BadData:
        raise _unknown() from None
    return payload


def _unknown() -> InputError:
    return InputError(
        "This link is not valid",
        try_="check that you copied all of it, or ask the person who invited you for a new one",
    )


def _must_be_open(test: Row[Any]) -> None:
    if test.state == "closed":
        raise InputError("This test is over", try_="ask whoever invited you for the result")
    if test.state != "open":
        raise NotBegun("This test has not started", try_="come back once it has started")


def _must_not_be_closed(test: Row[Any]) -> None:
    if test.state == "closed":
        raise InputError("This test is over: voting has closed", given=test.title)


def _signer(store: Store) -> URLSafeSerializer:
    return URLSafeSerializer(_secret(store.workspace.arena_secret, os.environ.get(SECRET_VARIABLE)), salt="rater")


@functools.lru_cache(maxsize=64)
def _secret(file: Path, secret: str | None) -> str:
    if secret:
        if len(secret) < 16:
            raise InputError(
                f"{SECRET_VARIABLE} is too short to sign links",
                given=f"{len(secret)} characters",
                allowed="16 or more",
                try_='use the output of: python -c "import secrets; print(secrets.token_urlsafe(32))"',
            )
        return secret
    # A separate lock: threads waiting for the tables hold the other one, and this may be called within a transaction.
    with locked(file.with_name(f"{file.name}.lock")):
        if not file.exists():
            write_text(file, secrets.token_urlsafe(32))  # with mode 0600
    return file.read_text()
