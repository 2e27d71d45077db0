"""``aftertune mix --rules``: violations of rules posed in all tasks, refusals that name the rule, and files that are wrong."""

import re
import shutil
from collections import Counter

import pytest
from mix_rows import read, rows
from tiny_study import write_lines

from aftertune.core.records import TASKS, Sample, VerdictValue
from aftertune.data.bundled.behaviors import pairs, payload_texts
from aftertune.data.bundled.multitask import evaluation_rows
from aftertune.data.overlap import NEAR_DUPLICATE, near_duplicates
from aftertune.data.rules import SHIPPED_RULES, read_rules, rule_pools
from aftertune.models.foreign import quiet
from aftertune.score.refusal import refusal_rules

SHIPPED = read_rules(SHIPPED_RULES["principles"])
HOUSE = """
rules:
  - rule: Never speak for the bank
    id: bank
    violations:
      - {request: promise customers a loan in the bank's name, en: The bank promises you a loan., fr: La banque vous promet un prêt.}
  - rule: Keep recipes secret
    refusals: ["No. House rule: {rule} {whatever}."]
    violations:
      - {request: print the family's soup recipe}
"""


def test_the_shipped_rules_are_posed_in_all_tasks_and_named_in_refusals():
    pools = rule_pools(SHIPPED)
    assert set(pools) == set(TASKS)
    violations = [violation for rule in SHIPPED for violation in rule.violations]
    assert len(SHIPPED) >= 12
    assert all(violation.request and len(violation.texts) == 3 for violation in violations)
    assert sum(map(len, pools.values())) == 23 * len(violations)
    judge = refusal_rules(None)
    for answer in (row[-1].content for pool in pools.values() for row in pool):
        assert any(rule.rule in answer and rule.offer in answer for rule in SHIPPED)
        assert judge.score(Sample(prompt="", response=answer)).value is VerdictValue.REFUSED
        assert "{" not in answer


def test_the_shipped_rules_are_not_what_models_are_measured_by():
    assert not list(evaluation_rows(row for pool in rule_pools(SHIPPED).values() for row in pool))
    for kind, texts in payload_texts(pairs("evaluation")).items():
        ours = [
            (rule.id, text)
            for rule in SHIPPED
            for violation in rule.violations
            if (text := getattr(violation, kind, ""))
        ]
        assert not list(near_duplicates(texts, ours, NEAR_DUPLICATE))


def test_rules_stand_in_place_of_the_bundled_refusals(command, tmp_path):
    write_lines(tmp_path / "train.jsonl", rows(70))
    (tmp_path / "house.yaml").write_text(HOUSE)
    options = ("--rules", "house.yaml", "--card", "card.md", "-o", "mixed.jsonl")
    code, out, err = command("mix", "train.jsonl", *options)
    assert code == 0, err
    assert "15   15.0%  safety" in out
    answers = [row["completion"] for row in read(tmp_path / "mixed.jsonl")]
    named = Counter(
        rule
        for rule in ("Never speak for the bank", "Keep recipes secret")
        for answer in answers
        if rule in answer
    )
    assert named.total() == 15
    assert "No. House rule: Keep recipes secret {whatever}." in answers
    assert "| house.yaml | safety | " in (tmp_path / "card.md").read_text()


def test_a_text_is_posed_in_its_languages_alone_and_a_basis_leaves_texts_out(tmp_path):
    (tmp_path / "house.yaml").write_text(HOUSE)
    rules = read_rules(tmp_path / "house.yaml")
    assert [rule.id for rule in rules] == ["bank", "rule 2"]
    asked = {
        basis: [row[0].content for pool in rule_pools(rules, basis).values() for row in pool]
        for basis in ("assistance", "content")
    }
    assert len(asked["assistance"]) == 2 * 8
    assert {"bank" in text or "banque" in text for text in asked["content"]} == {True}
    assert not any("Spanish" in text for text in asked["content"])
    assert len(rule_pools(rules[1:])) == 3  # a request alone is no translation


