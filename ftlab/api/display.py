"""Results with a rich display in Jupyter; each also keeps its figures."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from ftlab.arena.results import TallyJson
from ftlab.core.comparison import ComparisonJson
from ftlab.core.processes import quieten
from ftlab.core.run_directory import RunDirectory
from ftlab.core.run_results import BeforeAfterJson, StrengthsJson
from ftlab.errors import FtlabError, InputError

if TYPE_CHECKING:
    import pandas

    from ftlab.report.charts import Panel


class Comparison(dict[str, Any]):
    """The contents of comparison.json, shown in Jupyter with verdict, table and chart."""

    def __init__(self, comparison: ComparisonJson, run: RunDirectory | None = None):
        super().__init__(comparison)
        self.json = comparison
        self._run = run

    @property
    def table(self) -> pandas.DataFrame:
        """One row per measure: base, adapted and the change, formatted."""
        import pandas

        from ftlab.report.measures import comparison_table

        rows = pandas.DataFrame(comparison_table(self.json))
        return rows[["measure", "base", "adapted", "change", "p"]].set_index("measure")

    @property
    def verdict(self) -> str:
        from ftlab.report.measures import verdict_text

        return verdict_text(self.json)

    @property
    def better(self) -> bool | None:
        """Whether the adapted model is better than its base; None if the rows do not decide it."""
        return self["verdict"]["better"]

    def value(self, measure: str, side: str = "adapted") -> float:
        """The score of `side` in `measure` (a name such as exact_match). Raises InputError listing the known ones."""
        known = {measured["name"]: measured["values"] for measured in self["measures"]}
        if measure not in known or known[measure].get(side) is None:
            sides = sorted({side for values in known.values() for side in values})
            raise InputError(
                "The comparison does not have this value",
                given=f"{measure} of {side}",
                allowed=f"{', '.join(known)}; of {', '.join(sides)}",
            )
        return known[measure][side]

    def _repr_html_(self) -> str:
        from ftlab.ui.notebook import comparison_html

        return comparison_html(self.json, self._run)

    def __repr__(self) -> str:
        return "\n".join(verdict["text"] for verdict in self.get("verdicts", {}).values()) or dict.__repr__(self)


class Strengths(dict[str, Any]):
    """The scores of several strengths of a run, and the proposed one; shown in Jupyter as a table and a chart."""

    def __init__(self, values: StrengthsJson):
        super().__init__(values)
        self.json = values

    @property
    def proposed(self) -> float:
        return self["proposed"]

    @property
    def table(self) -> pandas.DataFrame:
        """One row per strength, formatted."""
        import pandas

        from ftlab.evaluation.strengths import table_of

        head, rows = table_of(self.json)
        return pandas.DataFrame(rows, columns=head).set_index("strength")

    def _repr_html_(self) -> str:
        from ftlab.ui.notebook import strengths_html

        return strengths_html(self.json)

    def __repr__(self) -> str:
        from ftlab.evaluation.strengths import lines

        return "\n".join(lines(self.json))


class BlindVerdict(dict[str, Any]):
    """The verdict of a blind test, shown in Jupyter with its charts."""

    def __init__(self, tally: TallyJson):
        super().__init__(tally)
        self.json = tally

    @property
    def text(self) -> str:
        return self["text"]

    def _repr_html_(self) -> str:
        from ftlab.ui.notebook import verdict_html

        return verdict_html(self.json)

    def __repr__(self) -> str:
        return self["text"]


class BeforeAfter(dict[str, Any]):
    """The answers of base, start and run to the same held-out prompts: figures, with the answers as `rows`."""

    def __init__(self, values: BeforeAfterJson, rows: Sequence[Mapping[str, Any]]):
        super().__init__(values)
        self.json, self.rows = values, rows

    def _repr_html_(self) -> str:
        from ftlab.ui.notebook import before_after_html

        return before_after_html(self.json, self.rows)


@dataclasses.dataclass(frozen=True)
class Compared:
    """Several runs side by side: `table` with the figures, `panels` for the chart, `sentences` on each run."""

    table: pandas.DataFrame
    panels: Sequence[Panel]
    sentences: Sequence[str]
    _cells: Sequence[Sequence[str]] = dataclasses.field(repr=False)

    def _repr_html_(self) -> str:
        from ftlab.report.charts import runs_chart
        from ftlab.ui.notebook import compared_html

        head, *rows = self._cells
        return compared_html(runs_chart(self.panels), head, rows, self.sentences)

    def __repr__(self) -> str:
        return repr(self.table)


@dataclasses.dataclass(frozen=True, repr=False)
class Answers:
    """Both answers to one `message`. `cut` names the sides that reached the token limit."""

    message: str
    base: str
    adapted: str
    cut: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def _repr_html_(self) -> str:
        from ftlab.ui.notebook import answers_html

        return answers_html(self.message, self.base, self.adapted, self.notes)

    def __repr__(self) -> str:
        return f"base:    {self.base}\nadapted: {self.adapted}"


@dataclasses.dataclass(frozen=True)
class Page:
    """An HTML page."""

    html: str = dataclasses.field(repr=False)
    title: str

    def _repr_html_(self) -> str:
        return self.html


@dataclasses.dataclass(frozen=True)
class Expectation:
    """Whether `shows` holds, as one line; if it does not, with what that means and what to try (`otherwise`)."""

    holds: bool
    shows: str
    otherwise: str

    def _repr_html_(self) -> str:
        head, _, text = repr(self).partition(": ")
        color = "#2e8b57" if self.holds else "#c77700"  # readable on light and dark pages
        return Markup('<div style="margin:.3rem 0"><b style="color:{}">{}:</b> {}</div>').format(color, head, text)

    def __repr__(self) -> str:
        return f"As expected: {self.shows}" if self.holds else f"Expected, but not here: {self.shows} {self.otherwise}"


def expect(holds: object, shows: str, *, otherwise: str) -> None:
    """Display in one line whether an expectation `holds` (a truth value): `shows` is the sentence that is true if it
    does; `otherwise` says what it means if not, and what to try. Unlike `assert`, it does not stop the notebook."""
    expectation = Expectation(bool(holds), shows, otherwise)
    if in_jupyter() is None:
        print(expectation)
        return
    from IPython.display import display

    display(expectation)


def in_jupyter() -> Any | None:
    """The shell of the notebook that runs this code; None elsewhere."""
    try:
        from IPython import get_ipython
    except ImportError:
        return None
    shell = get_ipython()
    return shell if shell is not None and hasattr(shell, "kernel") else None


def suit_jupyter() -> None:
    """In Jupyter, show an expected error as its message alone, and hide the notices of libraries.

    The message of an FtlabError says what to fix; a traceback would not help.
    """
    shell = in_jupyter()
    if shell is None:
        return
    # In red, in the middle of a page. Runs download and train in processes of their own, with logs of their own.
    warnings.filterwarnings("ignore", message="IProgress not found")
    quieten()

    def show(self: Any, kind: type, error: BaseException, traceback: Any, tb_offset: int | None = None) -> list[str]:
        lines = [f"{kind.__name__}: {error}"]
        self._showtraceback(kind, error, lines)
        return lines

    shell.set_custom_exc((FtlabError,), show)


def show_richly(kind: type, name: str) -> None:
    """Let Jupyter show objects of `kind`, which have no HTML of their own, with the function `name` of
    ftlab.ui.notebook."""
    shell = in_jupyter()
    if shell is None:
        return

    def draw(value: Any) -> str:
        from ftlab.ui import notebook

        return getattr(notebook, name)(value)

    shell.display_formatter.formatters["text/html"].for_type(kind, draw)
