"""Where candidates become models: merge methods, resident parents, and the fleet that runs them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workers.merging.state_dicts import merge_state_dicts as merge_state_dicts


def __getattr__(name: str) -> Any:
    """Import ``merge_state_dicts`` on demand: the messages must not cost an import of torch."""
    if name == "merge_state_dicts":
        from workers.merging.state_dicts import merge_state_dicts

        return merge_state_dicts
    raise AttributeError(f"module 'workers' has no attribute '{name}'")
