"""Signs that learning from preferences goes wrong, on curves made by hand."""

from __future__ import annotations

from ftlab.training.signs import read_preference_signs

STEPS = 24


def curve(**columns):
    """Rows of metrics.jsonl: each column grows evenly from its first to its second number, with a little noise."""
    noise = [0.005 * (-1) ** step for step in range(STEPS)]
    return [
        {"step": step}
        | {name: a + (b - a) * step / (STEPS - 1) + noise[step] * abs(b) for name, (a, b) in columns.items()}
        for step in range(STEPS)
    ]


HEALTHY = {
    "loss": (0.69, 0.3),
    "accuracy": (0.5, 0.93),
    "margin": (0, 2),
    "logp_chosen": (-40, -42),
    "logp_rejected": (-45, -66),
    "kl": (0, 6),
}


def codes(rows):
    return [sign.code for sign in read_preference_signs(rows)]


def test_a_healthy_run_is_not_warned_of():
    assert codes(curve(**HEALTHY)) == []
    # Chosen answers lose a little in nearly every run: that alone is no collapse.
    assert codes(curve(**HEALTHY | {"logp_chosen": (-40, -50)})) == []


def test_nothing_is_said_before_there_is_something_to_see():
    assert codes([]) == []
    assert codes(curve(**HEALTHY | {"logp_chosen": (-40, -90)})[:5]) == []


def test_a_margin_that_grows_while_the_chosen_answers_become_unlikely_is_told_with_both_figures():
    found = read_preference_signs(curve(**HEALTHY | {"logp_chosen": (-40, -90), "logp_rejected": (-45, -200)}))
    assert [sign.code for sign in found] == ["collapse"]
    # Means of the first and of the last six of 24 even steps: -40 - 50 * 2.5 / 23 and -40 - 50 * 20.5 / 23.
    assert "from -45.4 to -84.6" in found[0].text and "neither answer" in found[0].text


def test_a_fall_without_a_growing_margin_is_not_the_collapse_of_preferences():
    assert "collapse" not in codes(curve(**HEALTHY | {"logp_chosen": (-40, -90), "margin": (1, 0.2)}))


def test_the_same_validation_pairs_count_more_than_the_batches_of_training():
    rows = curve(**HEALTHY | {"logp_chosen": (-40, -90)})
    rows[0] |= {"eval_margin": 0.0, "eval_logp_chosen": -41.0}
    rows[-1] |= {"eval_margin": 1.5, "eval_logp_chosen": -43.0}
    assert codes(rows) == []


def test_a_run_that_stays_at_a_coin_toss_is_told_unless_validation_knows_better():
    flat = curve(**HEALTHY | {"accuracy": (0.49, 0.51)})
    assert codes(flat) == ["coin"]
    assert codes([*flat, {"step": STEPS, "eval_accuracy": 0.8}]) == []


def test_pairs_learned_by_heart_are_told_after_two_worse_validations():
    rows = curve(**HEALTHY | {"accuracy": (0.6, 1.0)})
    losses = {6: 0.4, 12: 0.3, 18: 0.45, 23: 0.6}
    for step, loss in losses.items():
        rows[step]["eval_loss"] = loss
    assert codes(rows) == ["by heart"]
    rows[18]["eval_loss"] = 0.29
    assert codes(rows) == []


def test_a_divergence_that_runs_away_is_told_and_one_that_settles_is_not():
    assert codes(curve(**HEALTHY | {"kl": (0, 120)})) == ["kl"]
    assert codes(curve(**HEALTHY | {"kl": (60, 62)})) == []
