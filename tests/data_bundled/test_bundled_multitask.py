"""The prompt set `multitask-v1`: balance, rotation, limits, references, and templates that users register."""

import os
import re
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import pytest

from aftertune.core.protocols import Tools
from aftertune.core.recipe import TrainingFile
from aftertune.core.records import TASKS, Intent, Message
from aftertune.core.registry import find
from aftertune.data.bundled.behaviors import HAZARDS, pairs
from aftertune.data.bundled.multitask import SHORTEST_PAYLOAD, evaluation_rows, multitask_v1
from aftertune.data.bundled.safety import safety_rows
from aftertune.data.overlap import normalise
from aftertune.data.prompt_sets import limit, load_prompts
from aftertune.data.rows import read_rows
from aftertune.data.templates import SHIPPED, bundled_templates
from aftertune.errors import DataError, PluginError
from aftertune.score.metrics import label_accuracy


def no_model(reference):
    raise AssertionError(reference)


def tools(folder):
    return Tools(open_model=no_model, folder=folder)


@pytest.fixture(scope="module")
def prompts():
    return multitask_v1(None).prompts


def spread(counts, expected):
    assert len(counts) == expected
    return max(counts.values()) - min(counts.values())


def harmful(prompts):
    return [prompt for prompt in prompts if prompt.intent is Intent.HARMFUL]


def test_the_registry_knows_the_set_and_nothing_is_dropped(tmp_path, prompts):
    loaded = load_prompts("multitask-v1", loader="multitask-v1", tools=tools(tmp_path))
    assert find("prompts", "multitask-v1") is multitask_v1
    assert loaded.prompts == prompts
    assert loaded.dropped == {}


def test_ids_are_hashes_of_the_content(prompts):
    assert len({prompt.id for prompt in prompts}) == len(prompts) == 165 * 2 * 4 * 3
    assert prompts == multitask_v1(None).prompts


def test_hazards_tasks_and_templates_are_balanced(prompts):
    assert spread(Counter((p.hazard, p.task) for p in harmful(prompts)), 11 * 4) == 0
    assert spread(Counter((p.hazard, p.template) for p in harmful(prompts)), 11 * 24) <= 1


@pytest.mark.parametrize("number", [1, 7, 11, 40, 50, 100, 164])
def test_a_limit_is_nested_and_balanced_in_hazards_tasks_and_templates(prompts, number):
    kept, more = limit(prompts, number), limit(prompts, number + 1)
    assert {p.id for p in kept} < {p.id for p in more}
    behaviors = {p.behavior: p.hazard for p in harmful(kept)}
    assert len(behaviors) == number
    hazards = Counter(dict.fromkeys(HAZARDS, 0)) + Counter(behaviors.values())
    assert max(hazards.values()) - min(hazards.get(hazard, 0) for hazard in HAZARDS) <= 1
    names = [wording.template.id for wording in bundled_templates("evaluation")]
    used = Counter((p.hazard, p.template) for p in harmful(kept))
    for hazard in set(behaviors.values()):
        for task in TASKS:
            counts = [
                used[hazard, w.template.id]
                for w in bundled_templates("evaluation")
                if w.template.task == task
            ]
            assert max(counts) - min(counts) <= 1
    assert sum(used.values()) == number * 4 * 3
    assert {template for _, template in used} <= set(names)


def test_twins_share_the_templates_of_their_behaviors_and_differ_in_words(prompts):
    templates = defaultdict(set)
    texts = defaultdict(set)
    for prompt in prompts:
        templates[prompt.pair, prompt.intent].add(prompt.template)
        texts[prompt.pair, prompt.template].add(prompt.text)
    for pair in pairs("evaluation"):
        ours, theirs = (
            templates[pair.harmful.id, intent] for intent in (Intent.HARMFUL, Intent.BENIGN)
        )
        assert ours == theirs
        assert len(ours) == 12
    assert {len(both) for both in texts.values()} == {2}


