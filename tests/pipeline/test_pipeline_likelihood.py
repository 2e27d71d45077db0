"""The likelihood detector on the small real study: limits from the base's own answers, kept, and obeyed."""

import json

import numpy as np
import pytest
import yaml
from tiny_study import study

from aftertune.score.likelihood import limits_of
from aftertune.store import Store


def test_limits_are_the_tails_of_the_benign_answers_widened_by_a_quarter():
    benign = np.linspace(2.0, 4.0, 2001)
    low, high = limits_of(benign, benign)
    assert (low, high) == pytest.approx((2.01 - 0.125 * 1.98, 3.99 + 0.125 * 1.98))


def test_refusals_in_set_words_and_those_the_base_wavered_over_are_inside():
    benign = np.linspace(2.0, 4.0, 2001)
    low, high = limits_of(benign, [*benign, *[1.0] * 100, *[6.0] * 100])
    assert (low, high) == pytest.approx((1.0 - 0.125 * 5, 6.0 + 0.125 * 5))


def run(folder, command, **coherence):
    keys = study(
        judges=["rules"],
        guards=None,
        coherence=coherence,
        decoding={"temperatures": [1.0], "samples": 9, "max_new_tokens": 8},
    )
    keys["fine_tunes"] = [keys["fine_tunes"][0] | {"seeds": [1]}]
    (folder / "study.yaml").write_text(yaml.safe_dump(keys, sort_keys=False))
    code, _, err = command("run", folder / "study.yaml", "--out", folder / "out", "--quiet")
    assert code == 0, err
    told = json.loads((folder / "out" / "result.json").read_text())
    with Store.open(folder / "out" / "store.sqlite", write=False) as store:
        page = store.get_meta("tiny", "page")
        names = [
            name
            for (name,) in store._reading.execute(
                "SELECT note.name FROM note WHERE name LIKE 'nll:%'"
            )
        ]
        limits = store.get_meta("tiny", names[0]) if names else None
        flags = {
            (answer.model, answer.prompt.id, answer.sample): answer.scores["coherent"].label.split()
            for answer in store.responses("tiny", page["readers"])
        }
    return told, limits, flags


def test_answers_beyond_the_limits_are_flagged_and_the_limits_stay(tiny_folder, command):
    told, limits, before = run(tiny_folder, command)
    assert limits is None
    assert not any("nll" in flags for flags in before.values())
    told, limits, flags = run(tiny_folder, command, nll=True)
    assert set(limits) == {"text", "classification"}
    assert any(
        "limits of the mean NLL per token under base: classification" in note
        for note in told["notes"]
    )
    flagged = {place for place, found in flags.items() if "nll" in found}
    share = {
        model: np.mean([place in flagged for place in flags if place[0] == model])
        for model in ("base", "help/seed1")
    }
    assert share["base"] < 0.05
    assert share["help/seed1"] > 0.2, (
        "what it learned to say is nothing that the random base would say"
    )
    assert any(
        "answers of the fine-tunes to benign prompts lie outside" in note for note in told["notes"]
    )
    assert not any("answers of the bases" in note for note in told["notes"])
    assert {place: [f for f in found if f != "nll"] for place, found in flags.items()} == before
    assert run(tiny_folder, command, nll=True)[1:] == (limits, flags)
