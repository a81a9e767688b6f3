"""Linear algebra of small matrices, in one thread."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from typing import Any

from threadpoolctl import ThreadpoolController


def one_thread() -> AbstractContextManager[Any]:
    """While it is open, BLAS uses one thread.

    For small matrices threads cost more than they save, and could change the last bits.
    """
    limits: AbstractContextManager[Any] = _controller().limit(limits=1, user_api="blas")
    return limits


@functools.cache
def _controller() -> ThreadpoolController:
    """Finding the libraries takes longer than a candidate."""
    return ThreadpoolController()
