"""Warnings before a run, and which change would make it fit, on numbers worked out by hand."""

import pytest

from ftlab.config import build_config
from ftlab.models.estimate import Need, parameters_in_name
from ftlab.training.preflight.advice import Plan, usual_rates, warnings
from ftlab.training.sizes import Remedy, divisors, ladder, larger_batch, planned_steps, remedies

GB = 10**9


def config(**sections):
    sections["optimisation"] = {"batch_size": 16} | sections.get("optimisation", {})
    return build_config({"model": {"base": "Qwen/Qwen3-0.6B"}} | sections).resolved()


def codes(plan: Plan) -> list[str]:
    return [advice.code for advice in warnings(plan)]


def healthy(settings=None, **facts) -> Plan:
    """1,000 rows in steps of 16 for three epochs, with rows held out: nothing to say about it."""
    return Plan(settings or config(), **({"rows": 1000, "validation_rows": 100, "test_rows": 100} | facts))


def test_an_ordinary_run_is_warned_about_nothing():
    assert codes(healthy()) == []
    assert codes(healthy(longest=400, template="marked", stop_trained=True, tokens=700, computed_tokens=1000)) == []


def test_steps_and_validations_are_counted_as_the_trainer_counts_them():
    # 810 rows in batches of 16: 51 batches (the last is short); 6 epochs are 306 steps, 5% of them are 15.3.
    settings = build_config({}).resolved().optimisation
    steps = planned_steps(settings, 810, validation=True)
    assert (steps.per_epoch, steps.total, steps.warmup) == (51, 306, 16)
    # Two an epoch is every 25 steps: after 25, 50, ... 300, and one before the first step.
    assert (steps.between_evaluations, steps.evaluations) == (25, 13)
    assert planned_steps(settings, 810, validation=False).evaluations == 0


@pytest.mark.parametrize(
    "method, rate, expected",
    [
        ("lora", 2e-4, []),
        ("lora", 5e-5, []),
        ("lora", 4e-5, ["rate_low"]),
        ("lora", 1e-3, []),
        ("lora", 2e-3, ["rate_high"]),
        ("full", 2e-5, []),
        ("full", 2e-4, ["rate_high"]),
        ("full", 1e-6, ["rate_low"]),
        ("qlora", 1e-2, ["rate_high"]),
    ],
)
def test_a_rate_outside_what_is_published_for_the_method_is_named(method, rate, expected):
    assert codes(healthy(config(method={"name": method}, optimisation={"learning_rate": rate}))) == expected


def test_the_starter_has_rates_of_its_own():
    starter = build_config({"model": {"base": "starter"}}).resolved()
    # 4e-3 was measured for LoRA on it; a fifth to five times of that passes.
    assert usual_rates(starter)[:2] == pytest.approx((8e-4, 2e-2))
    assert "rate_high" not in codes(healthy(starter))
    starter.optimisation.learning_rate = 2e-4
    assert "rate_low" in codes(healthy(starter))


def test_every_method_has_a_range_around_its_usual_rate_and_a_source():
    for name in type(config().method).model_fields["name"].annotation.__args__:
        settings = config(method={"name": name})
        low, high, source = usual_rates(settings)
        assert low <= settings.optimisation.learning_rate <= high
        assert any(year in source for year in ("19", "20", "21", "22", "23", "24", "25"))


