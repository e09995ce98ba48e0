"""What a user gets wrong: one clear line, an exit code, and nothing else breaks."""

import socket

import numpy as np
import pytest

from mesh_runs import REAL_IMAGES, running, trapline
from trapline.common.postgres.migrate import newest_version
from waiting import wait_for

pytestmark = pytest.mark.timeout(200)


def one_line(done, *words):
    """Check that a command failed with a line that has these words, and without a traceback."""
    assert done.returncode != 0
    assert "Traceback" not in done.stderr, done.stderr
    line = done.stderr.strip().splitlines()[-1]
    for word in words:
        assert word in line, done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[relay]\nprot = 1\n", ("mesh.toml", "relay.prot", "port")),
        ("[telescope]\n", ("telescope", "image_ingest")),
        ('[relay]\nlease_s = "3 deg"\n', ("relay.lease_s", "deg", "1 s")),
        ("[relay]\nport = 99999\n", ("relay.port", "65535")),
        ('[relay]\nhost = "0.0.0.0"\n', ("relay", "loopback")),
        ('[image_ingest]\nstreams = [{address = "telescope"}]\n', ("image_ingest.streams.0", "tcp://host:port")),
        ("[source_extractor]\nanalysis_threshold = 9\n", ("source_extractor", "analysis_threshold")),
        ("[relay\n", ("mesh.toml",)),
    ],
    ids=lambda value: value.strip().split("\n")[-1] if isinstance(value, str) else "",
)
def test_a_wrong_configuration_names_the_key_and_what_is_allowed(tmp_path, text, words):
    (tmp_path / "mesh.toml").write_text(text)
    one_line(trapline("up", "--config", "mesh.toml", cwd=tmp_path), *words)


def test_a_configuration_file_that_is_not_there(tmp_path):
    one_line(trapline("up", "--config", "nothing.toml", cwd=tmp_path), "nothing.toml")


def test_a_wrong_variable_of_the_environment(tmp_path):
    done = trapline("up", cwd=tmp_path, env={"TRAPLINE__RELAY__PORT": "many"})
    one_line(done, "relay.port", "many")


def test_an_empty_directory(tmp_path, dsn):
    (tmp_path / "empty").mkdir()
    one_line(trapline("process", "empty", "--store", dsn, cwd=tmp_path), "empty", "no FITS files")


def test_a_path_that_is_not_there(tmp_path, dsn):
    one_line(trapline("process", "nowhere.fits", "--store", dsn, cwd=tmp_path), "nowhere.fits", "no such file")


