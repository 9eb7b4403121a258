import threading
from contextvars import ContextVar

import pytest

from src.storage import FolderStore, StorePath
from src.storage.overlap import overlapped
from tests.stores import MemoryStore


@pytest.fixture(params=["folder", "memory"])
def root(request, tmp_path):
    return StorePath(FolderStore(tmp_path) if request.param == "folder" else MemoryStore())


def test_results_come_in_the_order_of_the_items(root):
    assert list(overlapped(lambda number: number * 2, range(50), root)) == list(range(0, 100, 2))
    assert list(overlapped(str, [], root)) == []


def test_an_error_comes_in_place_of_its_item(root):
    found = []
    with pytest.raises(ZeroDivisionError):
        found.extend(overlapped(lambda number: 6 // number, [3, 2, 0, 1], root))
    results = overlapped(lambda number: 6 // number, [3, 2, 0, 1], root)
    assert [next(results), next(results)] == [2, 3]


def test_in_a_folder_an_item_is_read_when_it_is_asked_for(tmp_path):
    read = []
    results = overlapped(read.append, range(9), StorePath(FolderStore(tmp_path)))
    next(results)
    assert read == [0]


def test_in_a_bucket_as_many_items_are_read_ahead_as_the_store_has_requests():
    barrier = threading.Barrier(MemoryStore().parallel_requests, timeout=600)
    results = overlapped(lambda _: barrier.wait(), range(8), StorePath(MemoryStore()))
    assert sorted(results) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_reader_that_stops_early_waits_for_no_further_item(root):
    read = []
    results = overlapped(read.append, range(1000), root)
    next(results)
    results.close()
    assert len(read) < 20


def test_the_context_of_the_caller_is_that_of_the_function(root):
    variable = ContextVar("variable", default="none")
    variable.set("mine")
    assert list(overlapped(lambda _: variable.get(), range(3), root)) == ["mine"] * 3
