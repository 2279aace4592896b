import pytest
import yaml

from ftlab.config import RunConfig, build_config, load_config
from ftlab.errors import InputError


def test_defaults_need_no_value_from_a_person():
    config = build_config({}).resolved()
    assert config.optimisation.learning_rate == 4e-3
    assert config.optimisation.epochs == 6
    assert config.evaluation.probes == "self, general_probes"


def test_a_real_base_gets_the_usual_rates_and_is_measured_by_its_own_answers():
    lora = build_config({"model": {"base": "Qwen/Qwen3-0.6B"}}).resolved()
    full = build_config({"model": {"base": "Qwen/Qwen3-0.6B"}, "method": {"name": "full"}}).resolved()
    assert (lora.optimisation.learning_rate, full.optimisation.learning_rate) == (5e-4, 5e-5)
    assert (lora.evaluation.probes, lora.evaluation.general_text) == ("self", "general_reading")


def test_a_run_is_reproducible_from_its_yaml(tmp_path):
    values = {"name": "x", "optimisation": {"learning_rate": 1e-5}, "trainer": {"optim": "sgd"}}
    config = build_config(values).resolved()
    file = tmp_path / "run.yaml"
    file.write_text(config.to_yaml())
    assert load_config(file) == config


@pytest.mark.parametrize(
    "values, overrides, words",
    [
        ({"optimisation": {"learning_rat": 1}}, [], ["learning_rat", "did you mean 'learning_rate'"]),
        ({"optimization": {}}, [], ["'optimization'", "did you mean 'optimisation'"]),
        ({"learning_rate": 1e-4}, [], ["did you mean 'optimisation.learning_rate'"]),
        ({"optimisation": {"learning_rate": 5}}, [], ["Learning rate", "Given: 5", "at most 0.1"]),
        ({"optimisation": {"learning_rate": -1}}, [], ["Learning rate", "above 0"]),
        ({"method": {"name": "lora2"}}, [], ["Method", "'lora2'", "'qlora'"]),
        ({"method": 3}, [], ["Method", "group of settings"]),
        ({}, ["optimisation.epochs=many"], ["Epochs", "'many'", "a number"]),
        ({}, ["epochs"], ["section.field=value"]),
        ({}, ["optimisation.batch_size=1.5"], ["Batch size", "1.5", "whole number"]),
    ],
)
def test_a_wrong_setting_is_refused_with_its_name_the_value_and_what_is_allowed(values, overrides, words):
    with pytest.raises(InputError) as caught:
        build_config(values, overrides)
    for word in words:
        assert word in str(caught.value)


def test_a_number_without_a_dot_is_a_number():
    # YAML 1.1 reads 1e-4 as text.
    assert build_config({}, ["optimisation.learning_rate=1e-4"]).optimisation.learning_rate == 1e-4


@pytest.mark.parametrize(
    "text, words",
    [
        ("optimisation: [1", ["not valid YAML", "line"]),
        ("- a\n- b\n", ["contains no settings", "list"]),
        ("nmae: x\n", ["Unknown setting 'nmae'", "did you mean 'name'"]),
    ],
)
def test_a_broken_yaml_file_is_explained(tmp_path, text, words):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        load_config(file)
    for word in words:
        assert word in str(caught.value)


def test_every_field_explains_itself():
    """The forms, the help and the notebooks are drawn from titles and descriptions."""
    for section, info in RunConfig.model_fields.items():
        assert info.title, section
        for name, field in getattr(info.annotation, "model_fields", {}).items():
            assert field.title, f"{section}.{name}"
            assert field.description, f"{section}.{name}"


def test_the_yaml_keeps_no_python_objects():
    assert yaml.safe_load(build_config({}).resolved().to_yaml())["method"]["name"] == "lora"


def test_rows_per_step_asks_for_a_complete_configuration():
    config = build_config({"optimisation": {"batch_size": 4, "gradient_accumulation": 3}})
    assert config.resolved().optimisation.rows_per_step == 12
    with pytest.raises(ValueError, match="resolved"):
        _ = build_config({}).optimisation.rows_per_step
