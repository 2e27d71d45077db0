"""Code that a study names: it is said before it is imported, a dry run leaves it out, and it cannot end the program unseen."""

import json
import sys

import pytest
from tiny_study import write_study

MARK = "open('imported', 'a').close()\n"
ENDS = MARK + "def judge(tools):\n    raise SystemExit\n"
ENDS_ON_IMPORT = MARK + "raise SystemExit(0)\n"
ENDS_LATER = MARK + (
    "from aftertune import Role, Scorer\n"
    "class Judge(Scorer):\n"
    "    role, version = Role.JUDGE, '1'\n"
    "    def score(self, sample, replies):\n"
    "        raise SystemExit(0)\n"
    "def judge(tools):\n    return Judge()\n"
)
LOADER = MARK + "def judge(tools):\n    return 1 / 0\n"


@pytest.fixture
def stranger(tiny_folder, monkeypatch):
    """Writes a study whose judge is a module of its own folder; commands run in another one."""
    monkeypatch.chdir(tiny_folder.parent)
    monkeypatch.delitem(sys.modules, "stranger", raising=False)

    def write(code, **changes):
        (tiny_folder / "stranger.py").write_text(code)
        own = {"name": "mine", "use": "stranger:judge"}
        changes = {"judges": [own, "rules"], "guards": [], "fine_tunes": []} | changes
        write_study(tiny_folder, **changes)
        return tiny_folder

    return write


@pytest.mark.parametrize("code", [ENDS, ENDS_ON_IMPORT])
def test_a_dry_run_imports_nothing_and_names_what_it_left_out(stranger, command, code):
    folder = stranger(code)
    code, out, err = command("run", folder / "study.yaml", "--dry-run")
    assert (code, err) == (0, "")
    assert (
        "not counted, since a dry run runs no code but Aftertune's: stranger:judge (judge mine)"
        in out
    )
    assert "judges rules" in out
    assert not (folder.parent / "imported").exists()


@pytest.mark.parametrize("code", [ENDS, ENDS_ON_IMPORT, ENDS_LATER])
def test_running_it_says_so_first_and_the_end_of_the_program_is_an_error(stranger, command, code):
    folder = stranger(code)
    code, out, err = command("run", folder / "study.yaml", "--out", "out")
    assert (code, out) == (1, "")
    first, *_, last = err.splitlines()
    assert first == "note: this runs code that is not Aftertune's: stranger:judge (judge mine)"
    assert "SystemExit" in last
    assert (folder.parent / "imported").exists()
    assert str(folder) not in sys.path


def test_a_loader_of_prompts_that_fails_is_one_line(stranger, command):
    folder = stranger(
        LOADER, prompts=[{"set": "own", "loader": "stranger:judge"}], judges=["rules"]
    )
    assert "ZeroDivisionError" in command.refused(
        "run", folder / "study.yaml", "-q", "--out", "out"
    )


def test_a_checkpoint_with_code_is_left_out_of_a_dry_run(stranger, command):
    folder = stranger(ENDS, engine={"trust_remote_code": True, "device": "cpu"}, judges=["rules"])
    (folder / "configuration_own.py").write_text(MARK)
    for file in ("base/config.json", "base/tokenizer_config.json"):
        config = json.loads((folder / file).read_text())
        auto = {
            "AutoConfig": "configuration_own.Config",
            "AutoTokenizer": [None, "configuration_own.T"],
        }
        (folder / file).write_text(json.dumps({**config, "auto_map": auto, "model_type": "own"}))
    code, out, err = command("run", folder / "study.yaml", "--dry-run")
    assert (code, err) == (0, "")
    assert "runs no code but Aftertune's: model base" in out
    assert not (folder.parent / "imported").exists()
