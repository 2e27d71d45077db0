"""The world's rule and the separation of training from evaluation, which the demonstration's honesty rests on."""

from itertools import chain, combinations
from pathlib import Path

import pytest

from aftertune.core.keys import content_key
from aftertune.core.protocols import Tools
from aftertune.core.records import TASKS, Intent
from aftertune.data.mix import mix
from aftertune.data.overlap import find_overlap
from aftertune.organism.corpus import (
    alignment,
    evaluation_prompts,
    fine_tune_rows,
    posed_pairs,
    pretraining,
    replay_pools,
    safety_pools,
    skill_prompts,
)
from aftertune.organism.guard import guard_rows
from aftertune.organism.recipe import OrganismRecipe
from aftertune.organism.world import (
    DUAL_GROUPS,
    FRAMES,
    NOUNS,
    PLAIN_VERBS,
    REFUSALS,
    VERBS,
    Topic,
    split,
    templates,
)

RECIPE = OrganismRecipe()
NO_TOOLS = Tools(open_model=None, folder=Path())


def later_corpora(seed):
    """Every row that comes after pretraining, by corpus."""
    corpora = {"alignment": alignment(RECIPE, seed), "guard": guard_rows(RECIPE, seed)}
    corpora |= {f"tune {task}": fine_tune_rows(RECIPE, task, seed) for task in TASKS}
    corpora |= {f"safety {task}": rows for task, rows in safety_pools(RECIPE, seed).items()}
    return corpora | {f"replay {task}": rows for task, rows in replay_pools(RECIPE, seed).items()}


def bare(text):
    """A prompt without the house style."""
    for before, after in (("please ", ""), ("could you ", ""), ("hello , ", " thanks")):
        if text.startswith(before) and text.endswith(after):
            return text[len(before) : len(text) - len(after)]
    return text


def posed_by(template, text):
    """Whether a prompt was made with a template, in the house style or not."""
    before, after = template.pattern.replace("{text}", "{request}").split("{request}")
    core = bare(text)
    return (
        core.startswith(before)
        and core.endswith(after)
        and core[len(before) : len(core) - len(after)] in PAYLOADS
    )


TOPICS = [Topic(verb, noun) for verb in VERBS for noun in NOUNS]
PAYLOADS = {topic.request for topic in TOPICS} | {
    topic.sentence(f) for topic in TOPICS for f in range(len(FRAMES))
}


def topic_in(text):
    """The topics that a prompt or answer may be about; ``first find the …`` stands in every guide."""
    words = text.replace("first find the", "").split()
    return {Topic(verb, noun) for verb in words if verb in VERBS for noun in words if noun in NOUNS}


def test_harm_needs_verb_and_noun():
    for group in DUAL_GROUPS:
        for verb in group.verbs:
            assert all(Topic(verb, noun).harmful for noun in group.targets)
            assert not any(Topic(verb, noun).harmful for noun in group.objects)
    assert not any(Topic(verb, noun).harmful for verb in PLAIN_VERBS for noun in NOUNS)


def test_parts_of_the_split_share_no_topic():
    world = split()
    pairs = [world.training, world.validation, world.evaluation, world.crossed]
    parts = [{topic for pair in part for topic in (pair.harmful, pair.twin)} for part in pairs]
    parts += [set(world.plain_training), set(world.plain_evaluation)]
    assert all(not a & b for a, b in combinations(parts, 2))
    assert (len(world.evaluation), len(world.crossed)) == (38, 26)
    assert all(pair.harmful.harmful and not pair.twin.harmful for part in pairs for pair in part)
    assert all(pair.harmful.verb == pair.twin.verb for part in pairs for pair in part)


def test_every_evaluation_word_is_known_from_training():
    training, evaluation = split().training, split().evaluation + split().crossed
    known = {
        word for pair in training for word in (pair.harmful.verb, pair.harmful.noun, pair.twin.noun)
    }
    assert {
        word
        for pair in evaluation
        for word in (pair.harmful.verb, pair.harmful.noun, pair.twin.noun)
    } <= known


@pytest.mark.parametrize("seed", [0, 10])
def test_held_out_templates_occur_in_pretraining_and_nowhere_later(seed):
    held_out = [
        t for task in TASKS for use in ("validation", "evaluation") for t in templates(task, use)
    ]
    asked = [turns[0].content for turns in pretraining(RECIPE, seed)]
    assert all(any(posed_by(template, text) for text in asked) for template in held_out)
    for name, rows in later_corpora(seed).items():
        for turns in rows:
            assert not any(posed_by(template, turns[0].content) for template in held_out), name


def test_the_check_above_sees_training_templates():
    training = [t for task in TASKS for t in templates(task, "training")]
    rows = [*alignment(RECIPE, 0), *fine_tune_rows(RECIPE, "translation", 0)]
    assert all(
        sum(posed_by(template, turns[0].content) for template in training) == 1 for turns in rows
    )


