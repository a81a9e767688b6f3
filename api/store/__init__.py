"""The log: the only truth about searches, and the only place that speaks SQL."""

from api.store.codec import pacing_from_json as pacing_from_json
from api.store.codec import scores_from_json as scores_from_json
from api.store.codec import scores_to_json as scores_to_json
from api.store.database import NewerDatabase as NewerDatabase
from api.store.database import StoreDown as StoreDown
from api.store.records import (
    Entry as Entry,
)
from api.store.records import (
    Event as Event,
)
from api.store.records import (
    Head as Head,
)
from api.store.records import (
    Known as Known,
)
from api.store.records import (
    PhaseKind as PhaseKind,
)
from api.store.records import (
    Provenance as Provenance,
)
from api.store.records import (
    Search as Search,
)
from api.store.records import (
    Submission as Submission,
)
from api.store.records import (
    Summary as Summary,
)
from api.store.store import (
    IdempotencyConflict as IdempotencyConflict,
)
from api.store.store import (
    Store as Store,
)
from api.store.store import (
    UnknownSearch as UnknownSearch,
)
