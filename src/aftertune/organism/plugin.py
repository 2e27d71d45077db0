"""The organism's entry under the entry-point group ``aftertune.plugins``, like that of any installed plug-in; it imports nothing."""

from collections.abc import Mapping

PLUGINS: Mapping[str, Mapping[str, str]] = {
    "judge": {"organism": "aftertune.organism.judge:grammar_judge"},
    "guard": {"organism": "aftertune.organism.guard:text_guard"},
    "metric": {"organism": "aftertune.organism.judge:proper_answer_score"},
    "prompts": {
        "organism": "aftertune.organism.corpus:evaluation_prompts",
        "organism-skill": "aftertune.organism.corpus:skill_prompts",
    },
}
