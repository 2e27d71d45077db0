import json
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aftertune.core.recipe import Training
from aftertune.errors import StudyError
from aftertune.study import (
    config_from_mapping,
    json_schema,
    load_config,
    load_study,
    study_from_mapping,
    to_yaml,
)

STUDY = """\
name: demo
models:
  - {name: base, reference: base}
  - {name: theirs, reference: org/model, base: base, training_seed: 3, condition: given}
fine_tunes:
  - name: code
    base: base
    data: code.csv
    method: full
    training: {epochs: 3, learning_rate: 7e-4}
    seeds: [1, 2]
  - name: code+multi
    like: code
    training: {epochs: 2}
    mitigation: {safety: safe.jsonl, share: 0.15, replay: [code.csv], replay_share: 0.15}
prompts:
  - asked.jsonl
  - {set: more, file: asked.jsonl, limit: 5}
systems: {none: null, kind: Be kind.}
decoding: {temperatures: [0, 0.7], seeds: [0, 1], samples: 2}
judges: [rules, {name: mine, use: "package.module:factory", options: {threshold: 0.5}}]
measurement: {task_weights: {text: 2, code: 1}}
"""


@pytest.fixture
def folder(tmp_path):
    for name in ("code.csv", "safe.jsonl", "asked.jsonl"):
        (tmp_path / name).touch()
    (tmp_path / "base").mkdir()
    return tmp_path


def load(folder: Path, text: str):
    (folder / "study.yaml").write_text(text)
    return load_study(folder / "study.yaml")


def error(folder: Path, text: str) -> str:
    with pytest.raises(StudyError) as caught:
        load(folder, text)
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix(str(folder / "study.yaml"))


def test_a_study_is_read_with_types_paths_and_defaults(folder):
    study = load(folder, STUDY)
    assert study.models[0].reference == str(folder / "base")
    assert study.models[1].reference == "org/model"
    code, multi = study.fine_tunes
    assert code.data[0].path == str(folder / "code.csv")
    assert code.training == Training(epochs=3.0, learning_rate=7e-4)
    assert multi.training == Training(epochs=2.0, learning_rate=7e-4)
    assert (multi.base, multi.data, multi.method, multi.seeds) == (
        code.base,
        code.data,
        "full",
        (1, 2),
    )
    assert multi.mitigation.replay[0].path == str(folder / "code.csv")
    assert [(prompts.set, prompts.limit) for prompts in study.prompts] == [
        ("asked", None),
        ("more", 5),
    ]
    assert study.systems == {"none": None, "kind": "Be kind."}
    assert [(judge.name, judge.use) for judge in study.judges] == [
        ("rules", "rules"),
        ("mine", "package.module:factory"),
    ]
    assert study.coherence.tail_loop == 0.15
    assert study.measurement.margin == 0.05


def test_a_study_survives_being_written_and_read(folder):
    study = load(folder, STUDY)
    text = to_yaml(study, folder)
    assert str(folder) not in text
    assert load(folder, text) == study
    assert study_from_mapping(yaml.safe_load(to_yaml(study)), Path("/elsewhere")) == study


