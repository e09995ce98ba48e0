"""Key files, and the commands that make them and hand out trust."""

import contextlib
import json
import stat
from typing import NamedTuple

import pytest
from typer.testing import CliRunner

from mesh_runs import trapline
from trapline.cli import app
from trapline.common.config import ConfigError
from trapline.common.security.keys import check_public, find_public, load_key_pair, load_public, new_key_pair


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def keys(*arguments, cwd):
    with contextlib.chdir(cwd):
        done = CliRunner().invoke(app, ["keys", *arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return Done(done.exit_code, done.stdout, done.stderr)


def test_a_new_pair_can_be_read_back_and_only_by_its_owner(tmp_path):
    pair, public = new_key_pair(tmp_path / "keys", "host-a.example")
    secret = tmp_path / "keys" / "host-a.example.key"
    assert load_key_pair(secret) == pair and load_public(public) == ("host-a.example", pair.public)
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600 and stat.S_IMODE(secret.parent.stat().st_mode) == 0o700
    assert pair.secret not in public.read_text()
    assert pair.secret not in f"{pair} {pair!r}"


def test_a_pair_is_never_overwritten(tmp_path):
    pair, public = new_key_pair(tmp_path, "host-a")
    with pytest.raises(ConfigError, match=r"there is .*host-a\.key already"):
        new_key_pair(tmp_path, "host-a")
    (tmp_path / "host-b.pub").write_text(public.read_text())
    with pytest.raises(ConfigError, match=r"there is .*host-b\.pub already"):
        new_key_pair(tmp_path, "host-b")
    assert load_key_pair(tmp_path / "host-a.key") == pair


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_secret_that_others_can_read_is_not_used(tmp_path, mode):
    new_key_pair(tmp_path, "host-a")
    (tmp_path / "host-a.key").chmod(mode)
    with pytest.raises(ConfigError, match=r"open to others: chmod 600 .*host-a\.key"):
        load_key_pair(tmp_path / "host-a.key")


@pytest.mark.parametrize("text", ["", "[[[", "secret = 5", 'public = "x"', 'public = "' + "ä" * 40 + '"', "\x00"])
def test_a_file_that_is_no_key_says_so(tmp_path, text):
    path = tmp_path / "odd.key"
    path.write_text(text)
    path.chmod(0o600)
    for load in (load_key_pair, load_public):
        with pytest.raises(ConfigError, match=r"odd\.key"):
            load(path)


def test_a_secret_of_another_key_is_noticed(tmp_path):
    a, _ = new_key_pair(tmp_path, "a")
    b, _ = new_key_pair(tmp_path, "b")
    path = tmp_path / "a.key"
    for secret in (b.secret, "", "x" * 40, '"'):
        path.write_text(f'public = "{a.public}"\nsecret = {json.dumps(secret)}\n')
        with pytest.raises(ConfigError, match="does not belong to the public key"):
            load_key_pair(path)


@pytest.mark.parametrize("text", ["", "short", "é" * 40, '"' * 40, "x" * 41, " " * 40])
def test_what_is_no_public_key_is_refused(tmp_path, text):
    with pytest.raises(ConfigError):
        check_public(text)
    with pytest.raises(ConfigError):
        find_public(text, tmp_path)


def test_the_commands_from_a_new_key_to_its_revocation(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    made = trapline("keys", "new", "laptop", cwd=there)
    public = there / "trapline-data" / "keys" / "laptop.pub"
    assert made.returncode == 0 and made.stdout.strip() == load_public(public).public
    assert 'identity = "laptop"' in made.stderr
    assert keys("new", "laptop", cwd=there).returncode == 1

    told = keys("trust", str(public), "--read", "transients,lightcurves", "--publish", "follow_up", cwd=here)
    assert told.returncode == 0, told.stderr
    assert told.stdout == "laptop may read lightcurves, transients, and publish follow_up\n"
    told = keys("trust", "laptop", "--publish", "", "--groups", "mirror", cwd=here)
    assert told.stdout == "laptop may read lightcurves, transients, and publish nothing\n"
    listed = [json.loads(line) for line in keys("list", "--json", cwd=here).stdout.splitlines()]
    assert listed == [
        {
            "kind": "trusted",
            "name": "laptop",
            "public": made.stdout.strip(),
            "read": ["lightcurves", "transients"],
            "publish": [],
            "groups": ["mirror"],
        }
    ]
    assert "own      laptop" in keys("list", cwd=there).stdout
    assert keys("revoke", "laptop", cwd=here).returncode == 0
    assert "trusted are no keys" in keys("revoke", "laptop", cwd=here).stderr
    assert keys("list", "--json", cwd=here).stdout == ""


def test_trust_by_the_key_itself_needs_a_name_and_a_service_is_none(tmp_path):
    public = keys("new", "laptop", cwd=tmp_path).stdout.strip()
    assert "say --name" in keys("trust", "--", public, cwd=tmp_path).stderr
    for name in ("associator", "source_extractor-0"):
        assert "is the name of a service" in keys("trust", "--name", name, "--", public, cwd=tmp_path).stderr
    assert "no name for a key" in keys("trust", "--name", "a", "--read", "no such;", "--", public, cwd=tmp_path).stderr
    assert keys("list", cwd=tmp_path).stdout.count("trusted") == 0
    assert keys("trust", "--name", "other", "--", public, cwd=tmp_path).returncode == 0
    assert "other" in keys("list", cwd=tmp_path).stdout


def test_list_shows_what_it_can_and_fails_for_a_file_that_is_wrong(tmp_path):
    keys("new", "laptop", cwd=tmp_path)
    keys("trust", "laptop", cwd=tmp_path)
    (tmp_path / "trapline-data" / "keys" / "trusted" / "odd.toml").write_text("admin = true")
    listed = keys("list", cwd=tmp_path)
    assert listed.returncode == 1 and "unknown key admin" in listed.stderr
    assert listed.stdout.count("laptop") == 2


@pytest.mark.parametrize("command", ["new", "list", "trust", "revoke"])
def test_every_command_explains_itself_with_an_example(tmp_path, command):
    assert f"Example: trapline keys {command}" in keys(command, "--help", cwd=tmp_path).stdout
