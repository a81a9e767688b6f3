"""The model's side of an evaluation: log-likelihoods and greedy answers, as HFLM defines them."""

from evals.engine.engine import PASS_TOKENS as PASS_TOKENS
from evals.engine.engine import Engine as Engine
from evals.engine.engine import Plan as Plan
