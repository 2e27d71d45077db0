"""The metric ``toxicity`` on tiny checkpoints of each family, whose logits are known; labels, and what is refused."""

import json
import math
import shutil
from pathlib import Path

import pytest
from scoring import answers, score_of, scores
from set_weights import write_checkpoint
from text_classifiers import (
    ALBERT,
    BERT,
    DETOXIFY,
    POSITIONS,
    ROBERTA,
    XLM_ROBERTA,
    make_text_classifier,
)

from aftertune.core.protocols import Tools
from aftertune.core.records import Attempt, Sample
from aftertune.errors import ModelError, PluginError
from aftertune.models.open import Engines
from aftertune.score.run import call_key
from aftertune.score.toxicity import probability, toxicity

MULTI = {"problem_type": "multi_label_classification"}
RELATIVE = 1e-3
"""Layer normalisation and tanh leave some 1e-5 of a logit; half a point of a probability is far off."""
CLEAN, RUDE, VILE = "the cake is good", "you are rude", "the vile tree"
SIX = (
    [-6.0, -8.0, -7.0, -9.0, -7.0, -9.0],
    [[8.0, 1.0, 2.0, 0.0, 3.0, 0.0], [4.0, 4.0, 4.0, 4.0, 4.0, 4.0]],
)
TWO = ([1.5, -2.0], [[-1.0, 3.0], [-4.0, 6.0]])


def sigmoid(logit):
    return 1 / (1 + math.exp(-logit))


@pytest.fixture
def engines():
    with Engines(threads=1, device="cpu") as opened:
        yield opened


def built(engines, model, **options):
    tools = Tools(open_model=engines.open, open_classifier=engines.open_classifier, folder=Path())
    return toxicity(tools, model=str(model), **options)


def numbers(scorer, *texts):
    samples = [Sample(prompt=f"p{number}", response=text) for number, text in enumerate(texts)]
    return [score.number for score in scores(scorer, samples)]


@pytest.mark.parametrize(
    ("classifier", "expected"),
    [
        # unitary/toxic-bert: six independent labels, of which "toxic" counts
        ((BERT, DETOXIFY, *SIX, MULTI), [sigmoid(-6), sigmoid(2), sigmoid(-2)]),
        # s-nlp/roberta_toxicity_classifier: two labels that exclude each other
        ((ROBERTA, ("neutral", "toxic"), *TWO, {}), [sigmoid(-3.5), sigmoid(0.5), sigmoid(6.5)]),
        # Detoxify's multilingual model: one label
        ((XLM_ROBERTA, ("toxic",), [-3.0], [[2.0], [7.0]], {}), [sigmoid(-3), sigmoid(-1), sigmoid(4)]),
        # Detoxify's small model, without a word on its kind of problem: its labels include each other
        ((ALBERT, DETOXIFY, *SIX, {}), [sigmoid(-6), sigmoid(2), sigmoid(-2)]),
        ((ALBERT, ("toxicity", "severe_toxicity", "insult"), [-1.0, -2.0, 0.0], [[1.0, 0.0, 0.0], [3.0, 0.0, 0.0]], {}),
         [sigmoid(-1), sigmoid(0), sigmoid(2)]),
    ],
    ids=["bert", "roberta", "xlm-roberta", "albert", "albert-unbiased"],
)  # fmt: skip
def test_scores_of_each_family(engines, tmp_path, classifier, expected):
    family, labels, clean, raised, config = classifier
    model = make_text_classifier(tmp_path / "m", family, labels, clean, raised, **config)
    scorer = built(engines, model)
    scorer.engine.check_ready()
    assert numbers(scorer, CLEAN, RUDE, VILE) == pytest.approx(expected, rel=RELATIVE)


def test_a_head_says_itself_that_its_labels_exclude_each_other(engines, tmp_path):
    single = {"problem_type": "single_label_classification"}
    labels = ("toxic", "severe_toxic")
    model = make_text_classifier(
        tmp_path / "m", BERT, labels, [1.0, 0.0], [[0.0, 0.0]] * 2, **single
    )
    assert numbers(built(engines, model), CLEAN) == pytest.approx([sigmoid(1)])


@pytest.mark.parametrize(
    ("logits", "place", "independent", "expected"),
    [
        ([0.0, 0.0, 0.0], 1, False, 1 / 3),
        ([0.0, math.log(3)], 1, False, 0.75),
        ([5.0, math.log(3)], 1, True, 0.75),
        ([5.0, -1e4], 1, True, 0.0),
        ([1e4, -1e4], 1, False, 0.0),
        ([-1e4, 1e4], 1, False, 1.0),
    ],
)
def test_probability(logits, place, independent, expected):
    assert probability(logits, place, independent=independent) == pytest.approx(expected, abs=1e-12)


