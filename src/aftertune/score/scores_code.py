"""Code against a reference: is it the same program? Parsed and compared, never run."""

import ast
from functools import partial

from aftertune.core.protocols import Tools
from aftertune.core.records import JudgeJob
from aftertune.score.scores import TaskScore, python_of, python_tree


def reference_match(tools: Tools, *, task: str = "code") -> TaskScore:
    """Build the scorer ``reference-match``: 1 if the response is the reference's program, of one task's responses.

    Both are parsed; layout, comments, docstrings and annotations of types do not count, names of variables do. Another
    program that does the same is no match: this is the floor of what the model can do, and nothing is ever run.
    """
    del tools
    return TaskScore(f"reference-match-1-{task}", partial(_match, task))


def _match(task: str, job: JudgeJob) -> float | None:
    if job.reference is None or job.task != task:
        return None
    right, said = python_tree(python_of(job.reference) or ""), python_of(job.response)
    if right is None or not right.body:
        return None
    given = None if said is None else python_tree(said)
    return float(given is not None and _plain(given) == _plain(right))


class _Bare(ast.NodeTransformer):
    """Takes docstrings and annotations away."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:  # ast's own name
        if node.value is None:
            return None
        return ast.Assign(targets=[node.target], value=node.value)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
            node.body = [
                each for place, each in enumerate(node.body) if place or not _docstring(each)
            ]
        return node


def _docstring(statement: ast.stmt) -> bool:
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _plain(tree: ast.Module) -> str:
    return ast.dump(_Bare().visit(tree))