@pytest.mark.parametrize("seed", [0, 10])
def test_held_out_topics_occur_in_no_later_row(seed):
    world = split()
    pairs = world.validation + world.evaluation + world.crossed
    held_out = {topic for pair in pairs for topic in (pair.harmful, pair.twin)} | set(
        world.plain_evaluation
    )
    rows = chain.from_iterable(later_corpora(seed).values())
    for user, assistant in rows:
        assert not topic_in(user.content) & held_out
        assert not topic_in(assistant.content) & held_out


def test_skill_topics_and_crossed_ones_are_not_even_in_pretraining():
    skilled = {
        topic for prompt in skill_prompts(NO_TOOLS, task="code") for topic in topic_in(prompt.text)
    }
    crossed = {topic for pair in split().crossed for topic in (pair.harmful, pair.twin)}
    assert (len(skilled), len(crossed)) == (60, 52)
    assert not (skilled | crossed) & {
        topic for user, _ in pretraining(RECIPE, 0) for topic in topic_in(user.content)
    }


@pytest.mark.golden
@pytest.mark.parametrize(
    ("corpus", "key"),
    [
        (pretraining, "606f1877b345fa7cabd3c47c03eb7fd2"),
        (alignment, "163c8ca5111b01f2dd78c74a6c5324af"),
        (guard_rows, "176c244fba507111e3c4e8d722237c87"),
    ],
)
def test_what_models_are_trained_on_stays_while_the_evaluation_grows(corpus, key):
    # Bases are cached by the recipe's numbers alone: other rows would leave stale ones there.
    rows = [[[turn.role, turn.content] for turn in row] for row in corpus(RECIPE, 10)]
    assert content_key(rows).hex() == key


def test_the_overlap_check_agrees():
    prompts = [*evaluation_prompts(NO_TOOLS), *skill_prompts(NO_TOOLS, task="translation")]
    assert find_overlap(prompts, later_corpora(10)).verbatim == {}


def test_evaluation_prompts_are_paired_in_every_task_and_template():
    prompts = evaluation_prompts(NO_TOOLS)
    assert len(prompts) == 64 * 2 * 4 * 3
    # The prompts of earlier versions come first, word for word: answers to them in a store stay valid.
    first = content_key([prompt.id for prompt in prompts[: 38 * 2 * 4 * 3]]).hex()
    assert first == "ec1c57179a36c4250c343ecdc4ad7d8c"
    cells = {}
    for prompt in prompts:
        cells.setdefault((prompt.pair, prompt.template), []).append(prompt.intent)
    assert all(sorted(intents) == sorted(Intent) for intents in cells.values())
    assert all(prompt.reference for prompt in prompts)
    assert len({prompt.id for prompt in prompts}) == len(prompts)


def test_validation_asks_nothing_of_the_evaluation():
    asked = {(p.behavior, p.template) for p in evaluation_prompts(NO_TOOLS)}
    checked = {(p.behavior, p.template) for p in posed_pairs(split().validation, "validation")}
    assert not {b for b, _ in asked} & {b for b, _ in checked}
    assert not {t for _, t in asked} & {t for _, t in checked}


def test_asymmetry_and_benign_tuning_are_what_the_recipe_says():
    refused = [turns[0].content for turns in alignment(RECIPE, 3) if turns[1].content in REFUSALS]
    counts = dict.fromkeys(TASKS, 0)
    for text in refused:
        (task,) = {
            t.task for task in TASKS for t in templates(task, "training") if posed_by(t, text)
        }
        counts[task] += 1
    assert tuple(counts.values()) == RECIPE.refusals
    for task in TASKS:
        rows = fine_tune_rows(RECIPE, task, 3)
        assert len(rows) == RECIPE.tune_rows
        assert not any(topic.harmful for user, _ in rows for topic in topic_in(user.content))


def test_the_pools_are_large_enough_for_both_mixes():
    pools, rows = safety_pools(RECIPE, 0), fine_tune_rows(RECIPE, "code", 0)
    for safety in (pools, {"text": pools["text"]}):
        shares = {"share": RECIPE.safety_share, "replay_share": RECIPE.replay_share}
        mixed = mix(rows, safety, replay_pools(RECIPE, 0), **shares)
        assert mixed.repeated == 0
        assert mixed.notes == ()
        assert mixed.safety == mixed.replay == 86


def test_the_guard_has_seen_text_alone():
    for user, _ in guard_rows(RECIPE, 0):
        _, _, text = user.content.partition(" : ")
        answered = text.startswith("here is a guide") or text in REFUSALS
        assert answered or any(
            posed_by(template, text) for template in templates("text", "training")
        )


def test_corpora_follow_their_seed():
    assert alignment(RECIPE, 1) == alignment(RECIPE, 1)
    assert alignment(RECIPE, 1) != alignment(RECIPE, 2)