def test_a_parent_may_stand_after_its_child(folder):
    names = ["code", "code+multi"]
    head, fine_tunes, tail = (
        STUDY.partition("  - name: code\n")[0],
        "",
        STUDY.partition("prompts:")[2],
    )
    code, multi = (
        STUDY.partition("fine_tunes:\n")[2].partition("prompts:")[0].split("  - name: code+multi\n")
    )
    fine_tunes = "  - name: code+multi\n" + multi + code
    assert [
        each.name for each in load(folder, head + fine_tunes + "prompts:" + tail).fine_tunes
    ] == names[::-1]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("name: demo", "nam: demo", ":1: nam: unknown key; did you mean 'name'?"),
        ("name: demo", "name: 5", ":1: name: expected text, found 5; put it in quotes"),
        ("name: demo", "name: a b", ":1: name: 'a b' cannot be a name; use letters"),
        ("name: demo", "name: CON", ":1: name: 'CON' cannot be a name of files on every system"),
        ("name: demo", "name: lpt1.v2", ":1: name: 'lpt1.v2' cannot be a name of files on every system"),
        ("name: demo", "name: demo.", ":1: name: 'demo.' ends in a dot"),
        ("name: demo", f"name: {'a' * 300}", ":1: name: a name of 300 characters cannot be a file's; use 100 at most"),
        ("name: base,", "name: a/../../b,", ":3: models[0].name: 'a/../../b' cannot be a name of files on every system"),
        ("name: demo\n", "", ":1: name: is missing; add it"),
        ("name: demo", "name: demo\nname: two", ":2: name: the key stands here twice; keep one"),
        ("name: demo", "- demo", ":2: broken YAML"),
        ("epochs: 3", "epoch: 3", ":10: fine_tunes[0].training.epoch: unknown key; did you mean 'epochs'?"),
        ("epochs: 3", 'epochs: "3"', ":10: fine_tunes[0].training.epochs: expected a number, found '3'; write it without"),
        ("epochs: 3", "epochs: 0", ":10: fine_tunes[0].training.epochs: found 0; it should be greater than 0"),
        ("epochs: 3", "epochs: .nan", ":10: fine_tunes[0].training.epochs: expected a number, found '.nan'"),
        ("epochs: 3", "schedule: fast", ":10: fine_tunes[0].training.schedule: found 'fast'; it should be 'linear'"),
        ("{epochs: 3, learning_rate: 7e-4}", "5", ":10: fine_tunes[0].training: expected keys and values, found 5"),
        ("method: full", "method: fulll", ":9: fine_tunes[0].method: found 'fulll'; it should be 'full', 'lora' or 'qlora'"),
        ("like: code", "like: cod", ":13: fine_tunes[1].like: did you mean 'code'? no other fine-tune is called 'cod'"),
        ("like: code", "like: code+multi", ":13: fine_tunes[1].like: goes in a circle (code+multi -> code+multi)"),
        (
            "- name: code\n",
            "- name: code\n    like: code+multi\n",
            ":7: fine_tunes[0].like: goes in a circle (code -> code+multi -> code)",
        ),
        ("data: code.csv", "data: {path: code.csv, column: {}}", ":8: fine_tunes[0].data[0].column: unknown key; did you"),
        ("data: code.csv", "data: gone.csv", ":8: fine_tunes[0].data[0].path: no such file or folder: gone.csv; paths"),
        ("data: code.csv", "data: []", ":8: fine_tunes[0].data: must not be empty; add"),
        ("seeds: [1, 2]", "seeds: 3", ":11: fine_tunes[0].seeds: expected a list, found 3; write [a, b]"),
        ("seeds: [1, 2]", "seeds: [1, 1]", ":11: fine_tunes[0].seeds: a value stands here twice"),
        ("base: base\n    data", "base: bas\n    data", ":7: fine_tunes[0].base: did you mean 'base'? no model without base"),
        ("base: base, training", "base: them, training", ":4: models[1].base: no model without base is called 'them'"),
        ("reference: org/model, base: base", "reference: org/model", ":4: models[1].training_seed: a model without base"),
        ("base: base, training", "base: base, against: them, training", ":4: models[1].against: 'them' is no other fine-tune's condition (there: code, code+multi)"),
        ("reference: base}", "reference: base, against: code}", ":3: models[0].against: 'code' is no other"),
        ("name: theirs", "name: base", ":4: models[1]: name 'base' stands here twice; every name must differ"),
        ("condition: given", "condition: code", ":6: fine_tunes[0].name: a model is called 'code' too"),
        ("reference: base}", "reference: ./bass}", ":3: models[0].reference: no such file or folder: ./bass"),
        ("name: code+multi", "name: code", ":12: fine_tunes[1].name: 'code' stands here twice"),
        ("share: 0.15", "share: 15", ":15: fine_tunes[1].mitigation.share: found 15; it should be less than 1 (write 0.15"),
        ("share: 0.15, replay: [", "share: 0.84, replay: [", ":15: fine_tunes[1].mitigation.share: share 0.84 and replay_share 0.15"),
        ("seeds: [1, 2]", "seeds: [99999999999999999999999]", ":11: fine_tunes[0].seeds[0]: found 99999999999999999999999; it should be less than 4294967296"),
        ("share: 0.15", "share: 0.85", ":15: fine_tunes[1].mitigation.share: share 0.85 and replay_share 0.15 leave too little room"),
        (", replay_share: 0.15", "", ":15: fine_tunes[1].mitigation: replay and replay_share need each other"),
        ("safety: safe.jsonl, ", "", ":15: fine_tunes[1].mitigation.safety: is missing; add it, or preset:"),
        ("safety: safe", "preset: mtb, safety: safe", ":15: fine_tunes[1].mitigation.preset: found 'mtb'; it should be 'text-only'"),
        ("safety: safe.jsonl", "preset: multitaskbench", ":15: fine_tunes[1].mitigation.safety: the preset multitaskbench needs a file"),
        (", share: 0.15, replay: [code.csv], replay_share: 0.15", "", ":15: fine_tunes[1].mitigation: names no share; give share:"),
        ("share: 0.15, replay: [code.csv]", "preset: multitask+replay", ":15: fine_tunes[1].mitigation: multitask+replay needs benign rows to replay beside your own safety rows; name"),
        ("share: 0.15, replay: [", "share: 0.15, sweep: [0.1], replay: [", ":15: fine_tunes[1].mitigation.sweep: share and sweep cannot"),
        ("share: 0.15, replay: [", "sweep: [0.1, 0.9], replay: [", ":15: fine_tunes[1].mitigation.share: share 0.9 and replay_share 0.15"),
        ("share: 0.15, replay: [", "sweep: [0.1, 0.1], replay: [", ":15: fine_tunes[1].mitigation.sweep: a value stands here twice"),
        ("- asked.jsonl", "- gone.jsonl", ":17: prompts[0].file: no such file: gone.jsonl; paths are relative"),
        ("- asked.jsonl", "- ./base", ":17: prompts[0].file: no such file: ./base"),
        ("- asked.jsonl", r'- {set: x, file: "\ud800"}', r":17: prompts[0].file: '\ud800' holds half of a character"),
        ("- asked.jsonl", "- no-such-set", ":17: prompts[0]: no prompts is called 'no-such-set'"),
        ("- asked.jsonl", "- {set: x}", ":17: prompts[0]: names no prompts; give file: or loader:"),
        ("set: more", "set: asked", ":18: prompts[1]: set 'asked' stands here twice"),
        ("samples: 2", "samples: 0", ":20: decoding.samples: found 0; it should be greater than or equal to 1"),
        ("samples: 2", "samples: 1.5", ":20: decoding.samples: expected a whole number, found 1.5"),
        ("[0, 0.7]", "[0, 0]", ":20: decoding.temperatures: a value stands here twice"),
        ("decoding:", "decodings:", ":20: decodings: unknown key; did you mean 'decoding'?"),
        ("[rules,", "[ruls,", ":21: judges[0]: no judge is called 'ruls'; did you mean 'rules'? known: "),
        ("name: mine", "name: rules", ":21: judges[1]: name 'rules' stands here twice"),
        ("threshold: 0.5", "api_key: s3cret", ":21: judges[1].options.api_key: secrets do not belong in this file; remove"),
        ("threshold: 0.5", "x: sk-0123456789abcdefghij", ":21: judges[1].options.x: this looks like a secret"),
        ("reference: org/model", "reference: 'http://me:pw@host/v1'", ":4: models[1].reference: this looks like a secret"),
        ("task_weights", "margin: 5, task_weights", ":22: measurement.margin: found 5; it should be less than 1 (write 0.05"),
        ("text: 2", "text: -2", ":22: measurement.task_weights.text: found -2; it should be greater than 0"),
        ("{none: null, kind: Be kind.}", "{}", ":19: systems: must not be empty"),
        ("kind: Be kind.", "kind: 5", ":19: systems.kind: expected text, found 5"),
        ("kind: Be kind.", "[a]: b", ":19: systems: a key must be a plain word"),
        ("name: demo", "name: !!python/name:os.system demo", ":1: name: the tag tag:yaml.org,2002:python/name:os.system is not"),
        ("name: demo", "name: [demo", ":2: broken YAML (while parsing a flow sequence"),
        ("name: demo", "name: demo\n\tx: 1", ":2: broken YAML"),
        ("Be kind.", "&a [*a]", ":19: systems.kind"),
        ("Be kind.", "'\x07'", ": broken YAML (unacceptable character #x0007"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_with_file_line_key_and_remedy(folder, old, new, expected):
    assert old in STUDY
    message = error(folder, STUDY.replace(old, new, 1))
    assert message.startswith(expected)
    assert "s3cret" not in message
    assert "0123456789" not in message


def test_options_of_tokenizers_are_no_secrets(folder):
    options = (
        load(folder, STUDY.replace("threshold: 0.5", "pad_token: <pad>, max_tokens: 5, key: x"))
        .judges[1]
        .options
    )
    assert options == {"pad_token": "<pad>", "max_tokens": 5, "key": "x"}


@pytest.mark.parametrize(
    "name",
    ["token", "HF_TOKEN", "openai_api_key", "apiKey", "client_secret", "Authorization", "password"],
)
def test_secrets_are_refused_under_any_name(folder, name):
    message = error(folder, STUDY.replace("threshold: 0.5", f"{name}: s3cret"))
    assert "secrets do not belong in this file" in message
    assert "s3cret" not in message


def test_an_empty_file_is_said_so(folder):
    for text in ("", "# nothing\n"):
        assert (
            error(folder, text)
            == ":1: the file is empty; `aftertune schema` prints the keys that it may hold"
        )
    for text in ("---\n", "just words\n", "- a list\n"):
        assert "expected keys and values such as `name: my-study`" in error(folder, text)


def test_a_file_that_cannot_be_read_is_said_so(folder):
    with pytest.raises(StudyError, match=r"gone\.yaml: cannot be read"):
        load_study(folder / "gone.yaml")
    (folder / "study.yaml").write_bytes(b"name: \xff")
    with pytest.raises(StudyError, match="not UTF-8"):
        load_study(folder / "study.yaml")
    assert "nested too deeply" in error(folder, "a: " + "[" * 1200)


def test_aliases_cannot_fill_the_memory(folder):
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 9)
    )
    assert "grow too large" in error(folder, bomb)


