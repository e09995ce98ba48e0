"""Who gets in, what he may do, and how it ends; asked for as any client would, of a dashboard that runs."""

import http.client
import json
import signal
import time
from urllib.parse import urlsplit

import pytest

from dashboard_night import event_message, fill, running_night
from trapline.common.config import ConfigError
from trapline.common.config.mesh import load_config
from trapline.common.ids import text_id
from trapline.dashboard.access import COOKIE, session_of

TOKEN = "a token of many characters"
JSON = {"Content_Type": "application/json"}

pytestmark = pytest.mark.timeout(200)


@pytest.fixture
def night(tmp_path, dsn):
    with running_night(tmp_path, dsn) as night:
        yield night


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "::"])
def test_beyond_loopback_a_token_or_a_proxy_is_needed(host):
    with pytest.raises(ConfigError, match="set token"):
        load_config(dashboard={"host": host})
    assert load_config(dashboard={"host": host, "token": TOKEN}).dashboard.is_open is False
    assert load_config(dashboard={"host": host, "proxy_user_header": "X-Remote-User"}).dashboard.is_open is False


def test_a_short_token_is_refused():
    with pytest.raises(ConfigError, match="at least 16"):
        load_config(dashboard={"token": "short"})


def test_on_loopback_only_this_host_is_answered_and_nothing_is_written(night):
    objects = fill(night)
    event = text_id(event_message(0, objects[0], kind="fade").header.event_id)
    assert night.get("/health.json")[0] == 200
    assert night.get("/", Host="evil.example")[0] == 421
    status, text = night.request("POST", f"/transients/{event}/verdict", '{"verdict": "accept"}', **JSON)
    assert (status, "allow_triage" in text) == (403, True)
    where = urlsplit(night.address)
    connection = http.client.HTTPConnection(where.hostname, where.port)
    connection.request("GET", "/")
    answer = connection.getresponse()
    policy = answer.getheader("Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.getheader("X-Content-Type-Options") == "nosniff"
    connection.close()


def test_with_a_token_nothing_is_shown_without_it(tmp_path, dsn):
    with running_night(tmp_path, dsn, token=TOKEN) as night:
        for path in ("/health.json", "/transients.csv", "/events?topics=status", "/health/processes.json"):
            assert night.get(path)[0] == 401
        assert night.get("/", Accept="text/html")[0] == 303
        assert night.get("/login")[0] == 200
        assert night.get("/health.json", Authorization=f"Bearer {TOKEN}")[0] == 200
        assert night.get("/health.json", Authorization="Bearer something else")[0] == 401
        assert night.get("/health.json", Cookie=f"{COOKIE}={session_of(TOKEN)}")[0] == 200
        assert night.request("POST", "/login", "token=wrong")[0] == 401
        assert night.request("POST", "/login", "token=a+token+of+many+characters")[0] == 303


def test_behind_a_proxy_the_person_is_named_in_the_verdict(tmp_path, dsn):
    with running_night(tmp_path, dsn, proxy_user_header="X-Remote-User", allow_triage=True) as night:
        objects = fill(night)
        event = text_id(event_message(0, objects[0], kind="fade").header.event_id)
        vera = {"X_Remote_User": "vera"}
        assert night.get("/health.json")[0] == 401
        body = json.dumps({"verdict": "accept", "person": "somebody else"})
        assert night.request("POST", f"/transients/{event}/verdict", body, **vera, **JSON)[0] == 200
        rows = {row["transient"]: row for row in json.loads(night.get("/transients.json", **vera)[1])}
        assert (rows[event]["verdict"], rows[event]["person"]) == ("accept", "vera")


def test_a_header_that_does_not_come_from_the_proxy_is_not_believed(tmp_path, dsn):
    proxies = {"proxy_user_header": "X-Remote-User", "proxies": ["10.1.0.0/16"]}
    with running_night(tmp_path, dsn, token=TOKEN, allow_triage=True, **proxies) as night:
        assert night.get("/health.json", X_Remote_User="mallory")[0] == 401
        mallory = {"X_Remote_User": "mallory", "Authorization": f"Bearer {TOKEN}"}
        event = text_id(event_message(0, fill(night)[0], kind="fade").header.event_id)
        body = json.dumps({"verdict": "accept", "person": "vera"})
        assert night.request("POST", f"/transients/{event}/verdict", body, **mallory, **JSON)[0] == 200
        rows = {row["transient"]: row for row in json.loads(night.get("/transients.json", **mallory)[1])}
        assert rows[event]["person"] == "vera"
    with pytest.raises(ConfigError, match="proxies"):
        load_config(dashboard=proxies | {"proxies": ["next door"]})


@pytest.mark.parametrize(
    ("body", "headers", "status", "words"),
    [
        ('{"verdict": "accept"}', JSON | {"Origin": "http://evil.example"}, 403, "somebody else"),
        ('{"verdict": "accept"}', {"Content_Type": "text/plain"}, 415, "JSON"),
        ('{"verdict": "maybe"}', JSON, 400, "verdict"),
        ("[1", JSON, 400, "JSON object"),
        ('{"verdict": "accept", "admin": "yes"}', JSON, 400, "no admin"),
        (json.dumps({"verdict": "accept", "note": "x" * 3000}), JSON, 400, "note"),
    ],
    ids=["origin", "kind", "word", "broken", "unknown", "long"],
)
def test_a_bad_verdict_is_refused_with_what_would_be_right(tmp_path, dsn, body, headers, status, words):
    with running_night(tmp_path, dsn, allow_triage=True) as night:
        objects = fill(night)
        event = text_id(event_message(0, objects[0], kind="fade").header.event_id)
        found, text = night.request("POST", f"/transients/{event}/verdict", body, **headers)
        assert (found, words in text) == (status, True), text


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/objects?position=nonsense", 400, "23:23:24 +58:48:54"),
        ("/objects?position=10+20&radius=0", 400, "above 0"),
        ("/objects?v_min=nan", 400, "v_min"),
        ("/transients?since=yesterday", 400, "2026-01-31T23:59"),
        ("/objects?before=1", 400, "no id"),
        ("/objects?sort=-eta&before=01890000-0000-8000-8000-000000000000", 400, "at ="),
        ("/objects?sort=-eta&at=nan&before=01890000-0000-8000-8000-000000000000", 400, "at ="),
        ("/images?sort=origin;--", 400, "exposure_s"),
        ("/events?topics=nothing", 400, "transients"),
        ("/health/processes.vot", 404, ""),
        ("/objects/01890000-0000-8000-8000-000000000000", 404, "no object"),
        ("/transients/x", 404, "no id"),
        ("/images/01890000-0000-8000-8000-000000000000", 404, "no image"),
        ("/health/nothing.json", 404, "processes"),
        ("/static/../config.py", 404, ""),
        ("/nowhere", 404, ""),
    ],
)
def test_a_bad_question_gets_a_line_and_the_next_an_answer(night, path, status, words):
    found, text = night.get(path)
    assert (found, words in text) == (status, True), text
    assert night.get("/health.json")[0] == 200


def test_viewers_do_not_hold_up_the_end(night):
    where = urlsplit(night.address)
    viewers = []
    for _ in range(5):
        viewer = http.client.HTTPConnection(where.hostname, where.port, timeout=20)
        viewer.request("GET", "/events?topics=status")
        assert viewer.getresponse().read(7) == b"retry: "
        viewers.append(viewer)
    began = time.monotonic()
    night.process.send_signal(signal.SIGTERM)
    assert night.process.wait(15) == 0
    assert time.monotonic() - began < 15
    for viewer in viewers:
        viewer.close()


def test_without_a_viewer_the_relay_is_not_asked(night):
    night.get("/health.json")

    def fetches():
        return json.loads(night.get("/livez")[1] == "alive\n" and _relay(night))["requests_fetch"]

    before = fetches()
    assert fetches() == before


def _relay(night):
    from trapline.common.channel import RelayConnection
    from trapline.common.postgres.connection import run_blocking
    from trapline.common.relay.requests import Info

    async def ask():
        async with RelayConnection(f"ipc://{night.config.ipc_path}") as connection:
            return (await connection.request(Info(), timeout_s=20)).values["counters"]

    return json.dumps(run_blocking(ask))
