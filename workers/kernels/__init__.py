"""Compiled loops over weights: what every merge spends its time in, and nothing about merging."""