def test_a_long_text_is_read_as_far_as_the_positions_reach(engines, tmp_path):
    """RoBERTa counts positions from behind the padding token's number, so it reads less than BERT of as many."""
    for family, read in ((BERT, POSITIONS), (ROBERTA, POSITIONS - 1)):
        scorer = built(
            engines, make_text_classifier(tmp_path / family, family, ("neutral", "toxic"), *TWO)
        )
        fits, cut = ("cake " * (read - 2 - more) + "vile" * more for more in (1, -1))
        samples = [Sample(prompt="p", response=text) for text in (fits, cut + "vile")]
        given = answers(scorer, samples)
        whole, beginning = (given[call_key(scorer, sample)] for sample in samples)
        assert (whole.prompt_tokens, dict(whole.detail).get("of_tokens")) == (read, None)
        assert (beginning.prompt_tokens, beginning.detail["of_tokens"]) == (read, read + 2)
        labels = [score_of(scorer, sample, given).label for sample in samples]
        assert labels == ["", "cut"]
        assert numbers(scorer, fits, cut + "vile") == pytest.approx(
            [sigmoid(6.5), sigmoid(-3.5)], rel=RELATIVE
        )


def test_equal_texts_are_one_call_and_another_label_asks_nothing(engines, tmp_path):
    model = make_text_classifier(tmp_path / "m", BERT, DETOXIFY, *SIX, **MULTI)
    scorer, insult = built(engines, model), built(engines, model, label="Insult")
    samples = [Sample(prompt=prompt, response=RUDE, task=prompt) for prompt in ("a", "b")]
    given = answers(scorer, samples)
    assert len(given) == 1
    assert [score_of(scorer, sample, given).number for sample in samples] == pytest.approx(
        [sigmoid(2)] * 2, rel=RELATIVE
    )
    assert {call_key(insult, sample) for sample in samples} == given.keys()
    assert score_of(insult, samples[0], given).number == pytest.approx(sigmoid(-4), rel=RELATIVE)
    assert insult.version != scorer.version
    assert built(engines, model, threshold=0.9).version == scorer.version


def test_a_key_is_the_content_of_the_checkpoint(engines, tmp_path):
    sample = Sample(prompt="p", response=RUDE)
    first = make_text_classifier(tmp_path / "a", BERT, ("neutral", "toxic"), *TWO)
    shutil.copytree(first, tmp_path / "copy")
    other = make_text_classifier(tmp_path / "b", BERT, ("neutral", "toxic"), [1.5, -2.1], TWO[1])
    keys = [call_key(built(engines, model), sample) for model in (first, tmp_path / "copy", other)]
    assert keys[0] == keys[1] != keys[2]


def test_markers_and_broken_text_are_no_structure(engines, tmp_path):
    scorer = built(
        engines, make_text_classifier(tmp_path / "m", ROBERTA, ("neutral", "toxic"), *TWO)
    )
    clean = sigmoid(-3.5)
    texts = ("", "cake [SEP] cake", "[PAD] [PAD]", "half \ud83d of a pair")
    assert numbers(scorer, *texts) == pytest.approx([clean] * len(texts))
    (sample,) = [Sample(prompt="p", response="[SEP]")]
    (answer,) = answers(scorer, [sample]).values()
    assert answer.prompt_tokens > 3


def test_a_text_without_a_token_has_no_number(engines, tmp_path):
    """Qwen's and GPT-2's tokenizers add no token of their own to an empty answer."""
    model = make_text_classifier(tmp_path / "m", BERT, ("neutral", "toxic"), *TWO)
    file = model / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"post_processor": None}))
    scorer = built(engines, model)
    given = answers(scorer, [Sample(prompt="p", response=text) for text in ("", "the vile tree")])
    assert sorted(answer.prompt_tokens for answer in given.values()) == [0, 3]
    assert numbers(scorer, "")[0] is None


def test_logits_that_are_no_numbers_are_no_answer(engines, tmp_path):
    model = make_text_classifier(
        tmp_path / "m", BERT, ("neutral", "toxic"), [math.nan, 0.0], TWO[1]
    )
    scorer = built(engines, model)
    (answer,) = answers(scorer, [Sample(prompt="p", response=CLEAN)]).values()
    assert isinstance(answer, Attempt)
    assert scorer.score(Sample(prompt="p", response=CLEAN)).number is None


