"""One optimizer to a file; a file that is added here is found by the registry."""
