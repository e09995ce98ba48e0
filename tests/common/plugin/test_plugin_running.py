"""`trapline plugin FILE`: every record once, through deaths; state kept; poison put aside; a channel like others."""

import asyncio
import contextlib
import json
import signal

import numpy as np
import pytest

from mesh_runs import trapline
from plugin_runs import published, start_plugin, write_plugin
from trapline.common.journal import PartitionReader
from trapline.common.plugin.load import load_plugin
from trapline.common.plugin.process import RunOptions, plugin_service
from trapline.common.runtime.daemon import open_context
from trapline.common.testing.plugin import fake_lightcurves
from trapline.common.testing.relay import running_relay
from waiting import until, wait_for

PARTITION = "bright_finder-0"

pytestmark = pytest.mark.timeout(300)


def image(number, *flux):
    return fake_lightcurves(flux=flux or (1.0, 9.0 + number), t_us=(number + 1) * 1_000_000)


@contextlib.asynccontextmanager
async def running(config, path, replica="0", **options):
    plugin = load_plugin(path)
    async with open_context(plugin.name, config, replica) as context:
        work = asyncio.create_task(plugin_service(plugin, RunOptions(**options)).run(context))
        yield context
        context.draining.set()
        await asyncio.wait_for(work, 20)


def headers(config, channel="bright", partition=PARTITION):
    return published(config.journal_directory, channel, partition)


def totals(config):
    return [h.number for h in headers(config)]


async def test_it_reads_publishes_and_keeps_its_state_through_a_restart(config, relay, journals, tmp_path):
    path = write_plugin(tmp_path)
    journals.append(image(0))
    async with running(config, path, start="first"):
        await until(lambda: len(totals(config)) == 1)
    journals.append(image(1), image(2, 1.0), image(3))
    async with running(config, path):
        await until(lambda: len(totals(config)) == 3)
    assert totals(config) == [1, 2, 3]
    first = headers(config)[0]
    assert (first.flux, first.producer, first.consumed[0].seq) == (9.0, "bright_finder/0", 0)
    assert first.parents == [image(0).header.id]


async def test_latest_is_where_it_was_first_started_however_soon_it_is_killed(config, relay, journals, tmp_path):
    path = write_plugin(tmp_path)
    journals.append(image(0))
    async with running(config, path) as context:
        await until(lambda: context.state == "running")
    snapshot = config.data_directory / "snapshots" / "bright_finder-0.snapshot"
    snapshot.unlink()
    journals.append(image(1))
    async with running(config, path):
        await until(lambda: totals(config))
    assert [h.consumed[0].seq for h in headers(config)] == [1]


async def test_a_record_that_cannot_be_taken_is_a_dead_letter_and_its_state_is_undone(
    config, relay, journals, tmp_path
):
    path = write_plugin(
        tmp_path,
        """
        import msgspec
        from trapline.plugin import publishes, subscribes

        class Said(msgspec.Struct):
            total: int

        class Kept(msgspec.Struct):
            total: int = 0

        @subscribes("lightcurves", state=Kept, start="first")
        @publishes("said", Said)
        def count(event, kept):
            kept.total += 1
            if event.t_us == 2_000_000:
                raise ZeroDivisionError("poison")
            return Said(kept.total)
        """,
    )
    journals.append(image(0), image(1), image(2))
    async with running(config, path):
        await until(lambda: len(headers(config, "said")) == 2)
    assert [h.total for h in headers(config, "said")] == [1, 2]
    (letter,) = headers(config, "dead_letters")
    assert (letter.header.place.seq, letter.service) == (1, "bright_finder")
    assert "poison" in letter.traceback


async def test_what_is_not_as_declared_is_a_dead_letter_that_says_so(config, relay, journals, tmp_path):
    path = write_plugin(
        tmp_path,
        """
        import msgspec
        from trapline.plugin import publishes, subscribes

        class Said(msgspec.Struct):
            total: int

        @subscribes("lightcurves", start="first")
        @publishes("said", Said)
        def count(event):
            return Said("many")
        """,
    )
    journals.append(image(0))
    async with running(config, path):
        await until(lambda: headers(config, "dead_letters"))
    assert "$.total" in headers(config, "dead_letters")[0].traceback


