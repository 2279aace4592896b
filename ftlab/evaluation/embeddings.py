"""Text embeddings from a model behind an address (OpenAI's `POST .../embeddings`), as the index for retrieval.

`read_embeddings` parses the user's setting (`https://host/v1#model`), `plan` estimates the request before anything is
sent, and `vectors_of` sends it. Each vector is stored in `embeddings.jsonl` of the run as it arrives, so nothing is
sent twice.
"""

from __future__ import annotations

import base64
import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ftlab.core.endpoint import EMBEDDER, Asker, Endpoint, SendingPlan, check_prices, endpoint_url, estimate_tokens
from ftlab.core.files import append_jsonl, digest, end_last_line, lines_of
from ftlab.core.jobs import Stopped
from ftlab.core.run_directory import RunDirectory
from ftlab.core.words import counted
from ftlab.errors import FtlabError, InputError
from ftlab.evaluation.batches import Progress, silent

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
        return digest([self.url, self.model], 16)


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


@dataclass(frozen=True, kw_only=True)
class EmbeddingPlan(SendingPlan):
    """Requests for the vectors of `texts`, of which `known` have one already."""

    texts: int

    @property
    def open(self) -> int:
        return self.texts - self.known

    def lines(self) -> list[str]:
        if not self.open:
            return [
                f"Nothing to send: the vectors of all {self.texts:,} texts by {self.model} at {self.host} are kept."
            ]
        before = f"; the vectors of {self.known:,} more are kept and those are not sent again" if self.known else ""
        of = f"the vectors of {counted(self.open, 'text')}{before}"
        return [
            f"{counted(self.requests, 'request')} to {self.model} at {self.host}, for {of}.",
            *self.before_sending("Held-out questions, and the rows or passages to search,"),
        ]


def plan(run: RunDirectory, embeddings: Embeddings, texts: Sequence[str]) -> EmbeddingPlan:
    """What the vectors of `texts` take. Sends nothing."""
    wanted = _wanted(texts)
    left = wanted.keys() - _known(run, embeddings, wanted).keys()
    tokens = sum(estimate_tokens(wanted[key]) for key in left)
    return EmbeddingPlan.to(
        embeddings.endpoint,
        (tokens, 0, 0),
        (embeddings.price, 0.0),
        texts=len(wanted),
        known=len(wanted) - len(left),
        requests=-(-len(left) // _BATCH),
    )


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
    files = (owner.embeddings_file for owner in run.and_neighbours())
    for line in lines_of(files, embeddings.who, wanted):
        values = np.frombuffer(base64.b64decode(line["vector"]), np.float32)
        vectors[line["key"]] = Vector(_of_length_one(values), line["seconds"])
    return vectors


def _of_length_one(values: np.ndarray) -> np.ndarray:
    length = float(np.linalg.norm(values))
    return values / length if length else values