def test_a_file_cut_in_half_is_rejected_and_the_others_are_measured(tmp_path, dsn):
    good = REAL_IMAGES / "ami-SWIFT_554620-130504.fits"
    (tmp_path / "half.fits").write_bytes(good.read_bytes()[:500_000])
    (tmp_path / "junk.fits").write_bytes(np.random.default_rng(1).bytes(5000))
    (tmp_path / "good.fits").write_bytes(good.read_bytes())
    done = trapline("process", str(tmp_path / "*.fits"), "--store", dsn, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert '"received": 3, "measured": 1, "rejected": 2' in done.stdout
    images = trapline("export", "images", cwd=tmp_path, env={"TRAPLINE__DATABASE__DSN": dsn})
    assert "half.fits" in images.stdout and "junk.fits" in images.stdout


def test_a_database_that_is_not_there(tmp_path):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        dsn = f"postgresql://someone:secret@127.0.0.1:{port}/sky"
        done = trapline("process", str(REAL_IMAGES), "--store", dsn, cwd=tmp_path)
        one_line(done, f"127.0.0.1:{port}")
        assert "secret" not in done.stderr


def test_a_port_in_use(tmp_path, dsn):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        env = {"TRAPLINE__RELAY__PORT": str(port), "TRAPLINE__DATABASE__DSN": dsn}
        one_line(trapline("up", cwd=tmp_path, env=env), f"127.0.0.1:{port}", "port")


def test_a_mesh_that_is_not_there(tmp_path):
    env = {"TRAPLINE__RELAY__PORT": "1"}
    one_line(trapline("status", cwd=tmp_path, env=env), "127.0.0.1:1", "is it running")
    one_line(trapline("tail", "images", cwd=tmp_path, env=env), "127.0.0.1:1", "is it running")


def test_names_that_do_not_exist(tmp_path, dsn):
    env = {"TRAPLINE__DATABASE__DSN": dsn}
    one_line(trapline("run", "telescope", cwd=tmp_path), "telescope", "image_ingest")
    one_line(trapline("export", "everything", cwd=tmp_path, env=env), "everything", "objects")
    one_line(trapline("lightcurve", "vega", cwd=tmp_path, env=env), "vega", "00000000-")
    missing = "00000000-0000-8000-8000-000000000000"
    one_line(trapline("lightcurve", missing, cwd=tmp_path, env=env), missing, "trapline cone")
    one_line(trapline("cone", "10", "95", "1", cwd=tmp_path, env=env), "95", "-90 to 90")


def test_a_stream_of_garbage_is_counted_and_the_next_image_is_read(tmp_path, dsn):
    """A truncated stream, a wrong magic, then an image: on a real socket, into a real mesh."""
    image = (REAL_IMAGES / "ami-SWIFT_554620-130504.fits").read_bytes()
    with socket.socket() as imager:
        imager.bind(("127.0.0.1", 0))
        imager.listen()
        imager.settimeout(60)
        config = tmp_path / "mesh.toml"
        address = f"tcp://127.0.0.1:{imager.getsockname()[1]}"
        config.write_text(
            f'[relay]\nport = 0\n[image_ingest]\nreconnect_min_s = 0.1\nstreams = [{{address = "{address}"}}]\n'
        )
        with running("up", cwd=tmp_path, env={"TRAPLINE__DATABASE__DSN": dsn}) as mesh:
            for data in (image[:300_000], b"\x01\x02" * 5000 + image):
                peer, _ = imager.accept()
                with peer:
                    peer.sendall(data)
            imager.accept()[0].close()
            env = {"TRAPLINE__DATABASE__DSN": dsn}
            wait_for(
                lambda: "False" in trapline("export", "images", cwd=tmp_path, env=env).stdout,
                60,
                "the image in the store",
            )
            assert mesh.poll() is None
            stored = trapline("export", "images", cwd=tmp_path, env=env).stdout
        assert len(stored.splitlines()) == 3, "the truncated one is stored too, as rejected"


def test_doctor_says_what_is_missing_and_how_to_mend_it(tmp_path):
    fine = trapline("doctor", cwd=tmp_path)
    assert fine.returncode == 0, fine.stdout
    env = {
        "TRAPLINE__DATABASE__BINARIES": "system",
        "PATH": "/nonexistent",
        "TRAPLINE__MESH__DATA_DIRECTORY": "/proc/no",
    }
    broken = trapline("doctor", cwd=tmp_path, env=env)
    assert broken.returncode == 1
    assert "->" in broken.stdout


def test_the_tables_are_made_by_hand_where_a_service_runs_alone(tmp_path, dsn):
    done = trapline("db", "upgrade", cwd=tmp_path, env={"TRAPLINE__DATABASE__DSN": dsn})
    assert done.returncode == 0, done.stderr
    assert f"schema {newest_version()}" in done.stdout


def test_every_command_has_help_with_an_example(tmp_path):
    listed = trapline("--help", cwd=tmp_path).stdout
    names = [
        "up",
        "run",
        "relay",
        "process",
        "simulate",
        "tail",
        "status",
        "lightcurve",
        "cone",
        "export",
        "doctor",
        "version",
    ]
    for name in names:
        assert name in listed
        shown = trapline(name, "--help", cwd=tmp_path)
        assert shown.returncode == 0
        assert f"Example: trapline {name}" in " ".join(shown.stdout.split())
