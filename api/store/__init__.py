"""The log: the only truth about searches, and the only place that speaks SQL."""

from api.store.records import (
    Entry as Entry,
    Event as Event,
    Head as Head,
    Search as Search,
    Submission as Submission,
    Summary as Summary,
)
from api.store.store import (
    IdempotencyConflict as IdempotencyConflict,
    NewerDatabase as NewerDatabase,
    Store as Store,
    StoreDown as StoreDown,
    UnknownSearch as UnknownSearch,
)
