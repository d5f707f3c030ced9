"""``tallybook jobs``: what is done again and again, how it went, and doing it now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from adapters.cli.output import ExitCode, JsonOption, err, out, print_json, table
from adapters.cli.protection_output import LimitOption, say
from adapters.cli.services import OpenServices
from ledger.application.documents.jobs import (
    job_document,
    next_at,
    run_document,
    standing_document,
)
from ledger.application.job_ports import JobStanding
from ledger.application.jobs import Job
from ledger.domain.jobs import HOUR_US, MINUTE_US, JobRun, RunState
from ledger.domain.periods import from_us

_RUN_COLUMNS = (
    ("period", False),
    ("state", False),
    ("took", True),
    ("result", False),
    ("last failure", False),
)


def register(app: typer.Typer, open_services: OpenServices) -> None:
    """Add the commands to the command line."""
    jobs = typer.Typer(help="What is done again and again.", no_args_is_help=True)
    app.add_typer(jobs, name="jobs")
    _register_reads(jobs, open_services)

    @jobs.command()
    def run(
        name: Annotated[str, typer.Argument(help="Of the job, such as verify.")],
        *,
        period: Annotated[
            str | None, typer.Option(help="Such as 2026-11-27 or 2026-11-27T14, in UTC.")
        ] = None,
        again: Annotated[
            bool, typer.Option("--again", help="Even if it was done for that period.")
        ] = False,
        json: JsonOption = False,
    ) -> None:
        """Run a job now, once a period; exits 1 if it fails."""
        with open_services() as services:
            made = services.jobs.run(name, period=period, again=again)
            job = next(one for one in services.jobs.all if one.name == name)
        if json:
            print_json(run_document(job, made))
        else:
            say(f"{name} of {job.schedule.name(made.period)}: {_told(made)}")
        if made.state is not RunState.DONE:
            raise typer.Exit(ExitCode.FAILED)


def _register_reads(jobs: typer.Typer, open_services: OpenServices) -> None:
    @jobs.command(name="list")
    def list_(*, json: JsonOption = False) -> None:
        """List the jobs that there are, and when each is run."""
        with open_services() as services:
            found = services.jobs.all
        if json:
            print_json([job_document(one) for one in found])
            return
        columns = (("job", False), ("when, UTC", False), ("does", False))
        out().print(table(columns, ((one.name, _when(one), one.what) for one in found)))

    @jobs.command()
    def status(
        name: Annotated[str | None, typer.Argument(help="Only this one's runs.")] = None,
        *,
        limit: LimitOption = 20,
        json: JsonOption = False,
    ) -> None:
        """Show where each job is, or the latest runs of one."""
        with open_services() as services:
            if name is not None:
                runs = services.jobs.runs(name, limit=limit)
                job = next(one for one in services.jobs.all if one.name == name)
                _show_runs(job, runs, json=json)
                return
            standings = services.jobs.standings()
            found = services.jobs.all
        if json:
            print_json([standing_document(one, standings.get(one.name)) for one in found])
            return
        columns = (
            ("job", False),
            ("period", False),
            ("state", False),
            ("next, UTC", False),
            ("last failure", False),
        )
        out().print(table(columns, (_cells(one, standings.get(one.name)) for one in found)))


def _show_runs(job: Job, runs: Sequence[JobRun], *, json: bool) -> None:
    if json:
        print_json([run_document(job, one) for one in runs])
    elif runs:
        out().print(table(_RUN_COLUMNS, (_run_cells(job, one) for one in runs)))
    else:
        err().print("it never ran")


def _cells(job: Job, standing: JobStanding | None) -> tuple[str, ...]:
    if standing is None:
        return (job.name, "-", "never ran", "-", "")
    last = standing.last
    following = from_us(next_at(job, last)).strftime("%m-%d %H:%M")
    return (job.name, job.schedule.name(last.period), _state(last), following, last.reason)


def _run_cells(job: Job, run: JobRun) -> tuple[str, ...]:
    took = "" if run.ended_at is None else f"{(run.ended_at - run.started_at) // 1000:,} ms"
    return (
        job.schedule.name(run.period),
        _state(run),
        took,
        _counts(run),
        run.reason,
    )


def _state(run: JobRun) -> str:
    return f"{run.state.value}, attempt {run.attempt}" if run.attempt > 1 else run.state.value


def _told(run: JobRun) -> str:
    if run.state is RunState.DONE:
        return f"done{', ' if run.result else ''}{_counts(run)}"
    return f"{run.state.value}: {run.reason}" if run.reason else run.state.value


def _counts(run: JobRun) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in run.result.items())


def _when(job: Job) -> str:
    after = job.schedule.after // MINUTE_US
    if job.schedule.every == HOUR_US:
        return f"every hour at :{after:02d}"
    return f"every day at {after // 60:02d}:{after % 60:02d}"
