"""Finds judges, guards, scorers and prompt sets by name.

A name is a built-in one, ``package.module:factory``, or one that an installed package offers under the entry-point
group ``aftertune.plugins``. The entry point's value is a mapping ``{kind: {name: "package.module:factory"}}``, so that
looking a name up imports nothing heavy. A factory is called with `Tools` and the user's options as keywords.
"""

import importlib
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any, Literal

from aftertune.errors import PluginError

Kind = Literal["judge", "guard", "scorer", "prompts"]
GROUP = "aftertune.plugins"

PUBLIC_SETS = (
    "advbench",
    "alpaca-safety-words",
    "codealpaca",
    "crows-pairs",
    "dolly",
    "i-alpaca",
    "i-cona",
    "i-malicious",
    "i-physical-safe",
    "i-physical-unsafe",
    "multi30k-test",
    "multi30k-train",
    "multitaskbench",
    "q-harm",
    "scitldr-test",
    "scitldr-train",
    "toxigen-hate",
    "toxigen-neutral",
    "twitter-financial-train",
    "twitter-financial-valid",
    "xstest",
)
"""The public data sets that `prompts.public` describes; their files are the user's."""

BUILT_IN: Mapping[Kind, Mapping[str, str]] = {
    "judge": {"rules": "aftertune.judge.rules:refusal_rules"},
    "guard": {},
    "scorer": {
        "chrf": "aftertune.judge.scores:chrf",
        "exact": "aftertune.judge.scores:exact_match",
        "labels": "aftertune.judge.scores:label_accuracy",
        "parses": "aftertune.judge.scores:parse_rate",
    },
    "prompts": {name: f"aftertune.prompts.load:{name}" for name in PUBLIC_SETS}
    | {"multitask-v1": "aftertune.prompts.bundled.multitask:multitask_v1"},
}


def known(kind: Kind) -> dict[str, str]:
    """Return every name of a kind with the factory that it stands for; built-in names cannot be replaced.

    Raises:
        PluginError: an installed plug-in is broken.
    """
    names: dict[str, str] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        try:
            offered: Mapping[str, Mapping[str, str]] = point.load()
            names |= offered.get(kind, {})
        except Exception as error:
            raise PluginError(
                f"the installed plug-in {point.name} ({point.value}) cannot be loaded: {error}"
            ) from error
    return names | dict(BUILT_IN[kind])


def find(kind: Kind, name: str) -> Callable[..., Any]:
    """Return the factory that ``name`` stands for.

    Raises:
        PluginError: no such name, module or attribute.
    """
    target = name if ":" in name else known(kind).get(name)
    if target is None:
        offered = ", ".join(sorted(known(kind))) or "none"
        raise PluginError(f"no {kind} is called {name!r}; known: {offered}; or give package.module:factory")
    module, _, attribute = target.partition(":")
    try:
        factory = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise PluginError(f"{kind} {name!r} cannot be loaded: {error}") from error
    if not callable(factory):
        raise PluginError(f"{kind} {name!r} is not a factory: {target} cannot be called")
    made: Callable[..., Any] = factory
    return made
