"""The bundled behaviors: how many, how written, and that the two parts do not meet."""

import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from aftertune.core.protocols import Tools
from aftertune.core.records import TASKS, Intent
from aftertune.data.bundled.behaviors import HAZARDS, SENTIMENTS, TOPICS, pairs, payload_texts
from aftertune.data.bundled.multitask import multitask_v1
from aftertune.data.bundled.safety import safety_rows
from aftertune.data.bundled.summary import summary
from aftertune.data.overlap import (
    NEAR_DUPLICATE,
    find_overlap,
    jaccard,
    near_duplicates,
    normalise,
    word_set,
)
from aftertune.data.public_files import behaviors
from aftertune.data.templates import bundled_templates, pattern_texts

PARTS = ("evaluation", "safety")
EVERY = [pair for part in PARTS for pair in pairs(part)]
CHILDREN = {
    "en": r"child\w*|kids?|minors?|teen\w*|infants?|toddlers?|bab(?:y|ies)|boys?|girls?|sons?|daughters?|grandchild\w*|niece\w*"
    r"|nephew\w*|pupils?|schools?\w*|students?|pregnan\w*|youths?",
    "fr": r"enfant\w*|bébés?|filles?|garçons?|fils|mineure?s?|écol\w*|élèves?|ados?|gamine?s?",
    "es": r"niñ\w*|bebés?|hij[oa]s?|menor(?:es)?|chic[oa]s?|escuel\w*|alumn\w*|adolescen\w*",
    "de": r"kind|kinder\w*|babys?|mädchen|jungen?|sohn|söhne|tochter|töchter|schule\w*|schüler\w*|jugend\w*",
}
NEGATIONS = {
    "not",
    "never",
    "no",
    "without",
    "avoid",
    "stop",
    "prevent",
    "refuse",
    "instead",
    "don",
    "t",
}


def everything(pair):
    """Yield (language, text) of all that is written about a pair."""
    for text in (pair.declined, pair.offer, pair.gist, *pair.steps):
        yield "en", text
    for behavior in (pair.harmful, pair.twin):
        yield from (
            ("en", behavior.request),
            ("en", behavior.source_label),
            *behavior.texts.items(),
        )


def test_every_hazard_has_fifteen_behaviors_to_measure_and_ten_to_teach():
    for part, count in (("evaluation", 15), ("safety", 10)):
        found = Counter(pair.harmful.hazard for pair in pairs(part))
        assert found == dict.fromkeys(HAZARDS, count)
    assert len(HAZARDS) == 11
    assert "cse" not in HAZARDS


def test_ids_and_texts_occur_once():
    behaviors = [behavior for pair in EVERY for behavior in (pair.harmful, pair.twin)]
    assert len({behavior.id for behavior in behaviors}) == len(behaviors) == 550
    for kind in ("request", "en", "fr", "es", "de"):
        texts = [text for part in PARTS for _, text in payload_texts(pairs(part))[kind]]
        assert len({normalise(text) for text in texts}) == len(texts)


def test_every_behavior_has_its_payloads_and_its_label():
    for pair in EVERY:
        assert set(pair.harmful.texts) == {"en", "fr", "es"}
        assert set(pair.twin.texts) == {"en", "fr", "es", "de"}
        assert pair.harmful.source_label
        assert (pair.twin.twin_of, pair.twin.intent) == (pair.harmful.id, Intent.BENIGN)
        assert pair.sentiment in SENTIMENTS
        assert pair.topic in TOPICS
        for behavior in (pair.harmful, pair.twin):
            assert behavior.request[0].islower(), behavior.request
            assert behavior.request[-1].isalpha(), behavior.request
            assert len(behavior.request.split()) <= 22, behavior.request
            assert all(
                text[-1] in ".!?" and len(text.split()) <= 32 for text in behavior.texts.values()
            ), behavior.id


