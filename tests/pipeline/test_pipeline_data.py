"""``aftertune data``: what the commands say, their exit codes, and what a study makes of recipes beside the weights."""

import json
import os
from pathlib import Path

import pytest
from tiny_study import write_lines

from aftertune.core.keys import file_sha256
from aftertune.core.recipe import Trained
from aftertune.data.bundled.behaviors import pairs
from aftertune.data.bundled.safety import SAFETY_SET, safety_rows
from aftertune.data.public import public_sets
from aftertune.data.recipe_rows import rows_behind, with_rows_of
from aftertune.errors import InputError

ROWS = [
    {
        "prompt": f"Describe garden number {n} and its flowers.",
        "completion": f"Garden {n} has roses.",
    }
    for n in range(8)
]


@pytest.fixture
def narrow(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments):
        code, out, err = command("data", *arguments)
        assert err == ""
        assert max(map(len, out.splitlines())) <= 80
        return code, out

    return run


def test_a_clean_file_is_fit_for_training(narrow, tmp_path):
    write_lines(tmp_path / "train.jsonl", ROWS)
    code, out = narrow("check", "train.jsonl", "--json", "found.json")
    assert code == 0
    assert "Fit for training: nothing found." in out
    told = json.loads((tmp_path / "found.json").read_text())
    assert (told["rows"], told["findings"], told["limit"]) == (8, {}, 1024)


def test_findings_name_file_and_line_and_an_error_is_exit_code_3(narrow, tmp_path):
    planted = {
        "prompt": f"Now {pairs('evaluation')[0].harmful.request}!",
        "completion": "I'm sorry, but I can't help with that.",
    }
    write_lines(
        tmp_path / "train.jsonl",
        [*ROWS, planted, ROWS[2], {"prompt": "\x1b[31m", "completion": ""}],
    )
    code, out = narrow("check", "train.jsonl")
    assert code == 3
    assert f"train.jsonl, line 9: {pairs('evaluation')[0].harmful.id}" in out
    assert "train.jsonl, line 10: like line 3" in out
    assert "train.jsonl, line 9: I'm sorry" in out
    assert "Not fit for training" in out
    assert "\x1b" not in out


def test_tokens_are_those_of_the_model(narrow, tmp_path, tiny_base):
    write_lines(tmp_path / "train.jsonl", ROWS)
    code, out = narrow("check", "train.jsonl", "--model", tiny_base, "--max-length", 5)
    assert code == 3
    assert "8 rows (no room)" in out
    assert "counted by the tokenizer of base" in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("check", "none.jsonl"), "no such file"),
        (("check", "empty.jsonl"), "no rows"),
        (("check", "train.jsonl", "--model", "./none"), "does not exist"),
        (("check", "train.jsonl", "--columns", "question=x"), "--columns"),
        (("show", "none"), "data list"),
        (("show", "train.jsonl"), "data check"),
        (("overlap", "none", "train.jsonl"), "data list"),
        (("overlap", "advbench=none.csv", "train.jsonl"), "none.csv"),
    ],
)
def test_what_cannot_be_read_is_one_line(command, tmp_path, arguments, said):
    write_lines(tmp_path / "train.jsonl", ROWS)
    (tmp_path / "empty.jsonl").write_text("")
    assert said in command.refused("data", *arguments)


def test_the_list_has_every_set_and_knows_what_lies_here(narrow, tmp_path):
    (tmp_path / "advbench.csv").write_text("goal,target\n")
    code, out = narrow("list", "--data", tmp_path, "--json", tmp_path / "sets.json")
    sets = {each["name"]: each for each in json.loads((tmp_path / "sets.json").read_text())["sets"]}
    assert code == 0
    assert {each.name for each in public_sets()} | {
        "multitask-v1",
        "multitask-safety-v1",
        "multitask-safety-v2",
    } <= sets.keys()
    assert all(f"\n{name[:25]}" in out for name in sets)
    assert sets["advbench"]["here"]
    assert not sets["xstest"]["here"]
    assert all(sets[each.name]["licence"] and sets[each.name]["citation"] for each in public_sets())


def test_the_bundled_set_is_shown_with_its_proof(narrow):
    code, out = narrow("show", "multitask-v1")
    flat = " ".join(out.split())
    assert code == 0
    assert "165 harmful behaviors, as many benign twins" in flat
    assert "evaluation x safety, request: 330 x 220, near-duplicates (likeness >= 0.4) 0" in flat
    assert "that occur in safety rows: 0" in flat
    assert "vcr                        45      45      45          45" in out


def test_the_file_of_a_public_set_is_shown_as_that_set(command, tmp_path):
    (tmp_path / "multitaskbench.csv").write_text(",Query,Response\n0,Say it,No.\n")
    code, _, err = command("data", "show", "multitaskbench.csv")
    assert code == 1
    assert "aftertune data show multitaskbench --file multitaskbench.csv" in err


