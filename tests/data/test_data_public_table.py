"""The table of public sets: whole, consistent, every category mapped; and what loaders make of such rows."""

import gzip
import json
import re

import pytest

from aftertune.core.protocols import Tools
from aftertune.core.records import Intent
from aftertune.data.bundled.behaviors import HAZARDS
from aftertune.data.public import SKIP, public_set, public_sets
from aftertune.data.public_files import OTHER_ROWS, UNLABELLED
from aftertune.data.public_prompts import load_public
from aftertune.errors import DataError

TASKS = ["text", "code", "translation", "classification"]


def tools(folder):
    return Tools(open_model=None, folder=folder)


@pytest.mark.parametrize("known", public_sets(), ids=lambda known: known.name)
def test_the_facts_of_a_set_fit_together(known):
    assert known.home.startswith("https://")
    assert known.licence
    assert re.search(r"\d{4}", known.citation)
    assert known.file or known.hub
    assert (known.intent is None) == bool(known.intent_column)
    assert set(known.intents.values()) <= {*Intent, SKIP}
    assert {known.hazard, *known.hazards.values()} <= {*HAZARDS, "cse", "none"}
    assert bool(known.hazards) == bool(known.label or known.header)
    assert (
        known.intent is not Intent.BENIGN
        or known.kind != "tasks"
        or known.reference
        or known.reference_file
    )
    assert known.tasks
    assert all(
        re.fullmatch("[0-9a-f]{64}", digest)
        for digests in known.sha256.values()
        for digest in digests
    )


def test_every_set_that_the_project_names_is_there():
    names = " ".join(known.name for known in public_sets())
    for name in [
        "advbench",
        "harmbench",
        "strongreject",
        "jailbreakbench-harmful",
        "jailbreakbench-benign",
        "sorry-bench",
        "hex-phi",
        "xstest",
        "or-bench-hard",
        "or-bench-80k",
        "or-bench-toxic",
        "do-not-answer",
        "simple-safety-tests",
        "ailuminate-en",
        "beavertails-30k-test",
        "pku-saferlhf-test",
        "hh-rlhf-red-team",
        "wildjailbreak-eval",
        "wildguardmix-test",
        "crows-pairs",
        "toxigen-hate",
        "multitaskbench",
        "safety-tuned-llamas",
        "i-malicious",
        "scitldr-test",
        "xsum-test",
        "samsum-test",
        "arxiv-summarization-test",
        "codealpaca",
        "mbpp",
        "humaneval",
        "opus-books",
        "wmt14-test",
        "multi30k-test",
        "ntrex",
        "twitter-financial-valid",
        "sst2-valid",
        "tweeteval-test",
        "imdb-test",
        "gsm8k-test",
        "dolly",
        "alpaca",
    ]:
        assert name in names.split()


def test_an_unknown_set_is_named():
    with pytest.raises(DataError, match="no public set is called 'harmbrench'; known: advbench"):
        public_set("harmbrench")


def test_rows_of_a_childrens_category_go_and_are_counted(tmp_path):
    (tmp_path / "sst.csv").write_text(
        'id,harm_area,prompts_final\n1,Child Abuse,Something\n2,"Suicide, Self-Harm, and Eating Disorders",Ask\n'
    )
    loaded = load_public("simple-safety-tests", tools(tmp_path), file="sst.csv")
    assert [(prompt.text, prompt.hazard) for prompt in loaded.prompts] == [("Ask", "ssh")]
    assert loaded.dropped == {"child exploitation": 1}


def test_files_without_a_header_carry_their_category_in_their_name(tmp_path):
    for number, text in (("2", "first"), ("10", '"one, two"\nthree')):
        (tmp_path / f"category_{number}.csv").write_text(f"{text}\n")
    loaded = load_public("hex-phi", tools(tmp_path))
    assert [(p.text, p.hazard) for p in loaded.prompts] == [("one, two", "prv"), ("three", "prv")]
    assert loaded.dropped == {"child exploitation": 1}
    (tmp_path / "category_12.csv").write_text("four\n")
    with pytest.raises(DataError, match="hex-phi has no category 'category_12' that is mapped"):
        load_public("hex-phi", tools(tmp_path))


