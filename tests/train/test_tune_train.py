import json
import shutil
from pathlib import Path

import pytest
from tiny_models import answers, conversations, make_adapter, make_tokenizer
from tiny_runs import make_recipe, make_rows, tensors_sha256

from aftertune.core.records import Message
from aftertune.errors import EngineError, InputError, ModelError
from aftertune.models.open import Engines
from aftertune.models.reference import weights_sha256
from aftertune.train.train import _cast, _errors_in_one_line, fine_tune, newest_checkpoint, trained


@pytest.fixture
def engines():
    with Engines(threads=1, device="cpu") as opened:
        yield opened


@pytest.fixture(scope="module")
def runs(base, tmp_path_factory):
    """One fine-tune of each method and seed, and the first again."""
    folder = tmp_path_factory.mktemp("runs")
    wanted = {"full": ("full", 0), "full again": ("full", 0), "full 1": ("full", 1)}
    wanted |= {"lora": ("lora", 0), "lora again": ("lora", 0), "lora 1": ("lora", 1)}
    with Engines(threads=1, device="cpu") as engines:
        return {
            name: fine_tune(
                make_recipe(base, method=method, seed=seed),
                make_rows(),
                folder / name,
                engines=engines,
            )
            for name, (method, seed) in wanted.items()
        }


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_same_seed_gives_identical_tensors_and_another_seed_others(runs, method):
    assert tensors_sha256(runs[method]) == tensors_sha256(runs[f"{method} again"])
    assert tensors_sha256(runs[method]) != tensors_sha256(runs[f"{method} 1"])


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_result_opens_and_answers_otherwise_than_its_base(runs, base, engines, method):
    prompts = conversations(10)
    tuned = engines.open(str(runs[method]))
    assert answers(tuned, prompts) != answers(engines.open(str(base)), prompts)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_rows_are_learnt(runs, base, engines, method):
    pairs = [(row[:-1], row[-1].content) for row in make_rows()]
    before, after = (sum(engines.open(str(folder)).nll(pairs)) for folder in (base, runs[method]))
    assert after < 0.7 * before


def test_nothing_but_weights_tokenizer_template_and_recipe_is_left(runs):
    common = {"chat_template.jinja", "recipe.json", "tokenizer.json", "tokenizer_config.json"}
    full = {path.name for path in runs["full"].iterdir()}
    assert full == common | {"config.json", "generation_config.json", "model.safetensors"}
    lora = {path.name for path in runs["lora"].iterdir()}
    assert lora == common | {"adapter_config.json", "adapter_model.safetensors"}
    assert [
        path.name for path in runs["lora"].parent.iterdir() if path.name.endswith(".partial")
    ] == []


def test_the_recipe_stands_beside_the_weights_and_names_no_path_but_the_users(runs, base):
    record = json.loads((runs["lora"] / "recipe.json").read_text())
    assert record["key"] == make_recipe(base, method="lora").key.hex()
    assert record["base"] == str(base)
    assert record["training"]["lora_r"] == 4
    assert record["rows"]["count"] == 48
    assert record["rows"]["truncated"] == record["rows"]["dropped"] == 0
    assert record["threads"] == 1
    assert {"torch", "transformers", "peft", "trl"} <= set(record["versions"])
    assert str(runs["lora"].parent) not in (runs["lora"] / "recipe.json").read_text()
    assert json.loads((runs["lora"] / "adapter_config.json").read_text())[
        "base_model_name_or_path"
    ] == str(base)


def test_a_finished_fine_tune_is_returned_at_once(runs, base, tmp_path):
    out = shutil.copytree(runs["full"], tmp_path / "out")
    (tmp_path / "out.partial").mkdir()  # left by a kill just before the end
    before = (out / "model.safetensors").stat().st_mtime_ns
    assert fine_tune(make_recipe(base, name="another name"), make_rows(), out) == out
    assert (out / "model.safetensors").stat().st_mtime_ns == before
    assert not (tmp_path / "out.partial").exists()


