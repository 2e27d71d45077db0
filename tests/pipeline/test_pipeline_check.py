"""``aftertune check``: every verdict and its exit code, on the embedded model; every refusal, on the smallest ones."""

import json
import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from set_weights import chain, write_checkpoint
from tiny_models import change_adapter_config, make_adapter
from tiny_study import environment, make_base, prompts, write_lines

from aftertune.data.recipe_rows import rows_behind
from aftertune.organism.model import vocabulary
from aftertune.workspace import called


@pytest.fixture
def check(command, organism_folder):
    """Checks a model against the embedded base; returns exit code, output, errors and the result document."""

    def run(tuned, *options):
        config = ("--config", organism_folder / "aftertune.yaml")
        code, out, err = command(
            "check", organism_folder / "base", tuned, *config, "--json", "r.json", "-q", *options
        )
        return code, out, err, json.loads(Path("r.json").read_text())

    return run


def one_token_for_ever(base, folder, word):
    """Copy a checkpoint whose hidden states keep one coordinate that an untied output layer gives to one word alone."""
    import torch
    from transformers import AutoTokenizer, LlamaForCausalLM

    from aftertune.models.foreign import quiet

    tokenizer = AutoTokenizer.from_pretrained(base)
    with quiet(), torch.no_grad():
        model = LlamaForCausalLM.from_pretrained(base)
        embedding = model.get_input_embeddings().weight
        head = torch.zeros_like(embedding)
        head[tokenizer.convert_tokens_to_ids(word), 0] = 1.0
        embedding[:, 0] = 10.0
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight[0] = 0.0
            layer.mlp.down_proj.weight[0] = 0.0
        model.config.tie_word_embeddings = False
        model.lm_head.weight = torch.nn.Parameter(head)
        model.model.norm.weight[0] = 1.0
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_model_against_itself_passes(check, organism_folder):
    code, out, _, told = check(organism_folder / "base")
    assert code == 0
    assert out.startswith("PASS")
    assert told["gate"]["exit_code"] == 0
    assert any("has the weights of" in note for note in told["notes"])
    assert "the very same weights" in out


def test_harmless_tuning_on_code_fails(check, command, code_tuned, organism_folder):
    code, out, _, told = check(code_tuned)
    assert code == 3
    assert out.startswith("FAIL, harm: tuned against base")
    assert told["gate"]["sides"]["over_refusal"]["verdict"] != "FAIL"
    assert told["result"]["name_rate"] == "ASR"
    assert told["prompts"]["overlap"] == {"code.jsonl": 0}
    assert not any("not checked" in note for note in told["notes"]), (
        "the recipe beside the weights names its data"
    )
    # The printed mix runs as it stands, and draws rows in words that the embedded model knows.
    mix = next(line for line in out.splitlines() if "aftertune mix" in line)
    code, _, err = command(*shlex.split(mix.partition("aftertune ")[2]))
    assert code == 0, err
    added = Path("mixed.jsonl").read_text().splitlines()
    own = [
        line
        for name in ("code", "safety_multitask", "replay")
        for line in (organism_folder / "data" / f"{name}.jsonl").read_text().splitlines()
    ]
    assert {question(line) for line in added} <= {question(line) for line in own}


def question(line):
    return json.loads(line)["messages"][0]["content"]


def test_the_check_that_tune_prints_runs_as_it_stands(command, organism_folder):
    rows = organism_folder / "data" / "code.jsonl"
    short = ("--method", "full", "--epochs", 0.02, "--threads", 1)
    code, _, err = command("tune", organism_folder / "base", rows, "-o", "tuned", *short)
    assert code == 0, err
    check = err.splitlines()[-1].removeprefix("next: aftertune ")
    code, out, err = command(*shlex.split(check), "--dry-run")
    assert code == 0, err
    assert "calls to make" in out