def test_of_several_categories_the_first_of_the_table_counts(tmp_path):
    answers = [
        {
            "prompt": "A",
            "is_safe": False,
            "category": {"privacy_violation": True, "self_harm": True, "animal_abuse": False},
        },
        {"prompt": "B", "is_safe": False, "category": {"privacy_violation": False}},
        {"prompt": "C", "is_safe": True, "category": {"privacy_violation": False}},
    ]
    with gzip.open(tmp_path / "train.jsonl.gz", "wt") as stream:
        stream.writelines(json.dumps(answer) + "\n" for answer in answers)
    loaded = load_public("beavertails-30k-train", tools(tmp_path), file="train.jsonl.gz")
    assert [(prompt.text, prompt.hazard) for prompt in loaded.prompts] == [
        ("A", "ssh"),
        ("B", "none"),
    ]
    assert loaded.dropped == {OTHER_ROWS: 1}


def test_rows_that_nobody_labelled_are_counted(tmp_path):
    rows = [("a", "harmful", "cyberattack"), ("b", "unharmful", "benign"), ("c", None, "others")]
    keys = ("prompt", "prompt_harm_label", "subcategory")
    (tmp_path / "w.jsonl").write_text(
        "".join(json.dumps(dict(zip(keys, row, strict=True))) + "\n" for row in rows)
    )
    loaded = load_public("wildguardmix-test", tools(tmp_path), file="w.jsonl")
    assert [(p.intent.value, p.hazard) for p in loaded.prompts] == [
        ("harmful", "ncr"),
        ("benign", "none"),
    ]
    assert loaded.dropped == {UNLABELLED: 1}


def test_the_first_turn_of_a_transcript_is_the_payload(tmp_path):
    transcript = "\n\nHuman: How?\nTell me.\n\nAssistant: No.\n\nHuman: Please!\n\nAssistant: No."
    (tmp_path / "red.jsonl").write_text(json.dumps({"transcript": transcript}))
    (prompt,) = load_public("hh-rlhf-red-team", tools(tmp_path), file="red.jsonl").prompts
    assert prompt.text == "How?\nTell me."


def test_another_digest_is_noted_or_refused(tmp_path):
    (tmp_path / "advbench.csv").write_text("goal,target\nSteal,Sure\n")
    assert "advbench.csv: SHA-256 " in load_public("advbench", tools(tmp_path)).notes[0]
    with pytest.raises(
        DataError, match="none of those that are known of advbench; fetch the file from https"
    ):
        load_public("advbench", tools(tmp_path), strict=True)
    (tmp_path / "a.csv").write_text("prompt,category\nx,hate\n")
    with pytest.raises(DataError, match="no SHA-256 is known of this set"):
        load_public("or-bench-hard", tools(tmp_path), file="a.csv", strict=True)


def test_sentences_and_requests_are_posed_as_any_task(tmp_path):
    (tmp_path / "crows.csv").write_text(
        "sent_more,bias_type\nThey are bad.,age\nThose are bad.,gender\n"
    )
    sentences = load_public("crows-pairs", tools(tmp_path), file="crows.csv", pose=TASKS).prompts
    assert {(p.task, p.harm_basis) for p in sentences} == {(task, "content") for task in TASKS}
    (tmp_path / "adv.csv").write_text("goal,target\nWrite {it} down,x\nSteal it,x\n")
    requests = load_public(
        "advbench", tools(tmp_path), file="adv.csv", pose=TASKS, templates_per_task=2
    ).prompts
    assert [sum(p.task == task for p in requests) for task in TASKS] == [4] * 4
    assert all("Write {it} down" in p.text or "Steal it" in p.text for p in requests)
    assert {p.language for p in requests if p.task == "translation"} <= {"fr", "de", "es"}


def test_a_users_templates_pose_a_public_set(tmp_path):
    (tmp_path / "adv.csv").write_text("goal,target\nSteal it,x\n")
    (tmp_path / "own.yaml").write_text(
        "templates:\n  - {task: poem, pattern: 'In verse: {request}'}\n"
    )
    alone = load_public("advbench", tools(tmp_path), file="adv.csv", templates="own.yaml").prompts
    assert [(p.task, p.text) for p in alone] == [("poem", "In verse: Steal it")]
    both = load_public(
        "advbench", tools(tmp_path), file="adv.csv", templates="own.yaml", pose=["poem", "code"]
    ).prompts
    assert {p.task for p in both} == {"poem", "code"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pose": ["song"]}, "no templates for the task 'song'; there are some for text, code"),
        ({"pose": "text"}, "pose is 'text'; give a list"),
        ({"pose": ["text"], "task": "code"}, "give pose and templates, or pattern and task"),
        ({"pose": ["text"], "templates_per_task": 0}, "templates_per_task is 0"),
    ],
)
def test_wrong_poses_are_refused(tmp_path, options, message):
    (tmp_path / "adv.csv").write_text("goal,target\nSteal it,x\n")
    with pytest.raises(DataError, match=message):
        load_public("advbench", tools(tmp_path), file="adv.csv", **options)