def test_what_is_there_already_is_never_overwritten(runs, base, tmp_path):
    with pytest.raises(ModelError, match="another recipe"):
        fine_tune(make_recipe(base, seed=7), make_rows(), runs["full"])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(ModelError, match="no fine-tune"):
        fine_tune(make_recipe(base), make_rows(), tmp_path / "out")


def test_a_foreign_folder_where_the_work_would_lie_is_left_alone(runs, base, tmp_path):
    thesis = tmp_path / "out.partial" / "thesis.txt"
    thesis.parent.mkdir()
    thesis.write_text("mine")
    with pytest.raises(InputError, match=r"out\.partial: holds something that is not ours"):
        fine_tune(make_recipe(base), make_rows(), tmp_path / "out")
    shutil.copytree(runs["full"], tmp_path / "out")
    assert fine_tune(make_recipe(base), make_rows(), tmp_path / "out") == tmp_path / "out"
    assert thesis.read_text() == "mine"


def test_what_a_kill_left_beside_a_finished_fine_tune_is_deleted_by_training_and_not_by_a_question(
    runs, base, tmp_path
):
    out = shutil.copytree(runs["full"], tmp_path / "out")
    newest_checkpoint(tmp_path / "out.partial", "whatever it was")
    (tmp_path / "out.partial" / "checkpoint-6").mkdir()
    assert trained(out, make_recipe(base), make_rows())
    assert (tmp_path / "out.partial").exists()
    fine_tune(make_recipe(base), make_rows(), out)
    assert not (tmp_path / "out.partial").exists()
    assert not trained(tmp_path / "nothing", make_recipe(base), make_rows())


def test_the_same_recipe_trained_on_other_rows_is_refused(runs, base):
    with pytest.raises(
        ModelError, match=r"was trained on other rows .* delete the folder to train again"
    ):
        fine_tune(make_recipe(base), make_rows(47), runs["full"])


def test_progress_counts_the_steps(base, tmp_path, engines):
    seen = []
    recipe = make_recipe(base, epochs=1)
    fine_tune(
        recipe,
        make_rows(8),
        tmp_path / "out",
        engines=engines,
        progress=lambda done, steps: seen.append((done, steps)),
    )
    assert seen == [(0, 2), (1, 2), (2, 2)]


def test_nothing_is_said(base, tmp_path, engines, capfd):
    fine_tune(make_recipe(base, epochs=1), make_rows(8), tmp_path / "out", engines=engines)
    assert capfd.readouterr() == ("", "")


def test_a_changed_base_is_noticed(base, tmp_path):
    recipe = make_recipe(base, base_identity={"weights": "0" * 64})
    with pytest.raises(ModelError, match="have changed"):
        fine_tune(recipe, make_rows(), tmp_path / "out")
    right = make_recipe(base, base_identity={"weights": weights_sha256(base)}, epochs=1)
    assert fine_tune(right, make_rows(4), tmp_path / "out").is_dir()


def test_an_adapter_opens_on_the_base_that_its_recipe_records_only(base, tmp_path, engines):
    recipe = make_recipe(
        base, method="lora", base_identity={"weights": weights_sha256(base)}, epochs=1
    )
    adapter = fine_tune(recipe, make_rows(4), tmp_path / "adapter", engines=engines)
    moved = shutil.copytree(base, tmp_path / "moved")
    assert (
        engines.open(str(adapter), base=str(moved)).identity == engines.open(str(adapter)).identity
    )
    config = json.loads((moved / "config.json").read_text())
    (moved / "config.json").write_text(json.dumps(config | {"rope_theta": 1.0}))
    with Engines(device="cpu") as afresh, pytest.raises(ModelError, match="other weights"):
        afresh.open(str(adapter), base=str(moved))


def test_a_base_that_is_an_adapter_is_refused(base, tmp_path):
    adapter = make_adapter(tmp_path / "adapter", base)
    with pytest.raises(ModelError, match="merge it"):
        fine_tune(make_recipe(adapter), make_rows(), tmp_path / "out")


