"""Leases on searches: which of several controllers attends to which."""

from __future__ import annotations

import logging
import threading
import time

from api.store import Store, StoreDown

log = logging.getLogger(__name__)


class Leases:
    """Leases that one controller holds, renewed by a thread however long anything else takes.

    They keep controllers out of each other's way and no more than that: what keeps the log right
    when a lease lapses unnoticed are its unique keys.

    Args:
        store: where leases are kept.
        holder: unique among controllers.
        ttl_s: after how long without renewal someone else may take over.
    """

    def __init__(self, store: Store, *, holder: str, ttl_s: float) -> None:
        self._store = store
        self._holder = holder
        self._ttl_s = ttl_s
        self._renewed: dict[str, float] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew_all, name="leases", daemon=True)
        self._thread.start()

    def take(self, name: str) -> bool:
        """Take a lease, or renew it; False while someone else holds it."""
        with self._lock:
            return self._take(name)

    def held(self, name: str) -> bool:
        """Whether a lease is still ours; False after we were stopped or cut off for too long."""
        renewed = self._renewed.get(name)
        return renewed is not None and time.monotonic() - renewed < self._ttl_s

    def release(self, name: str) -> None:
        """Give a lease back."""
        with self._lock:
            self._renewed.pop(name, None)
            self._store.release(name, self._holder)

    def close(self) -> None:
        """Give all leases back and stop renewing."""
        self._stop.set()
        self._thread.join()
        try:
            for name in list(self._renewed):
                self.release(name)
        except StoreDown as error:
            log.warning("leases left to lapse: %s", error, extra={"event": "leases_left"})

    def _take(self, name: str) -> bool:
        asked = time.monotonic()
        taken = self._store.lease(name, self._holder, ttl_s=self._ttl_s)
        if taken:
            self._renewed[name] = asked
        else:
            self._renewed.pop(name, None)
        return taken

    def _renew_all(self) -> None:
        while not self._stop.wait(self._ttl_s / 3):
            try:
                for name in list(self._renewed):
                    self._renew(name)
            except StoreDown as error:
                log.warning("leases not renewed: %s", error, extra={"event": "leases_not_renewed"})

    def _renew(self, name: str) -> None:
        # One operation at a time, or a lease that is being released could be renewed for ever.
        with self._lock:
            if name in self._renewed:
                self._take(name)
