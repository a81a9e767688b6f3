"""DARE with the vote of TIES: its trim is random, then signs are elected."""

from workers.merging.dare import dare, declaration
from workers.merging.merge_method import merge_method

merge_method(
    declaration(
        "dare_ties",
        "Drop changes at random, rescale the rest, elect a sign per entry, add what agrees.",
    )
)(dare(vote=True))