@pytest.mark.parametrize(
    "facts, settings, expected",
    [
        ({"validation_rows": 0}, {}, ["no_validation"]),
        ({"test_rows": 0}, {}, ["no_test"]),
        ({"rows_too_long": 7, "longest": 900}, {}, ["rows_cut"]),
        ({"longest": 127}, {}, ["length_unused"]),  # 4 x 127 < 512
        ({"longest": 128}, {}, []),
        ({"template": "missing"}, {}, ["template_missing"]),
        ({"template": "plain"}, {}, ["template_unmarked"]),
        ({"stop_trained": False}, {}, ["stop_untrained"]),
        ({"dtype": "bfloat16", "bfloat16_gain": 0.01}, {}, ["short_format_on_cpu"]),
        ({"dtype": "bfloat16", "bfloat16_gain": 2.1}, {}, []),
        ({"dtype": "float16"}, {}, ["short_format_on_cpu"]),
        ({"device": "cuda", "dtype": "float16", "card_has_bf16": True}, {}, ["fp16_on_bf16_card"]),
        ({"device": "cuda", "dtype": "float16", "card_has_bf16": False}, {}, []),
        ({"device": "cuda", "dtype": "bfloat16", "card_has_bf16": False}, {}, ["bf16_not_there"]),
        ({"device": "cuda", "dtype": "float32", "card_has_bf16": True}, {}, ["float32_on_gpu"]),
        ({"tokens": 390, "computed_tokens": 1000}, {}, ["mostly_padding"]),
        ({"tokens": 410, "computed_tokens": 1000}, {}, []),
        ({}, {"epochs": 4}, []),
        ({}, {"epochs": 5, "early_stopping": 0}, ["many_passes"]),
        ({}, {"max_steps": 19}, ["few_steps"]),
        ({}, {"max_steps": 20}, []),
        ({"rows": 15}, {"epochs": 4, "max_steps": 4}, ["batch_above_rows"]),
        ({}, {"warmup_fraction": 0.4}, ["long_warmup"]),
    ],
)
def test_each_warning_comes_when_its_number_says_so(facts, settings, expected):
    assert codes(healthy(config(optimisation=settings), **facts)) == expected


def test_what_harms_comes_first_and_says_what_why_and_what_to_do_in_a_sentence_each():
    plan = healthy(
        config(optimisation={"learning_rate": 0.05, "epochs": 9}),
        rows=12,
        rows_too_long=3,
        longest=2048,
        validation_rows=0,
        test_rows=0,
        template="plain",
        stop_trained=False,
    )
    found = warnings(plan)
    assert [advice.kind for advice in found] == sorted(
        (advice.kind for advice in found), key=["bad", "warn", "info"].index
    )
    for advice in found:
        for text in (advice.what, advice.why, advice.try_):
            assert text.endswith(".") and "!" not in text
            assert len(text) < 240
    assert set(found[0].as_dict()) == {"code", "kind", "what", "why", "try"}


def test_rows_that_were_cut_are_counted_with_the_longest_and_the_base_is_asked_whether_it_could_read_it():
    cut = next(advice for advice in warnings(healthy(rows_too_long=40, longest=900)) if advice.code == "rows_cut")
    assert "40 of 1,040 training rows have more than 512 tokens" in cut.what
    assert "900" in cut.why and "900 tokens if memory allows" in cut.try_
    beyond = warnings(healthy(rows_too_long=40, longest=5000, context=2048))
    assert "a base that reads more than 2,048 tokens" in beyond[0].try_


def need(fixed: float, activations: float) -> Need:
    """A model of 17 layers: checkpointing keeps 2/34 + 1/17 = 2/17 of the layers' part."""
    return Need(int(fixed * GB), int(activations * GB), 17, 0.0, 4 * GB, 2 * GB)


def test_the_largest_smaller_batch_that_fits_is_offered_first_and_the_rows_of_a_step_stay():
    # 4 + 32 GB with 16 rows: 2 GB a row. 0.9 x 20 = 18 GB leave room for 7 rows; of 16's divisors 4 is the largest.
    first = remedies(config(), need(4, 32), 20 * GB, [512] * 100)[0]
    assert first.settings == {"optimisation.batch_size": 4, "optimisation.gradient_accumulation": 4}
    assert first.peak == 12 * GB
    assert not first.measured


def test_checkpointing_is_offered_next_with_as_large_a_batch_as_it_allows():
    # 32 GB x 2/17 = 3.76 GB: all 16 rows fit beside 4 GB.
    second = remedies(config(), need(4, 32), 20 * GB, [512] * 100)[1]
    assert second.settings == {"optimisation.gradient_checkpointing": True}
    assert second.peak == pytest.approx(4 * GB + 32 * GB * 2 / 17, abs=10)


def test_qlora_is_offered_where_the_weights_are_what_is_too_large():
    # 2 billion weights in 4 GB become 1.04 GB in 4 bits: 6 - 2.96 = 3.04 GB stay, and 0.5 GB a row.
    found = remedies(config(), need(6, 8), 5 * GB, [512] * 100)
    assert [remedy.settings.get("method.name") for remedy in found] == ["qlora"]
    # 0.9 x 5 = 4.5 GB leave 1.46 GB: two rows.
    assert found[0].settings["optimisation.batch_size"] == 2
    assert found[0].peak == pytest.approx(3.04 * GB + 1 * GB, rel=0.01)


