"""Sweeps and questions as jobs of a Ray cluster: sent over its dashboard's HTTP address, followed, and stopped."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coldfleet.cluster.study.plan import Plan
from coldfleet.cluster.study.reader import read_study
from coldfleet.hostsim.spec.errors import UserError

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
EXCLUDES = (".git", "results", "build", "dist", ".venv", "__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache")
MAX_BYTES = 100 << 20
"""Of a working directory: what Ray takes in practice (ray#55877)."""

SWEEP = "sweep"
"""What a job is, if nothing else is asked."""

_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")


@dataclass(frozen=True)
class Submission:
    """A job. ``new``: it was submitted now; otherwise it was on its way already."""

    job_id: str
    new: bool


class Jobs:
    """The jobs of the cluster whose dashboard answers at an http(s) address."""

    def __init__(self, address: str) -> None:
        """Raises :class:`UserError` if no dashboard answers there, or if it wants another token."""
        if not address.startswith(("http://", "https://")):
            raise UserError(f"{address}: not the address of a dashboard: write for example {DEFAULT_ADDRESS}")
        self._address = address
        client = importlib.import_module("ray.job_submission").JobSubmissionClient
        self._client = self._call(client, address)

    def submit(
        self, study: Path, where: str, working_dir: Path | None = None, workers: int | None = None, ask: str = SWEEP
    ) -> Submission:
        """Sends a study, checked here first, whose results go to ``where``: an absolute path or URI.

        ``ask``: the command that is run on it, with options.

        ``working_dir`` is sent along and has to hold the study and its data; without it these alone are sent. Sending
        the same twice is harmless: while the first job runs there is no second, and after that it finds its results.
        """
        plan = read_study(study)
        if "://" not in where and not where.startswith("/"):
            raise UserError(f"--out {where}: a job needs a place that outlives it: an absolute path or a URI")
        base = f"coldfleet-{plan.name}-{_digest(plan, where, ask)}"
        states = {job_id: state for job_id, state in self.states() if job_id.startswith(base)}
        for job_id, state in states.items():
            if state not in _ENDED:
                return Submission(job_id, new=False)
        job_id = f"{base}-{len(states) + 1}"
        with tempfile.TemporaryDirectory() as alone:
            if working_dir is None:
                for data in _local_data(plan, study.parent):
                    if (study.parent / data).stat().st_size > MAX_BYTES:
                        limit = f"{MAX_BYTES >> 20} MiB"
                        raise UserError(f"{data}: more than {limit}, which Ray doesn't take: name it by a URI")
                shutil.copy(study, Path(alone) / study.name)
                _add_data(plan, study.parent, Path(alone))
                sent, name = alone, study.name
            else:
                sent, name = str(working_dir), _inside(study, working_dir)
                for data in _local_data(plan, study.parent):
                    _inside(study.parent / data, working_dir)
            _check_size(Path(sent), str(working_dir or f"{study} and its data"))
            environment = {"working_dir": sent, "excludes": list(EXCLUDES)}
            entrypoint = job_command(name, where, "auto", workers, ask)
            self._call(self._client.submit_job, entrypoint=entrypoint, submission_id=job_id, runtime_env=environment)
        return Submission(job_id, new=True)

    def states(self) -> list[tuple[str, str]]:
        """Every job that was submitted, with its state: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""
        jobs = self._call(self._client.list_jobs)
        return sorted((job.submission_id, job.status.value) for job in jobs if job.submission_id)

    def state(self, job_id: str) -> str:
        """The state of a job; raises :class:`UserError` if there is no such job."""
        states = dict(self.states())
        if job_id not in states:
            known = ", ".join(states) or "none"
            raise UserError(f"no job {job_id!r} at {self._address}: there are {known}")
        return states[job_id]

    def logs(self, job_id: str) -> str:
        """What a job has said so far."""
        self.state(job_id)
        return str(self._call(self._client.get_job_logs, job_id))

    def follow(self, job_id: str) -> Iterator[str]:
        """What a job says, as it says it, until it ends."""
        self.state(job_id)
        stream = self._client.tail_job_logs(job_id)
        loop = asyncio.new_event_loop()
        try:
            while True:
                yield str(self._call(loop.run_until_complete, anext(stream)))
        except StopAsyncIteration:
            return
        finally:
            loop.run_until_complete(stream.aclose())
            loop.close()

    def stop(self, job_id: str) -> bool:
        """Asks a job to stop; false if it has ended already."""
        return self.state(job_id) not in _ENDED and bool(self._call(self._client.stop_job, job_id))

    def _call(self, function: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except StopAsyncIteration:
            raise
        except Exception as error:  # Ray's client raises many kinds, from several libraries
            text = " ".join(str(error).split())
            if "401" in text or "403" in text or "uthenticat" in text:
                text = "it wants another token: set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH (docs/clusters.md)"
            raise UserError(f"the Ray dashboard at {self._address}: {text[:300]}") from None


def job_command(study: str, where: str, address: str | None, workers: int | None, ask: str) -> str:
    """The command of a job, quoted for a shell: a sweep, or another command that is asked of a study."""
    words = ["python", "-m", "coldfleet", *shlex.split(ask), study, "--out", where]
    if address is not None:
        words += ["--address", address]
    if workers is not None:
        words += ["--workers", str(workers)]
    return shlex.join(words)


def _local_data(plan: Plan, folder: Path) -> list[str]:
    """The names of the study's data but URIs; raises :class:`UserError` for what doesn't lie below the study."""
    names = [name for name in plan.data if "://" not in name]
    for name in names:
        if not (folder / name).exists() or ".." in Path(name).parts or Path(name).is_absolute():
            raise UserError(f"{name} can't be sent along: put it beside the study, or name it by a URI")
    return names


def _add_data(plan: Plan, folder: Path, sent: Path) -> None:
    for name in _local_data(plan, folder):
        (sent / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / name, sent / name)


def _digest(plan: Plan, where: str, ask: str) -> str:
    text = json.dumps([plan.frozen(), where, ask], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _inside(study: Path, working_dir: Path) -> str:
    try:
        return str(study.resolve().relative_to(working_dir.resolve()))
    except ValueError:
        raise UserError(f"{study} is not in --working-dir {working_dir}, so it wouldn't be sent") from None


def _check_size(working_dir: Path, said: str) -> None:
    """Raises :class:`UserError` if the directory is more than Ray takes."""
    total = 0
    for folder, names, files in os.walk(working_dir):
        names[:] = [name for name in names if name not in EXCLUDES]
        total += sum(os.lstat(os.path.join(folder, file)).st_size for file in files)
        if total > MAX_BYTES:
            limit = f"{MAX_BYTES >> 20} MiB"
            raise UserError(f"{said}: more than {limit}, which Ray doesn't take: name large data by URIs, or send less")
