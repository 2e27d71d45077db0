from dataclasses import dataclass

import pytest

from aftertune.models.batching import MAX_ROWS, Capacity, in_batches


@dataclass(frozen=True)
class Row:
    length: int


def capacity(rows=4, length=10):
    return Capacity(token_bytes=1.0, row_bytes=0.0, memory=rows * length)


def rows(*lengths):
    return [Row(length) for length in lengths]


def test_batches_are_sorted_and_sized_to_memory():
    seen = []
    in_order = in_batches(
        rows(5, 10, 20, 5, 5, 5), capacity(), lambda batch: seen.append(batch) or batch
    )
    assert [row.length for row, _ in in_order] == [20, 10, 5, 5, 5, 5]
    assert [len(batch) for batch in seen] == [2, 4]


def test_results_come_batch_by_batch():
    ran = []
    results = in_batches(rows(*[10] * 8), capacity(), lambda batch: ran.append(len(batch)) or batch)
    next(results)
    assert ran == [4]


@pytest.mark.parametrize(
    "error", ["torch", RuntimeError("DefaultCPUAllocator: can't allocate"), MemoryError()]
)
def test_a_batch_that_does_not_fit_is_halved_and_so_are_the_next(error):
    import torch

    tried = []

    def run(batch):
        tried.append(len(batch))
        if len(batch) > 3:
            raise torch.OutOfMemoryError if error == "torch" else error
        return [row.length for row in batch]

    given = list(in_batches(rows(*[10] * 16), capacity(rows=16), run))
    assert [result for _, result in given] == [10] * 16
    assert tried == [16, 8, 4, *[2] * 8]


def test_a_row_that_never_fits_is_given_without_result_and_the_others_go_on():
    import torch

    def run(batch):
        if any(row.length > 15 for row in batch):
            raise torch.OutOfMemoryError
        return batch

    given = {
        row.length: result for row, result in in_batches(rows(20, 10, 12), capacity(rows=100), run)
    }
    assert given[20] is None
    assert given[10] == Row(10)
    assert given[12] == Row(12)


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    def run(batch):
        raise RuntimeError("index out of range")

    with pytest.raises(RuntimeError, match="index out of range"):
        list(in_batches(rows(1), capacity(), run))


def test_a_capacity_is_never_below_one_nor_above_the_cap():
    assert Capacity(token_bytes=1e9, row_bytes=0, memory=1.0).rows(1000) == 1
    assert Capacity(token_bytes=1.0, row_bytes=0, memory=1e12).rows(1) == MAX_ROWS
    assert Capacity(token_bytes=1.0, row_bytes=0, memory=1e12, token_work=1e9).rows(1000) < MAX_ROWS