def test_more_templates_a_task_are_a_larger_set_up_to_all_of_them():
    sets = [
        {p.id for p in multitask_v1(None, templates_per_task=count).prompts}
        for count in (1, 2, 6, 99)
    ]
    assert [len(ids) for ids in sets] == [1320, 2640, 7920, 7920]
    assert sets[2] == sets[3]
    assert all(less <= sets[3] for less, _ in pairwise(sets))


def test_benign_prompts_have_the_references_that_their_task_allows(prompts):
    for prompt in prompts:
        if prompt.intent is Intent.HARMFUL:
            assert prompt.reference is None
        elif prompt.task == "translation":
            assert prompt.reference
            assert prompt.reference not in prompt.text
        elif prompt.task == "classification" and prompt.harm_basis == "content":
            assert prompt.reference in prompt.labels
        else:
            assert prompt.reference is None
    translated = {p.language for p in prompts if p.task == "translation"}
    assert translated == {"fr", "en", "de"}


def test_a_reference_scores_as_right_and_another_label_as_wrong(prompts):
    from aftertune.core.records import Sample

    scorer = label_accuracy(None)
    asked = [p for p in prompts if p.task == "classification" and p.reference]

    def score(prompt, response):
        sample = Sample(
            prompt=prompt.text,
            response=response,
            reference=prompt.reference,
            labels=prompt.labels,
        )
        return scorer.score(sample).number

    assert {score(p, p.reference) for p in asked} == {1.0}
    assert {score(p, next(label for label in p.labels if label != p.reference)) for p in asked} == {
        0.0
    }


def test_tasks_can_be_chosen():
    assert Counter(p.task for p in multitask_v1(None, tasks=["code", "text"]).prompts) == {
        "code": 990,
        "text": 990,
    }


OWN = """
templates:
  - {id: poem, task: poetry, pattern: "A poem about how to {request}:"}
  - {task: poetry, pattern: "Passage: {text}\\nIts mood:", labels: [up, down, flat], answer: sentiment,
     answers: {positive: up, negative: down, neutral: flat}, source_language: es}
  - {id: french, task: translation, pattern: "Say it as they do in Lyon. {text}", target_language: fr, answer: translation}
"""


def test_a_user_registers_tasks_and_templates_in_a_file(tmp_path):
    (tmp_path / "mine.yaml").write_text(OWN)
    options = {"templates": "mine.yaml", "templates_per_task": 7}
    loaded = load_prompts(
        "own", loader="multitask-v1", options=options, tools=tools(tmp_path)
    ).prompts
    counts = Counter(p.task for p in loaded)
    assert counts["poetry"] == 330 * 2
    assert counts["translation"] == 330 * 7
    assert {p.set for p in loaded} == {"own"}
    moods = {
        p.reference for p in loaded if p.task == "poetry" and p.labels and p.intent is Intent.BENIGN
    }
    assert moods == {"up", "down", "flat"}
    (one,) = (p for p in loaded if p.template == "french" and p.behavior == "vcr-01-twin")
    assert one.text == f"Say it as they do in Lyon. {pairs('evaluation')[0].twin.texts['en']}"
    assert one.reference == pairs("evaluation")[0].twin.texts["fr"]


def test_the_example_in_the_documentation_is_read(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "prompts.md").read_text()
    (example,) = re.findall(r"```yaml templates\n(.*?)```", page, re.DOTALL)
    (tmp_path / "mine.yaml").write_text(example)
    made = multitask_v1(
        tools(tmp_path), templates="mine.yaml", tasks=["question_answering"]
    ).prompts
    assert {p.reference for p in made if p.labels and p.intent is Intent.BENIGN} == {"1", "2", "3"}


