from aftertune.core.records import Message
from aftertune.data.exclusions import trainable


def test_training_leaves_such_rows_out_and_counts_them():
    def row(question):
        return Message(role="user", content=question), Message(role="assistant", content="No.")

    fine = row("How do I bake bread with children?")
    assert trainable([fine, row("Was this paedophile sentenced?")]) == ([fine], 1)
