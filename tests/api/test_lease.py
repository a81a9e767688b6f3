"""Leases are kept while their holder lives, and lapse when it does not."""

import time

from api.lease import Leases
from api.store import Store
from tests.attending import wait_for


def test_a_lease_is_renewed_until_it_is_released(store: Store) -> None:
    leases = Leases(store, holder="a", ttl_s=0.5)
    assert leases.take("s")
    time.sleep(1.2)
    assert not store.lease("s", "b", ttl_s=60)
    leases.release("s")
    assert not leases.held("s")
    assert store.lease("s", "b", ttl_s=60)
    leases.close()


def test_closing_gives_everything_back(store: Store) -> None:
    leases = Leases(store, holder="a", ttl_s=60)
    leases.take("s")
    leases.close()
    assert store.lease("s", "b", ttl_s=60)


def test_a_lease_that_someone_else_took_is_no_longer_held(store: Store) -> None:
    leases = Leases(store, holder="a", ttl_s=0.6)
    assert leases.take("s")
    store.release("s", "a")
    assert store.lease("s", "b", ttl_s=60)
    wait_for(lambda: not leases.held("s"), "the loss")
    leases.close()
    assert not store.lease("s", "a", ttl_s=60)
