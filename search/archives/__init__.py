"""Bounded sets of outcomes, each with its rule of admission."""