def test_the_system_prompt_is_learnt_with(base, tmp_path, engines):
    rows = [*make_rows(7), (Message(role="system", content="well"), *make_rows(1)[0])]
    plain = fine_tune(make_recipe(base, epochs=1), rows, tmp_path / "plain", engines=engines)
    system = fine_tune(
        make_recipe(base, epochs=1, system="please"), rows, tmp_path / "system", engines=engines
    )
    assert tensors_sha256(plain) != tensors_sha256(system)


def test_the_checkpoint_interval_changes_no_tensor(base, runs, tmp_path, engines):
    out = fine_tune(
        make_recipe(base, save_steps=1000), make_rows(), tmp_path / "out", engines=engines
    )
    assert tensors_sha256(out) == tensors_sha256(runs["full"])


def test_the_bases_number_format_is_kept(base, tmp_path, engines):
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    from aftertune.models.foreign import quiet

    with quiet():
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).save_pretrained(
            tmp_path / "half"
        )
    make_tokenizer().save_pretrained(tmp_path / "half")
    out = fine_tune(
        make_recipe(tmp_path / "half", epochs=1), make_rows(4), tmp_path / "out", engines=engines
    )
    assert {tensor.dtype for tensor in load_file(out / "model.safetensors").values()} == {
        torch.bfloat16
    }


def test_qlora_without_a_gpu_says_what_to_do(base, tmp_path, engines):
    with pytest.raises(EngineError, match="use method lora"):
        fine_tune(
            make_recipe(base, method="qlora"), make_rows(4), tmp_path / "out", engines=engines
        )
    assert not (tmp_path / "out").exists()


def test_settings_that_the_trainer_refuses_are_one_line(base, tmp_path, engines):
    with pytest.raises(EngineError, match="cannot be trained") as caught:
        fine_tune(
            make_recipe(base, method="lora", lora_targets="no_such"),
            make_rows(4),
            tmp_path / "out",
            engines=engines,
        )
    assert "\n" not in str(caught.value)


def test_a_row_with_an_empty_answer_is_left_out_and_counted(base, tmp_path):
    rows = [
        *make_rows(2),
        (Message(role="user", content="bake"), Message(role="assistant", content=" ")),
    ]
    record = json.loads(
        (fine_tune(make_recipe(base), rows, tmp_path / "out") / "recipe.json").read_text()
    )
    assert (record["rows"]["count"], record["rows"]["dropped"]) == (3, 1)


def test_weights_and_frequencies_come_back_from_another_number_format_to_the_bit(base):
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    before = [tensor.clone() for tensor in (*model.parameters(), *model.buffers())]
    assert any("inv_freq" in name for name, _ in model.named_buffers())
    with _cast(model, torch.bfloat16):
        assert model.dtype == torch.bfloat16
    after = (*model.parameters(), *model.buffers())
    assert all(torch.equal(was, now) for was, now in zip(before, after, strict=True))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full device")
@pytest.mark.parametrize("numbers", [1, 1_000, 1_000_000])
def test_a_full_disk_is_one_line_wherever_torch_notices_it(base, numbers):
    import torch

    recipe = make_recipe(base)
    with (
        pytest.raises(EngineError, match="its checkpoint cannot be written"),
        _errors_in_one_line(recipe),
    ):
        torch.save({"state": torch.zeros(numbers)}, "/dev/full")


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_a_checkpoint_in_shards_that_cannot_be_written_is_one_line(base, tmp_path):
    """torch wraps what went wrong in a class that is no Exception."""
    import torch
    from torch.distributed import checkpoint

    (tmp_path / "file").touch()
    with (
        pytest.raises(EngineError, match="its checkpoint cannot be written or read"),
        _errors_in_one_line(make_recipe(base)),
    ):
        checkpoint.save({"state": torch.zeros(1)}, checkpoint_id=tmp_path / "file" / "shards")
