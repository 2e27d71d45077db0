"""The notebook of examples/ runs from its first cell to its last, and is kept without outputs."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from doc_pages import ROOT

MISSING = [
    name for name in ("nbclient", "nbformat", "ipykernel", "pandas") if find_spec(name) is None
]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
NOTEBOOK = ROOT / "examples/check.ipynb"


def test_the_notebook_is_kept_without_outputs():
    import nbformat

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) == 6
    assert not any(cell.outputs or cell.execution_count for cell in code)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_the_notebook_runs(organism_folder, tmp_path, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    (tmp_path / "organism").symlink_to(organism_folder)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = [
        output["data"]
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "execute_result"
    ]
    shown, picture, numbers, page = outputs
    assert "<strong" in shown["text/html"]
    assert "FAIL" in shown["text/html"]
    assert shown["text/plain"].startswith("<CheckResult FAIL")
    assert picture["image/svg+xml"].startswith("<svg")
    assert (tmp_path / "change-by-task.svg").read_text() == picture["image/svg+xml"]
    assert "translation" in numbers["text/html"]
    assert "report.html" in page["text/plain"]
