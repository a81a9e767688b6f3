"""Models whose layers are those of others, in another order: data flow, frankenmerges."""
