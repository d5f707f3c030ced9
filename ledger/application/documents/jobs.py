"""Jobs and their runs as documents."""

from __future__ import annotations

from typing import Any

from ledger.application.documents.amounts import utc_text
from ledger.application.job_ports import JobStanding
from ledger.application.jobs import Job
from ledger.domain.jobs import JobRun, next_attempt_at


def job_document(job: Job) -> dict[str, Any]:
    """Return what a job does, and when."""
    return {
        "job": job.name,
        "what": job.what,
        "every_s": job.schedule.every // 1_000_000,
        "after_s": job.schedule.after // 1_000_000,
    }


def run_document(job: Job, run: JobRun) -> dict[str, Any]:
    """Return a run."""
    return {
        "job": job.name,
        "period": job.schedule.name(run.period),
        "state": run.state.value,
        "attempt": run.attempt,
        "started_at": utc_text(run.started_at),
        "ended_at": _instant(run.ended_at),
        "by": run.by,
        "reason": run.reason,
        "result": run.result,
    }


def standing_document(job: Job, standing: JobStanding | None) -> dict[str, Any]:
    """Return where a job is; its members are null before its first run."""
    if standing is None:
        nothing = dict.fromkeys(("last", "next_at", "succeeded_at", "failed_at"))
        return {"job": job.name, **nothing}
    return {
        "job": job.name,
        "last": run_document(job, standing.last),
        "next_at": utc_text(next_at(job, standing.last)),
        "succeeded_at": _instant(standing.succeeded_at),
        "failed_at": _instant(standing.failed_at),
    }


def next_at(job: Job, last: JobRun) -> int:
    """Return when a job is due next, after its latest run."""
    following = job.schedule.due_at(last.period + job.schedule.every)
    again = next_attempt_at(last)
    return following if again is None else min(again, following)


def _instant(at: int | None) -> str | None:
    return None if at is None else utc_text(at)