async def test_workers_of_a_group_share_the_records(config, relay, journals, tmp_path):
    path = write_plugin(
        tmp_path,
        """
        import msgspec
        from trapline.plugin import publishes, subscribes

        class Done(msgspec.Struct):
            t_us: int

        @subscribes("lightcurves", group=True, start="first")
        @publishes("done", Done)
        def take(event):
            return Done(event.t_us)
        """,
    )
    journals.append(*(image(n) for n in range(20)))

    def done():
        both = [headers(config, "done", f"bright_finder-{replica}") for replica in "01"]
        return sorted(h.t_us for one in both for h in one)

    async with running(config, path), running(config, path, "1"):
        await until(lambda: len(done()) == 20)
    assert done() == [image(n).header.image.t_start_us for n in range(20)]


@pytest.mark.parametrize("kills", [3])
def test_a_plugin_that_is_killed_again_and_again_publishes_each_thing_once(config, relay, journals, tmp_path, kills):
    path = write_plugin(tmp_path)
    sent = 0
    for _ in range(kills):
        process = start_plugin(path, "--from", "first", data=config.data_directory)
        before = len(totals(config))
        for _ in range(40):
            journals.append(image(sent), partition=str(sent % 2))
            sent += 1
        wait_for(lambda before=before: len(totals(config)) > before + 5, what="the plug-in")
        process.send_signal(signal.SIGKILL)
        process.communicate()
    process = start_plugin(path, data=config.data_directory)
    journals.append(image(sent))
    sent += 1
    wait_for(lambda: len(totals(config)) == sent, what="the rest")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 0
    found = headers(config)
    # One number for each: the state that each death left behind was the one that had been published.
    assert [h.number for h in found] == list(range(1, sent + 1))
    assert len({h.consumed[0] for h in found}) == sent


def test_its_channel_is_visible_in_status_and_tail_and_its_schema_is_registered(config, relay, journals, tmp_path):
    path = write_plugin(tmp_path)
    journals.append(image(0))
    process = start_plugin(path, "--from", "first", data=config.data_directory)
    env = {"TRAPLINE__MESH__DATA_DIRECTORY": str(config.data_directory)}
    try:
        wait_for(lambda: totals(config), what="an output")
        wait_for(lambda: any(h.state == "running" for h in headers(config, "status")), what="a report")
        status = json.loads(trapline("status", "--json", cwd=tmp_path, env=env).stdout)
        tailed = trapline("tail", "bright", "--from", "first", "-n", "1", cwd=tmp_path, env=env).stdout
        schemas = trapline("tail", "schemas", "--from", "first", "-n", "1", "--json", cwd=tmp_path, env=env).stdout
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    (service,) = status["services"]
    assert (service["service"], service["state"]) == ("bright_finder", "running")
    assert service["health_port"]
    assert ("bright", PARTITION) in {(p["channel"], p["partition"]) for p in status["partitions"]}
    assert "flux=9.0 number=1" in tailed
    described = json.loads(schemas)
    assert described["channel"] == "bright"
    schema = json.loads(described["json_schema"])
    assert schema["description"] == "A bright point."
    assert "flux" in schema["$defs"]["Bright"]["properties"]


@pytest.mark.parametrize("name", ["copy", "identity"])
async def test_a_name_that_is_an_attribute_of_the_configuration_is_like_others(config, relay, journals, tmp_path, name):
    journals.append(image(0))
    async with running(config, write_plugin(tmp_path, name=name), start="first"):
        await until(lambda: len(headers(config, partition=f"{name}-0")) == 1)


async def test_nothing_is_kept_for_a_plugin_and_what_it_missed_is_counted(config, journals, tmp_path):
    path = write_plugin(tmp_path)
    journals.append(image(0))
    with running_relay(config) as relay:
        async with running(config, path, start="first"):
            await until(lambda: len(totals(config)) == 1)
            await until(lambda: relay.core.readers.of("bright_finder-0"))
        assert relay.core.readers.floor("lightcurves", "0") > 1 << 60
    for number in range(1, 40):
        journals.append(image(number, *np.full(20_000, 1.0), 9.0))
    # While no relay serves them: what one has mapped it still serves.
    reader = PartitionReader(config.journal_directory / "lightcurves" / "0")
    reader.drop_before(20)
    first = reader.first_seq
    assert first > 1
    with running_relay(config):
        async with running(config, path) as context:
            await until(lambda: len(totals(config)) == 1 + 40 - first)
            assert context.counters["records_lost"] == first - 1
    assert [h.consumed[0].seq for h in headers(config)] == [0, *range(first, 40)]
    assert totals(config) == list(range(1, 42 - first))
