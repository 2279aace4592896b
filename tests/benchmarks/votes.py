"""Fifty raters vote at once over HTTP: how long the page takes to answer, and whether every vote is there once.

    python tests/benchmarks/votes.py [--raters 50] [--registered 50] [--rounds 5] [--seconds 30] [--kills 0]
                                     [--database URL | --postgres]

The raters' page is served by a process of its own. Every rater loads the page; then, `rounds` times, all vote in the
same moment; then, for `seconds`, each votes again and again after reading for 2 to 6 seconds. Every vote is sent a
second time, as a nervous thumb does. `registered` raters have a link; those beyond `raters` never come. With `kills`,
the server is then killed without warning and started anew, and all of it is done again. Prints one JSON object: seconds
to an answer (median, 95th and 99th percentile, longest), what a message costs the server in processor time, and the
votes that were acknowledged, lost and doubled.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
from sqlalchemy import select

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from ftlab.arena import blind_tests, links  # noqa: E402
from ftlab.arena.store import DATABASE_VARIABLE, open_store, votes  # noqa: E402
from ftlab.core.workspace import Workspace  # noqa: E402
from tests.arena import opened, postgres_server  # noqa: E402

SERVE = "import sys; from ftlab.ui.rater.page import launch_rater_app as go\n"
SERVE += "go(sys.argv[1], port=int(sys.argv[2]), block=1)"
WORDS = "amber birch cedar delta ember fjord grove heron islet jetty knoll larch maple north ocean plain".split()


class Thumb:
    """One rater's browser: what it sends, and how long it waits."""

    def __init__(self, http: httpx.AsyncClient, key: str):
        self.http, self.key = http, key
        self.page_id, self.trial = 0, ""
        self.voted: dict[str, Any] = {}
        self.waited: dict[str, list[float]] = {"page": [], "vote": []}
        self.acknowledged: list[str] = []
        self.replays = self.messages = 0

    async def load(self) -> None:
        began = time.perf_counter()
        (await self.http.get("/")).raise_for_status()
        config = (await self.http.get("/config")).json()
        self.page_id = next(one["id"] for one in config["components"] if one["props"].get("elem_id") == "rater")
        self._look(await self._say(do="open"))
        self.waited["page"].append(time.perf_counter() - began)

    async def vote(self) -> None:
        """Vote, and see what comes next."""
        if not self.trial:
            return
        self.voted = {"do": "vote", "trial": self.trial, "choice": random.choice(("left", "right")), "seconds": 4.0}
        began = time.perf_counter()
        reply = await self._say(**self.voted)
        self.waited["vote"].append(time.perf_counter() - began)
        if reply["say"].startswith("Vote saved"):
            self.acknowledged.append(self.trial)
        self._look(reply)

    async def vote_again(self) -> None:
        """Send the last vote a second time."""
        again = await self._say(**self.voted)
        self.replays += "have already voted on this" in again["screen"]
        self._look(again)

    async def _say(self, **said: Any) -> dict[str, str]:
        self.messages += 1
        body = {"data": said | {"key": self.key}, "component_id": self.page_id, "fn_name": "rate", "session_hash": "x"}
        response = await self.http.post("/gradio_api/component_server/", json=body)
        response.raise_for_status()
        return response.json()

    def _look(self, reply: dict[str, str]) -> None:
        votes = 'data-do="vote"' in reply["screen"]  # else it is the end, or a guess before it
        found = re.search(r'data-trial="([\w-]+)"', reply["screen"]) if votes else None
        self.trial = found[1] if found else ""


async def crowd(
    url: str, server: psutil.Process, keys: list[str], rounds: int, seconds: float
) -> tuple[list[Thumb], dict[str, Any]]:
    limits = httpx.Limits(max_connections=len(keys), max_keepalive_connections=len(keys), keepalive_expiry=2)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as http:
        thumbs = [Thumb(http, key) for key in keys]
        await asyncio.gather(*(thumb.load() for thumb in thumbs))
        figures: dict[str, Any] = {"page_loads_at_once": spread(thumbs, "page")}
        busy, messages = busy_seconds(server), sum(thumb.messages for thumb in thumbs)
        for _ in range(rounds):
            await asyncio.gather(*(thumb.vote() for thumb in thumbs))
            await asyncio.gather(*(thumb.vote_again() for thumb in thumbs))
        spent = (busy_seconds(server) - busy) / (sum(thumb.messages for thumb in thumbs) - messages)
        figures["server_processor_ms_a_message"] = round(1000 * spent, 1)
        figures["votes_in_the_same_moment"] = spread(thumbs, "vote")
        end = time.monotonic() + seconds

        async def read_and_vote(thumb: Thumb) -> None:
            await asyncio.sleep(random.uniform(0, 4))
            while time.monotonic() < end and thumb.trial:
                await thumb.vote()
                await thumb.vote_again()
                await asyncio.sleep(random.uniform(2, 6))

        await asyncio.gather(*(read_and_vote(thumb) for thumb in thumbs))
        figures["votes_while_reading"] = spread(thumbs, "vote")
        return thumbs, figures


