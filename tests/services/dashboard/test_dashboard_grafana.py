"""What Grafana shows and Prometheus alerts on is what processes really serve."""

import contextlib
import json
import re
import urllib.request

import pytest

from dashboard_night import fill, running_night
from mesh_runs import ROOT
from trapline.common.runtime.context import Context
from trapline.common.runtime.health import HealthServer
from trapline.common.testing.relay import mesh_config
from trapline.image_ingest.monitor import SourceMonitor
from trapline.image_ingest.stream import StreamState

GRAFANA = ROOT / "deploy" / "grafana"


@pytest.fixture
def served(tmp_path):
    context = Context("image_ingest", "0", mesh_config(tmp_path), None, None)
    context.counters["images_received"] += 1
    context.sources["tcp://imager:5100"] = {"rate_hz": 1.0}
    context.reading["images", "0"] = (1, 2)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(HealthServer(context, "127.0.0.1"))
        answer = stack.enter_context(urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics"))
        return set(re.findall(r"^([a-z_]+)", answer.read().decode(), re.MULTILINE)) | {"up"}


@pytest.mark.parametrize("name", ["trapline.json", "alerts.yml"])
def test_every_metric_is_one_that_is_served(served, name):
    text = (GRAFANA / name).read_text()
    if name.endswith(".json"):
        asked = " ".join(t["expr"] for p in json.loads(text)["panels"] for t in p["targets"])
    else:
        asked = " ".join(re.findall(r"expr: (.*)", text))
    found = set(re.findall(r"\b(?:trapline_[a-z_]+|process_[a-z_]+|up)\b", re.sub(r'"[^"]*"', "", asked)))
    assert found
    assert found <= served


def documented():
    """Return a pattern for each counter of METRICS.md; what is in capitals varies."""
    rows = re.findall(r"^\| (`[^|]*`) \|", (ROOT / "deploy" / "METRICS.md").read_text(), re.MULTILINE)
    names = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    return [re.compile(re.sub(r"[A-Z]+", "[a-z_]+", name)) for name in names]


@pytest.mark.parametrize("name", ["trapline.json", "alerts.yml"])
def test_every_counter_and_measure_is_one_that_there_is(name):
    text, known = (GRAFANA / name).read_text(), documented()
    exact = re.findall(r'event=\\?"([a-z_]+)', text)
    choices = re.findall(r'event=~\\?"([^"\\]+)', text)
    exact += [one for choice in choices if ".*" not in choice and ".+" not in choice for one in choice.split("|")]
    unknown = [one for one in exact if not any(pattern.fullmatch(one) for pattern in known)]
    assert (unknown, len(exact) > 4) == ([], True)
    measures = SourceMonitor("tcp://imager:5100", StreamState()).report(0)
    assert set(re.findall(r'measure=\\?"([a-z_]+)', text)) <= measures.keys()


def test_every_alert_says_what_to_do():
    text = (GRAFANA / "alerts.yml").read_text()
    assert text.count("- alert:") == text.count("action:") == text.count("summary:") >= 8


@pytest.mark.timeout(200)
def test_prometheus_is_told_where_the_processes_are(tmp_path, dsn):
    with running_night(tmp_path, dsn) as night:
        fill(night)
        night.report("associator", health_port=4711)
        targets = json.loads(night.get("/prometheus/targets")[1])
        labels = {t["labels"]["service"]: t["targets"] for t in targets}
        assert labels["associator"] == ["127.0.0.1:4711"]
        assert "dashboard" in labels
