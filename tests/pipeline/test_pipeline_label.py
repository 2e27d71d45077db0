"""`aftertune label`: a blind sample out, labels in, corrected rates in every place where the raw ones stand."""

import csv
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aftertune.cli import label as labelling
from aftertune.errors import DataError
from aftertune.labels.files import COLUMNS, read_rows, write_rows
from aftertune.report.wording import FORMULA

SETTINGS = {"max_examples": 60, "deadline": None}


def exported(path):
    if path.suffix in (".jsonl", ".ndjson"):
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


def fill(path, rows, label, to=None):
    """Write rows back with labels, as a spreadsheet would."""
    filled = [{**row, "label": label(row)} for row in rows]
    to = to or path
    with to.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(filled[0]))
        writer.writeheader()
        writer.writerows(filled)
    return filled


def truth(row):
    return "complied" if "sure" in row["response"].split() else "refused"


@pytest.fixture
def run(copied):
    return copied / "out"


def test_the_sample_is_blind_and_the_same_by_seed(run, command, tmp_path):
    files = [tmp_path / name for name in ("one.csv", "two.csv", "other.csv")]
    for path, seed in zip(files, (3, 3, 4), strict=True):
        code, out, err = command("label", "export", run, "-o", path, "--n", 60, "--seed", seed)
        assert (code, err) == (0, "")
        assert "base (none, T=0 max=8): " in out
    assert files[0].read_bytes() == files[1].read_bytes()
    rows, other = exported(files[0]), exported(files[2])
    assert [*rows[0]] == [*COLUMNS, "label"]
    assert {row["id"] for row in rows}.isdisjoint(row["id"] for row in other)
    text = files[0].read_text(encoding="utf-8")
    assert not [name for name in ("help/seed", "safety", "likelihood", "verdict") if name in text]


def test_a_name_that_says_no_format_is_refused_and_few_labels_come_with_the_number_that_is_enough(
    run, command, tmp_path, monkeypatch
):
    said = command.refused("label", "export", run, "-o", tmp_path / "labels.xyz")
    assert "give it a name that ends in .csv or .jsonl" in said
    assert not (tmp_path / "labels.xyz").exists()
    _, out, _ = command("label", "export", run, "-o", tmp_path / "labels.JSONL", "--n", 60)
    assert json.loads((tmp_path / "labels.JSONL").read_text().splitlines()[0])["label"] == ""
    assert "--n" not in out  # no condition has as many responses as a correction takes
    monkeypatch.setattr(labelling, "LEAST_LABELS", 12)
    _, out, _ = command("label", "export", run, "-o", tmp_path / "labels.csv", "--n", 60)
    groups = out.count("below 12, so it will not be corrected")
    assert f"--n {12 * groups} gives 12 of each condition, --n {24 * groups} is better" in out


def test_labels_make_the_round_to_the_report(run, command, tmp_path):
    path, back = tmp_path / "labels.csv", tmp_path / "back.csv"
    before = json.loads((run / "result.json").read_text())
    command("label", "export", run, "-o", path, "--n", 100)
    rows = exported(path)
    fill(path, rows, truth, back)
    code, out, _ = command("label", "import", run, back, "--annotator", "anna")
    assert code == 0
    assert f"{len(rows)} of {len(rows)} drawn responses are labelled, by anna." in out
    after = json.loads((run / "result.json").read_text())
    counts = {"drawn": len(rows), "labelled": len(rows), "annotators": ["anna"], "seed": 0}
    assert after["labels"] == counts | {
        "version": after["labels"]["version"],
        "applies": True,
        "adjudicated": 0,
    }
    assert "No rate is corrected yet" in out
    assert "Corrected rates" not in out
    old, new = (told["result"]["settings"][0]["conditions"][0] for told in (before, after))
    assert old["labels"] is None
    assert new["asr"] == old["asr"]
    assert new["labels"]["asr"]["overall"]["uncorrected"]["missing"] == "labels"
    assert {"rules", "likelihood"} == set(new["labels"]["judges"])
    code, out, _ = command("report", run)
    assert "ASR corrected by labels" in out
    assert "not corrected" in out
    assert "ASR corrected by labels" in (run / "report.html").read_text(encoding="utf-8")


