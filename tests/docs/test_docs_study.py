"""The study file's page against its schema, the registry and the example plug-ins."""

import inspect
import json
import re
import sys

import pytest
import yaml
from doc_pages import ROOT, blocks, first_names, page, section, tables

from aftertune.core.registry import BUILT_IN, find
from aftertune.data.public import public_sets
from aftertune.data.public_prompts import load_public
from aftertune.organism.plugin import PLUGINS
from aftertune.study import json_schema, load_study

sys.path.insert(0, str(ROOT / "docs"))
import reference

STUDY = page("docs/study.md")
SCHEMA = json_schema()
SECTIONS = reference.KEY_TABLES


def properties(definition):
    return (
        SCHEMA["properties"] if definition == "Study" else SCHEMA["$defs"][definition]["properties"]
    )


def key_tables(heading):
    text = section(STUDY, heading)
    own = text.partition("\n###")[0] if heading == "## The keys" else text
    return tables(own)


def test_every_part_of_the_schema_has_its_section():
    described = {name for name, part in SCHEMA["$defs"].items() if "properties" in part}
    assert described == {name for names in SECTIONS.values() for name in names} - {"Study"}


@pytest.mark.parametrize("heading", SECTIONS)
def test_a_section_has_exactly_the_keys_of_the_schema(heading):
    for definition, table in zip(SECTIONS[heading], key_tables(heading), strict=True):
        assert first_names(table) == sorted(properties(definition), key=first_names(table).index)


@pytest.mark.parametrize("heading", SECTIONS)
def test_defaults_are_those_of_the_schema(heading):
    checked = 0
    for definition, table in zip(SECTIONS[heading], key_tables(heading), strict=True):
        for name, _type, said, _meaning in table:
            key = properties(definition)[name.strip("`")]
            if isinstance(default := key.get("default"), bool | int | float | str):
                assert yaml.safe_load(said.strip("`").replace("2e-4", "2.0e-4")) == default, name
                checked += 1
            if name.strip("`") in (
                SCHEMA if definition == "Study" else SCHEMA["$defs"][definition]
            ).get("required", []):
                assert said in ("required", "name of file or loader", "the `name`"), name
    assert checked or heading in (
        "## The keys",
        "### `models`",
        "### `prompts`",
        "### `judges`, `guards`, `metrics`, `preferences`",
        "### At equal capability",
    )


def test_registered_names_are_documented():
    rows = {
        re.sub(r"\[(.+?)\]\(.+?\)", r"\1", row[0]): row
        for row in tables(section(STUDY, "## Naming judges, guards, metrics and loaders"))[0]
    }
    for kind, (_, built_in, offered) in rows.items():
        if kind != "prompts":
            assert set(re.findall(r"`(.+?)`", built_in)) == set(BUILT_IN[kind])
        assert set(re.findall(r"`(.+?)`", offered)) == set(PLUGINS.get(kind, ()))
    assert set(rows) == set(BUILT_IN) >= set(PLUGINS)
    described = first_names(tables(section(page("docs/data.md"), "## Public sets"))[1])
    assert described == [table.name for table in public_sets()]


def keywords(factory):
    return {
        p.name for p in inspect.signature(factory).parameters.values() if p.kind is p.KEYWORD_ONLY
    }


@pytest.mark.parametrize(
    ("kind", "text", "number"),
    [
        ("metric", section(STUDY, "## Naming judges, guards, metrics and loaders"), 1),
        ("judge", section(page("docs/judges.md"), "## Options"), 0),
        ("guard", section(page("docs/guards.md"), "## Options"), 0),
    ],
)
def test_options_of_built_in_scorers_are_documented(kind, text, number):
    said, current = {}, ""
    for name, option, *_ in tables(text)[number]:
        current = name or current
        for each in re.findall(r"`(.+?)`", current):
            said.setdefault(each, set()).update(re.findall(r"`(.+?)`", option))
    assert said == {name: keywords(find(kind, name)) for name in BUILT_IN[kind]}


def test_options_of_sets_and_of_the_organism_are_documented():
    public, organism = (
        section(page("docs/data.md"), "## Public sets"),
        section(page("docs/organism.md"), "## In a study"),
    )
    assert all(f"`{option}`" in public for option in keywords(load_public))
    for kind, names in PLUGINS.items():
        for name in names:
            assert all(f"`{option}`" in organism for option in keywords(find(kind, name)))


def studies():
    found = blocks("yaml", "yml")
    return [block for block in found if block.info.endswith(" study")]


def stub(text, folder):
    """Make what a study names: a file for what has a suffix, a folder for the rest."""
    for path in re.findall(r"\./[\w./-]+", text):
        if "." in path.rpartition("/")[2]:
            (folder / path).touch()
        else:
            (folder / path).mkdir(exist_ok=True)


def test_there_are_examples():
    assert len(studies()) >= 3


@pytest.mark.parametrize("block", studies(), ids=str)
def test_every_study_in_the_pages_loads(block, tmp_path):
    stub(block.text, tmp_path)
    (tmp_path / "study.yaml").write_text(block.text)
    study = load_study(tmp_path / "study.yaml")
    assert study.models
    assert study.prompts


def test_what_the_example_says_of_itself_is_so(tmp_path):
    example = next(block.text for block in studies() if "name: summaries" in block.text)
    stub(example, tmp_path)
    (tmp_path / "study.yaml").write_text(example)
    study = load_study(tmp_path / "study.yaml")
    assert "Seven models" in STUDY
    assert len(study.models) + sum(len(each.seeds) for each in study.fine_tunes) == 7
    assert [judge.name for judge in study.judges] == ["refusal"]


def test_prompts_in_the_pages_can_be_read(tmp_path):
    from aftertune.data.prompt_sets import read_prompts

    for block in blocks("jsonl"):
        (tmp_path / "prompts.jsonl").write_text(block.text)
        assert len(read_prompts(tmp_path / "prompts.jsonl")) == len(block.text.splitlines())
        assert all(json.loads(line) for line in block.text.splitlines())
