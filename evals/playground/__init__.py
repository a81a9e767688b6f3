"""Tiny models on which merging pays, made on the spot: a base, three specialists, four tasks."""

from evals.playground.zoo import OBJECTIVES as OBJECTIVES
from evals.playground.zoo import Curriculum as Curriculum
from evals.playground.zoo import Playground as Playground
from evals.playground.zoo import build as build
