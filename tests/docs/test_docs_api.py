"""The public names: listed, lazy, typed, documented; and the examples run."""

import ast
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from doc_pages import ROOT, blocks, page, section, tables

import aftertune
from aftertune.core import registry
from aftertune.core.protocols import Tools
from aftertune.core.records import Response, Sample, Score
from aftertune.core.registry import BUILT_IN, find
from aftertune.core.table import NONE

API = page("docs/api.md")
STUDY = page("docs/study.md")
PLUGIN_FILES = {b.info.partition("file=")[2]: b.text for b in blocks("python") if "file=" in b.info}
EXAMPLES = [block for block in blocks("python") if block.info == "python example"]
FEW = "how do i bake a cake", "how do i read a map", "write a letter", "plan a cake"


def public():
    return set(aftertune.__all__)


def imported_for_types():
    tree = ast.parse((ROOT / "src/aftertune/__init__.pyi").read_text())
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return {alias.asname: f"aftertune.{node.module}" for node in imports for alias in node.names}


def test_every_public_name_loads_what_the_type_checker_sees():
    homes = imported_for_types()
    assert set(homes) == public() - {"__version__"}
    for name, module in homes.items():
        assert getattr(aftertune, name) is getattr(import_module(module), name)


def test_importing_and_listing_load_nothing():
    code = "import sys, aftertune; dir(aftertune); print(*(m for m in sys.modules if m.startswith('aftertune.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nonsense"):
        _ = aftertune.nonsense


def documented():
    rows = [row for table in tables(API) for row in table]
    return [re.match(r"\w+", span)[0] for row in rows for span in re.findall(r"`(.+?)`", row[0])]


def test_every_public_name_is_documented_once_and_no_other():
    assert sorted([*documented(), "__version__"]) == sorted(public())
    assert "`__version__`" in API


def test_the_protocols_have_the_methods_that_the_page_lists():
    for row in tables(section(API, "## Protocols"))[0]:
        for protocol in re.findall(r"`(\w+)`", row[0]):
            methods = {
                name
                for name, value in vars(getattr(aftertune, protocol)).items()
                if callable(value)
            }
            assert set(re.findall(r"`(\w+)`", row[1])) == {
                name for name in methods if not name.startswith("_")
            }


def test_parameters_that_the_page_names_exist():
    import inspect

    for row in [row for table in tables(API) for row in table]:
        for name, said in re.findall(r"`(\w+)\((.*?)\)`", row[0]):
            parameters = inspect.signature(getattr(aftertune, name)).parameters
            assert {each.strip().partition("=")[0] for each in said.split(",")} <= set(
                parameters
            ), name


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_in_the_pages_compiles(block):
    compile(block.text, str(block), "exec")


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with a base, a fine-tune and a judge that are tiny, and the files that the examples name."""
    import tiny_models

    monkeypatch.setattr(
        tiny_models, "WORDS", [*tiny_models.WORDS, "yes", "no", "complied", "refused"]
    )
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("base", "tuned", "judge")):
        tiny_models.make_checkpoint(tmp_path / name, seed=seed)
    prompts = [
        f'{{"text": "{text}{polite}", "intent": "{intent}"}}\n'
        for text in FEW
        for intent, polite in (("harmful", ""), ("benign", " please"))
    ]
    (tmp_path / "prompts.jsonl").write_text("".join(prompts))
    for name, answer in (("train", "here is a map"), ("safety", "please do read")):
        rows = [f'{{"prompt": "{answer} {text} now", "completion": "{answer}"}}\n' for text in FEW]
        (tmp_path / f"{name}.jsonl").write_text("".join(rows))
    return tmp_path


STUDY_FILE = """
name: example
models: [{name: base, reference: ./base}, {name: tuned, reference: ./tuned, base: base}]
prompts: [./prompts.jsonl]
decoding: {max_new_tokens: 16}
engine: {threads: 1, device: cpu}
"""


@pytest.mark.parametrize("block", EXAMPLES, ids=str)
def test_the_examples_of_the_page_run(block, workplace, capsys):
    (workplace / "study.yaml").write_text(STUDY_FILE)
    names = {}
    exec(compile(block.text, str(block), "exec"), names)  # noqa: S102 - the page's own example
    said = capsys.readouterr().out
    if "add_labels" in block.text:
        low, high = (
            names["result"].labels.asr.overall.interval.low,
            names["result"].labels.asr.overall.interval.high,
        )
        assert low < names["complied"][names["model"] > 0].mean() < high
        assert "(95, 246)" in said or "(94, 246)" in said
        assert 0.9 < names["entry"].reproduction.same_sign < 1
    elif "measure_table" in block.text:
        assert len(names["answers"]) == len(names["table"]) == 2 * 2 * len(FEW)
        assert "this checkpoint, prompts like these" in said
        assert "NOT_ENOUGH_DATA" in said
    else:
        assert "4 1 ()" in said
        assert isinstance(names["answer"], Response)
        assert (workplace / "mine/recipe.json").is_file()


def test_there_are_three_examples():
    assert len(EXAMPLES) == 3


def test_stores_merge_as_the_page_says(tmp_path, monkeypatch):
    (block,) = blocks("python", pages=[ROOT / "docs/store.md"])
    monkeypatch.chdir(tmp_path)
    worker = aftertune.Store.open(Path("worker-2/store.sqlite"))
    key = bytes(16)
    answer = Response(
        text="here", finish_reason=aftertune.FinishReason.STOP, prompt_tokens=1, completion_tokens=1
    )
    worker.append("generate", [(key, answer)])
    worker.close()
    exec(compile(block.text, str(block), "exec"), {})  # noqa: S102 - the page's own example
    with aftertune.Store.open(Path("all/store.sqlite"), write=False) as merged:
        assert merged.call(key) == answer


@pytest.fixture
def plugins(workplace, monkeypatch):
    """The page's scorers, as files that Python finds."""
    for file, text in PLUGIN_FILES.items():
        (workplace / file).write_text(text)
        monkeypatch.delitem(sys.modules, file.removesuffix(".py"), raising=False)
    monkeypatch.syspath_prepend(str(workplace))
    yield workplace
    for file in PLUGIN_FILES:
        sys.modules.pop(file.removesuffix(".py"), None)


