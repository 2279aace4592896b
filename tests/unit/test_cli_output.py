"""The tables of the command line."""

from __future__ import annotations

from ftlab.cli.output import print_table
from tests.comparisons import three_sides


def test_the_table_has_a_column_for_the_prompted_base_and_says_who_wins_against_it(capsys):
    print_table(three_sides())
    head, first, *rest = capsys.readouterr().out.strip("\n").splitlines()
    assert head.split("  ")[-1] == "change" and "base, prompted" in head
    place = head.index("base, prompted")
    assert first.startswith("Exact match") and first[place:].split()[0] == "30%"
    assert any(line.startswith("Against the prompted base: The adapted model is better than") for line in rest)


def test_without_a_prompted_base_there_is_no_column_for_it(capsys):
    comparison = three_sides()
    comparison["sides"] = [side for side in comparison["sides"] if side["name"] != "prompted"]
    print_table(comparison)
    assert "prompted" not in capsys.readouterr().out.split("\n")[1]
