"""Drafts delete what is ours and nothing else, and a kill at any moment leaves them known as ours."""

import shutil

import pytest

from aftertune.core.files import MARKER, check_ours, claim, discard, draft_of
from aftertune.errors import InputError


def test_the_own_work_stays_and_that_of_another_owner_goes(tmp_path):
    draft = draft_of(tmp_path / "out")
    claim(draft, "one")
    (draft / "work").write_text("half")
    claim(draft, "one")
    assert (draft / "work").exists()
    claim(draft, "other")
    assert [path.name for path in draft.iterdir()] == [MARKER]


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_what_is_foreign_is_refused_and_left_alone(tmp_path, kind):
    draft, thesis = tmp_path / "out.partial", tmp_path / "elsewhere" / "thesis.txt"
    thesis.parent.mkdir()
    thesis.write_text("mine")
    if kind == "folder":
        thesis.parent.rename(draft)
        thesis = draft / "thesis.txt"
    elif kind == "link":
        (thesis.parent / MARKER).touch()
        draft.symlink_to(thesis.parent)
    else:
        draft.write_text("mine")
    for refuse in (check_ours, lambda folder: claim(folder, "one")):
        with pytest.raises(InputError, match="not ours"):
            refuse(draft)
    discard(draft)
    assert draft.exists()
    assert thesis.read_text() == "mine"


def test_a_discard_that_is_killed_leaves_a_draft_that_is_known_as_ours(tmp_path, monkeypatch):
    draft = tmp_path / "out.partial"
    claim(draft, "one")
    for name in ("a", "b", "c"):
        (draft / name).mkdir()
    delete, deleted = shutil.rmtree, []

    def killed_at_the_second(path):
        deleted.append(path)
        if len(deleted) == 2:
            raise KeyboardInterrupt
        delete(path)

    monkeypatch.setattr(shutil, "rmtree", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        discard(draft)
    monkeypatch.undo()
    check_ours(draft)
    discard(draft)
    assert not draft.exists()


def test_an_empty_folder_is_nobodys(tmp_path):
    (tmp_path / "out.partial").mkdir()
    claim(tmp_path / "out.partial", "one")
    discard(tmp_path / "out.partial")
    discard(tmp_path / "out.partial")
    assert not list(tmp_path.iterdir())