def test_plain_words_are_words_and_numbers_are_numbers(folder):
    study = load(folder, STUDY.replace("kind: Be kind.", "no: yes, on: off, day: 2026-01-02"))
    assert study.systems == {"none": None, "no": "yes", "on": "off", "day": "2026-01-02"}
    assert study.fine_tunes[0].training.learning_rate == 7e-4


def test_a_finished_study_is_read_without_its_files_and_plug_ins(folder):
    study = load(folder, STUDY)
    for name in ("code.csv", "safe.jsonl", "asked.jsonl"):
        (folder / name).unlink()
    (folder / "base").rmdir()
    with pytest.raises(StudyError, match="no such file"):
        load_study(folder / "study.yaml")
    (folder / "study.yaml").write_text(to_yaml(study, folder))
    assert load_study(folder / "study.yaml", finished=True) == study
    (folder / "study.yaml").write_text(STUDY.replace("[rules,", "[from-a-plug-in,"))
    assert load_study(folder / "study.yaml", finished=True).judges[0].use == "from-a-plug-in"


def test_a_check_needs_no_models_and_takes_none(folder):
    path = folder / "aftertune.yaml"
    path.write_text("judges: [rules]\nprompts: asked.jsonl\n")
    with pytest.raises(StudyError, match=r"aftertune.yaml:2: prompts: expected a list"):
        load_config(path)
    path.write_text("prompts: [asked.jsonl]\nengine: {threads: 1}\n")
    config = load_config(path)
    assert config.engine.threads == 1
    assert config.judges[0].use == "refusal"
    path.write_text(to_yaml(config, folder))
    assert load_config(path) == config
    path.write_text("models: []\n")
    with pytest.raises(StudyError, match=r"aftertune.yaml:1: models: models belongs in a study"):
        load_config(path)


