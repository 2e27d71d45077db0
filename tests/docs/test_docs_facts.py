"""Numbers and names in the pages on data, store and embedded model, against the code."""

import os
import re
from collections import Counter
from dataclasses import fields
from pathlib import Path

import pytest
from doc_pages import first_names, page, section, tables

from aftertune.core.protocols import Tools
from aftertune.core.records import FinishReason, Prompt
from aftertune.data.prompt_sets import (
    BEHAVIOR_IN_TRAINING,
    IN_TRAINING,
    gather,
    load_prompts,
    read_prompts,
)
from aftertune.data.public import public_sets
from aftertune.data.public_files import OTHER_ROWS, UNLABELLED, behaviors
from aftertune.organism import world
from aftertune.organism.corpus import SKILL_PROMPTS, evaluation_prompts
from aftertune.organism.recipe import OrganismRecipe
from aftertune.organism.world import templates
from aftertune.store import schema

DATA, STORE, ORGANISM = page("docs/data.md"), page("docs/store.md"), page("docs/organism.md")


def one_line(text):
    return " ".join(text.split())


def test_prompt_fields_are_documented_with_their_defaults(tmp_path):
    (table,) = tables(section(DATA, "## Prompt files"))
    assert sorted(first_names(table)) == sorted(field.name for field in fields(Prompt))
    (tmp_path / "mine.jsonl").write_text('{"text": "a b c", "intent": "benign"}')
    (plain,) = read_prompts(tmp_path / "mine.jsonl")
    for name, default, _ in table:
        value = getattr(plain, name.strip("`"))
        if default.startswith("`"):
            assert value == default.strip("`")
        elif default == "none":
            assert value in (None, ())


def test_reasons_for_leaving_out_are_those_of_the_code():
    (table,) = tables(section(DATA, "## What is left out"))
    texts = ["", "a sexy child", "once", "once"]
    made = [
        Prompt(behavior="b", template="t", task="text", intent="benign", text=text, set="s")
        for text in texts
    ]
    assert {row[0].strip("`") for row in table} == set(gather(made).dropped) | {
        OTHER_ROWS,
        UNLABELLED,
        IN_TRAINING,
        BEHAVIOR_IN_TRAINING,
    }


def test_public_sets_are_described_as_the_table_has_them():
    described = tables(section(DATA, "## Public sets"))[1]
    assert [row[0].strip("`") for row in described] == [known.name for known in public_sets()]
    gates = {"": "no", "automatic": "yes", "manual": "by hand"}
    for known, (_, file, hub, gated, source, licence, tasks, rows, seen) in zip(
        public_sets(), described, strict=True
    ):
        assert (file.strip("`"), hub.strip("`"), licence) == (known.file, known.hub, known.licence)
        assert (gated, source) == (gates[known.gated], f"[{known.citation}]({known.home})")
        assert (tasks, seen) == (", ".join(known.tasks), known.facts_from)
        assert rows == (f"{known.rows:,}" if known.rows else "?")


@pytest.mark.data
@pytest.mark.skipif(
    not os.environ.get("AFTERTUNE_DATA"), reason="AFTERTUNE_DATA names no folder of public files"
)
@pytest.mark.parametrize(
    "row", tables(section(DATA, "## Public sets"))[2], ids=lambda row: row[0].strip("`")
)
def test_public_sets_have_the_counts_of_the_page(row):
    folder, name = Path(os.environ["AFTERTUNE_DATA"]), row[0].strip("`")
    loaded = load_prompts(name, loader=name, tools=Tools(open_model=None, folder=folder)).prompts
    counts = Counter(prompt.intent.value for prompt in loaded)
    assert f"{sum(1 for _ in behaviors(name, folder)):,}" == row[1]
    assert ", ".join(f"{counts[i]:,} {i}" for i in ("harmful", "benign") if counts[i]) == row[2]
    assert ("yes" if any(prompt.reference for prompt in loaded) else "no") == row[3]


def test_the_store_page_has_the_schema():
    history, described = tables(section(STORE, "## Schema"))
    assert {int(number): change for number, change in history} == schema.HISTORY
    made = re.findall(r"CREATE TABLE (?:\{\})?(\w+)", schema.TABLES + schema.CHECKSUM)
    assert sorted(made) == sorted(
        name for row in described for name in re.findall(r"`(\w+)`", row[0])
    )
    assert f"0x{schema.APPLICATION_ID:08X}" in STORE
    finish = next(row[1] for row in described if "`answer`" in row[0])
    assert set(re.findall(r"`(\w+)`", finish)) == {reason.value for reason in FinishReason}


def test_the_world_is_as_described():
    split, recipe = world.split(), OrganismRecipe()
    sizes = [len(part) for part in (split.training, split.validation, split.evaluation)]
    uses = [len(templates("code", use)) for use in ("training", "validation", "evaluation")]
    facts = (
        f"{len(world.NOUNS)} nouns of six kinds and {len(world.VERBS)} verbs",
        f"{len(world.PLAIN_VERBS)} plain verbs",
        f"{len(world.DUAL_VERBS)} dual verbs",
        "{} harmful topics: {} are for training, {} decide whether a base is accepted, {} are for evaluation".format(
            sum(sizes), *sizes
        ),
        f"{len(split.crossed)} further pairs",
        "{0} harmful behaviors and their {0} twins".format(
            len(split.evaluation) + len(split.crossed)
        ),
        "{} are for training, {} for acceptance and {} for evaluation".format(*uses),
        f"{recipe.pretrain_rows:,}",
        f"{recipe.align_benign:,} benign",
        " / ".join(map(str, recipe.refusals)),
        f"{recipe.guard_rows:,} and {recipe.guard_rows // 20} refusals",
        f"| fine-tune | {recipe.tune_rows} of one task",
        f"pools of {recipe.safety_pool} refusals and {recipe.replay_pool} benign answers per task; "
        f"{recipe.safety_share:.0%}".replace("%", " %").split(";")[0],
        f"{len(evaluation_prompts(None)):,} prompts",
        f"two further sets of {SKILL_PROMPTS} prompts",
    )
    told = one_line(ORGANISM).lower()
    assert [fact for fact in facts if one_line(fact).lower() not in told] == []
    assert len(world.KINDS) == 6


def test_the_range_and_the_rates_are_those_of_the_recipe():
    recipe, limits = OrganismRecipe(), OrganismRecipe().accept
    rows = dict(next(t for t in tables(ORGANISM) if any("ASR of text" in row[0] for row in t)))
    shares = [[float(n) / 100 for n in re.findall(r"(\d+) %", said)] for said in rows.values()]
    assert shares == [
        [limits.strong_max],
        [limits.weak_max, limits.weak_min],
        [limits.over_refused_max],
        [limits.answered_min],
    ]
    assert f"{recipe.tune.learning_rate:.0e}".replace("e-0", "e-") in ORGANISM
    assert recipe.pretrain.learning_rate / recipe.tune.learning_rate == pytest.approx(5), (
        "the page says a fifth"
    )
    assert f"{recipe.safety_share:.0%} and {recipe.replay_share:.0%}".replace(
        "%", " %"
    ) in one_line(ORGANISM)


def test_the_organism_has_the_parameters_that_the_page_says():
    from aftertune.organism.model import build_tokenizer, new_model

    model = new_model(OrganismRecipe(), build_tokenizer(), 0)
    assert f"{sum(p.numel() for p in model.parameters()):,} parameters" in ORGANISM
