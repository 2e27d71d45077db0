"""Safety rows from a list of rules: violations posed over the bundled safety templates, and refusals that name the rule.

A list is a YAML file of rules in plain words, each with violations, as a constitution or a list of principles has them. A
violation is a request, a text, or both; each is posed by every safety template that it fits, so that rules are kept in all tasks.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml
from pydantic import TypeAdapter

from aftertune.core.keys import short_id
from aftertune.core.records import Behavior, HarmBasis, Intent, Message
from aftertune.data.bundled.behaviors import FOLDER, SOURCE_LANGUAGES
from aftertune.data.bundled.safety import refusal_words
from aftertune.data.files import typed
from aftertune.data.rows import Row
from aftertune.data.templates import CheckedTemplate, bundled_templates, pose
from aftertune.errors import DataError

SHIPPED_RULES = {"principles": FOLDER / "rules" / "principles.yaml"}
"""Rule lists that come with the package, by the name that stands for them."""
RULE = "{rule}"
"""The place of the rule in a refusal of the user's own words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A request that a rule forbids, a text that breaks it, or both; empty where there is none."""

    request: str = ""
    """A bare infinitive, as after "how to"."""
    en: str = ""
    fr: str = ""
    es: str = ""

    @property
    def texts(self) -> dict[str, str]:
        """The texts that there are, by language."""
        return {
            language: text for language in SOURCE_LANGUAGES if (text := getattr(self, language))
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule in plain words, with violations of it."""

    rule: str
    violations: tuple[Violation, ...]
    id: str = ""
    """The rule's name in messages; by default its number in the list."""
    offer: str = ""
    """The harmless neighbour that a refusal offers, as a bare infinitive."""
    refusals: tuple[str, ...] = ()
    """Refusals in the user's own words, each with `RULE` in it; the shipped ones without any."""


RULES = TypeAdapter(Rule)
VIOLATIONS = TypeAdapter(Violation)
KEYS: Mapping[type, tuple[str, ...]] = MappingProxyType(
    {kind: tuple(field.name for field in fields(kind)) for kind in (Rule, Violation)}
)


def read_rules(path: Path) -> tuple[Rule, ...]:
    """Read a list of rules.

    Raises:
        DataError: names file, rule and key, and what to do.
    """
    rules: dict[str, Rule] = {}
    for number, entry in enumerate(_entries(path), start=1):
        rule = _rule(entry, f"{path}, rule {number}", f"rule {number}")
        if rule.id in rules:
            raise DataError(
                f"{path}, rule {number}, 'id': {rule.id!r} stands there twice; rename one"
            )
        rules[rule.id] = rule
    return tuple(rules.values())


def rule_pools(rules: Sequence[Rule], basis: HarmBasis | None = None) -> dict[str, list[Row]]:
    """Return the rows of a list of rules by task: each violation in every safety template that it fits, refused.

    Args:
        rules: as `read_rules` gives them.
        basis: only rows of templates with this harm basis.

    Raises:
        DataError: no rule has a violation that fits a template of the basis.
    """
    templates = [
        checked
        for checked in bundled_templates("safety")
        if basis in (None, checked.template.harm_basis)
    ]
    used: Counter[str] = Counter()
    pools: dict[str, list[Row]] = {}
    for rule in rules:
        for number, violation in enumerate(rule.violations, start=1):
            behavior = Behavior(
                id=f"{rule.id} {number}",
                intent=Intent.HARMFUL,
                hazard=rule.id,
                source="rules",
                request=violation.request,
                texts=violation.texts,
            )
            for checked in templates:
                if _fits(violation, checked):
                    row = _row(rule, behavior, checked, used)
                    pools.setdefault(checked.template.task, []).append(row)
    if not pools:
        raise DataError(
            f"the rules have no violation for the harm basis {basis!r}; give them a 'request', or a text in 'en'"
        )
    return pools


def _fits(violation: Violation, checked: CheckedTemplate) -> bool:
    template = checked.template
    if template.harm_basis == "assistance":
        return bool(violation.request)
    return template.source_language in violation.texts


def _row(rule: Rule, behavior: Behavior, checked: CheckedTemplate, used: Counter[str]) -> Row:
    """Return a posed violation and the refusal whose wording was used least, ties by a hash."""
    styles = rule.refusals or refusal_words().rules["offering" if rule.offer else "plain"]
    style = min(
        styles,
        key=lambda style: (used[style], short_id("u", behavior.id, checked.template.id, style)),
    )
    used[style] += 1
    if rule.refusals:
        # The user's own words may hold other braces.
        answer = style.replace(RULE, rule.rule)
    else:
        do = refusal_words().do[checked.template.id].format(this="this")
        answer = style.format(do=do, rule=rule.rule.rstrip("."), offer=rule.offer)
    question = pose(behavior, checked.template, "rules").text
    return Message(role="user", content=question), Message(role="assistant", content=answer)


def _entries(path: Path) -> list[Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"{path}: no such file of rules; check the path, or name the shipped list: {', '.join(SHIPPED_RULES)}"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: broken YAML ({' '.join(str(error).split())})") from error
    entries = data.get("rules") if isinstance(data, dict) else None
    if not isinstance(entries, list) or not entries:
        raise DataError(f"{path}: expected a list 'rules', each with 'rule' and 'violations'")
    if isinstance(data, dict) and (unknown := [key for key in data if key != "rules"]):
        raise DataError(f"{path}: unknown key {unknown[0]!r}; a list of rules has 'rules' alone")
    return entries


def _rule(entry: object, where: str, name: str) -> Rule:
    values = dict(_checked(entry, Rule, where))
    for key in ("rule", "violations"):
        if key not in values:
            raise DataError(f"{where}: no {key!r}; a rule needs 'rule' and 'violations'")
    violations = values["violations"]
    if not isinstance(violations, list) or not violations:
        raise DataError(
            f"{where}, 'violations': expected a list, each with 'request' or a text in {', '.join(SOURCE_LANGUAGES)}"
        )
    values["violations"] = tuple(
        typed(VIOLATIONS, _checked(violation, Violation, at), at)
        for number, violation in enumerate(violations, start=1)
        for at in [f"{where}, violation {number}"]
    )
    if isinstance(values.get("refusals"), list):
        values["refusals"] = tuple(values["refusals"])
    rule = typed(RULES, {"id": name, **values}, where)
    for refusal in rule.refusals:
        if RULE not in refusal:
            raise DataError(
                f"{where}, 'refusals': {refusal!r} does not name the rule; put {RULE} where it shall stand"
            )
    return rule


def _checked(entry: object, kind: type, where: str) -> Mapping[str, Any]:
    """Return the keys and values of an entry, if there are any, and none is unknown or empty."""
    if not isinstance(entry, dict) or not entry:
        raise DataError(
            f"{where}: expected keys and values ({', '.join(KEYS[kind])}), found {type(entry).__name__}"
        )
    if unknown := [key for key in entry if key not in KEYS[kind]]:
        raise DataError(f"{where}: unknown key {unknown[0]!r}; known: {', '.join(KEYS[kind])}")
    for key, value in entry.items():
        if value is None or value == [] or (isinstance(value, str) and not value.strip()):
            raise DataError(f"{where}, {key!r}: says nothing; leave the key out, or fill it")
    return entry
