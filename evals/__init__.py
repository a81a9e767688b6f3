"""How candidates are scored: lm-eval's tasks on a resident model, with per-example scores."""
