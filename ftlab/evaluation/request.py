"""What an evaluation of a run is asked, from whichever door it comes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftlab.core.run_directory import RunDirectory

if TYPE_CHECKING:
    from ftlab.evaluation.embeddings import Embeddings
    from ftlab.evaluation.outside import Outside


@dataclass(frozen=True, kw_only=True)
class Request:
    """The usual request is the run against its base on its held-out rows, and what else belongs to its stage.

    `others` are further runs on the same rows; a `suite` (a sample, a file, a Hub id) replaces those. `settings`
    override those of `evaluation` in the run's configuration. With a `strength`, the run is scored at that strength
    instead of as trained. `against` are sides that answer elsewhere; they stay in later comparisons of these rows
    unless `without` names them by title. `embeddings` index retrieval instead of TF-IDF. `price_per_hour` of this
    machine converts seconds to a cost. With a `reward_model`, it judges the answers before and after training, and
    nothing else is done.
    """

    others: Sequence[RunDirectory] = ()
    suite: str | None = None
    max_rows: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    strength: float | None = None
    against: Sequence[Outside] = ()
    without: Sequence[str] = ()
    embeddings: Embeddings | None = None
    price_per_hour: float | None = None
    reward_model: RunDirectory | None = None

    @property
    def is_usual(self) -> bool:
        """Whether it asks what belongs to the stage of the run, on all rows or fewer."""
        numbers = (self.strength, self.price_per_hour)
        others = (self.others, self.suite, self.settings, self.against, self.without, self.embeddings)
        return not any(others) and numbers == (None, None)

    @property
    def changes(self) -> dict[str, Any]:
        """What it changes in the configuration of the run, by dotted names."""
        values = {**self.settings, "max_rows": self.max_rows}
        return {f"evaluation.{name}": value for name, value in values.items() if value is not None}

    @property
    def sends(self) -> bool:
        """Whether it needs an address."""
        return self.embeddings is not None or any(side.url for side in self.against)

    def as_dict(self) -> dict[str, Any]:
        """For another process of this machine."""
        values = vars(self) | {"others": [str(run.path) for run in self.others], "settings": dict(self.settings)}
        values |= {"against": [side.as_dict() for side in self.against], "without": list(self.without)}
        values["embeddings"] = asdict(self.embeddings) if self.embeddings else None
        return values | {"reward_model": str(self.reward_model.path) if self.reward_model else None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Request:
        from ftlab.evaluation.embeddings import Embeddings
        from ftlab.evaluation.outside import Outside

        runs = [RunDirectory(Path(path)) for path in values["others"]]
        against = [Outside.from_dict(side) for side in values["against"]]
        embeddings = Embeddings(**values["embeddings"]) if values["embeddings"] else None
        judge = RunDirectory(Path(values["reward_model"])) if values["reward_model"] else None
        read = {"others": runs, "against": against, "embeddings": embeddings, "reward_model": judge}
        return cls(**{**values, **read})
