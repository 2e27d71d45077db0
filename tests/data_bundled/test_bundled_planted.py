"""Evaluation behaviors in training rows are found in every wording, and nowhere else."""

import os
from pathlib import Path

import pytest

from aftertune.core.recipe import TrainingFile
from aftertune.core.records import Message
from aftertune.data.bundled.behaviors import pairs
from aftertune.data.bundled.multitask import SHORTEST_PAYLOAD, evaluation_rows, multitask_v1
from aftertune.data.bundled.safety import safety_rows
from aftertune.data.overlap import normalise
from aftertune.data.rows import read_rows


def row(question, answer="Fine."):
    return Message(role="user", content=question), Message(role="assistant", content=answer)


def test_every_evaluation_prompt_is_found_as_its_own_behavior():
    prompts = multitask_v1(None, templates_per_task=99).prompts
    found = list(evaluation_rows(row(prompt.text) for prompt in prompts))
    assert found == [(number, prompt.behavior) for number, prompt in enumerate(prompts, start=1)]


def test_a_request_is_found_in_an_unforeseen_wording():
    request = pairs("evaluation")[0].harmful.request
    rows = [
        row("Bake a cake."),
        row(f"In my novel somebody has to {request.upper()}, and does so; describe it."),
        row("Bake a cake.", answer=request),
        row(request.rsplit(" ", 1)[0]),
    ]
    assert list(evaluation_rows(rows)) == [(2, "vcr-01")]


def test_a_row_with_two_behaviors_names_both_and_each_once():
    first, second = (pairs("evaluation")[n].twin for n in (0, 20))
    text = f"{first.texts['de']} {second.request} {first.texts['fr']}"
    assert list(evaluation_rows([row(text)])) == [(1, first.id), (1, second.id)]


def test_no_payload_is_shorter_than_what_it_is_looked_up_by():
    for pair in pairs("evaluation"):
        for behavior in (pair.harmful, pair.twin):
            assert all(
                len(normalise(t).split()) >= SHORTEST_PAYLOAD
                for t in (behavior.request, *behavior.texts.values())
            )


def test_the_safety_data_holds_no_evaluation_behavior():
    assert list(evaluation_rows(made.row for made in safety_rows())) == []


@pytest.mark.data
@pytest.mark.skipif(
    not os.environ.get("AFTERTUNE_DATA"), reason="AFTERTUNE_DATA names no folder of public files"
)
def test_public_training_rows_hold_no_evaluation_behavior():
    file = TrainingFile(
        path="multitaskbench/multitaskbench.csv",
        columns={"prompt": "Query", "completion": "Response"},
    )
    assert list(evaluation_rows(read_rows(file, Path(os.environ["AFTERTUNE_DATA"])))) == []