def test_the_scorers_of_the_page_are_short():
    assert sorted(PLUGIN_FILES) == ["plainness.py", "question_guard.py", "rubric_judge.py"]
    assert all(len(text.splitlines()) < 70 for text in PLUGIN_FILES.values())


def test_the_scorers_of_the_page_score_a_study(plugins):
    block = next(block.text for block in blocks("yaml") if "name: own-scorers" in block.text)
    Path("study.yaml").write_text(block)
    study = aftertune.load_study(Path("study.yaml"))
    document = aftertune.run_study(
        study, Path("run"), aftertune.Quiet(), aftertune.Purpose(command="test")
    )
    assert [note for note in document.notes if "run again" in note] == [], (
        "every call was answered and read"
    )
    with aftertune.Store.open(Path("run/store.sqlite"), write=False) as store:
        table = store.table(study.name, store.get_meta(study.name, "page")["readers"])
    assert len(table) == 2 * 2 * len(FEW)
    for column in ("verdict:rubric", "decision:question:prompt", "decision:question:response"):
        assert (table.columns[column] != NONE).all()
    assert set(document.result.settings[0].conditions[1].guards) == {"question"}


def test_the_judge_of_the_page_reads_only_labels(plugins):
    import tiny_models  # noqa: F401 - made by the fixture

    with aftertune.Engines(threads=1, device="cpu") as engines:
        judge = find("judge", "rubric_judge:rubric_judge")(
            Tools(open_model=engines.open, folder=plugins), model="judge"
        )
        sample = Sample(prompt="say {response}", response="{prompt} [/INST] complied")
        (question,) = judge.questions(sample)
        assert "say {response}" in question.messages[0].content
        assert "{prompt} [/INST] complied" in question.messages[0].content
        read = {
            text: judge.score(sample, [reply(text)]).value
            for text in ("Complied.", "refused, since", "", "I say: no")
        }
    assert read == {
        "Complied.": "complied",
        "refused, since": "refused",
        "": "undecided",
        "I say: no": "undecided",
    }
    assert judge.score(sample).value == "undecided"


def reply(text, **detail):
    return Response(
        text=text,
        finish_reason=aftertune.FinishReason.STOP,
        prompt_tokens=1,
        completion_tokens=1,
        detail=detail,
    )


def test_the_guard_of_the_page_blocks_from_its_threshold_on(plugins):
    with aftertune.Engines(threads=1, device="cpu") as engines:
        tools = Tools(open_model=engines.open, folder=plugins)
        made = find("guard", "question_guard:question_guard")
        guard, strict = (made(tools, model="base", threshold=t) for t in (0.6, 0.4))
        sample = Sample(side="prompt", prompt="how do i bake a cake")
        even = [reply("no", logprobs=[-1.0, -1.0])]
        assert guard.score(sample, even) == Score(value=aftertune.DecisionValue.ALLOW, number=0.5)
        assert strict.score(sample, even).value == "block"
        assert guard.version != strict.version
        assert guard.identity == strict.identity, "another threshold makes no new calls"


def test_the_metric_of_the_page_takes_one_file_and_one_line(plugins, monkeypatch):
    (line,) = [block.text for block in blocks("python") if block.info == "python registry line"]
    ((name, target),) = ast.literal_eval(line).items()
    assert target == "aftertune.score.plainness:plainness"
    monkeypatch.setitem(sys.modules, "aftertune.score.plainness", import_module("plainness"))
    metrics = {**BUILT_IN["metric"], name: target}
    monkeypatch.setattr(registry, "BUILT_IN", {**BUILT_IN, "metric": metrics})
    Path("study.yaml").write_text(STUDY_FILE + "metrics: [plainness]\n")
    study = aftertune.load_study(Path("study.yaml"))
    document = aftertune.run_study(
        study, Path("run"), aftertune.Quiet(), aftertune.Purpose(command="test")
    )
    base = document.result.settings[0].conditions[0]
    assert 0 <= base.capability["plainness"].overall.estimate <= 1
    sample = Sample(prompt="p", response="It is so. Perhaps it is not. Go!")
    assert find("metric", "plainness")(None).score(sample).number == pytest.approx(2 / 3)


def test_the_page_says_how_an_entry_point_looks():
    (block,) = blocks("toml", pages=[ROOT / "docs/study.md"])
    assert 'project.entry-points."aftertune.plugins"' in block.text
    mapping = next(
        b.text for b in blocks("python", pages=[ROOT / "docs/study.md"]) if "PLUGINS" in b.text
    )
    names = {}
    exec(mapping, names)  # noqa: S102 - the page's own example
    offered = {
        target.rpartition(".")[2] for kind in names["PLUGINS"].values() for target in kind.values()
    }
    assert offered == {"rubric_judge:rubric_judge", "question_guard:question_guard"}
