"""Finds judges, guards, scorers and prompt sets by name.

A name is a built-in one, ``package.module:factory`` (whose module may lie in the study's folder or in the current one),
or one that an installed package offers under the entry-point
group ``aftertune.plugins``. The entry point's value is a mapping ``{kind: {name: "package.module:factory"}}``, so that
looking a name up imports nothing heavy. A factory is called with `Tools` and the user's options as keywords.
"""

import difflib
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal

from aftertune.errors import PluginError

Kind = Literal["judge", "guard", "metric", "preference", "prompts"]
Factory = Callable[..., Any]
GROUP = "aftertune.plugins"
OLD_KINDS: Mapping[Kind, str] = {"metric": "scorer", "preference": "comparer"}
"""The names of kinds before version 0.2, which a plug-in may still say."""

BUILT_IN: Mapping[Kind, Mapping[str, str]] = {
    "judge": {
        "refusal": "aftertune.score.refusal:refusal_judge",
        "rules": "aftertune.score.refusal:refusal_rules",
        "rubric": "aftertune.score.rubric:rubric",
        "multitask-bench": "aftertune.score.rubric:multitask_bench",
        "strongreject": "aftertune.score.rubric:strong_reject",
        "harmbench": "aftertune.score.published:harmbench",
        "sorry-bench": "aftertune.score.published:sorry_bench",
        "wildguard": "aftertune.score.published:wildguard_judge",
        "llama-guard": "aftertune.score.published:llama_guard_judge",
    },
    "guard": {
        "llama-guard": "aftertune.score.published:llama_guard_guard",
        "llama-guard-3": "aftertune.score.published:llama_guard_guard",
        "llama-guard-4": "aftertune.score.published:llama_guard_4_guard",
        "shieldgemma": "aftertune.score.published:shield_gemma",
        "wildguard": "aftertune.score.published:wildguard_guard",
        "granite-guardian": "aftertune.score.published:granite_guardian_guard",
        "openai-moderation": "aftertune.score.moderation:openai_moderation",
        "prompted": "aftertune.score.published:prompted_guard",
    },
    "preference": {"win-rate": "aftertune.score.rubric:win_rate"},
    "metric": {
        "bleu": "aftertune.score.metrics:bleu",
        "chrf": "aftertune.score.metrics:chrf",
        "exact": "aftertune.score.metrics:exact_match",
        "labels": "aftertune.score.metrics:label_accuracy",
        "parses": "aftertune.score.metrics:parse_rate",
        "reference-match": "aftertune.score.metrics:reference_match",
        "rouge-l": "aftertune.score.metrics:rouge_l",
        "toxicity": "aftertune.score.toxicity:toxicity",
    },
    "prompts": {},
}
LISTED: Mapping[Kind, str] = {"prompts": "aftertune.data.public_prompts:built_in_loaders"}
"""For a kind with many built-in names, the function that returns their factories; it is called when a name is looked up."""
DISTANCES = frozenset({"refusal"})
"""The built-in judges whose number is a distance to their boundary (logits), not a harm score."""
THRESHOLDS: Mapping[str, float] = {"toxicity": 0.5}
"""The built-in metrics that tell how bad a text is, not how well it does its task, with the threshold (option ``threshold``)
from which on it counts as bad: they are measured over all responses, apart from the task's scores."""

_MOST_NAMED, _NEAREST = 20, 3
"""Names that an error lists whole; nearest ones that it lists otherwise."""


def factories(kind: Kind) -> dict[str, str | Factory]:
    """Return every name of a kind with its factory, or the factory's ``module:name``; built-in names cannot be replaced.

    Raises:
        PluginError: an installed plug-in is broken.
    """
    names: dict[str, str | Factory] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        try:
            offered: Mapping[str, Mapping[str, str]] = point.load()
            names |= offered.get(kind, {})
        except Exception as error:
            raise PluginError(
                f"the installed plug-in {point.name} ({point.value}) cannot be loaded: {error}"
            ) from error
        old = OLD_KINDS.get(kind)
        if old in offered:
            raise PluginError(
                f"the installed plug-in {point.name} ({point.value}) offers the kind {old!r}, which is called {kind!r} now; "
                "rename it there"
            )
    return names | built_in(kind)


def built_in(kind: Kind) -> dict[str, str | Factory]:
    """Return the built-in names of a kind, as `factories` does."""
    if kind not in LISTED:
        return dict(BUILT_IN[kind])
    module, _, function = LISTED[kind].partition(":")
    factories: Mapping[str, Factory] = getattr(importlib.import_module(module), function)()
    return {**BUILT_IN[kind], **factories}


def find(kind: Kind, name: str, folder: Path = Path()) -> Factory:
    """Return the factory that ``name`` stands for.

    Args:
        kind: of what it makes.
        name: as a study has it.
        folder: where modules that the user names are looked for, before the current folder and after all that is installed.

    Raises:
        PluginError: no such name, module or attribute; or the module cannot be imported.
    """
    target = name if ":" in name else built_in(kind).get(name) or factories(kind).get(name)
    if target is None:
        raise PluginError(
            f"no {kind} is called {name!r}; {names_offered(name, kind)}; or give package.module:factory"
        )
    if not isinstance(target, str):
        return target
    module, _, attribute = target.partition(":")
    try:
        with _importable(folder, Path.cwd()):
            factory = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise PluginError(f"{kind} {name!r} cannot be loaded: {error}") from error
    except (Exception, SystemExit) as error:  # other people's code may raise anything
        raise PluginError(
            f"{kind} {name!r} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    if not callable(factory):
        raise PluginError(f"{kind} {name!r} is not a factory: {target} cannot be called")
    checked: Factory = factory
    return checked


@contextmanager
def _importable(*folders: Path) -> Iterator[None]:
    """Let modules of some folders be imported inside the block only: nobody asked for their namesakes of libraries."""
    added = [str(folder.absolute()) for folder in folders]
    sys.path.extend(added)
    try:
        yield
    finally:
        for entry in added:
            last = len(sys.path) - 1 - sys.path[::-1].index(entry)
            del sys.path[last]


def names_offered(name: str, kind: Kind) -> str:
    """Return the names that there are, for an error: the nearest ones, and all unless they are many."""
    names = sorted(factories(kind))
    near = (
        difflib.get_close_matches(name, names, n=_NEAREST)
        or [other for other in names if name in other][:_NEAREST]
    )
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    if len(names) <= _MOST_NAMED:
        return f"{hint}known: {', '.join(names) or 'none'}"
    return f"{hint}{len(names)} are known" + (" (aftertune data list)" if kind == "prompts" else "")