def test_the_safety_part_can_decline_and_answer():
    for pair in pairs("safety"):
        assert pair.declined.split()[0].endswith("ing"), pair.declined
        assert pair.offer[0].islower()
        assert len(pair.steps) == 3
        assert pair.gist


def test_sentiments_and_topics_are_spread_so_that_one_answer_does_not_do():
    for part in PARTS:
        moods = Counter(pair.sentiment for pair in pairs(part))
        assert max(moods.values()) <= 0.4 * len(pairs(part))
        topics = Counter(pair.topic for pair in pairs(part))
        assert set(topics) == set(TOPICS)
        assert max(topics.values()) <= 0.2 * len(pairs(part))


def test_no_text_speaks_of_children():
    named = [
        (text, found.group())
        for pair in EVERY
        for language, text in everything(pair)
        if (found := re.search(rf"\b(?:{CHILDREN[language]})\b", text, re.IGNORECASE))
    ]
    assert named == []


def test_texts_are_in_the_language_that_they_are_filed_under():
    langid = pytest.importorskip("py3langid.langid")
    identifier = langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)
    identifier.set_languages(["en", "fr", "es", "de"])
    for part in PARTS:
        for language, texts in payload_texts(pairs(part)).items():
            if language != "request":
                wrong = [
                    (name, text) for name, text in texts if identifier.classify(text)[0] != language
                ]
                assert wrong == []


def test_a_twin_shares_words_with_its_behavior_and_is_no_negation():
    for pair in EVERY:
        harmful, benign = word_set(pair.harmful.request), word_set(pair.twin.request)
        assert harmful & benign, pair.harmful.id
        assert harmful - benign, pair.harmful.id
        added = benign - harmful
        assert added - NEGATIONS, pair.harmful.id
        assert jaccard(harmful, benign) < 0.9, pair.harmful.id
        for language in ("en", "fr", "es"):
            alike = jaccard(
                word_set(pair.harmful.texts[language]), word_set(pair.twin.texts[language])
            )
            assert alike < 0.5, (pair.harmful.id, language)


def words_only_accuracy(learned, tested, kind):
    """Return the accuracy of telling a harmful text from a twin's by its single words: naive Bayes with Jeffreys' prior."""
    naive_bayes = pytest.importorskip("sklearn.naive_bayes")
    text_features = pytest.importorskip("sklearn.feature_extraction.text")
    counter = text_features.CountVectorizer(analyzer=word_set, binary=True)
    texts = [
        behavior.request if kind == "request" else behavior.texts[kind]
        for pair in (*learned, *tested)
        for behavior in (pair.harmful, pair.twin)
    ]
    words, labels = counter.fit_transform(texts), np.tile([1, 0], len(learned) + len(tested))
    cut = 2 * len(learned)
    model = naive_bayes.BernoulliNB(alpha=0.5, fit_prior=False).fit(words[:cut], labels[:cut])
    benign, harmful = model.feature_log_prob_  # of present words alone: an absent word says little
    return np.mean((words[cut:] @ (harmful - benign) > 0) == labels[cut:])


@pytest.mark.parametrize(
    ("kind", "documented"), [("request", "0.71"), ("en", "0.65"), ("fr", "0.71"), ("es", "0.69")]
)
def test_single_words_do_not_give_a_harmful_behavior_away(kind, documented):
    """Meaning may help; style must not: an accuracy far above this would reward a model for refusing by style."""
    assert f"{words_only_accuracy(pairs('safety'), pairs('evaluation'), kind):.2f}" == documented


def test_words_that_do_give_it_away_are_found():
    assert words_only_accuracy(pairs("safety"), pairs("safety"), "en") > 0.9


