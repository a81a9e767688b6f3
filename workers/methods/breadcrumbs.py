"""Breadcrumbs: task arithmetic on task vectors without outliers and without noise."""

from workers.breadcrumbs import breadcrumbs, declaration
from workers.merge_method import merge_method

merge_method(
    declaration(
        "breadcrumbs",
        "Drop the largest and the smallest changes of each parent, add the rest to the base.",
        vote=False,
    )
)(breadcrumbs(vote=False))