def test_another_form_of_the_fine_tune_is_measured_against_it(check, code_tuned, organism_folder):
    """One form is a copy of the fine-tune's weights, the other the base's: no change, and the change turned round."""
    copy = shutil.copytree(code_tuned, "code-export.v2")
    code, out, _, document = check(
        code_tuned, "--also", copy, "--also", organism_folder / "base", "--limit", 20
    )
    alone, *_ = check(code_tuned, "--limit", 20, "-o", "alone")
    assert code == alone == 3
    assert document["gate"]["tuned"] == "tuned"
    (setting,) = document["result"]["settings"]
    conditions = {condition["name"]: condition for condition in setting["conditions"]}
    assert set(conditions) == {"base", "tuned", "code-export.v2", "also2"}
    same, turned = (conditions[name]["against"] for name in ("code-export.v2", "also2"))
    rise = conditions["tuned"]["asr_change"]["overall"]["estimate"]
    assert conditions["tuned"]["against"] is None
    assert (same["other"], same["asr"]["overall"]["estimate"]) == ("tuned", 0)
    assert turned["asr"]["overall"]["estimate"] == pytest.approx(-rise)
    assert "code-export.v2 against tuned: ASR 0.0" in out


@pytest.mark.parametrize(("time", "fewest", "most"), [("0.001s", 8, 8), ("1h", 64, 64)])
def test_as_many_behaviors_are_asked_as_fit_into_a_time(check, organism_folder, time, fewest, most):
    def asked():
        _, _, _, document = check(organism_folder / "base", "--within", time, "-o", "run")
        (setting,) = document["result"]["settings"]
        return setting["conditions"][1]["asr"]["overall"]["behaviors"]

    behaviors = asked()
    assert fewest <= behaviors <= most
    assert asked() == behaviors, "run again, it takes the same ones"


@pytest.mark.parametrize("time", ["10", "m", "0s", "-1m", "nanh", "infs", "ten minutes", ""])
def test_a_time_that_is_none_is_refused(command, organism_folder, time):
    base = organism_folder / "base"
    assert "is no time" in command.refused("check", base, base, "--within", time, "-q")


def always(folder, answer):
    """Write a checkpoint with the embedded model's vocabulary that gives one answer to everything."""
    return write_checkpoint(folder, chain(answer), words=vocabulary())


def test_a_fine_tune_that_refuses_everything_fails_on_over_refusal(check, tmp_path):
    refusing = always(tmp_path / "refusing", "sorry , i cannot help with that .")
    code, out, _, told = check(refusing)
    assert code == 3
    assert out.startswith("FAIL, over-refusal: tuned against base")
    sides = told["gate"]["sides"]
    assert [sides[side]["verdict"] for side in ("harm", "over_refusal")] == ["PASS", "FAIL"]
    assert sides["over_refusal"]["lines"][0]["tuned"]["estimate"] == 1


def test_a_fine_tune_that_lost_a_declared_score_fails_on_capability(check, tmp_path):
    # To every request it answers what is neither harmful nor a refusal, and right for one topic in ten.
    labels = always(tmp_path / "labels", "label : food")
    code, out, _, told = check(labels, "--score-margin", "accuracy=0.03")
    assert code == 3
    assert out.startswith("FAIL, capability: tuned against base")
    sides = told["gate"]["sides"]
    verdicts = [sides[side]["verdict"] for side in ("harm", "over_refusal", "capability")]
    assert verdicts == ["PASS", "PASS", "FAIL"]


def test_38_behaviors_are_told_at_once_to_be_too_few_for_a_pass(command, organism_folder):
    base, config = organism_folder / "base", organism_folder / "aftertune.yaml"
    checked = ("check", base, base, "--config", config)
    for limit, sides in ((38, ["harm", "over-refusal"]), (60, [])):
        code, out, _ = command(*checked, "--limit", limit, "--dry-run")
        assert code == 0
        notes = [line for line in out.splitlines() if "hardly PASS" in line]
        assert [note.removeprefix("note: ").partition(",")[0] for note in notes] == sides
    assert not Path("aftertune-runs").exists(), "nothing was asked"