def test_harmless_prompts_are_drawn_with_a_question_of_their_own(run, command, tmp_path):
    path, more = tmp_path / "labels.csv", tmp_path / "more.csv"
    code, out, _ = command("label", "export", run, "-o", path, "--n", 30, "--benign", 20)
    assert code == 0
    assert "base (none, T=0 max=8), harmless prompts: " in out
    asked = [row["question"].startswith("Did the response refuse?") for row in exported(path)]
    assert {True, False} == set(asked)
    fill(path, exported(path), truth)
    assert command("label", "import", run, path)[0] == 0
    told = json.loads((run / "result.json").read_text())
    found = told["result"]["settings"][0]["conditions"][0]["labels"]
    assert found["benign"] == found["over_refusal"]["overall"]["labels"] > 0
    lost = command.refused("label", "export", run, "-o", more, "--n", 30)
    assert "and --benign 20" in lost
    assert command("label", "export", run, "-o", more, "--n", 30, "--benign", 40)[0] == 0
    assert {row["id"] for row in exported(path)} < {row["id"] for row in exported(more)}


def test_another_import_adds_people_and_changes_labels(run, command, tmp_path):
    path = tmp_path / "labels.ndjson"
    command(
        "label", "export", run, "-o", path, "--n", 60, "--annotator", "anna", "--annotator", "ben"
    )
    rows = exported(path)
    assert {"label:anna", "label:ben"} < set(rows[0])
    for name, label in (("anna", "complied"), ("ben", "Refused ")):
        lines = [json.dumps({"id": row["id"], f"label:{name}": label}) for row in rows[:30]]
        path.write_text("\n".join(lines) + "\n")
        assert command("label", "import", run, path)[0] == 0
    path.write_text(json.dumps({"id": rows[0]["id"], "label:anna": "refused"}))
    assert command("label", "import", run, path)[0] == 0
    told = json.loads((run / "result.json").read_text())
    assert told["labels"]["annotators"] == ["anna", "ben"]
    found = told["result"]["annotators"]["pairs"]["anna | ben"]
    assert [found[name] for name in ("both", "first_only", "second_only", "neither")] == [
        0,
        29,
        0,
        1,
    ]


def test_labels_whose_import_was_stopped_are_measured_by_the_report(run, command, tmp_path):
    path = tmp_path / "labels.csv"
    command("label", "export", run, "-o", path, "--n", 60)
    fill(path, exported(path), truth)
    stopped = (run / "result.json").read_bytes()
    command("label", "import", run, path)
    whole = (run / "result.json").read_bytes()
    (run / "result.json").write_bytes(stopped)
    assert "ASR corrected by labels" in command("report", run)[1]
    assert (run / "result.json").read_bytes() == whole


def test_the_same_import_twice_changes_nothing(run, command, tmp_path):
    path = tmp_path / "labels.csv"
    command("label", "export", run, "-o", path, "--n", 60)
    fill(path, exported(path), truth)
    results = []
    for _ in range(2):
        assert command("label", "import", run, path)[0] == 0
        results.append((run / "result.json").read_bytes())
    assert results[0] == results[1]


def test_a_run_that_goes_on_keeps_its_labels(copied, run, command, monkeypatch, tmp_path):
    path = tmp_path / "labels.csv"
    command("label", "export", run, "-o", path, "--n", 60)
    fill(path, exported(path), truth)
    command("label", "import", run, path)
    labelled = json.loads((run / "result.json").read_text())
    monkeypatch.chdir(copied)
    monkeypatch.syspath_prepend(str(copied))
    code, _, err = command("run", "study.yaml", "--out", "out", "--quiet")
    assert code == 0, err
    assert json.loads((run / "result.json").read_text())["result"] == labelled["result"]


def test_labels_that_cannot_be_used_are_refused_and_nothing_is_kept(run, command, tmp_path):
    path, bad = tmp_path / "labels.csv", tmp_path / "bad.csv"
    assert "label export first" in command.refused("label", "import", run, path)
    command("label", "export", run, "-o", path, "--n", 60)
    rows = exported(path)
    before = (run / "result.json").read_bytes()
    cases = (
        ([{**rows[0], "id": "r-0"}], "complied", "line 2: the id 'r-0' is not of the last export"),
        ([rows[0], rows[1], rows[0]], "complied", f"line 4: {rows[0]['id']} stands in line 2 too"),
        (
            [rows[0]],
            "evil",
            f"line 2 ({rows[0]['id']}): 'evil' is no label; use one of complied, refused",
        ),
        (rows, "", "no row has a label"),
    )
    for chosen, label, said in cases:
        fill(bad, [{**row, "response": "x"} for row in chosen], lambda _, label=label: label)
        assert said in command.refused("label", "import", run, bad)
    assert "cannot be read" in command.refused("label", "import", run, tmp_path / "none.csv")
    assert (run / "result.json").read_bytes() == before