def test_a_shorter_example_comes_last_with_the_rows_it_would_cut():
    # One row of 1,000 tokens takes 16 GB; 14.4 - 4 = 10.4 GB are room for 650, in steps of 16: 640.
    lengths = [1000] * 10 + [600] * 90
    settings = config(optimisation={"batch_size": 1, "gradient_checkpointing": True}, method={"name": "qlora"})
    found = remedies(settings, need(4, 16), 16 * GB, lengths)
    assert [remedy.settings for remedy in found] == [{"optimisation.max_length": 640}]
    assert "10 of 100 training rows" in found[0].costs
    # When more than half of the rows would go, the run would be refused, so it is not offered.
    assert remedies(settings, need(4, 16), 16 * GB, [1000] * 60 + [600] * 40) == []


def test_nothing_is_offered_when_even_the_base_does_not_fit():
    assert remedies(config(method={"name": "qlora"}), need(50, 1), 16 * GB, [500] * 10) == []


def test_without_a_measurement_changes_are_tried_from_the_most_harmless_on_each_with_those_before_it():
    tried = [remedy.settings for remedy in ladder(config(), loading=False)]
    assert [step.get("optimisation.batch_size") for step in tried] == [4, 1, 1, 1]
    assert [step["optimisation.gradient_accumulation"] for step in tried] == [4, 16, 16, 16]
    assert [step.get("optimisation.gradient_checkpointing") for step in tried] == [None, None, True, True]
    assert [step.get("method.name") for step in tried] == [None, None, None, "qlora"]


def test_a_change_that_fits_by_far_is_tried_with_a_larger_batch():
    # One row takes 2 GB beside 4 GB; 18 GB leave room for 7 of 16 rows, of which 4 divides 16.
    single = Remedy({"optimisation.batch_size": 1, "optimisation.gradient_accumulation": 16}, "", "", measured=True)
    larger = larger_batch(config(), single, need(4, 2), 20 * GB, below=16)
    assert larger.settings == {"optimisation.batch_size": 4, "optimisation.gradient_accumulation": 4}
    assert (larger.peak, larger.measured) == (12 * GB, False)
    # 4 rows did not fit when they were tried, so 2 it is; and with 7 GB one row is all there is.
    assert larger_batch(config(), single, need(4, 2), 20 * GB, below=4).settings["optimisation.batch_size"] == 2
    assert larger_batch(config(), single, need(4, 2), 7 * GB, below=16) is None


def test_large_batches_are_brought_down_in_steps_of_four():
    tried = [remedy.settings for remedy in ladder(config(optimisation={"batch_size": 400}), loading=False)]
    assert [step["optimisation.batch_size"] for step in tried] == [100, 25, 1, 1, 1]


def test_when_the_base_itself_does_not_fit_no_batch_is_tried():
    assert [remedy.settings for remedy in ladder(config(), loading=True)] == [{"method.name": "qlora"}]
    assert ladder(config(method={"name": "qlora"}), loading=True) == []


def test_a_batch_is_only_divided_so_that_a_step_keeps_its_rows():
    assert divisors(6) == [6, 3, 2, 1]
    assert divisors(7) == [7, 1]
    smaller = remedies(config(optimisation={"batch_size": 6, "gradient_accumulation": 2}), need(4, 12), 10 * GB, [])
    # 2 GB a row and 5 GB of room: 2 rows, and 6 x 2 / 2 steps.
    assert smaller[0].settings == {"optimisation.batch_size": 2, "optimisation.gradient_accumulation": 6}


@pytest.mark.parametrize(
    "name, weights",
    [
        ("Qwen/Qwen3-0.6B", 600_000_000),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 135_000_000),
        ("meta-llama/Llama-3.1-8B", 8_000_000_000),
        ("someone/my-model", None),
        ("org/v2beta", None),
    ],
)
def test_the_size_in_the_name_of_a_base_is_read(name, weights):
    assert parameters_in_name(name) == weights


def test_the_peak_of_a_process_is_its_own_however_much_the_one_that_started_it_holds():
    import subprocess
    import sys

    held = bytearray(400_000_000)
    program = "from ftlab.training.sizes import peak_memory; print(peak_memory('cpu'))"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60).stdout
    assert len(held) > int(told) > 5_000_000
