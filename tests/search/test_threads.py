"""Linear algebra in one thread, and in as many as before afterwards."""

from __future__ import annotations

from threadpoolctl import threadpool_info

from search.threads import one_thread


def threads() -> list[int]:
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_blas_has_one_thread_within_and_what_it_had_afterwards() -> None:
    before = threads()
    with one_thread():
        assert set(threads()) == {1}
    assert threads() == before