def busy_seconds(server: psutil.Process) -> float:
    """Of a processor, since it started."""
    times = server.cpu_times()
    return times.user + times.system


def spread(thumbs: list[Thumb], what: str) -> dict[str, float]:
    """Of all waits since the last call."""
    waited = sorted(one for thumb in thumbs for one in thumb.waited[what])
    for thumb in thumbs:
        thumb.waited[what] = []
    at = {"median": 0.5, "p95": 0.95, "p99": 0.99, "longest": 1.0}
    seconds = {name: round(waited[min(len(waited) - 1, int(len(waited) * part))], 3) for name, part in at.items()}
    return {"n": len(waited)} | seconds if waited else {"n": 0}


@contextlib.contextmanager
def served(workspace: Workspace, url: str | None) -> Iterator[tuple[str, psutil.Process]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | ({DATABASE_VARIABLE: url} if url else {})
    server = subprocess.Popen([sys.executable, "-c", SERVE, str(workspace.root), str(port)], cwd=ROOT, env=environment)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            with contextlib.suppress(httpx.TransportError):
                httpx.get(address)
                break
            time.sleep(0.2)
        yield address, psutil.Process(server.pid)
    finally:
        server.kill()  # without warning: what it acknowledged must be there all the same
        server.wait()


def measure(
    raters: int, rounds: int, seconds: float, url: str | None, *, registered: int = 0, kills: int = 0
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="ftlab-votes-") as folder:
        workspace = Workspace.open(folder)
        store = open_store(workspace, url)
        each = (rounds + int(seconds / 2) + 2) * (1 + kills)

        def write(prompt: int, contestant: int) -> str:
            return " ".join(random.Random(f"{prompt} {contestant}").choices(WORDS, k=120))

        prompts = max(100, each)
        test_id, _ = opened(
            store, names=[""] * max(raters, registered), prompts=prompts, votes_per_prompt=raters, write=write
        )
        keys = [link.token for link in links.links(store, test_id)][:raters]
        thumbs: list[Thumb] = []
        figures: dict[str, Any] = {}
        for kill in range(1 + kills):
            with served(workspace, url) as (address, server):
                these, measured = asyncio.run(crowd(address, server, keys, rounds, seconds))
            thumbs += these
            figures |= {f"{name}_after_kill_{kill}" if kill else name: value for name, value in measured.items()}
        acknowledged = [trial for thumb in thumbs for trial in thumb.acknowledged]
        with store.reading() as connection:
            kept = connection.execute(select(votes.c.trial_id)).scalars().all()
        given = blind_tests.progress(store, test_id)["votes"]
        kind = store.engine.dialect.name
        blind_tests.close_test(store, test_id)
        store.engine.dispose()
    return {
        "database": kind,
        "raters": raters,
        "registered": max(raters, registered),
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 1),
        **figures,
        "acknowledged": len(acknowledged),
        "lost": len(set(acknowledged) - set(kept)),
        "doubled": len(kept) - len(set(kept)) + len(acknowledged) - len(set(acknowledged)),
        "never_acknowledged": given - len(set(acknowledged)),
        "replays_refused": sum(thumb.replays for thumb in thumbs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raters", type=int, default=50)
    parser.add_argument("--registered", type=int, default=0, help="raters with a link (default: those who vote)")
    parser.add_argument("--kills", type=int, default=0, help="how often the server is killed and started anew")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--database", help="the address of a PostgreSQL database")
    parser.add_argument("--postgres", action="store_true", help="on a PostgreSQL server that is started for it")
    given = parser.parse_args()
    with postgres_server() if given.postgres else contextlib.nullcontext(given.database) as url:
        print(
            json.dumps(
                measure(given.raters, given.rounds, given.seconds, url, registered=given.registered, kills=given.kills),
                indent=1,
            )
        )


if __name__ == "__main__":
    main()
