"""What is known of the models and the design is said before anything is trained or asked."""

import json
import shutil

import pytest
from quantised import block_fp8, rewritten
from tiny_study import TEMPLATE, prompts, write_lines, write_study


@pytest.fixture
def study(tiny_folder, tiny_base, tmp_path, monkeypatch):
    """Writes the small study with a model that is there, beside those to be trained, with changes in its config.json."""

    def write(**config):
        folder = rewritten(tiny_base, tmp_path / "other", **config)
        models = [
            {"name": "base", "reference": "./base"},
            {"name": "other", "reference": str(folder), "base": "base"},
        ]
        write_study(tiny_folder, models=models)
        monkeypatch.chdir(tiny_folder)
        return tiny_folder

    return write


ONE_LAYER = {"num_hidden_layers": 1}
GPTQ = {"quantization_config": {"quant_method": "gptq", "bits": 4}}


@pytest.mark.parametrize(
    ("config", "message", "options"),
    [
        (ONE_LAYER, "9 tensors are in its weights", ()),
        (GPTQ, "quantised (gptq)", ()),
        (GPTQ, "quantised (gptq)", ("--dry-run",)),
    ],
)
def test_a_model_that_is_there_is_looked_at_before_any_training(
    command, study, config, message, options
):
    folder = study(**config)
    code, out, err = command("run", "study.yaml", "--out", "out", *options)
    assert (code, out) == (1, ""), err
    *notes, line = err.splitlines()  # the study has plug-ins, which are named before they run
    assert all(note.startswith("note: ") for note in notes)
    assert message in line
    assert not list((folder / "out").glob("models/*"))


def test_a_broken_model_is_noted_by_a_dry_run(command, study):
    study(**ONE_LAYER)
    code, out, _ = command("run", "study.yaml", "--dry-run")
    assert code == 0
    assert "9 tensors are in its weights" in out


@pytest.mark.parametrize("method", ["full", "qlora"])
def test_a_base_that_cannot_be_trained_is_refused_before_its_rows_are_read(
    command, tiny_base, tmp_path, method
):
    base = block_fp8(tiny_base, tmp_path / "fp8")
    line = command.refused("tune", base, "no-such-rows.jsonl", "-o", "out", "--method", method)
    assert "quantised (fp8)" in line


def before_asking(err):
    """Return the notes that stand before the first answer."""
    lines = err.splitlines()
    asked = next(place for place, line in enumerate(lines) if line.startswith("generate "))
    return [line for line in lines[:asked] if line.startswith("note: ")]


def test_one_model_under_two_names_and_few_behaviors_are_noted_before_anything_is_asked(
    command, tiny_base, tmp_path
):
    write_lines(tmp_path / "questions.jsonl", prompts())
    code, _, err = command("check", tiny_base, tiny_base, "--prompts", tmp_path / "questions.jsonl")
    assert code == 4
    notes = before_asking(err)
    assert any("tuned has the weights of base" in note and "no change" in note for note in notes)
    assert any(
        "6 harmful behaviors can FAIL but not PASS, which needs 10" in note for note in notes
    )


def test_a_template_without_a_generation_prompt_is_noted_at_once_and_in_the_result(
    command, tiny_base, tmp_path
):
    tuned = shutil.copytree(tiny_base, tmp_path / "tuned")
    (tuned / "chat_template.jinja").write_text(TEMPLATE.partition("{% if add_gen")[0])
    write_lines(tmp_path / "questions.jsonl", prompts())
    _, _, err = command(
        "check", tiny_base, tuned, "--prompts", tmp_path / "questions.jsonl", "--json", "r.json"
    )
    [note] = [note for note in before_asking(err) if "generation prompt" in note]
    assert note.startswith("note: tuned: ")
    assert note.removeprefix("note: ") in json.loads((tmp_path / "r.json").read_text())["notes"]


def test_a_base_in_another_number_format_is_noted_at_once(
    command, tiny_base, tmp_path, monkeypatch
):
    import torch
    from safetensors.torch import load_file, save_file

    from aftertune.models import open as opening

    monkeypatch.setattr(opening, "multiplies_bfloat16", lambda: True)
    base = shutil.copytree(tiny_base, tmp_path / "base")
    file = base / "model.safetensors"
    tensors = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    write_lines(tmp_path / "questions.jsonl", prompts())
    _, _, err = command("check", base, tiny_base, "--prompts", tmp_path / "questions.jsonl")
    notes = before_asking(err)
    assert any("tuned is computed in float32 and its base base in bfloat16" in n for n in notes)
    assert any("which this processor multiplies fast" in note for note in notes)


def test_a_study_of_trainings_is_run_by_one_process(command, tiny_folder, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    line = command.refused("run", tiny_folder / "study.yaml", "--out", tiny_folder / "out")
    assert "WORLD_SIZE=2" in line
    assert not (tiny_folder / "out").exists()