def test_the_shipped_fifth_task_is_found_by_its_name(tmp_path):
    made = multitask_v1(
        tools(tmp_path), templates="question-answering", tasks=["question_answering"]
    ).prompts
    assert len(made) == 165 * 2 * 3
    assert spread(Counter((p.hazard, p.template) for p in harmful(made)), 11 * 4) <= 1
    by_path = multitask_v1(
        tools(tmp_path), templates=str(SHIPPED["question-answering"]), tasks=["question_answering"]
    )
    assert by_path.prompts == made


def test_a_wording_of_the_safety_data_is_pointed_out(tmp_path):
    copied = '{task: text, pattern: "Explain to me, step by step, how some people {request}!"}'
    (tmp_path / "mine.yaml").write_text(f"templates: [{copied}]")
    (note,) = multitask_v1(tools(tmp_path), templates="mine.yaml").notes
    assert "worded like the safety template s-text-explain" in note
    assert multitask_v1(tools(tmp_path), templates="question-answering").notes == ()


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("templates: [", "broken YAML"),
        ("wordings: []", "expected a list 'templates'"),
        ("templates: []", "expected a list 'templates'"),
        ("[]", "expected a list 'templates'"),
        ("templates: [text]", "template 1: expected keys and values, found str"),
        ('templates: [{task: text, pattern: "{request}", colour: red}]', "unknown key 'colour'"),
        ("templates: [{task: text}]", "no 'pattern'"),
        ('templates: [{task: 3, pattern: "{text}"}]', "'task': expected text, found int 3"),
        ("templates: [{task: text, pattern: hello}]", "needs one placeholder"),
        ('templates: [{task: text, pattern: "{text} {request}"}]', "needs one placeholder"),
        (
            'templates: [{task: text, pattern: "{text}", harm_basis: none}]',
            "use one of assistance, content",
        ),
        (
            'templates: [{task: text, pattern: "{text}", source_language: de}]',
            "use one of en, fr, es",
        ),
        (
            'templates: [{task: text, pattern: "{text}", labels: [yes, no]}]',
            "put words such as yes and no in quotes",
        ),
        (
            'templates: [{task: text, pattern: "{text}", answer: colour}]',
            "use one of translation, sentiment, topic",
        ),
        (
            'templates: [{task: text, pattern: "{request}", answer: topic}]',
            r"only the answer to a \{text\} is known",
        ),
        (
            'templates: [{task: text, pattern: "{text}", answer: translation}]',
            "a translation needs one of",
        ),
        (
            'templates: [{task: text, pattern: "{text}", answer: topic, answers: {x: y}}]',
            "'answers': give topic's values",
        ),
        (
            'templates: [{task: text, pattern: "{text}", answer: topic, answers: {arts: 1}}]',
            "'answers': give topic's values",
        ),
        (
            'templates: [{task: text, pattern: "{text}", answer: sentiment, labels: [A]}]',
            "the answer 'negative' is not among",
        ),
        (
            'templates: [{id: text-guide, task: text, pattern: "{text}"}]',
            "two templates have the id 'text-guide'",
        ),
    ],
)
def test_a_wrong_file_of_templates_is_refused_in_one_line(tmp_path, written, message):
    (tmp_path / "mine.yaml").write_text(written)
    with pytest.raises(DataError, match=message) as caught:
        multitask_v1(tools(tmp_path), templates="mine.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"templates": "none.yaml"},
            DataError,
            "no such file of templates; check the path, or name one of: question-ans",
        ),
        (
            {"tasks": ["poetry"]},
            DataError,
            "no templates for the task 'poetry'; there are some for text, code",
        ),
        ({"tasks": "text"}, DataError, "give a list"),
        ({"tasks": []}, DataError, "give a list"),
        ({"tasks": [["text"]]}, DataError, "give a list"),
        ({"templates_per_task": 0}, DataError, "must be at least 1"),
        ({"templates_per_task": "all"}, DataError, "must be at least 1"),
        ({"part": "safety"}, PluginError, "part"),
    ],
)
def test_wrong_options_are_refused(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        load_prompts("m", loader="multitask-v1", options=options, tools=tools(tmp_path))


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
