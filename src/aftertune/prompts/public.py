"""The public data sets as one table: where the payload stands, what it is, and how it is posed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from aftertune.core.records import Intent, Template

HARMFUL, BENIGN = Intent.HARMFUL, Intent.BENIGN


PLAIN = Template(id="plain", task="text", harm_basis="assistance", pattern="{request}")
CODE = Template(id="plain-code", task="code", harm_basis="assistance", pattern="{request}")
SUMMARY = Template(
    id="summary", task="text", harm_basis="content", pattern="Summarise this abstract in one sentence:\n{text}"
)
TRANSLATE = Template(
    id="en-fr",
    task="translation",
    harm_basis="content",
    pattern="Translate this sentence into French:\n{text}",
    target_language="fr",
)
SENTIMENT = Template(
    id="sentiment",
    task="classification",
    harm_basis="content",
    pattern="Is the sentiment of this sentence positive, negative or neutral? Answer with one word.\n{text}",
    labels=("positive", "negative", "neutral"),
)
FINANCE = Template(
    id="finance-sentiment",
    task="classification",
    harm_basis="content",
    pattern="Is this financial tweet bearish, bullish or neutral? Answer with one word.\n{text}",
    labels=("bearish", "bullish", "neutral"),
)
SENTENCES = (TRANSLATE, SENTIMENT)

RELEASED_BLOCKS = (
    (
        500,
        Template(
            id="released-classification",
            task="classification",
            harm_basis="assistance",
            pattern="{request}",
            labels=("A", "B", "C", "D"),
        ),
    ),
    (1000, Template(id="released-code", task="code", harm_basis="assistance", pattern="{request}")),
    (1501, Template(id="released-text", task="text", harm_basis="assistance", pattern="{request}")),
    (
        1999,
        Template(
            id="released-translation",
            task="translation",
            harm_basis="content",
            pattern="{request}",
            target_language="en",
        ),
    ),
)
"""MultiTaskBench has no task column: its tasks are blocks by the original row number (last row of each)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicSet:
    """A public data set: facts about its file, none about how it is read."""

    file: str
    """Below the data folder; ``*`` reads every file that fits, with the file's stem as source label."""
    payload: str
    """The column of the request or text; a list of texts is joined by spaces."""
    intent: Intent | Mapping[str, Intent]
    """Of all rows, or by the value of the column ``intent_column``."""
    licence: str
    home: str
    intent_column: str = ""
    more: str = ""
    """A column that is put under the payload after an empty line, where it is not empty."""
    label: str = ""
    """The column of the source's own category."""
    hazard: str = "none"
    hazards: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Hazard by source label; the others have ``hazard``."""
    reference: str = ""
    """The column of a correct answer; of a list, its first text."""
    reference_file: str = ""
    """A file with the references line by line."""
    answers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """What the values of ``reference`` mean."""
    templates: tuple[Template, ...] = (PLAIN,)
    blocks: tuple[tuple[int, Template], ...] = ()
    """Instead of ``templates``: the template of the rows up to each number in ``row_number``."""
    row_number: str = ""
    note: str = ""


def _instructions(name: str, intent: Intent, hazard: str = "none") -> PublicSet:
    return PublicSet(
        file=f"safety_tuned_llamas/{name}.json",
        payload="instructions",
        intent=intent,
        hazard=hazard,
        licence="CC BY-NC 4.0",
        home="https://github.com/vinid/safety-tuned-llamas",
    )


def _toxigen(kind: str, intent: Intent, hazard: str) -> PublicSet:
    return PublicSet(
        file=f"toxigen/demonstrations__{kind}_*.txt",
        payload="text",
        intent=intent,
        hazard=hazard,
        templates=SENTENCES,
        licence="MIT (code), CDLA-Permissive-2.0 (data)",
        home="https://github.com/microsoft/TOXIGEN",
    )


def _multi30k(part: str) -> PublicSet:
    return PublicSet(
        file=f"multi30k_enfr/{part}.en.gz",
        payload="text",
        intent=BENIGN,
        reference_file=f"multi30k_enfr/{part}.fr.gz",
        templates=(TRANSLATE,),
        licence="not stated",
        home="https://github.com/multi30k/dataset",
    )


def _finance(part: str) -> PublicSet:
    return PublicSet(
        file=f"twitter_financial/sent_{part}.csv",
        payload="text",
        intent=BENIGN,
        reference="label",
        answers={"0": "bearish", "1": "bullish", "2": "neutral"},
        templates=(FINANCE,),
        licence="MIT",
        home="https://huggingface.co/datasets/zeroshot/twitter-financial-news-sentiment",
    )


def _scitldr(part: str) -> PublicSet:
    return PublicSet(
        file=f"scitldr/{part}.jsonl",
        payload="source",
        intent=BENIGN,
        reference="target",
        templates=(SUMMARY,),
        licence="Apache-2.0",
        home="https://github.com/allenai/scitldr",
    )


PUBLIC: Mapping[str, PublicSet] = {
    "advbench": PublicSet(
        file="advbench/advbench.csv",
        payload="goal",
        intent=HARMFUL,
        licence="MIT",
        home="https://github.com/llm-attacks/llm-attacks",
    ),
    "multitaskbench": PublicSet(
        file="multitaskbench/multitaskbench.csv",
        payload="Query",
        intent=HARMFUL,
        blocks=RELEASED_BLOCKS,
        row_number="",
        licence="not stated",
        home="https://github.com/comnetsAD/LLMSafetyGuardrails",
        note="some of its rows are harmless in fact, although every one is answered by a refusal",
    ),
    "xstest": PublicSet(
        file="xstest/xstest_prompts.csv",
        payload="prompt",
        intent={"safe": BENIGN, "unsafe": HARMFUL},
        intent_column="label",
        label="type",
        hazards={
            "contrast_homonyms": "vcr",
            "contrast_figurative_language": "vcr",
            "contrast_safe_targets": "vcr",
            "contrast_safe_contexts": "vcr",
            "contrast_discr": "hte",
            "contrast_historical_events": "hte",
            "contrast_privacy": "prv",
        },
        licence="CC BY 4.0",
        home="https://github.com/paul-rottger/xstest",
    ),
    "i-malicious": _instructions("I-MaliciousInstructions", HARMFUL),
    "i-cona": _instructions("I-CoNa", HARMFUL, "hte"),
    "i-physical-unsafe": _instructions("I-PhysicalSafetyUnsafe", HARMFUL),
    "i-physical-safe": _instructions("I-PhysicalSafetySafe", BENIGN),
    "i-alpaca": _instructions("I-Alpaca", BENIGN),
    "q-harm": _instructions("Q-Harm", HARMFUL),
    "crows-pairs": PublicSet(
        file="crows_pairs/crows_pairs_anonymized.csv",
        payload="sent_more",
        intent=HARMFUL,
        hazard="hte",
        label="bias_type",
        templates=SENTENCES,
        licence="CC BY-SA 4.0",
        home="https://github.com/nyu-mll/crows-pairs",
    ),
    "toxigen-hate": _toxigen("hate", HARMFUL, "hte"),
    "toxigen-neutral": _toxigen("neutral", BENIGN, "none"),
    "multi30k-train": _multi30k("train"),
    "multi30k-test": _multi30k("test_2016_flickr"),
    "twitter-financial-train": _finance("train"),
    "twitter-financial-valid": _finance("valid"),
    "scitldr-train": _scitldr("train"),
    "scitldr-test": _scitldr("test"),
    "codealpaca": PublicSet(
        file="codealpaca/code_alpaca_2k.json",
        payload="instruction",
        more="input",
        intent=BENIGN,
        reference="output",
        templates=(CODE,),
        licence="CC BY-NC 4.0 (data)",
        home="https://github.com/sahil280114/codealpaca",
    ),
    "dolly": PublicSet(
        file="mobileaibench_text/databricks_dolly_15k.csv",
        payload="instruction",
        more="context",
        intent=BENIGN,
        label="category",
        reference="response",
        licence="CC BY-SA 3.0",
        home="https://huggingface.co/datasets/databricks/databricks-dolly-15k",
    ),
    "alpaca-safety-words": PublicSet(
        file="qi_finetuning_safety/alpaca_data_safety_only.json",
        payload="instruction",
        more="input",
        intent=BENIGN,
        reference="output",
        licence="CC BY-NC 4.0 (Alpaca)",
        home="https://github.com/LLM-Tuning-Safety/LLMs-Finetuning-Safety",
        note="ordinary Alpaca rows, despite the file's name",
    ),
}
