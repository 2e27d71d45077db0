import pytest
from tiny_models import make_tokenizer

from aftertune.core.records import Message
from aftertune.errors import DataError
from aftertune.models.rendering import Renderer
from aftertune.train.train import IGNORED, rows_sha256, tokenise, with_system

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
    return renderer.tokenizer.decode([token for token in examples.labels[row] if token != IGNORED])


@pytest.mark.parametrize("options", [{}, {"template": GENERATION}])
def test_the_loss_is_on_the_answer_and_its_end_with_any_template(renderer, options):
    tiny = renderer(**options)
    examples = tokenise([ROW], tiny, 100)
    assert (
        tiny.tokenizer.decode(examples.input_ids[0])
        == "<user> bake a cake <assistant> well done <end>"
    )
    assert learnt(tiny, examples) == "well done <end>"
    assert [label for label in examples.labels[0] if label != IGNORED] == examples.input_ids[0][-3:]


def test_of_several_answers_the_last_is_learnt(renderer):
    tiny = renderer()
    examples = tokenise([(*ROW, turn("user", "now"), turn("assistant", "the map"))], tiny, 100)
    assert learnt(tiny, examples) == "the map <end>"


def test_rows_that_are_too_long_are_counted(renderer):
    long_prompt = (turn("user", " ".join(["cake"] * 20)), turn("assistant", "well"))
    examples = tokenise(
        [ROW, (ROW[0], turn("assistant", "now now now now now")), long_prompt], renderer(), 8
    )
    assert (len(examples.input_ids), examples.truncated, examples.dropped) == (2, 1, 1)
    assert all(
        len(ids) == len(labels) <= 8
        for ids, labels in zip(examples.input_ids, examples.labels, strict=True)
    )
    assert all(any(label != IGNORED for label in labels) for labels in examples.labels)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ((), "last message"),
        ((turn("user", "bake"),), "last message"),
        ((turn("assistant", "well"),), "nothing is asked"),
    ],
)
def test_a_row_that_teaches_nothing_is_an_error_with_its_number(renderer, row, said):
    with pytest.raises(DataError, match=f"row 2: .*{said}") as caught:
        tokenise([ROW, row], renderer(), 100)
    assert "\n" not in str(caught.value)


def test_rows_without_an_answer_are_left_out_and_counted(renderer):
    examples = tokenise([ROW, (ROW[0], turn("assistant", " \n")), ROW], renderer(), 100)
    assert (len(examples.input_ids), examples.dropped) == (2, 1)


@pytest.mark.parametrize("rows", [[], [ROW], [(ROW[0], turn("assistant", ""))]])
def test_no_rows_left_is_an_error(renderer, rows):
    with pytest.raises(DataError, match="no training row is left"):
        tokenise(rows, renderer(), 3)


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
