"""The example that posts events over HTTP: to a real server that is away, refuses, or answers one who is dead."""

import http.server
import json
import signal
import threading

import pytest

from plugin_runs import EXAMPLES, published, running_plugin, start_plugin
from trapline.common.testing.plugin import fake_transient
from waiting import wait_for

pytestmark = pytest.mark.timeout(300)

POST = EXAMPLES / "post_events.py"


class Service:
    """A web service as SkyPortal is: one object for each id, and a list of what was posted."""

    def __init__(self):
        self.posts, self.objects, self.answers = [], {}, []
        self.refused_ra = None
        self.hold = threading.Event()
        self.hold.set()
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                service.posts.append((self.path, dict(self.headers), body))
                service.hold.wait(20)
                status = service.answers.pop(0) if service.answers else 200
                status = 400 if body["ra"] == service.refused_ra else status
                if status == 200 and body["id"] in service.objects:
                    status = 409
                if status == 200:
                    service.objects[body["id"]] = body
                words = b'{"status": "success"}' if status == 200 else b"no such group"
                try:
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(words)))
                    self.end_headers()
                    self.wfile.write(words)
                except OSError:
                    pass  # whoever asked was killed

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_port}/api/sources"

    def close(self):
        self.hold.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def service():
    made = Service()
    yield made
    made.close()


def posted(config, replica="0"):
    return published(config.journal_directory, "posted", f"post_events-{replica}")


def options(config, service):
    return {"data": config.data_directory, "POST_URL": service.url, "POST_TOKEN": "not-a-secret"}


def test_each_event_is_posted_once_with_what_a_portal_wants(config, relay, journals, service):
    service.answers = [503, 500, 200]
    journals.append(fake_transient(1), fake_transient(2, alert_type="update"), fake_transient(3))
    with running_plugin(POST, "--from", "first", **options(config, service)):
        wait_for(lambda: len(posted(config)) == 2, what="the posts")
    assert len(service.posts) == 4, "the first was tried three times"
    path, headers, body = service.posts[0]
    assert path == "/api/sources"
    assert headers["Authorization"] == "token not-a-secret"
    assert len(headers["Idempotency-Key"]) == 32
    assert body["id"].startswith("TL20260101-") and (body["ra"], body["dec"]) == (359.95, 52.9)
    assert len(service.objects) == 2


def test_what_the_service_refuses_is_a_dead_letter_with_its_words(config, relay, journals, service):
    service.refused_ra = 10.0
    journals.append(fake_transient(1, ra_deg=10.0), fake_transient(2))
    with running_plugin(POST, "--from", "first", **options(config, service)):
        wait_for(lambda: posted(config), what="the second event")
        letters = wait_for(
            lambda: published(config.journal_directory, "dead_letters", "post_events-0"), what="a dead letter"
        )
    assert "answered 400" in letters[0].header.traceback and "no such group" in letters[0].header.traceback
    assert len(service.objects) == 1


def test_killed_between_the_post_and_its_answer_the_service_still_has_one_object(config, relay, journals, service):
    service.hold.clear()
    process = start_plugin(POST, "--from", "first", **options(config, service))
    journals.append(fake_transient(1))
    wait_for(lambda: service.posts, what="the post")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    service.hold.set()
    journals.append(fake_transient(2))
    with running_plugin(POST, **options(config, service)):
        wait_for(lambda: len(posted(config)) == 2, what="both events")
    with running_plugin(POST, **options(config, service)):
        journals.append(fake_transient(3))
        wait_for(lambda: len(posted(config)) == 3, what="the third event")
    assert len(service.objects) == 3
    keys = [headers["Idempotency-Key"] for _, headers, _ in service.posts]
    assert (len(keys), len(set(keys))) == (4, 3), "only the one in hand was posted again, with the same key"
