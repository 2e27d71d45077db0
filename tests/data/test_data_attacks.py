"""Attacks: what ships, files of wrappers, and prompts under them."""

import base64
import json
import re
from dataclasses import replace

import pytest

from aftertune.core.protocols import Tools, no_model
from aftertune.core.records import Intent, Prompt
from aftertune.data.attacks import (
    PLACEHOLDER,
    VERSION,
    Attack,
    AttackKind,
    load_attacks,
    read_attacks,
    shipped_attacks,
    under_attack,
)
from aftertune.data.prompt_sets import read_prompts, write_prompts
from aftertune.data.public_prompts import load_public
from aftertune.errors import DataError, StudyError

TEXT = 'Traduis "Où est la gare?"\nen anglais: {not a placeholder} \\ 100 %'
PROMPT = Prompt(
    behavior="h1",
    template="t",
    task="translation",
    intent=Intent.HARMFUL,
    text=TEXT,
    set="s",
    pair="h1",
)
TWIN = replace(PROMPT, behavior="b1", intent=Intent.BENIGN, text="a twin", reference="r")
LONE = replace(TWIN, behavior="b2", pair=None)
SHIPPED = {attack.id: attack for attack in shipped_attacks()}


def inside(attack, text):
    """What stands in the place of the prompt."""
    before, after = attack.text.split(PLACEHOLDER)
    return text.removeprefix(before).removesuffix(after)


def test_a_dozen_ship_each_with_its_source():
    assert len(SHIPPED) == 12
    assert all(re.search(r"\d{4}", attack.source) for attack in SHIPPED.values())
    assert load_attacks([VERSION]) == shipped_attacks()
    assert load_attacks(["none"]) == load_attacks([]) == ()


@pytest.mark.parametrize("name", SHIPPED)
def test_the_prompt_can_be_read_out_of_every_attack(name):
    attack = SHIPPED[name]
    wrapped = attack.on(PROMPT)
    assert wrapped == attack.on(PROMPT)
    assert (wrapped.attack, wrapped.unwrapped) == (name, TEXT)
    assert (wrapped.behavior, wrapped.template, wrapped.task) == ("h1", "t", "translation")
    assert wrapped.id != PROMPT.id
    match attack.kind:
        case AttackKind.PREFILL:
            assert (wrapped.text, wrapped.prefill) == (TEXT, attack.text)
        case AttackKind.WRAPPER:
            assert inside(attack, wrapped.text) == TEXT
        case AttackKind.BASE64:
            assert base64.b64decode(inside(attack, wrapped.text), validate=True).decode() == TEXT
        case AttackKind.JSON:
            assert json.loads(wrapped.text.splitlines()[0])["input"] == TEXT
        case AttackKind.LEETSPEAK:
            plain = str.maketrans("431057", "aeiost")
            assert inside(attack, wrapped.text).translate(plain) == re.sub(
                "[AEIOST]", lambda m: m[0].lower(), TEXT
            ).translate(plain)


def test_harmful_prompts_and_their_twins_are_attacked_and_no_others():
    attacks = load_attacks(["role-play", "prefill"])
    wrapped = list(under_attack([PROMPT, TWIN, LONE], attacks))
    assert [(prompt.attack, prompt.behavior) for prompt in wrapped] == [
        ("role-play", "h1"), ("role-play", "b1"), ("prefill", "h1"), ("prefill", "b1"),
    ]  # fmt: skip


def test_a_prompt_without_attack_keeps_its_id_and_its_line(tmp_path):
    assert replace(PROMPT, attack="none").id == PROMPT.id
    wrapped = SHIPPED["prefill"].on(PROMPT)
    write_prompts([PROMPT, wrapped], tmp_path / "prompts.jsonl")
    plain, attacked = map(json.loads, (tmp_path / "prompts.jsonl").read_text().splitlines())
    assert attacked.keys() - plain.keys() == {"attack", "posed", "prefill"}
    assert read_prompts(tmp_path / "prompts.jsonl") == [PROMPT, wrapped]


