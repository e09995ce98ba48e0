"""`trapline plugin FILE --relay`: a laptop with nothing of the mesh but an address and keys."""

import signal

import pytest

from common_security import secured
from plugin_runs import Journals, published, running_plugin, start_plugin, write_plugin
from relay_process import RelayProcess
from trapline.common.testing.plugin import fake_lightcurves
from trapline.common.testing.relay import running_relay
from waiting import wait_for

PUBLISH = ("bright", "schemas", "status", "dead_letters")

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def host(tmp_path):
    return secured(tmp_path / "host", runtime={"snapshot_s": 0.2})


@pytest.fixture
def journals(host):
    written = Journals(host.config.journal_directory)
    yield written
    written.close()


@pytest.fixture
def relay(host):
    with running_relay(host.config) as server:
        yield server


def image(number):
    return fake_lightcurves(flux=(1.0, 9.0 + number), t_us=(number + 1) * 1_000_000)


def there(host, channel="bright"):
    return published(host.config.journal_directory, channel, "bright_finder-0")


def keys(host):
    return ["--key", str(host.config.keys_directory / "host-a.pub"),
            "--identity", str(host.directory / "elsewhere" / "laptop.key")]  # fmt: skip


def data(tmp_path):
    return tmp_path / "laptop" / "trapline-data"


@pytest.fixture
def plugin(tmp_path):
    data(tmp_path).mkdir(parents=True)
    return write_plugin(tmp_path / "laptop")


def test_what_a_killed_plugin_says_arrives_once_and_in_order(host, relay, journals, plugin, tmp_path):
    host.friend("laptop", publish=PUBLISH)
    options = ["--from", "first", "--relay", relay.address, *keys(host)]
    sent = 0
    for _ in range(2):
        process = start_plugin(plugin, *options, data=data(tmp_path))
        before = len(there(host))
        for _ in range(40):
            journals.append(image(sent), partition=str(sent % 2))
            sent += 1
        wait_for(lambda before=before: len(there(host)) > before + 5, what="the plug-in")
        process.send_signal(signal.SIGKILL)
        process.communicate()
    with running_plugin(plugin, *options, data=data(tmp_path)):
        wait_for(lambda: len(there(host)) == sent, what="the rest")
        wait_for(lambda: there(host, "status"), what="a report")
    assert [h.number for h in there(host)] == list(range(1, sent + 1))
    assert there(host, "schemas")[0].channel == "bright"
    assert there(host, "status")[-1].state == "stopped"
    assert not (data(tmp_path) / "journal").exists()


def test_a_relay_that_is_away_is_waited_for_and_nothing_is_lost_or_said_twice(plugin, tmp_path):
    with RelayProcess(tmp_path / "host") as relay:
        journals = Journals(relay.config.journal_directory)

        def arrived():
            return [h.number for h in published(relay.config.journal_directory, "bright", "bright_finder-0")]

        with running_plugin(plugin, "--from", "first", "--relay", relay.address, data=data(tmp_path)):
            for life in range(2):
                journals.append(*(image(20 * life + n) for n in range(20)))
                wait_for(lambda n=20 * life: len(arrived()) > n, what="the first of them")
                relay.kill()
                relay.start()
            wait_for(lambda: len(arrived()) == 40, what="the rest")
        journals.close()
        assert arrived() == list(range(1, 41))


def test_a_key_that_may_not_publish_is_told_what_would_allow_it_and_nothing_is_lost(
    host, relay, journals, plugin, tmp_path
):
    pair = host.friend("laptop", publish=("schemas", "status"))
    process = start_plugin(plugin, "--from", "first", "--relay", relay.address, *keys(host), data=data(tmp_path))
    try:
        journals.append(image(0), image(1))
        line = ""
        while "not published" not in line:
            line = process.stderr.readline()
            assert process.poll() is None, line
        assert "laptop may not publish on bright" in line and "trapline keys trust laptop --publish" in line
        assert there(host) == []
        host.trust(pair, publish=PUBLISH)
        wait_for(lambda: len(there(host)) == 2, what="what was kept")
    finally:
        process.terminate()
        process.communicate(timeout=30)


def test_workers_far_away_share_what_their_group_has(host, relay, journals, tmp_path):
    host.friend("laptop", publish=(*PUBLISH, "sharers"), groups=("sharers",))
    data(tmp_path).mkdir(parents=True)
    text = """
        import msgspec
        from trapline.plugin import publishes, subscribes

        class Seen(msgspec.Struct):
            flux: float

        @subscribes("lightcurves", start="first", group=True)
        @publishes("bright", Seen)
        def see(event):
            return Seen(float(event["flux_int"][1]))
    """
    path = write_plugin(tmp_path / "laptop", text, "sharers")
    options = ["--relay", relay.address, *keys(host)]

    def seen(replica):
        return [h.flux for h in published(host.config.journal_directory, "bright", f"sharers-{replica}")]

    journals.append(*(image(n) for n in range(20)))
    with (
        running_plugin(path, *options, data=data(tmp_path)),
        running_plugin(path, *options, "--replica", "1", data=data(tmp_path)),
    ):
        wait_for(lambda: len({*seen(0), *seen(1)}) == 20, what="all of them")
    # A lease that ends while the machine is busy gives a record to both: it has one id, and counts once.
    assert sorted({*seen(0), *seen(1)}) == [9.0 + n for n in range(20)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--relay", "host-a"], "is not an address such as tcp://host-a:7400"),
        (["--relay", "tcp://h:1", "--key", "x", "--identity", "nothing.key"], "no key nothing.key"),
        (["--relay", "tcp://h:1", "--replay", ".."], "--replay reads journals on this machine"),
    ],
    ids=["address", "key", "replay"],
)
def test_what_cannot_be_is_said_in_one_line(plugin, tmp_path, options, words):
    process = start_plugin(plugin, *options, data=data(tmp_path))
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 2 and words in said and len(said.strip().splitlines()) == 1
