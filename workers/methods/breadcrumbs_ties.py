"""Breadcrumbs with the vote of TIES."""

from workers.merging.breadcrumbs import breadcrumbs, declaration
from workers.merging.merge_method import merge_method

merge_method(
    declaration(
        "breadcrumbs_ties",
        "Drop the largest and the smallest changes, elect a sign per entry, add what agrees.",
    )
)(breadcrumbs(vote=True))
