"""How fast candidates are merged and scored here, and how far that is from the machine's limits."""
