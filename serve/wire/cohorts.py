"""The HTTP response about cohorts, which `nextswipe cohorts` prints too."""

from typing import Self

import msgspec

from policies.collaborative.cohorts import Cohort, Cohorts


class CohortsResponse(msgspec.Struct, frozen=True):
    """The cohorts of users by behaviour.

    Attributes:
        generation: number of the generation that they are of; 0: none was learned yet.
        users: users who belong to a cohort, among those that were looked at.
        unassigned: users who answered too few cards for one.
        cohorts: the largest first.
    """

    generation: int
    users: int
    unassigned: int
    cohorts: tuple[Cohort, ...]

    @classmethod
    def of(cls, generation: int, cohorts: Cohorts) -> Self:
        """Return the response that tells these cohorts."""
        users = sum(cohort.users for cohort in cohorts.cohorts)
        return cls(generation, users, cohorts.n_unassigned, cohorts.cohorts)