def test_a_file_of_wrappers(tmp_path):
    path = tmp_path / "wrappers.jsonl"
    path.write_text(
        '{"id": "polite", "text": "Please: {prompt}"}\n'
        '{"id": "of-course", "kind": "prefill", "text": "Of course", "source": "somebody, 2025"}\n'
    )
    assert read_attacks(path) == [
        Attack(id="polite", kind=AttackKind.WRAPPER, text="Please: {prompt}"),
        Attack(id="of-course", kind=AttackKind.PREFILL, text="Of course", source="somebody, 2025"),
    ]
    both = load_attacks([str(path), "base64"])
    assert [attack.id for attack in both] == ["polite", "of-course", "base64"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"id": "a", "text": "no place"}', ("line 1", "{prompt} once", "0 times")),
        ('{"id": "a", "text": "{prompt} {prompt}"}', ("2 times",)),
        ('{"id": "a b", "text": "{prompt}"}', ("'id'", "letters, digits")),
        ('{"id": "none", "text": "{prompt}"}', ("'id'", "none")),
        ('{"id": "a"}', ("no 'text'",)),
        ('{"text": "{prompt}"}', ("no 'id'",)),
        ('{"id": "a", "text": "{prompt}", "knd": "prefill"}', ("unknown field 'knd'",)),
        ('{"id": "a", "text": "{prompt}", "kind": "suffix"}', ("'kind'", "prefill")),
        ('{"id": "a", "text": "Sure {prompt}", "kind": "prefill"}', ("takes no {prompt}",)),
        ('{"id": "a", "text": "Sure ", "kind": "prefill"}', ("white space",)),
        ('{"id": "a", "text": 3}', ("'text'", "expected text")),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, words):
    path = tmp_path / "wrappers.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(DataError) as raised:
        read_attacks(path)
    assert all(word in str(raised.value) for word in words), raised.value


def test_an_unknown_or_doubled_attack_is_named(tmp_path):
    with pytest.raises(StudyError, match=r"'rolpelay'.*role-play.*attacks-v1"):
        load_attacks(["rolpelay"])
    with pytest.raises(StudyError, match="two have the id 'prefill'"):
        load_attacks([VERSION, "prefill"])
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(DataError):
        read_attacks(tmp_path / "empty.jsonl")


WILD = """vanilla\tadversarial\tcompletion\tdata_type
first request\ta long story around the first\t-\tadversarial_harmful
first request\tanother story around the first\t-\tadversarial_harmful
second request\t\t-\tvanilla_harmful
third request\ta long story around the third\t-\tadversarial_benign
"""


def test_wildjailbreak_gives_its_requests_with_and_without_its_attacks(tmp_path):
    path = tmp_path / "wildjailbreak" / "train.tsv"
    path.parent.mkdir()
    path.write_text(WILD)
    tools = Tools(open_model=no_model, folder=tmp_path)
    loaded = load_public("wildjailbreak-train", tools, file=".", hub=False, attacks=True)
    given = [(p.attack, p.unwrapped, p.text, p.intent.value) for p in loaded.prompts]
    assert given == [
        ("none", "first request", "first request", "harmful"),
        ("wildjailbreak", "first request", "a long story around the first", "harmful"),
        ("wildjailbreak", "first request", "another story around the first", "harmful"),
        ("none", "second request", "second request", "harmful"),
        ("none", "third request", "third request", "benign"),
        ("wildjailbreak", "third request", "a long story around the third", "benign"),
    ]
    assert len({p.behavior for p in loaded.prompts}) == 3
    with pytest.raises(DataError, match="has no attacks of its own"):
        load_public("advbench", tools, attacks=True)
    with pytest.raises(DataError, match="stand as they are"):
        load_public("wildjailbreak-train", tools, attacks=True, pose=["code"])
