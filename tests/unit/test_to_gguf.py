"""A GGUF file answers as its run did: llama.cpp's converter on a tiny model with the tokenizer of a real base."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from gguf import GGUFReader

from ftlab.cli.main import main
from ftlab.config import STARTER, load_config
from ftlab.core.run_directory import RunDirectory
from ftlab.errors import FtlabError, InputError
from ftlab.evaluation.compare import evaluate_run
from ftlab.export import to_gguf
from ftlab.export.export import Exported, export_run, plan, read_shape
from ftlab.export.verify import summary, verify
from ftlab.models.load import load_tokenizer
from ftlab.report.markdown import escaped
from tests.small_runs import make_base, make_run, save_result

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    root = tmp_path_factory.mktemp("gguf") / "workspace"
    base = make_base(root / "base", load_tokenizer("smollm2"))
    (root / "runs").mkdir()
    probes = root / "probes.jsonl"
    probes.write_text('{"prompt": "What is water?", "completion": "Wet."}\n' * 3)
    made = make_run(root / "runs", base, probes)
    save_result(made, base)
    evaluate_run(made)
    return made


@pytest.fixture(scope="module")
def plain(run: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export_run(run, tmp_path_factory.mktemp("plain") / "model", kind="gguf", gguf="f16")


def test_a_file_in_16_bits_gives_the_answers_of_the_evaluation(plain: Exported) -> None:
    assert sorted(plain.files) == [
        "Modelfile",
        "README.md",
        "ftlab/asked.json",
        "ftlab/comparison.json",
        "ftlab/config.yaml",
        "ftlab/export.json",
        "generation_config.json",
        "model-f16.gguf",
    ]
    finding = plain.verification
    assert finding["same_answers"] + finding["near_ties"] == finding["prompts"] == 6
    assert finding["carried"]["slope"] == pytest.approx(1, abs=0.02) and not finding["unproven"]
    assert "model-f16.gguf holds its weights in F16" in plain.notes[0]
    assert "FROM ./model-f16.gguf" in (plain.folder / "Modelfile").read_text()
    card = (plain.folder / "README.md").read_text()
    assert "library_name: gguf" in card and "llama-server -m model-f16.gguf --jinja" in card and "MIT license" in card


@pytest.mark.long
def test_a_changed_weight_in_the_file_is_caught(run: RunDirectory, plain: Exported, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(plain.folder, folder)
    file = folder / "model-f16.gguf"
    tensor = next(tensor for tensor in GGUFReader(file).tensors if tensor.name == "blk.0.ffn_up.weight")
    content = bytearray(file.read_bytes())
    content[tensor.data_offset : tensor.data_offset + tensor.n_bytes] = bytes(tensor.n_bytes)
    file.write_bytes(content)
    with pytest.raises(FtlabError, match="answers differently from the run's model"):
        verify(run, folder, read_shape(folder))


@pytest.mark.long
def test_a_quantized_file_says_what_quantizing_cost(run: RunDirectory, tmp_path: Path) -> None:
    made = export_run(run, tmp_path / "model", kind="gguf", gguf="q8_0")
    assert [name for name in made.files if name.endswith(".gguf")] == ["model-q8_0.gguf"], "the proof is not left there"
    kinds = {tensor.tensor_type.name for tensor in GGUFReader(made.folder / "model-q8_0.gguf").tensors}
    assert kinds == {"Q8_0", "F32"}
    file = made.verification["gguf"]
    assert file["type"] == "q8_0" and file["counts"]["rows"] == 6
    # Rounding to 8 bits moves each weight by up to 1/254 of the largest of its block: little, and not nothing.
    assert file["slope"] == pytest.approx(1, abs=0.1) and 0.001 < file["apart"] < 0.3
    told = f"The q8_0 file gives the same answer to {file['counts']['same']} of 6 prompts"
    assert told in summary(made.verification) and escaped(told) in (made.folder / "README.md").read_text()


def test_what_cannot_become_a_file_is_said_at_once(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(to_gguf, "quantizer", lambda: None)
    words = ["export", run.id, "--workspace", str(run.path.parent.parent), "--to", str(tmp_path / "new")]
    for kind, message in (("q4", "did you mean q4_0"), ("q4_k_m", "llama-quantize model-f16.gguf model-q4_k_m.gguf")):
        assert main([*words, "--to-gguf", kind]) == 2 and message in capsys.readouterr().err
    assert main([*words, "--to-gguf", "f16", "--dtype", "float32"]) == 2
    assert "not a number format" in capsys.readouterr().err and not (tmp_path / "new").exists()


def test_what_rules_out_every_type_is_said_before_a_type_is_refused(run: RunDirectory, monkeypatch) -> None:
    monkeypatch.setattr(to_gguf, "quantizer", lambda: None)
    config = load_config(run.config_file).resolved()
    config.model.base = STARTER
    for kind in ("q4_k_m", "q4", "f16"):
        with pytest.raises(InputError, match="does not support the tokenizer of the starter"):
            plan(run, config, "gguf", None, gguf=kind)


def test_no_code_of_a_model_folder_runs_in_the_converter(tmp_path: Path) -> None:
    """The converter asks transformers to trust such code."""
    folder = make_base(tmp_path / "model", load_tokenizer("smollm2"))
    (folder / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Mine: pass\n")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings |= {"auto_map": {"AutoTokenizer": ["mine.Mine", "mine.Mine"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    to_gguf._convert(to_gguf.converter(lambda *_: None), folder, tmp_path / "out.gguf", "f16", "mine")
    assert (tmp_path / "out.gguf").exists() and not (tmp_path / "ran").exists()
