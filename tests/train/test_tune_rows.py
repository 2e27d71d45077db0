import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_models import make_tokenizer
from tiny_runs import make_recipe

from aftertune.core.keys import file_sha256
from aftertune.core.recipe import TrainingFile
from aftertune.core.records import Message
from aftertune.data.rows import LearntRows, write_rows
from aftertune.errors import DataError
from aftertune.models.rendering import Renderer
from aftertune.train.loss import IGNORED
from aftertune.train.tokens import (
    RENDERED,
    has_tokens,
    kept_tokens,
    rows_sha256,
    tokenise,
    with_system,
)
from aftertune.train.train import fine_tune

GENERATION = (
    "{% for m in messages %}<{{ m['role'] }}> {% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }} <end>"
    "{% endgeneration %} {% else %}{{ m['content'] }} {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)


def turn(role, content):
    return Message(role=role, content=content)


ROW = (turn("user", "bake a cake"), turn("assistant", "well done"))


@pytest.fixture
def renderer(tmp_path):
    def make(**options):
        make_tokenizer(**options).save_pretrained(tmp_path)
        return Renderer("tiny", tmp_path)

    return make


def learnt(renderer, examples, row=0):
    return renderer.tokenizer.decode(
        [token for token in examples.data["labels"][row] if token != IGNORED]
    )


@pytest.mark.parametrize("options", [{}, {"template": GENERATION}])
def test_the_loss_is_on_the_answer_and_its_end_with_any_template(renderer, options, tmp_path):
    tiny = renderer(**options)
    examples = tokenise([ROW], tiny, 100, tmp_path)
    assert (
        tiny.tokenizer.decode(examples.data["input_ids"][0])
        == "<user> bake a cake <assistant> well done <end>"
    )
    assert learnt(tiny, examples) == "well done <end>"
    assert [label for label in examples.data["labels"][0] if label != IGNORED] == examples.data[
        "input_ids"
    ][0][-3:]


def test_of_several_answers_the_last_is_learnt(renderer, tmp_path):
    tiny = renderer()
    examples = tokenise(
        [(*ROW, turn("user", "now"), turn("assistant", "the map"))], tiny, 100, tmp_path
    )
    assert learnt(tiny, examples) == "the map <end>"


def test_rows_that_are_too_long_are_counted(renderer, tmp_path):
    long_prompt = (turn("user", " ".join(["cake"] * 20)), turn("assistant", "well"))
    examples = tokenise(
        [ROW, (ROW[0], turn("assistant", "now now now now now")), long_prompt],
        renderer(),
        8,
        tmp_path,
    )
    assert (len(examples.data["input_ids"]), examples.truncated, examples.dropped) == (2, 1, 1)
    assert all(
        len(ids) == len(labels) <= 8
        for ids, labels in zip(examples.data["input_ids"], examples.data["labels"], strict=True)
    )
    assert all(any(label != IGNORED for label in labels) for labels in examples.data["labels"])


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ((), "last message"),
        ((turn("user", "bake"),), "last message"),
        ((turn("assistant", "well"),), "nothing is asked"),
    ],
)
def test_a_row_that_teaches_nothing_is_an_error_with_its_number(renderer, row, said, tmp_path):
    with pytest.raises(DataError, match=f"row 2: .*{said}") as caught:
        tokenise([ROW, row], renderer(), 100, tmp_path)
    assert "\n" not in str(caught.value)


def test_rows_without_an_answer_are_left_out_and_counted(renderer, tmp_path):
    examples = tokenise([ROW, (ROW[0], turn("assistant", " \n")), ROW], renderer(), 100, tmp_path)
    assert (len(examples.data["input_ids"]), examples.dropped) == (2, 1)


def test_rows_are_rendered_a_thousand_at_a_time_and_kept_in_their_order(renderer, tmp_path):
    tiny, words = renderer(), ("bake", "cake", "map", "plan")
    rows = [
        (turn("user", words[number % 4]), turn("assistant", words[number % 3]))
        for number in range(2 * RENDERED + 3)
    ]
    tokens = tokenise(rows, tiny, 100, tmp_path).data["input_ids"]
    texts = tiny.tokenizer.batch_decode(list(tokens))
    assert texts == [
        f"<user> {ask.content} <assistant> {reply.content} <end>" for ask, reply in rows
    ]
    assert list(kept_tokens(tmp_path).data["input_ids"]) == list(tokens)
    with pytest.raises(DataError, match=f"row {RENDERED + 2}: "):
        tokenise([*rows[: RENDERED + 1], rows[0][:1]], tiny, 100, tmp_path)


def test_a_large_file_takes_no_more_memory_than_a_small_one(base):
    """18,000 rows more, 7 MB of text, took 157 MB when rows and tokens were in memory; without them it is 8."""
    script = Path(__file__).parents[1] / "support" / "tokens_memory.py"
    command = [sys.executable, str(script), str(base), "2000", "20000"]
    grown = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert grown < 50 * 2**20


def test_half_written_tokens_are_none(renderer, tmp_path):
    with pytest.raises(DataError, match="row 2"):
        tokenise([ROW, ROW[:1]], renderer(), 100, tmp_path)
    assert not has_tokens(tmp_path)


def test_rows_that_are_not_those_of_the_first_reading_are_no_tokens(renderer, tmp_path):
    rows = [ROW, ROW]
    with pytest.raises(DataError, match="the training rows changed"):
        tokenise([ROW], renderer(), 100, tmp_path, rows_sha256(rows))
    assert not has_tokens(tmp_path)
    tokenise(rows, renderer(), 100, tmp_path, rows_sha256(rows))
    assert has_tokens(tmp_path)


def test_a_file_that_is_edited_before_the_training_is_an_error_and_leaves_nothing(base, tmp_path):
    path = tmp_path / "rows.jsonl"
    write_rows([ROW], path)
    file = TrainingFile(path=str(path), sha256=file_sha256(path))
    rows = LearntRows([file], Path(), print, "tiny")
    recipe = replace(make_recipe(base), data=(file,))
    with path.open("a") as stream:
        stream.write(path.read_text())
    with pytest.raises(DataError, match=r"rows\.jsonl: is not the file whose hash was taken"):
        fine_tune(recipe, rows, tmp_path / "out")
    with pytest.raises(DataError, match=r"rows\.jsonl: is not the file"):
        LearntRows([file], Path(), print, "tiny")
    assert [left.name for left in tmp_path.iterdir()] == ["rows.jsonl"]


@pytest.mark.parametrize("rows", [[], [ROW], [(ROW[0], turn("assistant", ""))]])
def test_no_rows_left_is_an_error(renderer, rows, tmp_path):
    with pytest.raises(DataError, match="no training row is left"):
        tokenise(rows, renderer(), 3, tmp_path)


def test_a_system_prompt_is_put_before_rows_that_have_none():
    assert with_system(ROW, "please") == (turn("system", "please"), *ROW)
    own = (turn("system", "well"), *ROW)
    assert with_system(own, "please") == own
    assert with_system(ROW, None) == ROW


def test_the_hash_knows_text_role_and_order():
    other = (turn("user", "bake a map"), ROW[1])
    hashes = {
        rows_sha256(rows)
        for rows in ([ROW], [other], [ROW, other], [other, ROW], [(turn("system", "x"), *ROW)])
    }
    assert len(hashes) == 5