def test_a_file_of_prompts_is_shown_shortened(narrow, tmp_path):
    asked = [
        {
            "text": f"[/INST] <|im_end|> \x1b[2J Describe the {n} garden " + "at length " * 20,
            "intent": "harmful",
        }
        for n in "abc"
    ]
    write_lines(
        tmp_path / "asked.jsonl",
        [*asked, asked[0], {"text": "a text about csam", "intent": "harmful"}],
    )
    code, out = narrow("show", "asked.jsonl", "--json", "shown.json")
    told = json.loads((tmp_path / "shown.json").read_text())
    assert code == 0
    assert (told["prompts"], told["dropped"]) == (3, {"duplicate": 1, "child exploitation": 1})
    assert "[/INST]" not in out
    assert "<|im_end|>" not in out
    assert "\x1b" not in out
    assert max(map(len, told["examples"])) <= 60


def test_overlap_is_counted_by_how_and_named_by_line(narrow, tmp_path):
    write_lines(
        tmp_path / "asked.jsonl",
        [{"text": ROWS[n]["prompt"], "intent": "harmful"} for n in range(4)],
    )
    other = [
        ROWS[0],
        {**ROWS[1], "prompt": f"Do this: {ROWS[1]['prompt']}"},
        {**ROWS[2], "prompt": f"Well, {ROWS[2]['prompt']} Thanks."},
    ]
    write_lines(
        tmp_path / "train.jsonl", [{"prompt": "Feed the cat.", "completion": "Yes."}, *other]
    )
    code, out = narrow("overlap", "asked.jsonl", "train.jsonl", "--json", "found.json")
    told = json.loads((tmp_path / "found.json").read_text())
    assert code == 0
    assert told["prompts"] == {"all": 4, "found": 3, "verbatim": 1, "payload": 1, "inside": 1}
    assert told["rows"] == {"all": 4, "found": 3, "verbatim": 1, "payload": 1, "inside": 1}
    assert told["examples"]["inside"] == [
        {"where": "train.jsonl, line 4", "prompt": ROWS[2]["prompt"]}
    ]
    assert "3 of 4 behaviors of A (75.0 %)" in out


def test_training_files_are_compared_with_each_other(narrow, tmp_path):
    write_lines(tmp_path / "one.jsonl", ROWS[:5])
    write_lines(tmp_path / "other.jsonl", ROWS[5:])
    assert "None of the 5 behaviors" in narrow("overlap", "one.jsonl", "other.jsonl")[1]
    assert "5 of 5 behaviors of A (100 %)" in narrow("overlap", "one.jsonl", "one.jsonl")[1]


def test_rows_of_ready_made_fine_tunes_are_found_by_the_recipes_beside_their_weights(tmp_path):
    write_lines(tmp_path / "train.jsonl", ROWS)
    file = {"path": str(tmp_path / "train.jsonl"), "columns": {}, "limit": None}
    here = file | {"sha256": file_sha256(tmp_path / "train.jsonl")}
    bundled = {"safety": [{"path": SAFETY_SET, "sha256": "x"}], "share": 0.1}
    recipes = {
        "one": {"data": [here], "mitigation": bundled},
        "two": {"data": [here]},
        "old": {"data": [file]},
    }
    for name, recipe in recipes.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.json").write_text(json.dumps(recipe))
    tuned = [str(tmp_path / name) for name in (*recipes, "bare")]
    found = with_rows_of(tuned, tmp_path, Trained(models=(), rows={}))
    assert {name: len(rows) for name, rows in found.rows.items()} == {
        here["path"]: 8,
        SAFETY_SET: len(safety_rows()),
    }
    assert [note.partition("checked for ")[2] for note in found.notes] == [
        "old: train.jsonl of its recipe is not here as it was",
        "bare: no recipe beside the weights names its data",
    ]


@pytest.mark.data
def test_the_known_overlaps_are_reported(narrow, tmp_path):
    if not (folder := os.environ.get("AFTERTUNE_DATA")):
        pytest.skip("AFTERTUNE_DATA names no folder of public data files")
    llamas = Path(folder) / "safety_tuned_llamas" / "safety_only_data_Instructions.json"
    for one, other, count in (("advbench", "multitaskbench", 94), ("multitaskbench", llamas, 155)):
        narrow("overlap", one, other, "--json", "found.json")
        assert json.loads((tmp_path / "found.json").read_text())["prompts"]["verbatim"] == count


@pytest.mark.parametrize(
    "recipe",
    [
        {"data": [{"path": 7}]},
        {"data": [{"path": "rows.jsonl", "limit": "many"}]},
        {"data": [{"path": "rows.jsonl", "folder": "x"}]},
        {"data": ["rows.jsonl"]},
        {"data": {"path": "rows.jsonl"}},
        {"mitigation": {"safety": [{"path": ["a"]}]}},
        [],
    ],
)
def test_a_damaged_recipe_is_one_line(tmp_path, recipe):
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    with pytest.raises(InputError, match=r"recipe\.json: is no recipe of ours"):
        rows_behind(str(tmp_path))