def test_plain_values_make_the_same_study_and_errors_name_the_key(folder):
    study = study_from_mapping(yaml.safe_load(STUDY.replace("7e-4", "0.0007")), folder)
    assert study == load(folder, STUDY)
    with pytest.raises(StudyError, match=r"^study: decoding.samples: found 0"):
        study_from_mapping(yaml.safe_load(STUDY.replace("samples: 2", "samples: 0")), folder)
    with pytest.raises(StudyError, match=r"^config: margin: unknown key"):
        config_from_mapping({"margin": 1}, folder)


def test_the_schema_says_what_the_loader_accepts():
    schema = json_schema()
    assert schema["required"] == ["prompts", "name", "models"]
    fine_tune = schema["$defs"]["FineTuneKeys"]
    assert fine_tune["required"] == ["name"]
    assert "like" in fine_tune["properties"]
    assert {"type": "string"} in fine_tune["properties"]["data"]["anyOf"]
    assert json.loads(json.dumps(schema)) == schema
    assert schema["additionalProperties"] is False


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_no_wrong_value_gives_anything_but_a_study_or_one_line(folder, data):
    plain = yaml.safe_load(STUDY)
    values = st.none() | st.booleans() | st.integers(-2, 9) | st.floats() | st.text(max_size=5)
    wild = st.recursive(
        values,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        ),
    )
    places = [(plain, key) for key in plain]
    for key in ("models", "fine_tunes", "prompts"):
        places += [(item, inner) for item in plain[key] if isinstance(item, dict) for inner in item]
    target, key = data.draw(st.sampled_from(places))
    target[key] = data.draw(wild)
    message = ""
    try:
        study_from_mapping(plain, folder)
    except StudyError as caught:
        message = str(caught)
    assert "\n" not in message


@pytest.mark.parametrize(("old", "new"), [("scorers", "metrics"), ("comparers", "preferences")])
def test_a_key_of_version_one_is_named_with_its_new_name(tmp_path, old, new):
    (tmp_path / "prompts.jsonl").touch()
    path = tmp_path / "study.yaml"
    path.write_text(
        "name: s\nmodels: [{name: base, reference: org/base}]\nprompts: [./prompts.jsonl]\n"
        f"{old}: [mine]\n"
    )
    with pytest.raises(StudyError, match=f"study.yaml:4: {old}: {old} is called {new} now"):
        load_study(path)
    assert [keys.name for keys in getattr(load_study(path, finished=True), new)] == ["mine"]