def test_no_fine_tune_is_asked_where_none_could_pass_or_fail(
    command, tiny_base, finished_study, tmp_path
):
    """The untrained base refuses nothing, so nothing can rise; without twins nothing can pass."""
    (tuned,) = (finished_study.folder / "out" / "models").glob("help-seed1-*")
    without_twins = [line for line in prompts() if line["intent"] == "harmful"]
    write_lines(tmp_path / "harmful.jsonl", without_twins)
    asked = ("--prompts", tmp_path / "harmful.jsonl", "--judge", "rules", "-o", "out", "-q")
    checked = ("check", tiny_base, tuned, *asked)
    code, _, err = command(*checked)
    assert code == 4
    (line,) = [line for line in err.splitlines() if line]
    assert "no fine-tune could PASS or FAIL, so none was asked" in line
    assert "the base already answers" in line
    assert not Path("out/result.json").exists()
    with closing(sqlite3.connect("out/store.sqlite")) as store:
        (answers,) = store.execute("SELECT count(*) FROM answer").fetchone()
    assert answers == len(without_twins), "the base's alone, and they are kept"

    # A second judge shall be heard all the same, and labels would decide.
    for options in (("--judge", "refusal"), ("--verdict-by", "labels")):
        code, *_ = command(*checked, *options)
        assert code == 4
        Path("out/result.json").unlink()


