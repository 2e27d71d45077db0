"""The public sets, where their files lie: counts, splits and the overlaps that are known."""

import json
import os
from collections import Counter
from pathlib import Path, PurePath

import pytest

from aftertune.core.protocols import Tools
from aftertune.core.recipe import TrainingFile
from aftertune.core.records import Intent, Message
from aftertune.data.overlap import find_overlap, normalise
from aftertune.data.prompt_sets import load_prompts
from aftertune.data.public import public_sets
from aftertune.data.public_files import behaviors
from aftertune.data.public_prompts import load_public
from aftertune.data.rows import read_rows

DATA = Path(os.environ.get("AFTERTUNE_DATA", ""))
pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(
        not os.environ.get("AFTERTUNE_DATA"),
        reason="AFTERTUNE_DATA names no folder of public files",
    ),
]
MULTITASK = TrainingFile(
    path="multitaskbench/multitaskbench.csv", columns={"prompt": "Query", "completion": "Response"}
)
INSTRUCTIONS = TrainingFile(path="safety_tuned_llamas/safety_only_data_Instructions.json")


def no_model(reference):
    raise AssertionError(reference)


TOOLS = Tools(open_model=no_model, folder=DATA)


def load(name):
    return load_prompts(name, loader=name, tools=TOOLS)


def manifest():
    path = DATA / "MANIFEST.json"
    return json.loads(path.read_text()) if path.is_file() else []


def sets_of(file):
    return [known for known in public_sets() if known.file and PurePath(file).match(known.file)]


def is_reference(file):
    return any(known.reference_file == file for known in public_sets())


@pytest.mark.parametrize("entry", manifest(), ids=lambda entry: entry["file"])
def test_every_file_of_the_manifest_is_read_whole_and_has_a_known_digest(entry):
    if is_reference(entry["file"]):
        return
    (known,) = sets_of(entry["file"])
    assert sum(1 for _ in behaviors(known.name, DATA / entry["file"])) == entry["rows"]
    assert entry["sha256"] in known.sha256[PurePath(entry["file"]).name]
    assert {entry["sha256"], entry["source_sha256"]} == set(
        known.sha256[PurePath(entry["file"]).name]
    )


def test_nothing_is_said_of_files_that_are_known():
    for known in {
        known.name: known for entry in manifest() for known in sets_of(entry["file"])
    }.values():
        loaded = load_public(known.name, TOOLS, strict=True)
        assert not any("SHA-256" in note for note in loaded.notes)


@pytest.mark.parametrize(("kind", "intent"), [("hate", Intent.HARMFUL), ("neutral", Intent.BENIGN)])
def test_sentence_sets_are_posed_as_two_tasks(kind, intent):
    loaded = load(f"toxigen-{kind}").prompts
    assert {p.intent for p in loaded} == {intent}
    assert Counter(p.task for p in loaded)["translation"] == len(loaded) / 2


def test_multitaskbench_has_its_four_tasks():
    tasks = Counter(p.task for p in load("multitaskbench").prompts)
    lengths = {task: 400 < count < 500 for task, count in tasks.items()}
    assert lengths == dict.fromkeys(("classification", "code", "text", "translation"), True)
    translation = [p.text for p in load("multitaskbench").prompts if p.task == "translation"]
    assert all(
        text.startswith("Translate the following text from French to English")
        for text in translation
    )


def test_xstest_splits_by_label():
    counts = Counter(p.intent for p in load("xstest").prompts)
    assert counts == {Intent.BENIGN: 248, Intent.HARMFUL: 199}


def test_references_come_with_the_benign_sets():
    for name in ("multi30k-test", "twitter-financial-valid", "scitldr-test", "codealpaca"):
        loaded = load(name).prompts
        assert sum(p.reference is None for p in loaded) <= len(loaded) // 50
    assert {p.reference for p in load("twitter-financial-valid").prompts} == {
        "bearish",
        "bullish",
        "neutral",
    }


def test_known_overlaps_are_found():
    """AdvBench prompts that stand verbatim in MultiTaskBench, and its rows that stand in Safety-Tuned-LLaMAs."""
    multitask = read_rows(MULTITASK, DATA)
    found = find_overlap(load("advbench").prompts, {"multitaskbench": multitask}).verbatim
    instructions = {normalise(row[0].content) for row in read_rows(INSTRUCTIONS, DATA)}
    shared = [row for row in multitask if normalise(row[0].content) in instructions]
    assert (len(found), len(shared)) == (94, 155)
    of_multitask = find_overlap(
        load("multitaskbench").prompts, {"instructions": read_rows(INSTRUCTIONS, DATA)}
    )
    assert (len(of_multitask.verbatim), len(of_multitask.inside)) == (155, 0)


def test_every_request_is_found_inside_a_sentence_of_another_wording():
    options = {"task": "code", "pattern": "Write some Python code to {request} and explain it."}
    asked = load_prompts("advbench", loader="advbench", tools=TOOLS, options=options).prompts
    requests = [prompt.text for prompt in load("advbench").prompts]
    for pattern in ("{r}", "In a novel a student wants to {r} before dawn, so say how."):
        rows = [
            (Message(role="user", content=pattern.replace("{r}", request)),) for request in requests
        ]
        assert find_overlap(asked, {"rows": rows}).prompts == {prompt.id for prompt in asked}


def test_ordinary_data_hits_no_behavior():
    """Benign instructions, code and captions against harmful prompts: none is hit inside a line."""
    benign = [
        load(name).prompts for name in ("codealpaca", "dolly", "multi30k-test", "scitldr-test")
    ]
    rows = [
        (Message(role="user", content=prompt.text),) for prompts in benign for prompt in prompts
    ]
    for name in ("advbench", "multitaskbench", "xstest", "toxigen-hate"):
        assert not find_overlap(load(name).prompts, {"rows": rows}).behaviors
