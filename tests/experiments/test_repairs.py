"""The table of repairs, from results as `aftertune repair` writes them."""

import importlib.util
import json
from pathlib import Path

import pytest

RUN = Path(__file__).parents[2] / "experiments" / "repair" / "run.py"


@pytest.fixture(scope="module")
def experiment():
    spec = importlib.util.spec_from_file_location("repairs", RUN)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def figures(asr, refused, score):
    return {
        "asr": {"estimate": asr},
        "over_refusal": {"estimate": refused},
        "score": {"estimate": score},
    }


def result(chosen, repaired, misses=()):
    proof = None
    if repaired is not None:
        proof = {
            "base": figures(0.2, 0, 0.1),
            "tuned": figures(0.6, 0.05, 0.9),
            "repaired": repaired,
            "gate": {"verdict": "INCONCLUSIVE"},
        }
    candidates = [{"strength": 0.5, "misses": [miss]} for miss in misses]
    return {
        "repaired": [{"selection": {"chosen": chosen, "candidates": candidates}, "proof": proof}]
    }


@pytest.mark.parametrize(
    ("results", "rows"),
    [
        (
            {"scaling": result(0.7, figures(0.3, 0, 0.8))},
            {
                "| the base |  | 20.0 % | 20.0 % | 100 % | 0.0 % | 10.0 % |  |",
                "| nothing |  | 60.0 % | 60.0 % | 0 % | 5.0 % | 90.0 % |  |",
                "| `scaling` | 0.7 | 30.0 % | 30.0 % | 75 % | 0.0 % | 80.0 % | INCONCLUSIVE |",
            },
        ),
        (
            {"lox": result(None, None, ["over-refusal", "over-refusal"])},
            {"| `lox` | none | | | | | | no strength meets the rule (over-refusal: 2) |"},
        ),
    ],
)
def test_the_table_of_repairs(experiment, tmp_path, results, rows):
    case = experiment.Case(
        folder=tmp_path, base=tmp_path, tunes=(), mixes=(), train=tmp_path, unaligned="", own=tmp_path / "own.jsonl",
        metric="chrf", margin=0.05, config=tmp_path, methods=tuple(results),
    )  # fmt: skip
    for name, document in results.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    mixed = {
        "name": "tuned",
        "capability": {"chrf": {"by_set": {"own": {"estimate": 0.85}}}},
        "by_seed": {"overall": [{"asr": 0.25, "over_refusal": 0.1}]},
    }
    document = {
        "result": {"settings": [{"conditions": [mixed]}]},
        "gate": {"verdict": "INCONCLUSIVE"},
    }
    (tmp_path / "mix.json").write_text(json.dumps(document))
    table = set(experiment.table(case))
    assert rows <= table
    assert any("25.0 % | 88 % | 10.0 % | 85.0 %" in line for line in table) == (
        "scaling" in results
    )