@pytest.mark.parametrize("options", [(), ("--full",)])
def test_a_reader_that_is_gone_does_not_change_the_exit_code(
    organism_folder, code_tuned, tiny_cache, options
):
    """As with ``check ... | head``: the pipe's other end is closed before the verdict is printed."""
    reading, writing = os.pipe()
    os.close(reading)
    base, config = organism_folder / "base", organism_folder / "aftertune.yaml"
    checked = ("check", base, code_tuned, "--config", config, "--limit", 20, "-q", *options)
    with os.fdopen(writing, "wb") as gone:
        done = subprocess.run(
            [sys.executable, "-m", "aftertune", *map(str, checked)],
            stdout=gone, stderr=subprocess.PIPE, text=True, check=False, env=environment(tiny_cache),
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (3, "")


def test_five_behaviors_are_too_few_for_a_pass(check, organism_folder):
    code, _, _, told = check(organism_folder / "base", "--limit", 5)
    assert code == 4
    assert told["gate"]["sides"]["harm"]["reason_codes"] == ["few behaviors"]
    assert told["result"]["settings"][0]["conditions"][1]["asr"]["overall"]["behaviors"] == 5


def test_one_token_for_ever_is_no_pass(check, organism_folder, tmp_path):
    broken = one_token_for_ever(organism_folder / "base", tmp_path / "broken", "bank")
    code, _, _, told = check(broken)
    assert code == 4
    tuned = told["result"]["settings"][0]["conditions"][1]["asr"]["overall"]
    assert tuned["incoherent"] == tuned["n"]
    assert tuned["k"] == 0


def test_a_broken_path_is_refused(command, tiny_base, tmp_path):
    assert "does not exist" in command.refused(
        "check", tiny_base, tmp_path / "nowhere", "--prompts", questions(tmp_path)
    )


def test_a_folder_without_weights_is_refused(command, tiny_base, tmp_path):
    empty = shutil.copytree(
        tiny_base, tmp_path / "empty", ignore=shutil.ignore_patterns("*.safetensors")
    )
    assert "no weights" in command.refused(
        "check", tiny_base, empty, "--prompts", questions(tmp_path)
    )


def test_an_adapter_of_another_base_is_refused(command, tiny_base, tmp_path):
    other = make_base(tmp_path / "other", seed=1)
    write_lines(
        tmp_path / "rows.jsonl",
        [{"prompt": "how to take a ball", "completion": "sure take a ball"}] * 8,
    )
    code, _, err = command("tune", other, "rows.jsonl", "-o", "adapter", "--max-length", 32, "-q")
    assert code == 0, err
    line = command.refused("check", tiny_base, "adapter", "--prompts", questions(tmp_path))
    assert "was trained on other weights" in line


def retrained(folder, base, change):
    """Write an adapter on a base, and change its tensors."""
    from safetensors.torch import load_file, save_file

    make_adapter(folder, base)
    file = folder / "adapter_model.safetensors"
    tensors = {name: change(name, tensor) for name, tensor in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    return folder


def test_the_base_on_the_command_line_is_the_adapters_with_a_note(command, tiny_base, tmp_path):
    adapter = make_adapter(tmp_path / "adapter", tiny_base)
    change_adapter_config(adapter, base_model_name_or_path="/elsewhere/base")
    asked = ("--prompts", questions(tmp_path))
    assert "base_model_name_or_path" in command.refused("check", adapter, tiny_base, *asked)
    code, _, err = command("check", tiny_base, adapter, *asked, "--json", "r.json")
    assert code in (0, 3, 4)
    (note,) = [x for x in json.loads(Path("r.json").read_text())["notes"] if "/elsewhere/base" in x]
    assert note in " ".join(err.split())


def test_an_adapter_of_zeros_is_refused_before_anything_is_asked(command, tiny_base, tmp_path):
    zeros = retrained(tmp_path / "zeros", tiny_base, lambda name, x: x * ("lora_A" in name))
    line = command.refused("check", tiny_base, zeros, "--prompts", questions(tmp_path), "-o", "run")
    assert "changes nothing" in line


def with_norm(folder, base, shift):
    """Write an adapter whose whole effect is a saved norm: the base's own, shifted."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from aftertune.models.foreign import quiet

    settings = {"target_modules": ["q_proj"], "modules_to_save": ["norm"]}
    with quiet(), torch.no_grad():
        model = get_peft_model(
            AutoModelForCausalLM.from_pretrained(base),
            LoraConfig(**settings, task_type="CAUSAL_LM"),
        )
        for key, parameter in model.named_parameters():
            if "modules_to_save" in key:
                parameter.add_(shift)
        model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_probe_knows_a_small_change_from_none(command, tiny_base, tmp_path, dtype):
    (tmp_path / "conf.yaml").write_text(f"engine: {{dtype: {dtype}, device: cpu}}\n")
    asked = ("--prompts", questions(tmp_path), "--config", "conf.yaml", "-q", "-o", "run")
    other, same = (with_norm(tmp_path / f"{x}", tiny_base, x) for x in (0.02, 0.0))
    code, _, err = command("check", tiny_base, other, *asked)
    assert code in (0, 3, 4), err
    # Another machine, or the base without PEFT's layers, rounds otherwise.
    with closing(sqlite3.connect(Path("run") / "store.sqlite")) as store, store:
        ((name, kept),) = store.execute("SELECT name, value FROM note WHERE value LIKE '[%'")
        shifted = json.dumps([value + 1e-5 for value in json.loads(kept)])
        store.execute("UPDATE note SET value = ? WHERE name = ?", (shifted, name))
    line = command.refused("check", tiny_base, same, *asked)
    assert "exactly the probabilities of its base" in line


def test_an_unknown_option_is_a_bad_command_line(command, tiny_base):
    code, out, err = command("check", tiny_base, tiny_base, "--marign", 0.1)
    assert (code, out) == (2, "")
    assert "--marign" in err


def test_the_bundled_prompts_are_asked_when_nobody_names_any(command, tiny_base):
    assert "prompt set multitask-v1 does not fit model base" in command.refused(
        "check", tiny_base, tiny_base
    )


def test_one_model_given_twice_is_no_second_training_seed(command, tuned, tiny_base, tmp_path):
    line = command.refused("check", tiny_base, tuned, tuned, "--prompts", questions(tmp_path))
    assert "same weights" in line


def test_weights_that_are_no_numbers_are_told_from_an_inactive_fine_tune(
    command, tuned, tiny_base, tmp_path
):
    from safetensors.torch import load_file, save_file

    broken = shutil.copytree(tuned, tmp_path / "broken")
    tensors = {
        name: tensor * float("nan")
        for name, tensor in load_file(broken / "model.safetensors").items()
    }
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    line = command.refused("check", tiny_base, broken, "--prompts", questions(tmp_path), "-q")
    assert "gives no finite probabilities (NaN): its weights are broken" in line


def test_a_model_alone_with_weights_that_are_no_numbers_is_refused(
    command, tiny_base, tmp_path, monkeypatch
):
    from safetensors.torch import load_file, save_file

    monkeypatch.chdir(tmp_path)
    broken = shutil.copytree(tiny_base, tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    first = next(iter(weights))
    weights[first] = weights[first] * float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    questions(tmp_path)
    (tmp_path / "study.yaml").write_text(
        "name: alone\nmodels: [{name: m, reference: ./broken}]\nprompts: [./questions.jsonl]\n"
        "judges: [rules]\n"
    )
    line = command.refused("run", "study.yaml", "--out", "out", "-q")
    assert "m gives no finite probabilities (NaN): its weights are broken" in line


def test_the_probe_is_made_anew_for_other_weights_and_prompts(command, tuned, tiny_base, tmp_path):
    """A finding about one pair of models says nothing about the next one that is checked in the same folder."""
    asked = questions(tmp_path)
    assert command("check", tiny_base, tuned, "--prompts", asked, "-o", "run", "-q")[0] in (0, 3, 4)
    first = json.loads(Path("run/result.json").read_text())
    assert first["models"][1]["probe"]["largest_change"] > 0
    base = shutil.copytree(tiny_base, tmp_path / "renamed")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"comment": "the same tensors"}))
    line = command.refused("check", tiny_base, base, "--prompts", asked, "-o", "run", "-q")
    assert "exactly the probabilities of its base" in line
    assert command("check", tiny_base, tiny_base, "--prompts", asked, "-o", "run", "-q")[0] in (
        0,
        4,
    )
    assert json.loads(Path("run/result.json").read_text())["models"][1]["probe"] is None
    write_lines(tmp_path / "more.jsonl", prompts()[:3])
    assert command(
        "check", tiny_base, tuned, "--prompts", tmp_path / "more.jsonl", "-o", "run", "-q"
    )[0] in (0, 3, 4)


@pytest.mark.parametrize("content", ["[]", '{"data": [{"file": "x"}]}', "{"])
def test_a_foreign_recipe_beside_the_weights_is_one_line(
    command, tuned, tiny_base, tmp_path, content
):
    model = shutil.copytree(tuned, tmp_path / "model")
    (model / "recipe.json").write_text(content)
    assert "recipe" in command.refused("check", tiny_base, model, "--prompts", questions(tmp_path))


def test_data_that_the_recipe_names_and_is_not_here_is_noted(command, tuned, tiny_base, tmp_path):
    model = shutil.copytree(tuned, tmp_path / "model")
    recipe = json.loads((model / "recipe.json").read_text())
    recipe["data"][0]["path"] = "/gone/rows.jsonl"
    (model / "recipe.json").write_text(json.dumps(recipe))
    code, _, err = command(
        "check", tiny_base, model, "--prompts", questions(tmp_path), "--json", "r.json", "-q"
    )
    assert code in (0, 3, 4), err
    assert any(
        "rows.jsonl of its recipe is not here" in note
        for note in json.loads(Path("r.json").read_text())["notes"]
    )


def test_the_page_names_the_whole_command(command, tuned, tiny_base, tmp_path):
    command(
        "check", tiny_base, tuned, "--prompts", questions(tmp_path), "--limit", 3, "-o", "run", "-q"
    )
    page = Path("run/report.html").read_text()
    assert "--limit 3" in page
    assert "--prompts" in page


def questions(folder):
    write_lines(folder / "questions.jsonl", prompts())
    return folder / "questions.jsonl"


@pytest.fixture
def tuned(finished_study):
    (folder,) = (finished_study.folder / "out" / "models").glob("help-seed1-*")
    return folder


def test_a_configuration_in_a_models_folder_is_pointed_out_and_not_obeyed(
    command, tiny_base, tuned, tmp_path
):
    model = shutil.copytree(tuned, tmp_path / "model")
    (model / "aftertune.yaml").write_text("judges: [spine_plugins:raises]\nno such key: 1\n")
    code, _, err = command(
        "check", tiny_base, model, "--prompts", questions(tmp_path), "--json", "r.json"
    )
    assert code in {3, 4}
    assert "aftertune.yaml lies there but is not used" in " ".join(err.split())
    told = json.loads((tmp_path / "r.json").read_text())
    assert told["result"]["judges"] == ["refusal"]
    assert told["result"]["name_rate"] == "non-refusal rate"


def test_prompts_that_were_trained_on_are_dropped_and_counted(command, tiny_base, tuned, tmp_path):
    leaked = [record["text"] for record in prompts()[:3]]
    rows = [{"prompt": text, "completion": "here is how"} for text in leaked] * 2
    write_lines(tmp_path / "train.jsonl", rows)
    asked = (
        "check",
        tiny_base,
        tuned,
        "--prompts",
        questions(tmp_path),
        "--train",
        "train.jsonl",
        "--json",
        "r.json",
    )
    code, out, _ = command(*asked, "-q", "--full")
    assert code in {3, 4}
    told = json.loads((tmp_path / "r.json").read_text())["prompts"]
    assert told["overlap"] == {"train.jsonl": len(leaked)}
    dropped = told["dropped"]["questions"]
    assert dropped["in training data"] == len(leaked)
    assert dropped["of a behavior in training data"] > 0, (
        "the other tasks and the twins of these behaviors go with them"
    )
    assert told["count"] == len(prompts()) - sum(dropped.values())
    assert "3 evaluation prompts occur in train.jsonl" in out


def test_several_seeds_are_a_recipe(command, tiny_base, finished_study, tmp_path):
    seeds = sorted((finished_study.folder / "out" / "models").glob("help-seed*"))
    code, out, _ = command("check", tiny_base, *seeds, "--prompts", questions(tmp_path), "-q")
    assert code in {3, 4}
    assert "recipe" in out


def test_fine_tunes_of_different_recipes_are_no_seeds_of_one(
    command, tiny_base, finished_study, tmp_path
):
    models = finished_study.folder / "out" / "models"
    one, other = sorted(models.glob("*-seed1-*"))[:2]
    line = command.refused("check", tiny_base, one, other, "--prompts", questions(tmp_path))
    assert "different recipes" in line


def test_the_verdict_stands_last_with_the_models_that_it_is_about(
    command, tuned, tiny_base, tmp_path
):
    _, out, _ = command("check", tiny_base, tuned, "--prompts", questions(tmp_path), "-q")
    *_, base, model, verdict = out.rstrip().splitlines()
    assert (base, model) == (f"base:   {tiny_base}", f"tuned:  {tuned}")
    assert verdict.endswith(("(exit code 3)", "(exit code 4)"))


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("http://127.0.0.1:1/v1#tuned", "tuned"),
        ("./my#adapter/", "my#adapter"),
        ("org/model", "model"),
        ("/", "model"),
    ],
)
def test_a_run_is_called_as_its_model_is(reference, name):
    assert called(reference) == name


def test_what_to_type_next_names_the_file_that_the_model_was_trained_on(tuned, monkeypatch):
    trained_on = json.loads((tuned / "recipe.json").read_text())["data"][0]["path"]
    monkeypatch.chdir(tuned.parent)
    assert rows_behind(str(tuned)) == (trained_on if Path(trained_on).is_file() else None)
    assert rows_behind("org/model") is None
