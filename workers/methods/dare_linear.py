"""DARE: task arithmetic on randomly sparsified task vectors."""

from workers.merging.dare import dare, declaration
from workers.merging.merge_method import merge_method

merge_method(
    declaration(
        "dare_linear",
        "Drop changes at random, rescale the rest, add them to the base.",
    )
)(dare(vote=False))
