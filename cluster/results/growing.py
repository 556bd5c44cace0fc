"""A results directory that grows with the questions that are asked: one may take what another had simulated."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from types import TracebackType
from typing import Self

from coldfleet.cluster.results.journal import Journal
from coldfleet.cluster.results.results import Results, find_gathered
from coldfleet.cluster.results.storage import Storage
from coldfleet.cluster.results.verify import verify_plan
from coldfleet.cluster.results.writing import create, put_data, write_plan, write_study
from coldfleet.cluster.study.gathering import Gathered
from coldfleet.cluster.study.plan import Plan, Run
from coldfleet.hostsim.spec.errors import UserError


class GrowingResults:
    """The results of what was asked for so far. While it is entered, it holds the journal.

    ``results``: None until something is asked for. ``journal``: as soon as there are any. ``kept``: others read them.
    """

    def __init__(self, storage: Storage, study: Plan, kept: bool = True) -> None:
        """Raises UserError if a question of that study can't keep its runs there; see :func:`find_gathered`."""
        self.storage = storage
        self.journal: Journal
        self._study = study
        self._kept = kept
        self._gathered = Gathered(study)
        self._stale = False  # plan.parquet, which is written at the end
        self.results = find_gathered(storage)
        if self.results is not None:
            self._take_in(self.results)

    def _take_in(self, results: Results) -> None:
        """Goes on from what is there."""
        self.results, self._gathered = results, Gathered.of(results.plan)
        try:
            self._gathered.adopt(self._study)
        except UserError as error:
            raise UserError(f"{self.storage}: {error}: give another --out") from None

    def __enter__(self) -> Self:
        if self.results is not None:
            self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.results is None:
            return
        try:
            if self._stale and self._kept:
                write_plan(self.storage, self.results.plan)
        finally:
            self.journal.__exit__(kind, error, trace)

    def _open(self) -> None:
        """Takes the journal, and reads what is there: another question may have been at work until then."""
        self.journal = Journal(self.storage)
        self._take_in(Results.open(self.storage, None if self.results is None else self.results.plan))
        assert self.results is not None
        self._stale = any(verify_plan(self.results))

    def ask(self, runs: Iterable[Run]) -> Results:
        """Takes runs into the plan, on disk too, so that receipts of them count; returns the results as they are."""
        runs = list(runs)
        if self.results is None:
            self._gathered.adopt(self._study)
            self._gathered.add(runs)
            create(self.storage, self._gathered.plan())
            self._open()
        assert self.results is not None
        try:
            grown = self._gathered.add(runs)
        except UserError as error:
            raise UserError(f"{self.storage}: {error}: give another --out") from None
        if grown:
            plan = self._gathered.plan()
            put_data(self.storage, plan)
            write_study(self.storage, plan)
            self._stale = True
            self.results = replace(self.results, plan=plan).reread()
        return self.results