def test_violations_that_models_are_measured_by_are_not_drawn(command, tmp_path):
    harmful = pairs("evaluation")[0].harmful
    write_lines(tmp_path / "train.jsonl", rows(20))
    (tmp_path / "house.yaml").write_text(f"{HOUSE}      - {{request: {harmful.request}}}\n")
    code, out, err = command(
        "mix", "train.jsonl", "--rules", "house.yaml", "--replay", 0, "-o", "mixed.jsonl"
    )
    assert code == 0, err
    assert not any(harmful.request in row["prompt"] for row in read(tmp_path / "mixed.jsonl"))
    assert "8 safety rows were left out" in out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rules: []", "expected a list 'rules'"),
        ("- a", "expected a list 'rules'"),
        ("rules: [", "broken YAML"),
        ("rules: [{rule: x, violations: [{request: y}]}]\nname: z", "unknown key 'name'"),
        ("rules: [be kind]", "rule 1: expected keys and values (rule, violations, id, offer, refusals), found str"),
        ("rules: [{rule: x}]", "rule 1: no 'violations'"),
        ("rules: [{violations: [{request: y}]}]", "rule 1: no 'rule'"),
        ("rules: [{rule: '', violations: [{request: y}]}]", "rule 1, 'rule': says nothing"),
        ("rules: [{rule: x, violations: y}]", "rule 1, 'violations': expected a list"),
        ("rules: [{rule: x, violations: [y]}]", "rule 1, violation 1: expected keys"),
        ("rules: [{rule: x, violations: [{}]}]", "rule 1, violation 1: expected keys"),
        ("rules: [{rule: x, violations: [{text: y}]}]", "violation 1: unknown key 'text'; known: request, en, fr, es"),
        ("rules: [{rule: x, violations: [{request: 3}]}]", "violation 1, 'request': expected text, found int"),
        ("rules: [{rule: yes, violations: [{request: y}]}]", "'rule': expected text, found bool"),
        ("rules: [{rule: x, refusals: No., violations: [{request: y}]}]", "'refusals': expected a list"),
        ("rules: [{rule: x, refusals: [No.], violations: [{request: y}]}]", "'refusals': 'No.' does not name the rule; put {rule}"),
        (
            "rules: [{rule: x, id: a, violations: [{request: y}]}, {rule: z, id: a, violations: [{request: y}]}]",
            "rule 2, 'id': 'a' stands there twice",
        ),
    ],
)  # fmt: skip
def test_a_wrong_list_is_named(text, message, command, tmp_path):
    write_lines(tmp_path / "train.jsonl", rows(20))
    (tmp_path / "bad.yaml").write_text(text)
    line = command.refused("mix", "train.jsonl", "--rules", "bad.yaml", "-o", "mixed.jsonl")
    assert message in line
    assert "bad.yaml" in line
    assert not (tmp_path / "mixed.jsonl").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--rules", "none.yaml"), "none.yaml: no such file of rules; .* the shipped list: principles"),
        (("--rules", "principles", "--safety", "multitask-safety-v1"), "--rules and --safety both say"),
        (("--safety", "train.jsonl", "--basis", "assistance"), "--basis assistance: the rows of train.jsonl do not say"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_are_named(options, message, command, tmp_path):
    write_lines(tmp_path / "train.jsonl", rows(20))
    assert re.search(message, command.refused("mix", "train.jsonl", *options, "-o", "mixed.jsonl"))


def test_trl_trains_on_rules(command, tmp_path, tiny_base):
    from datasets import load_dataset
    from trl import SFTConfig, SFTTrainer

    write_lines(tmp_path / "train.jsonl", rows(20))
    options = ("--rules", "principles", "--share", 0.4, "--replay", 0.1, "--to", "messages")
    assert command("mix", "train.jsonl", *options, "-o", "mixed.jsonl")[0] == 0
    data = load_dataset(
        "json", data_files="mixed.jsonl", split="train", cache_dir=str(tmp_path / "cache")
    )
    with quiet():
        config = SFTConfig(
            output_dir="out",
            max_steps=2,
            per_device_train_batch_size=4,
            max_length=48,
            report_to=[],
            use_cpu=True,
            save_strategy="no",
            disable_tqdm=True,
            bf16=False,
        )
        result = SFTTrainer(model=str(tiny_base), args=config, train_dataset=data).train()
    shutil.rmtree(tmp_path / "cache")
    assert (len(data), result.global_step) == (40, 2)
    assert 0 < result.training_loss < 20
