"""What is searched and how: spec, space, recipes, outcomes, optimizers, and the fold over them.

This package decides; it never touches weights, tasks, processes or databases.
"""
