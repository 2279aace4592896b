"""The verdict: figures worked out by hand or published, and what the words promise."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from dataclasses import replace

import pytest

from ftlab.arena.ballots import Ballot
from ftlab.arena.evidence import anytime_interval, decide, krippendorff_alpha, log_evidence, sign_test
from ftlab.arena.power import Chances, outcome_of_prompt, plan_in_words, power, prompts_needed, votes_each
from ftlab.arena.verdict import bradley_terry, decided_early, judge
from ftlab.errors import InputError
from tests.votes_simulated import Population, error_rates, simulate, worse_by

TITLES = {"a": "Base", "b": "Adapted"}


def ballots(outcomes: str, prompts: int | None = None, rater: str = "Ann") -> list[Ballot]:
    """One ballot a letter: b or a won, g both good, x both bad, s skipped, i identical; sides take turns."""
    found = []
    for i, letter in enumerate(outcomes):
        left, right = ("a", "b") if i % 2 else ("b", "a")
        choice = {"g": "both_good", "x": "both_bad", "s": "skip", "i": "tie"}.get(letter)
        choice = choice or ("left" if letter == left else "right")
        prompt = str(i % prompts if prompts else i)
        found.append(Ballot(prompt, rater, left, right, choice, float(i), automatic=letter == "i", trial=f"{i:04}"))
    return found


def test_the_win_rate_has_the_interval_that_newcombe_published():
    # R. G. Newcombe, 1998, Statistics in Medicine 17, table I: 81 of 263, score method: .2553 to .3662.
    found = judge(ballots("baa" * 81 + "a" * 20), TITLES, planned=263)
    assert found["win_rate"] == pytest.approx(81 / 263)
    assert found["interval"] == pytest.approx([0.2553, 0.3662], abs=5e-5)
    assert found["verdict"] == "worse"


def test_the_sign_test_and_the_evidence_are_what_one_works_out_by_hand():
    # 9 of 10: 2 * (1 + 10) / 1024.
    assert sign_test(1, 9) == pytest.approx(22 / 1024)
    # n wins of n: 2^n / (n + 1); 2 of 3: 8 / (4 * 3).
    assert [math.exp(value) for value in log_evidence([1, 2, 3])] == pytest.approx([1, 4 / 3, 2])
    assert math.exp(log_evidence([1, 1, 2])[-1]) == pytest.approx(8 / 12)
    # 8 of 8: rates with rate^8 > 1 / (9 * 20) fit.
    assert anytime_interval(8, 8) == pytest.approx([(1 / 180) ** (1 / 8), 1.0])


def test_eleven_wins_in_a_row_decide_before_the_planned_number_and_ten_do_not():
    # 2^10 / 11 is 93, 2^11 / 12 is 171; the evidence decides from 100 on.
    assert judge(ballots("b" * 10), TITLES, planned=100)["verdict"] == "not_enough"
    found = judge(ballots("b" * 11), TITLES, planned=100)
    assert (found["verdict"], found["decided_by"], found["evidence"]["crossed_at"]) == ("better", "evidence", 11)
    assert decided_early(ballots("b" * 10), TITLES, planned=100) is None
    assert decided_early(ballots("b" * 11), TITLES, planned=100) == pytest.approx(2048 / 12)
    assert judge(ballots("a" * 11), TITLES, planned=100)["verdict"] == "worse"


def test_what_was_decided_stays_decided_whatever_comes_later():
    votes = ballots("b" * 11 + "a" * 60)
    verdicts = [judge(votes[:n], TITLES, planned=60)["verdict"] for n in (10, 11, 30, 59, 60, 71)]
    assert verdicts == ["not_enough", *["better"] * 5]


def test_only_the_votes_of_the_planned_number_decide_at_the_planned_number():
    # 12 of 16 at the plan: p = 2 * 2517 / 65536 = .077; four late wins would make it 16 of 20, p = .012.
    found = judge(ballots("abbb" * 4 + "bbbb"), TITLES, planned=16)
    assert found["verdict"] == "no_difference"
    assert found["p"] == pytest.approx(2 * 2517 / 65536)
    assert any("4 votes came after the planned number" in note for note in found["notes"])


def test_ties_by_identical_answers_are_among_the_planned_votes_and_skips_are_not():
    votes = ballots("bbgx" * 3 + "ssii")
    found = judge(votes, TITLES, planned=14)
    assert found["votes"]["cast"] == 14 and found["reached"]
    assert not judge(votes, TITLES, planned=15)["reached"]
    assert found["counts"] == {"wins": {"a": 0, "b": 6}, "both_good": 3, "both_bad": 3, "tie": 2, "skip": 2}
    assert found["ties"]["share"] == pytest.approx(8 / 14)
    assert found["ties"]["text"] == (
        "6 of 12 votes chose neither (50%): 3 said both are good, 3 said both are bad. On 2 prompts two answers were "
        "the same: a tie, which no rater saw."
    )


def test_a_test_that_was_closed_unseen_is_tested_on_what_it_has_and_one_that_was_seen_is_not():
    # 9 of 10, p = .021.
    votes = ballots("bbbbabbbbb")
    assert judge(votes, TITLES, planned=40)["verdict"] == "not_enough"
    closed = judge(votes, TITLES, planned=40, closed_unseen=True)
    assert closed["verdict"] == "better" and any("Closed before the planned number" in note for note in closed["notes"])


def test_the_unit_is_the_prompt_so_ten_raters_who_agree_on_three_prompts_prove_nothing():
    votes = [
        Ballot(str(prompt), f"Rater {rater}", *(("a", "b") if rater % 2 else ("b", "a")),
               "right" if rater % 2 else "left", 10.0 * prompt + rater)
        for prompt in range(3) for rater in range(10)
    ]  # fmt: skip
    found = judge(votes, TITLES, planned=30, wanted=10)
    assert found["win_rate"] == 1.0 and found["prompts"]["wins"] == 3
    assert found["verdict"] == "not_enough"
    assert found["p"] == pytest.approx(2 / 8)
    assert "full agreement" in found["alpha"]["text"]


def test_a_prompt_is_evidence_once_all_its_votes_are_in():
    # Two votes each on 12 prompts, all for b: the first round completes none.
    votes = ballots("b" * 24, prompts=12)
    assert judge(votes[:12], TITLES, planned=100, wanted=2)["evidence"]["prompts"] == 0
    assert judge(votes[:22], TITLES, planned=100, wanted=2)["evidence"]["prompts"] == 10
    assert judge(votes, TITLES, planned=100, wanted=2)["verdict"] == "better"


def test_too_few_votes_for_any_test_are_called_too_few():
    found = judge(ballots("bbbbb" + "g" * 15), TITLES, planned=20)
    assert found["verdict"] == "not_enough" and "fewer than 6" in found["text"]
    assert "none chose" in judge([], TITLES, planned=20)["text"]
    # Three pairs share the 4%: 2 / 2^7 is more than a third of it, so seven prompts could decide nothing.
    titles = {"a": "Base", "c": "Other", "b": "Adapted"}
    assert judge(ballots("b" * 7 + "g" * 14), titles, planned=21)["pairs"][1]["verdict"] == "not_enough"
    assert judge(ballots("b" * 8 + "g" * 14), titles, planned=22)["pairs"][1]["verdict"] == "better"


def test_alpha_is_the_one_of_krippendorffs_own_example():
    # K. Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), section D: nominal, .743.
    rows = ["123321412...", "1233224125.3", ".3332342251.", "12332441251."]
    units = [
        {rater: int(row[unit]) for rater, row in enumerate(rows) if row[unit] != "."} for unit in range(len(rows[0]))
    ]
    value, interval = krippendorff_alpha(units)
    assert value == pytest.approx(0.743, abs=5e-4)
    assert interval[0] < value < interval[1]


def test_position_bias_and_guesses_are_tested_against_chance():
    # 15 of 20: 2 * 21700 / 2^20 = .0414.
    votes = [
        Ballot(str(i), "Ann", "a", "b", "left" if i < 15 else "right", float(i), guess="right" if i < 15 else "left")
        for i in range(20)
    ]
    found = judge(votes, TITLES, planned=20)
    assert found["position"]["p"] == pytest.approx(43400 / 2**20)
    assert "raters favor the left" in found["position"]["text"]
    assert found["guesses"]["right"] == 15 and "could often tell" in found["guesses"]["text"]


def test_a_preference_for_length_is_told_from_a_preference_for_the_contestant():
    longer = [Ballot(str(i), "Ann", "a", "b", "right" if i < 20 else "left", float(i),
                     left_length=10 if i < 20 else 90, right_length=50) for i in range(40)]  # fmt: skip
    found = judge(longer, TITLES, planned=40)["length"]
    assert found["longer_won"] == 40 and found["confounded"]
    assert found["second_is"]["longer"]["win_rate"] == 1.0 and found["second_is"]["shorter"]["win_rate"] == 0.0


def test_three_contestants_are_ranked_as_in_the_published_example():
    # Wikipedia, Bradley-Terry model, "Estimating the parameters": wins of rows over columns and the strengths
    # .640, 1.043, .660, 2.270.
    wins = {"AB": 2, "AD": 1, "BA": 3, "BC": 5, "CB": 3, "CD": 1, "DA": 4, "DC": 3}
    votes, number = [], 0
    for (winner, loser), times in wins.items():
        for _ in range(times):
            left, right = (winner, loser) if number % 2 else (loser, winner)
            side = "left" if left == winner else "right"
            votes.append(Ballot(str(number), "Ann", left, right, side, float(number)))
            number += 1
    p = {"A": 0.640, "B": 1.043, "C": 0.660, "D": 2.270}
    expected = {one: sum(p[one] / (p[one] + p[other]) for other in p if other != one) / 3 for one in p}
    rows = bradley_terry(votes, {name: name for name in "ABCD"})
    assert [row["id"] for row in rows] == ["D", "B", "C", "A"]
    assert {row["id"]: row["strength"] for row in rows} == pytest.approx(expected, abs=2e-3)
    assert all(row["interval"][0] <= row["strength"] <= row["interval"][1] for row in rows)


def test_with_three_contestants_better_means_better_than_every_other():
    titles = {"a": "Base", "b": "Prompted", "c": "Adapted"}

    def votes(strong: dict[tuple[str, str], str]) -> list[Ballot]:
        return [
            Ballot(f"{one}{other}{i}", "Ann", *((one, other) if i % 2 else (other, one)),
                   "left" if (one if i % 2 else other) == winner else "right", float(i))
            for (one, other), winner in strong.items() for i in range(20)
        ]  # fmt: skip

    clear = judge(votes({("a", "b"): "b", ("a", "c"): "c", ("b", "c"): "c"}), titles, planned=60)
    assert clear["verdict"] == "better" and clear["winner"] == "c"
    assert clear["text"].startswith("Adapted is better than every other contestant")
    circle = judge(votes({("a", "b"): "b", ("a", "c"): "a", ("b", "c"): "c"}), titles, planned=60)
    assert circle["winner"] is None and circle["text"].startswith("No contestant beats every other")


def test_swapping_the_contestants_swaps_the_verdict_and_nothing_else():
    for outcomes in ("b" * 14, "abbb" * 10, "ab" * 20, "bbbbg"):
        votes = ballots(outcomes)
        one, other = judge(votes, TITLES, planned=len(votes)), judge(votes, {"b": "x", "a": "y"}, planned=len(votes))
        swapped = {"better": "worse", "worse": "better"}
        assert other["verdict"] == swapped.get(one["verdict"], one["verdict"])
        assert (other["p"], other["winner"], other["evidence"]["now"]) == (
            pytest.approx(one["p"]), one["winner"], pytest.approx(one["evidence"]["now"])
        )  # fmt: skip
        assert other["win_rate"] == pytest.approx(1 - one["win_rate"])


def test_the_verdict_is_json_whatever_the_votes():
    rng = random.Random(0)
    for size in (0, 1, 2, 7, 40):
        votes = ballots("".join(rng.choices("abgxsi", k=size)), prompts=max(1, size // 2))
        for titles in (TITLES, {"a": "Base", "c": "Other", "b": "Adapted"}):
            json.dumps(judge(votes, titles, planned=20, wanted=2, opened_early=3, left_out=1), allow_nan=False)


def test_the_power_is_what_one_works_out_by_hand():
    # 10 prompts: at 4% the sign test rejects from 9 on; .9^10 + 10 * .9^9 * .1.
    assert power(10, Chances(0.9)) == pytest.approx(0.9**10 + 10 * 0.9**9 * 0.1)
    # Three votes: independent ones give the majority .6^3 + 3 * .6^2 * .4, votes that are all alike .6.
    assert outcome_of_prompt(Chances(0.6, 0.0, 3, 0.0))[0] == pytest.approx(0.648, abs=1e-6)
    assert outcome_of_prompt(Chances(0.6, 0.0, 3, 1.0))[0] == pytest.approx(0.6, abs=1e-6)
    assert power(5, Chances(1.0)) == 0 and "too few to show any difference" in plan_in_words(5, 5)
    with pytest.raises(InputError, match="no difference"):
        prompts_needed(Chances(0.5))


@pytest.mark.parametrize(
    "population",
    [
        Population(0.5, prompts=80),
        Population(0.5, prompts=40, votes_per_prompt=3, ties=0.2, agreement=0.6, left=0.2),
    ],
)
def test_at_most_one_test_in_twenty_finds_a_difference_where_there_is_none(population):
    """Though somebody looks after every vote, and votes on a prompt are alike."""
    planned = population.prompts * population.votes_per_prompt
    rates = error_rates(population, 400, planned=planned)
    assert rates["better"] <= 0.05 and rates["better"] + rates["worse"] <= 0.05


def test_looking_after_every_vote_gives_the_same_verdict_as_looking_once():
    """The simulation looks once; so this shows that it counts what somebody who always looks would see."""
    rng = random.Random(3)
    for rate in (0.5, 0.75):
        votes = simulate(Population(rate, prompts=30, votes_per_prompt=2, agreement=0.4), rng)
        titles = {"first": "First", "second": "Second"}
        seen = [decided_early(votes[:n], titles, planned=60, wanted=2) is not None for n in range(len(votes) + 1)]
        assert seen == sorted(seen)


@pytest.mark.parametrize("chances", [Chances(0.7, ties=0.2), Chances(0.7, 0.2, votes_per_prompt=3, agreement=0.3)])
def test_the_promised_power_is_reached_at_the_planned_number(chances):
    prompts = prompts_needed(chances)
    agreement = chances.agreement if chances.votes_per_prompt > 1 else 0.0
    population = Population(chances.rate, prompts, chances.votes_per_prompt, chances.ties, agreement)
    rates = error_rates(population, 400, planned=prompts * chances.votes_per_prompt)
    # 80%, within two standard errors of 400 tests.
    assert rates["better"] >= 0.76 and rates["worse"] == 0


def test_with_three_contestants_the_promised_power_is_that_of_the_function_that_judges():
    """Three contestants on 40 prompts: what is promised for 120 prompts (80% at .655) is found in 18% of tests."""
    chances = Chances(0.655, ties=0.2, contestants=3)
    assert power(40, chances) == pytest.approx(0.178, abs=0.002)
    rng, found, tests = random.Random(5), 0, 600
    for _ in range(tests):
        votes = simulate(Population(chances.rate, 40, ties=0.2), rng)
        other = [Ballot(b.prompt, b.rater, "third", "first", "left", b.created) for b in votes] * 2
        decision = decide([*votes, *other], "first", "second", planned=120, comparisons=3)
        found += decision.by == "plan" and decision.winner == "second"
    # What evidence decides before the planned number comes on top; here it is left out by judging at the plan alone.
    assert found / tests <= power(40, chances) + 3 * (0.178 * 0.822 / tests) ** 0.5
    text = plan_in_words(120, 40, contestants=3)
    rate = float(text.split("another of ")[1].split("%")[0]) / 100
    assert "80% of tests" in text and rate >= 0.77
    assert power(40, Chances(rate, 0.2, contestants=3)) >= 0.8 > power(40, Chances(rate - 0.005, 0.2, contestants=3))


@pytest.mark.parametrize("chances", [Chances(0.79, 0.2, contestants=3), Chances(0.72, 0.2, 3, 0.3)])
def test_what_is_promised_is_what_decide_finds(chances):
    rng, found, tests, votes_each = random.Random(1), 0, 400, chances.votes_per_prompt
    for _ in range(tests):
        population = Population(chances.rate, 40, votes_each, 0.2, chances.agreement if votes_each > 1 else 0.0)
        votes = simulate(population, rng)
        decision = decide(votes, "first", "second", planned=len(votes), wanted=votes_each, comparisons=chances.pairs)
        found += decision.winner == "second"
    promised = power(40, chances)
    assert promised - 0.06 <= found / tests <= promised + 0.1  # evidence may add, see the module's text


def test_fewer_votes_than_the_prompts_could_take_are_spread_as_the_assignment_spreads_them():
    from tests.unit.test_arena_assignment import play

    seen: Counter[int] = Counter()
    for seed in range(4):
        handed = play(30, 2, raters=4, votes_per_prompt=3, overlap=1.0, seed=seed, stop=45)
        times = Counter(unit.prompt_id for trials in handed.values() for unit, _ in trials)
        seen.update(times[f"prompt {n}"] for n in range(30))
    assert votes_each(30, Chances(0.6, 0.2, 3), 45) == pytest.approx({0: 0.0625, 1: 0.375, 2: 0.5625})
    assert seen[3] == 0 and sum(seen.values()) == 120
    assert [seen[n] / 120 for n in range(3)] == pytest.approx([0.0625, 0.375, 0.5625], abs=0.12)


def rated(rates: dict[str, float], prompts: int, seed: int = 0) -> list[Ballot]:
    """Every rater votes on every prompt, and chooses b so often."""
    rng = random.Random(seed)
    return [
        Ballot(str(n), rater, *(("a", "b") if (n + i) % 2 else ("b", "a")),
               "right" if (rng.random() < rate) == bool((n + i) % 2) else "left", float(n) + i / 100)
        for i, (rater, rate) in enumerate(rates.items()) for n in range(prompts)
    ]  # fmt: skip


def test_a_verdict_speaks_of_its_raters_unless_raters_as_a_sample_agree():
    one = judge(rated({"Ann": 0.9}, 40), TITLES, planned=40)
    assert one["text"].startswith("Adapted is better than Base for this rater: it won")
    three = judge(rated(dict.fromkeys(("Ann", "Ben", "Cleo"), 0.8), 40), TITLES, planned=120, wanted=3)
    assert three["text"].startswith("Adapted is better than Base for these 3 raters: it won") and not three["general"]
    assert any("takes 6 or more" in note for note in three["notes"])
    eight = judge(rated({f"R{n}": 0.75 for n in range(8)}, 30), TITLES, planned=240, wanted=8)
    assert eight["general"] and eight["text"].startswith("Adapted is better than Base: it won")
    assert "over raters and prompts" in eight["text"]
    split = judge(rated({f"R{n}": 0.95 if n < 6 else 0.05 for n in range(8)}, 30), TITLES, planned=240, wanted=8)
    assert split["verdict"] == "better" and not split["general"] and "for these 8 raters" in split["text"]
    assert any("cannot show" in note for note in split["notes"])
    assert any("Raters differ: the win rate of Adapted is" in note and "p < .001" in note for note in split["notes"])


def test_a_test_that_was_decided_early_speaks_of_its_raters():
    votes = rated({f"R{n}": 1.0 for n in range(8)}, 30)
    early = judge(sorted(votes, key=lambda ballot: ballot.created)[:160], TITLES, planned=240, wanted=8)
    assert early["decided_by"] == "evidence" and not early["general"] and "for these 8 raters" in early["text"]


def test_what_was_decided_by_one_rater_says_nothing_of_those_who_voted_later():
    votes = ballots("b" * 12) + [replace(ballot, rater=f"R{n % 3}", prompt=f"later {n}", created=100.0 + n)
                                 for n, ballot in enumerate(ballots("a" * 24))]  # fmt: skip
    found = judge(votes, TITLES, planned=60)
    assert found["text"].startswith("Adapted is better than Base for the rater who had voted when it was decided")
    assert "It has now won 33.3% of the 36 votes" in found["text"]


@pytest.mark.parametrize(
    "population",
    [
        Population(0.5, prompts=60, votes_per_prompt=3, taste=1.0),
        Population(0.5, prompts=25, votes_per_prompt=6, taste=-1.0),
        Population(0.5, prompts=30, votes_per_prompt=8, taste=0.7, agreement=0.3),
    ],
)
def test_raters_of_different_taste_and_no_preference_on_the_whole_are_hardly_ever_called_a_preference(population):
    rates = error_rates(population, 150, planned=population.prompts * population.votes_per_prompt)
    assert rates["general_better"] + rates["general_worse"] <= 0.05


def test_raters_who_all_prefer_it_are_told_from_raters_who_happen_to():
    rates = error_rates(Population(0.7, 40, 8, agreement=0.2, taste=0.5), 80, planned=320)
    assert rates["general_better"] >= 0.8


def test_disagreement_is_told_from_no_agreement_and_few_votes_tell_neither():
    def said(opposite: int, alike: int) -> dict:
        votes = []
        for n in range(opposite + alike):
            first = "a" if n % 2 else "b"
            other = {"a": "b", "b": "a"}[first] if n < opposite else first
            votes += [
                Ballot(str(n), rater, "a", "b", "left" if choice == "a" else "right", float(n))
                for rater, choice in (("Ann", first), ("Ben", other))
            ]
        return judge(votes, TITLES, planned=len(votes), wanted=2)["alpha"]

    against = said(11, 1)
    # 13 votes for one side, 11 for the other: 1 - (11 / 12) / (2 * 13 * 11 / (24 * 23)).
    assert against["value"] == pytest.approx(1 - (11 / 12) / (2 * 13 * 11 / (24 * 23))) and against["p"] < 0.05
    assert "agreed 1 of 12 times" in against["text"] and "disagree more than by chance" in against["text"]
    # Two who each prefer their own, whatever the prompt, disagree as much.
    own = judge(rated({"Ann": 0.95, "Ben": 0.05}, 20), TITLES, planned=40, wanted=2)["alpha"]
    assert own["value"] < -0.6 and "disagree more than by chance" in own["text"]
    assert "cannot show" in said(3, 0)["text"] and "cannot show" in said(6, 6)["text"]
    assert "mostly see the same" in said(0, 12)["text"] or "agree" in said(1, 19)["text"]


def test_no_sign_of_a_lean_says_when_so_few_votes_could_not_show_one():
    def texts(number: int) -> list[str]:
        votes = [
            Ballot(str(n), "Ann", "a", "b", "left" if n % 2 else "right", float(n), left_length=n % 3, right_length=1,
                   guess="left" if n % 4 < 2 else "right")
            for n in range(number)
        ]  # fmt: skip
        found = judge(votes, TITLES, planned=number)
        return [found[name]["text"] for name in ("position", "length", "guesses")]

    assert all("few votes could hide it" in text for text in texts(10))
    assert not any("hide" in text for text in texts(1000))


def test_length_is_judged_by_prompts_and_not_by_votes_that_repeat_each_other():
    # Five raters see the same: the longer answer wins on 5 of 6 prompts, which is no more than chance makes it.
    votes = [
        Ballot(str(n), f"R{r}", "a", "b", "left" if n < 5 else "right", 10.0 * n + r, left_length=9, right_length=1)
        for n in range(6) for r in range(5)
    ]  # fmt: skip
    found = judge(votes, TITLES, planned=30, wanted=5)["length"]
    assert found["longer_won"] == 25 and found["p"] == pytest.approx(14 / 64) and not found["confounded"]


def test_no_worse_is_what_one_works_out_by_hand():
    # Against a win rate of .4, the mean of rate^n over .4 to 1: (1 - .4^(n + 1)) / (.6 (n + 1)), divided by .4^n.
    above = [math.exp(value) for value in log_evidence([1, 2], 0.4, "above")]
    assert above == pytest.approx([0.84 / (1.2 * 0.4), 0.936 / (1.8 * 0.16)])
    # One loss, and the rates below: (1 - .6^2) / (2 * .4), divided by .6.
    assert math.exp(log_evidence([0], 0.4, "below")[0]) == pytest.approx(0.64 / (0.8 * 0.6))
    # Binomial tables, n = 20 and .4: 13 wins or more .0210, 12 or more .0565; 4% is what the planned number has.
    judged = {wins: judge(ballots("ab" * (20 - wins) + "b" * (2 * wins - 20)), TITLES, planned=20, margin=10)
              for wins in (12, 13)}  # fmt: skip
    assert judged[13]["verdict"] == "no_worse" and judged[13]["p"] == pytest.approx(0.0210, abs=5e-5)
    assert judged[13]["winner"] is None and judged[13]["decided_by"] == "plan" and not judged[13]["general"]
    assert judged[13]["text"].startswith("Adapted is no worse than Base by more than 10 points for this rater: it won")
    assert judged[12]["verdict"] == "not_enough" and judged[12]["p"] == pytest.approx(0.0565, abs=5e-5)
    assert judged[12]["text"].startswith("Cannot tell whether Adapted is no worse than Base by more than 10 points")
    # With several votes on a prompt, its figures are those of prompts.
    judged = judge(ballots("a" * 5 + "b" * 25, prompts=10), TITLES, planned=30, wanted=3, margin=10)
    assert "it won 10 of the 10 prompts that chose a side" in judged["text"]
    # Without a margin, neither is better.
    assert judge(ballots("ab" * 7 + "b" * 6), TITLES, planned=20)["verdict"] == "no_difference"


def test_worse_by_more_than_the_margin_is_said_and_worse_by_less_is_not():
    worse = judge(ballots("a" * 30), TITLES, planned=30, margin=10)
    assert worse["verdict"] == "worse" and worse["winner"] == "a"
    assert "is worse than Base by more than 10 points" in worse["text"]
    # 40 of 100 is exactly at the margin; 20 of 100 is below it.
    assert judge(ballots("aabab" * 20), TITLES, planned=100, margin=10)["verdict"] == "not_enough"
    assert judge(ballots("aabaa" * 20), TITLES, planned=100, margin=10)["verdict"] == "worse"


@pytest.mark.parametrize(("planned", "share"), [(None, "bbbaab"), (400, "bbabba"), (60, "bba")])
def test_as_many_more_votes_as_it_names_decide_if_they_go_on(planned, share):
    """The estimate is checked by going on."""
    votes = ballots(share * (18 // len(share)))
    judged = judge(votes, TITLES, planned=planned, margin=10)
    assert judged["verdict"] == "not_enough" and judged["more"]
    assert f"About {judged['more']:,} more votes decide" in judged["text"]

    def verdict(more: int) -> str:
        longer = ballots((share * 200)[: len(votes) + more])
        return judge(longer, TITLES, planned=planned, margin=10)["verdict"]

    assert verdict(judged["more"] + 6) == "no_worse" and verdict(judged["more"] - 12) == "not_enough"
    assert judge(ballots("aab" * 6), TITLES, planned=None, margin=20)["more"] > 0
    assert judge(ballots("gx"), TITLES, planned=10, margin=20)["more"] is None


@pytest.mark.parametrize("planned", [True, False])
@pytest.mark.parametrize(("population", "margin"), [
    (Population(0.5, prompts=60), 0.1),
    (Population(0.5, prompts=60, votes_per_prompt=3, ties=0.2, agreement=0.3), 0.15),
])  # fmt: skip
def test_at_most_one_test_in_twenty_calls_no_worse_what_is_worse_by_the_margin(population, margin, planned):
    """However often somebody looks, with a planned number and with none."""
    votes = population.prompts * population.votes_per_prompt if planned else None
    rates = error_rates(worse_by(margin, population), 300, planned=votes, margin=margin)
    assert rates["better"] <= 0.05 and rates["worse"] <= 0.05
    assert error_rates(replace(population, rate=0.6), 100, planned=votes, margin=margin)["better"] > 0.3


def test_the_promised_power_of_no_worse_is_reached():
    chances = Chances(0.5, margin=0.2)
    prompts = prompts_needed(chances)
    assert 0.8 <= power(prompts, chances) < 0.9 and power(prompts - 5, chances) < 0.8
    rates = error_rates(Population(0.5, prompts), 300, planned=prompts, margin=0.2)
    assert rates["better"] == pytest.approx(power(prompts, chances), abs=0.07)
    text = plan_in_words(prompts, prompts, ties=0.0, margin=20)
    assert f"{prompts} votes on {prompts} prompts show “no worse by more than 20 points” in 8" in text
