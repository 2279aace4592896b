"""A blind test with answers, whose contestants bear names that no rater may ever meet."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

import httpx

from ftlab.arena import asking, blind_tests, links, store
from ftlab.arena.store import Store, open_store
from ftlab.core.workspace import Workspace
from tests.arena import everything

# Words of every length and both contestants alike, so that only what ftlab adds could tell the sides apart.
_WORDS = "amber birch cedar delta ember fjord grove heron islet jetty knoll larch maple north ocean plain".split()


@dataclass(frozen=True)
class Blind:
    """An open blind test and all that its raters must not learn."""

    store: Store
    test_id: str
    keys: list[str]
    secrets: dict[str, str]

    def rows(self) -> dict[str, list[str]]:
        """Everything that is in the database."""
        return everything(self.store)

    def sides(self) -> dict[str, bool]:
        """By trial: whether the answer of the adapted model stands left."""
        with self.store.reading() as connection:
            return {row.id: row.swapped for row in connection.execute(store.trials.select())}


def open_blind_test(
    workspace: Workspace, *, prompts: int = 12, raters: int = 2, turns: int = 1, **settings: Any
) -> Blind:
    """A test between "the base" and "a run", both of which write words of equal length; of conversations if there are
    several `turns`."""
    place = open_store(workspace)
    specs = [
        {"kind": "base", "base": "veiled-base-4711", "system_prompt": "veiled-system-prompt"},
        {
            "kind": "run",
            "run": "veiled-run-0815",
            "adapter_sha256": "feed" * 16,
            "examples": [{"prompt": "veiled-example", "completion": "veiled-completion"}],
            "url": "http://veiled-host.example/v1",
            "model": "veiled-model-name",
        },
    ]
    titles = ("veiled-contestant-one", "veiled-contestant-two")
    asked = [
        asking.PromptSpec(
            [
                {"role": "user", "content": f"Question {n}{f'.{k}' * (turns > 1)}: which tree is meant?"}
                for k in range(turns)
            ],
            "veiled-topic",
            f"veiled-reference {n}",
        )
        for n in range(prompts)
    ]
    test_id = blind_tests.create_test(
        place,
        "veiled-test-title",
        [asking.ContestantSpec(title, spec) for title, spec in zip(titles, specs, strict=True)],
        asked,
        asking.TestSettings(
            {"max_new_tokens": 64, "temperature": 0.0},
            votes_per_prompt=raters,
            instructions="Which answer would you send?",
            **{"conversations": turns > 1, **settings},
        ),
        prompts * raters,
    )
    blind_tests.start_generating(place, test_id)
    among = blind_tests.list_contestants(place, test_id)
    for n, prompt in enumerate(blind_tests.list_prompts(place, test_id)):
        for m, contestant in enumerate(among):
            texts = [
                " ".join(_WORDS[(5 * n + 3 * m + 7 * j + k) % len(_WORDS)] for k in range(8)) for j in range(turns)
            ]
            parts = [{"text": text, "tokens": 8, "cut": False} for text in texts] if turns > 1 else None
            made: dict[str, Any] = {"tokens": 8 * turns, "seconds": 1.0 + m, "flags": ["veiled-flag"], "turns": parts}
            blind_tests.save_answer(place, prompt.id, contestant.id, "\n\n".join(texts), **made)
    blind_tests.mark_ready(place, test_id)
    blind_tests.open_test(place, test_id)
    keys = [link.token for link in links.create_raters(place, test_id, [f"veiled-rater-{n}" for n in range(raters)])]
    with place.reading() as connection:
        ids = {
            f"{table.name} {row.id}": row.id
            for table in (store.contestants, store.prompts, store.answers, store.blind_tests, store.raters)
            for row in connection.execute(table.select())
        }
        prints = {f"fingerprint {row.number}": row.fingerprint for row in connection.execute(store.prompts.select())}
        drawn = connection.execute(store.blind_tests.select().with_only_columns(store.blind_tests.c.secret)).scalars()
        secrets = ids | prints | {f"secret {n}": secret for n, secret in enumerate(drawn)}
    secrets |= {"any name": "veiled-", "adapter": "feedfeed", "workspace": str(workspace.root)}
    secrets["what signs links"] = workspace.arena_secret.read_text()
    return Blind(place, test_id, keys, secrets)


class Browserless:
    """What a rater's browser sends, without a browser."""

    def __init__(self, url: str):
        self.http = httpx.Client(base_url=url, timeout=60)
        config = self.http.get("/config").json()
        self.page = next(one["id"] for one in config["components"] if one["props"].get("elem_id") == "rater")

    def post(self, said: Any, **other: Any) -> httpx.Response:
        body = {"data": said, "component_id": self.page, "fn_name": "rate", "session_hash": uuid.uuid4().hex} | other
        return self.http.post("/gradio_api/component_server/", json=body)

    def say(self, **said: Any) -> dict[str, str]:
        """The reply to one message of the page."""
        response = self.post(said)
        assert response.status_code == 200, response.text
        return response.json()
