"""How references become tiers and promotions: two generations of rules (section 2)."""

from __future__ import annotations

from .constants import LRU_REFS_MAX
from .folio import Folio


class CountedRefs:
    """Up to 6.13: refs = references field + PG_workingset; one young report promotes."""

    saturated_at = 4

    @staticmethod
    def mark_accessed(folio: Folio) -> None:
        """An access that the kernel itself notices: read(2), GUP, KVM."""
        if not folio.referenced:
            folio.referenced = True
        elif not folio.workingset:
            folio.workingset = True
        elif folio.refs < LRU_REFS_MAX:
            folio.refs += 1

    @staticmethod
    def refs(folio: Folio) -> int:
        return folio.refs + folio.workingset

    @staticmethod
    def tier(refs: int, workingset: bool) -> int:
        """ceil(log2(refs + 1))."""
        return refs.bit_length() if refs < 4 else 3

    def is_saturated(self, folio: Folio) -> bool:
        return self.refs(folio) == self.saturated_at

    @staticmethod
    def shadow_workingset(folio: Folio) -> bool:
        return folio.refs + folio.workingset != 0

    @staticmethod
    def forget(folio: Folio) -> None:
        """A page enters another generation without having been touched."""
        folio.clear_refs()

    @staticmethod
    def wants_promotion(folio: Folio) -> bool:
        """A page table says the page is young: mark it; True if it shall move."""
        folio.clear_refs()
        return True


class TwoTouchRefs:
    """From 6.14: PG_referenced first, promotion and PG_workingset on the second report."""

    @staticmethod
    def mark_accessed(folio: Folio) -> None:
        if not folio.referenced:
            folio.referenced = True
            folio.refs = 0
        elif folio.refs < LRU_REFS_MAX:
            folio.refs += 1
        else:
            folio.workingset = True

    @staticmethod
    def refs(folio: Folio) -> int:
        return folio.refs + 1 if folio.referenced else 0

    @staticmethod
    def tier(refs: int, workingset: bool) -> int:
        if workingset:
            return 3
        return (refs - 1).bit_length() if refs else 0

    def is_saturated(self, folio: Folio) -> bool:
        return self.refs(folio) + folio.workingset == 5

    @staticmethod
    def shadow_workingset(folio: Folio) -> bool:
        return folio.workingset

    @staticmethod
    def forget(folio: Folio) -> None:
        folio.refs = 0
        folio.referenced = False

    @staticmethod
    def wants_promotion(folio: Folio) -> bool:
        folio.refs = 0
        if not folio.referenced and not folio.workingset:
            folio.referenced = True
            return False
        folio.referenced = False
        folio.workingset = True
        return True
