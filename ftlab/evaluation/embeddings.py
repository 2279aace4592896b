"""Text embeddings from a model behind an address (OpenAI's `POST .../embeddings`), as the index for retrieval.

`read_embeddings` parses the user's setting (`https://host/v1#model`), `plan` estimates the request before anything is
sent, and `vectors_of` sends it. Each vector is stored in `embeddings.jsonl` of the run as it arrives, so nothing is
sent twice.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ftlab.core.endpoint import EMBEDDER, Asker, Endpoint, check_prices, endpoint_url, estimate_tokens, money
from ftlab.core.files import append_jsonl, end_last_line, read_jsonl
from ftlab.core.run_directory import RunDirectory
from ftlab.core.words import counted
from ftlab.errors import FtlabError, InputError
from ftlab.evaluation.batches import Progress, Stopped, silent

_BATCH = 32  # texts in a request
_LONGEST = 20_000  # characters of a text; OpenAI's models take 8,191 tokens


@dataclass(frozen=True)
class Embeddings:
    """The `model` at `url` that computes vectors. `price` is per million tokens."""

    url: str
    model: str
    price: float | None = None

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.url, self.model)

    @property
    def index(self) -> str:
        return f"embeddings of {self.model} at {self.endpoint.host}, cosine"

    @property
    def who(self) -> str:
        """A hash of what determines its vectors besides the texts."""
        return hashlib.sha256(json.dumps([self.url, self.model]).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Vector:
    """The `values` of a text, of length 1, and its share of the `seconds` that the request took."""

    values: np.ndarray
    seconds: float


def read_embeddings(text: str, price: float | None = None) -> Embeddings:
    """The model that `text` names: `https://host/v1#model`. Raises InputError for an address without a model, or an
    unusable one."""
    check_prices(price, None)
    address, _, model = text.strip().partition("#")
    if not model.strip():
        raise InputError(
            "The address does not say which model makes the vectors (--embeddings)",
            given=text or "nothing",
            allowed="the address, #, and the name of the model there",
            try_=f"{address.rstrip('/') or 'https://host/v1'}#my-embedding-model",
        )
    url = endpoint_url(address.rstrip("/").removesuffix("/embeddings"), EMBEDDER)
    return Embeddings(url, model.strip(), price)


@dataclass(frozen=True)
class EmbeddingPlan:
    """What a request for vectors takes: `texts`, of which `known` already have vectors, and estimated `tokens`."""

    host: str
    model: str
    texts: int
    known: int
    requests: int
    tokens: int
    price: float | None
    is_here: bool

    @property
    def open(self) -> int:
        return self.texts - self.known

    def as_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)

    def lines(self) -> list[str]:
        """What the user should know before anything is sent."""
        if not self.open:
            return [
                f"Nothing to send: the vectors of all {self.texts:,} texts by {self.model} at {self.host} are kept."
            ]
        before = f"; the vectors of {self.known:,} more are kept and those are not sent again" if self.known else ""
        of = f"the vectors of {counted(self.open, 'text')}{before}"
        what = "Held-out questions, and the rows or passages to search,"
        return [
            f"{counted(self.requests, 'request')} to {self.model} at {self.host}, for {of}.",
            f"About {self.tokens:,} tokens are sent.",
            "Cost unknown: give the price per million input tokens (0 for your own server)."
            if self.price is None
            else f"That costs about {money(self.price)}.",
            f"{what} are read by a server on this machine and do not leave it."
            if self.is_here
            else f"{what} leave this machine for {self.host}.",
        ]


def plan(run: RunDirectory, embeddings: Embeddings, texts: Sequence[str]) -> EmbeddingPlan:
    """What the vectors of `texts` take. Sends nothing."""
    wanted = _wanted(texts)
    left = wanted.keys() - _known(run, embeddings, wanted).keys()
    tokens = sum(estimate_tokens(wanted[key]) for key in left)
    cost = None if embeddings.price is None else tokens * embeddings.price / 1_000_000
    requests = -(-len(left) // _BATCH)
    endpoint = embeddings.endpoint
    sizes = len(wanted), len(wanted) - len(left), requests, tokens
    return EmbeddingPlan(endpoint.host, endpoint.model, *sizes, cost, endpoint.is_here)


def vectors_of(
    run: RunDirectory,
    embeddings: Embeddings,
    texts: Sequence[str],
    *,
    tell: Progress = silent,
    should_stop: Callable[[], bool] | None = None,
) -> list[Vector]:
    """The vectors of `texts`, in order. Missing ones are requested. A blank text is equally far from all others.

    Raises FtlabError if the address cannot be reached or its vectors do not fit together, and Stopped; vectors received
    until then are kept.
    """
    wanted = _wanted(texts)
    vectors = _known(run, embeddings, wanted)
    left = [key for key in wanted if key not in vectors]
    if left:
        end_last_line(run.embeddings_file)
        asker = Asker(embeddings.endpoint, threading.Event(), EMBEDDER)
        try:
            for start in range(0, len(left), _BATCH):
                tell(f"vectors of {embeddings.model}", len(wanted) - len(left) + start, len(wanted))
                if should_stop and should_stop():
                    raise Stopped
                keys = left[start : start + _BATCH]
                began = time.monotonic()
                made = asker.embed([wanted[key] for key in keys])
                seconds = (time.monotonic() - began) / len(keys)
                for key, values in zip(keys, made, strict=True):
                    kept = np.asarray(values, np.float32)
                    vectors[key] = Vector(_of_length_one(kept), seconds)
                    packed = base64.b64encode(kept.tobytes()).decode()
                    line = {"who": embeddings.who, "key": key, "vector": packed, "seconds": round(seconds, 5)}
                    append_jsonl(run.embeddings_file, line)
        finally:
            asker.close()
    sizes = {len(vector.values) for vector in vectors.values()}
    if len(sizes) > 1:
        raise FtlabError(
            f"The vectors of {embeddings.model} differ in length: {', '.join(map(str, sorted(sizes)))}",
            why="Another model answers under that name now, and earlier vectors are kept",
            try_=f"delete {run.embeddings_file}, or name the model otherwise",
        )
    nothing = Vector(np.zeros(next(iter(sizes), 1), np.float32), 0.0)
    return [vectors.get(_key(text), nothing) for text in texts]


def _wanted(texts: Sequence[str]) -> dict[str, str]:
    """The texts to send out of `texts`, by key, without repeats."""
    return {_key(text): text[:_LONGEST] for text in texts if text.strip()}


def _key(text: str) -> str:
    return hashlib.sha256(text[:_LONGEST].encode("utf-8", "surrogatepass")).hexdigest()[:24]


def _known(run: RunDirectory, embeddings: Embeddings, wanted: dict[str, str]) -> dict[str, Vector]:
    """The stored vectors of `wanted` by key, from `run` or a neighboring run."""
    vectors: dict[str, Vector] = {}
    owners = [run, *(RunDirectory(path) for path in sorted(run.path.parent.iterdir()) if path != run.path)]
    for owner in reversed(owners):  # vectors in the run itself take precedence
        for line in read_jsonl(owner.embeddings_file):
            if line.get("who") == embeddings.who and line.get("key") in wanted:
                values = np.frombuffer(base64.b64decode(line["vector"]), np.float32)
                vectors[line["key"]] = Vector(_of_length_one(values), line["seconds"])
    return vectors


def _of_length_one(values: np.ndarray) -> np.ndarray:
    length = float(np.linalg.norm(values))
    return values / length if length else values