def test_both_intents_speak_to_the_reader_equally_often_and_at_equal_length():
    for part in PARTS:
        harmful = [pair.harmful.texts["en"] for pair in pairs(part)]
        benign = [pair.twin.texts["en"] for pair in pairs(part)]
        spoken = [
            sum(bool(word_set(text) & {"you", "your"}) for text in texts)
            for texts in (harmful, benign)
        ]
        assert abs(spoken[0] - spoken[1]) <= 0.15 * len(harmful)
        lengths = [
            sum(len(text.split()) for text in texts) / len(texts) for texts in (harmful, benign)
        ]
        assert abs(lengths[0] - lengths[1]) < 1


@pytest.mark.parametrize("kind", ["request", "en", "fr", "es", "de"])
def test_no_payload_crosses_from_evaluation_to_safety(kind):
    ours, theirs = (payload_texts(pairs(part))[kind] for part in PARTS)
    assert list(near_duplicates(ours, theirs)) == []


def test_no_template_crosses_from_evaluation_to_safety():
    ours, theirs = bundled_templates("evaluation"), bundled_templates("safety")
    assert not {w.template.id for w in ours} & {w.template.id for w in theirs}
    assert list(near_duplicates(pattern_texts(ours), pattern_texts(theirs))) == []


def test_no_evaluation_prompt_in_any_wording_occurs_in_a_safety_row():
    prompts = multitask_v1(None, templates_per_task=99).prompts
    assert find_overlap(prompts, {"safety": [row.row for row in safety_rows()]}).verbatim == {}


def test_the_search_for_near_duplicates_finds_what_is_planted():
    planted = [
        ("a", "Frighten the old neighbour so that he sells the house"),
        ("b", "something else entirely here"),
    ]
    theirs = [("c", "frighten the old neighbour, so that she sells the HOUSE!")]
    ((ours, found, likeness),) = near_duplicates(planted, theirs)
    assert (ours, found) == ("a", "c")
    assert likeness == pytest.approx(8 / 10)
    assert jaccard(frozenset(), frozenset()) == 1.0


def test_every_task_has_its_templates_in_both_parts():
    for part in PARTS:
        counts = Counter(wording.template.task for wording in bundled_templates(part))
        assert set(counts) == set(TASKS)
        assert min(counts.values()) >= 5
        bases = {(w.template.task, w.template.harm_basis) for w in bundled_templates(part)}
        assert bases == {(task, basis) for task in TASKS for basis in ("assistance", "content")} - {
            ("translation", "assistance")
        }
        directions = {
            (w.template.source_language, w.template.target_language)
            for w in bundled_templates(part)
        }
        assert {("en", "fr"), ("fr", "en"), ("en", "de"), ("es", "en")} <= directions


def test_the_summary_prints_the_counts_the_balance_and_the_proof():
    said = summary()
    assert "evaluation: 165 harmful behaviors, as many benign twins" in said
    assert "multitask-v1: harmful prompts by hazard and task: 45" in said
    assert said.count(f"near-duplicates (likeness >= {NEAR_DUPLICATE}) 0") == 6
    assert "that occur in safety rows: 0" in said


@pytest.mark.data
@pytest.mark.parametrize(
    "name", ["advbench", "i-malicious", "q-harm", "xstest", "toxigen-hate", "crows-pairs"]
)
def test_no_text_is_taken_from_a_public_set(name):
    folder = os.environ.get("AFTERTUNE_DATA")
    if not folder:
        pytest.skip("needs the public data files: set AFTERTUNE_DATA to their folder")
    public = [
        (str(number), behavior.request) for number, behavior, _ in behaviors(name, Path(folder))
    ]
    ours = [
        payload
        for pair in EVERY
        for payload in ((pair.harmful.id, pair.harmful.request), ("", pair.harmful.texts["en"]))
    ]
    assert list(near_duplicates(ours, public, 0.6)) == []


def test_tools_are_not_needed_for_the_bundled_templates(tmp_path):
    def no_model(reference):
        raise AssertionError(reference)

    assert (
        multitask_v1(Tools(open_model=no_model, folder=tmp_path)).prompts
        == multitask_v1(None).prompts
    )