def test_labels_of_one_draw_are_not_lost_to_another(run, command, tmp_path):
    path = tmp_path / "labels.csv"
    command("label", "export", run, "-o", path, "--n", 30, "--seed", 5)
    fill(path, exported(path), truth)
    command("label", "import", run, path)
    assert "labels of the draw with seed 5" in command.refused("label", "export", run, "-o", path)
    fewer = command.refused(
        "label", "export", run, "-o", tmp_path / "fewer.csv", "--n", 20, "--seed", 5
    )
    assert "the draw leaves out 10 responses that annotators labelled" in fewer
    assert not (tmp_path / "fewer.csv").exists()
    code, _, _ = command(
        "label", "export", run, "-o", tmp_path / "more.csv", "--n", 60, "--seed", 5
    )
    assert code == 0
    more = exported(tmp_path / "more.csv")
    assert {row["id"] for row in exported(path)} < {row["id"] for row in more}
    fill(path, more, truth)
    code, out, _ = command("label", "import", run, path)
    assert f"{len(more)} of {len(more)} drawn responses are labelled" in out


def test_a_plan_tells_how_many_labels_it_takes(run, command):
    code, out, _ = command(
        "label", "plan", run, "--half-width", 0.03, "--sensitivity", 0.9, "--specificity", 0.99
    )
    assert code == 0
    assert "base (none, T=0 max=8): " in out
    assert "For ± 3 points from labels" in out


hostile = st.text(
    st.one_of(
        st.characters(exclude_categories=[]),
        st.sampled_from(["\0", "\r", "\n", '"', ",", ";", "=", "\u202e", "\u2028"]),
    ),
    max_size=60,
)


def row_of(text, number):
    return {"id": f"r-{number}", "task": "text", "question": "?", "prompt": text, "response": text}


@settings(**SETTINGS)
@given(st.lists(hostile, min_size=1, max_size=4))
def test_whatever_a_model_wrote_comes_back_with_its_label(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("hostile")
    rows = [row_of(text, number) for number, text in enumerate(texts)]
    for name in ("labels.csv", "labels.jsonl"):
        write_rows(folder / name, rows, [""])
        found = exported(folder / name)
        assert [row["id"] for row in found] == [row["id"] for row in rows]
        if name == "labels.jsonl":
            assert [row["response"] for row in found] == texts
            back = [json.dumps({**row, "label": "deflected"}) for row in found]
            (folder / name).write_text("\n".join(back), encoding="utf-8")
        else:
            assert not any(
                cell.lstrip(" ").startswith(FORMULA) for row in found for cell in row.values()
            )
            assert not any(
                character in cell
                for row in found
                for cell in row.values()
                for character in "\0\r\x1b\u202e"
            )
            fill(folder / name, found, lambda _: "deflected")
        read = read_rows(folder / name, "anna")
        assert [(row.id, dict(row.labels)) for row in read] == [
            (row["id"], {"anna": "deflected"}) for row in rows
        ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_what_spreadsheets_save_is_read(tmp_path, delimiter):
    path = tmp_path / "labels.csv"
    path.write_bytes(
        f"\ufeffid{delimiter}note{delimiter}label:Anna B\r\nr-1{delimiter}x{delimiter}COMPLIED\r\n".encode()
    )
    assert [(row.id, dict(row.labels)) for row in read_rows(path, "")] == [
        ("r-1", {"Anna B": "complied"})
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"id,label\n\xff,x\n", "is not UTF-8"),
        (b"", "has no rows"),
        (b"id,response\nr-1,x\n", "has no column label"),
        (b"label,response\nrefused,x\n", "has no id"),
        (b'id,label\n"r-1,refused\n', "is not CSV"),
    ],
)
def test_files_that_cannot_be_read_say_why(tmp_path, content, said):
    path = tmp_path / "labels.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=said):
        read_rows(path, "anna")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,label,label\nr-1,refused,complied\n", "names the column 'label' twice"),
        ("id,label,label:anna\nr-1,refused,complied\n", "two columns have different labels of anna"),
        ('{"id": "r-1", "label": "refused", "label": "complied"}', "the key 'label' stands twice"),
        ('{"id": "r\\n1", "label": "maybe"}', "line 1 .r 1.: 'maybe' is no label"),
    ],
)  # fmt: skip
def test_a_label_is_never_lost_to_another(content, message, tmp_path):
    path = tmp_path / "labels.csv"  # the contents decide
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_rows(path, "anna")


def test_lines_that_are_no_objects_say_where(tmp_path):
    path = tmp_path / "labels.jsonl"
    for content, said in (
        ("{}", "line 1: has no id"),
        ('{"id": "a", "label": ""}\n[1]', "line 2: expected an object, found list"),
        ("{", "line 1: broken JSON"),
    ):
        path.write_text(content)
        with pytest.raises(DataError, match=said):
            read_rows(path, "anna")
