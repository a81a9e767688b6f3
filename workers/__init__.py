"""Where candidates become models: merge methods, resident parents, and the fleet that runs them."""