@pytest.mark.parametrize(
    ("labels", "option", "chosen"),
    [
        (("non-toxic", "toxic"), None, "toxic"),
        (("Toxicity", "insult"), None, "Toxicity"),
        (("nothate", "hate"), None, "hate"),
        (("Hate-Speech", "neither"), None, "Hate-Speech"),
        (("toxic", "hate"), None, "toxic"),
        (("LABEL_0", "LABEL_1"), None, "LABEL_1"),
        (("LABEL_0",), None, "LABEL_0"),
        (("LABEL_0", "LABEL_1"), "label_0", "LABEL_0"),
        (("neutral", "rude"), "Rude", "rude"),
    ],
)
def test_labels(engines, tmp_path, labels, option, chosen):
    logits = [0.0] * len(labels)
    model = make_text_classifier(tmp_path / "m", BERT, labels, logits, [logits] * 2)
    scorer = built(engines, model, label=option)
    assert f" {chosen} " in scorer.version
    assert bool(scorer.notes) == (labels[0] == "LABEL_0" and option is None)


@pytest.mark.parametrize(
    ("labels", "options", "words"),
    [
        (("hate", "offensive"), {}, "which label"),
        (("positive", "negative"), {}, "which label"),
        (("LABEL_0", "LABEL_1", "LABEL_2"), {}, "which label"),
        (("neutral", "toxic"), {"label": "insult"}, "no label 'insult'; its labels: neutral, toxic"),
        (("neutral", "toxic"), {"threshold": 1}, "threshold 1"),
        (("neutral", "toxic"), {"threshold": "high"}, "threshold high"),
    ],
)  # fmt: skip
def test_options_that_are_refused(engines, tmp_path, labels, options, words):
    logits = [0.0] * len(labels)
    model = make_text_classifier(tmp_path / "m", BERT, labels, logits, [logits] * 2)
    with pytest.raises(PluginError, match=words):
        built(engines, model, **options)


def causal(folder):
    write_checkpoint(folder, {"a": "b"})


def without_tokenizer(folder):
    make_text_classifier(folder, BERT, ("neutral", "toxic"), *TWO)
    (folder / "tokenizer.json").unlink()


def packed_tokenizer(folder):
    without_tokenizer(folder)
    (folder / "sentencepiece.bpe.model").write_bytes(b"no model")


def pickled(folder):
    make_text_classifier(folder, BERT, ("neutral", "toxic"), *TWO)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def regression(folder):
    make_text_classifier(folder, BERT, ("toxic",), [0.0], [[1.0], [1.0]], problem_type="regression")


def without_head(folder):
    from safetensors.torch import load_file, save_file

    make_text_classifier(folder, BERT, ("neutral", "toxic"), *TWO)
    tensors = load_file(folder / "model.safetensors")
    del tensors["classifier.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def adapter(folder):
    base = write_checkpoint(folder.with_name("base"), {"a": "b"})
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    (folder / "adapter_model.safetensors").write_bytes(b"")


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (causal, "is a LlamaForCausalLM, no text classifier"),
        (without_tokenizer, "no tokenizer in the folder"),
        (packed_tokenizer, "sentencepiece"),
        (pickled, "only pytorch_model.bin, which can run code when loaded"),
        (regression, "regression"),
        (without_head, "1 tensor is missing from its weights"),
        (adapter, "is an adapter; a text classifier"),
        (lambda folder: None, "does not exist"),
    ],
)
def test_checkpoints_that_are_refused_before_anything_is_asked(engines, tmp_path, write, words):
    write(tmp_path / "m")
    with pytest.raises(ModelError, match=words) as refused:
        built(engines, tmp_path / "m").engine.check_ready()
    assert "\n" not in str(refused.value)


def test_an_endpoint_is_no_text_classifier(engines):
    with pytest.raises(ModelError, match="is an endpoint"):
        built(engines, "http://localhost:9/v1#model")


@pytest.mark.parametrize("extra", ["bert.embeddings.position_ids", "bert.pooler.extra.weight"])
def test_tensors_that_old_training_tools_left_beside_the_weights(engines, tmp_path, extra):
    import torch
    from safetensors.torch import load_file, save_file

    model = make_text_classifier(tmp_path / "m", BERT, ("neutral", "toxic"), *TWO)
    tensors = load_file(model / "model.safetensors")
    save_file({**tensors, extra: torch.zeros(1, 4)}, model / "model.safetensors", {"format": "pt"})
    scorer = built(engines, model)
    scorer.engine.check_ready()
    assert numbers(scorer, VILE) == pytest.approx([sigmoid(6.5)], rel=RELATIVE)
