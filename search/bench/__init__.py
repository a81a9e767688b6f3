"""Optimizers held against each other on problems whose best front is known."""
