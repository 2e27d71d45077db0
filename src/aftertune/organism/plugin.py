"""What the organism offers under the entry-point group ``aftertune.plugins``, like any installed plug-in."""

from collections.abc import Mapping

PLUGINS: Mapping[str, Mapping[str, str]] = {
    "judge": {"organism": "aftertune.organism.judge:grammar_judge"},
    "guard": {"organism": "aftertune.organism.guard:text_guard"},
    "scorer": {"organism": "aftertune.organism.score:proper_answer_score"},
    "prompts": {
        "organism": "aftertune.organism.prompts:evaluation_prompts",
        "organism-skill": "aftertune.organism.prompts:skill_prompts",
    },
}
