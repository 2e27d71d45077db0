"""The laws of the house that a machine can check: names, docstrings, small files, circles, seams."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest
from doc_pages import page, section, spans, tables

SOURCE = Path(__file__).parents[1] / "src" / "aftertune"
TREES = {
    path.relative_to(SOURCE).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(SOURCE.rglob("*.py"))
}
EMPTY_NAMES = {"found", "told", "said", "known", "asked", "seen", "one", "each", "some", "every"}
CLAUSE = re.compile(r"(What|Which|Whether|How|Of|As|Where|When|Who|Whose|Why)\b")
ENGINES = {"EndpointModel", "InspectModel", "LocalEngine", "VllmModel"}
SHORT = 60


def bound_names(tree):
    """Yield line and name of every variable, argument and attribute that a file binds."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id if isinstance(node, ast.Name) else node.attr
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg


@pytest.mark.parametrize("file", TREES)
def test_names_say_what_they_hold(file):
    assert not [(line, name) for line, name in bound_names(TREES[file]) if name in EMPTY_NAMES]


def docstrings(tree):
    """Yield every text that stands as a statement: docstrings of modules, classes and functions, and of fields and constants."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield str(node.value.value).strip()


@pytest.mark.parametrize("file", TREES)
def test_docstrings_begin_with_a_sentence(file):
    clauses = [text.partition("\n")[0] for text in docstrings(TREES[file]) if CLAUSE.match(text)]
    assert not clauses


def test_nobody_outside_models_asks_which_class_an_engine_is():
    tests = [
        (file, node.lineno)
        for file, tree in TREES.items()
        if not file.startswith("models/")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance"
        if ENGINES & {name.id for name in ast.walk(node.args[1]) if isinstance(name, ast.Name)}
    ]
    assert not tests


def test_report_takes_nothing_from_results_by_a_string():
    subscripts = [
        (file, node.lineno)
        for file, tree in TREES.items()
        if file.startswith("report/")
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant)
        if isinstance(node.slice.value, str)
    ]
    assert not subscripts


def test_every_short_file_has_its_reason():
    short = {
        file
        for file in TREES
        if not file.endswith("__init__.py")
        and (SOURCE / file).read_text(encoding="utf-8").count("\n") < SHORT
    }
    rows = tables(section(page("docs/architecture.md"), "## Short files"))[0]
    assert short == {span for row in rows for span in spans(row[0])}
    assert len(short) < 15


def test_imports_make_no_circle():
    graph = grimp.build_graph("aftertune")
    sorter = TopologicalSorter(
        {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    )
    sorter.prepare()  # raises CycleError with the circle
