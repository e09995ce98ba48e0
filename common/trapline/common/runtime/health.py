"""/livez, /readyz and /metrics on a small HTTP port of each process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from trapline.common.runtime.context import Context

_TIMEOUT_S = 5


class ContextCollector(Collector):
    """Turns a context's counters and positions into metrics, when they are asked for."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of this moment."""
        context = self._context
        labels = [context.service, context.replica]
        events = CounterMetricFamily(
            "trapline_events", "what a service counted", labels=["service", "replica", "event"]
        )
        for name, value in list(context.counters.items()):
            events.add_metric([*labels, name], value)
        yield events
        busy = CounterMetricFamily("trapline_busy_seconds", "time spent in handlers", labels=["service", "replica"])
        busy.add_metric(labels, context.busy_s)
        yield busy
        lag = GaugeMetricFamily(
            "trapline_lag_records", "records not read yet", labels=["service", "replica", "channel", "partition"]
        )
        for (channel, partition), (seq, end) in list(context.reading.items()):
            lag.add_metric([*labels, channel, partition], max(0, end - seq))
        yield lag
        source = GaugeMetricFamily(
            "trapline_source", "how an input from outside is", labels=["service", "replica", "source", "measure"]
        )
        for name, values in list(context.sources.items()):
            for measure, number in values.items():
                source.add_metric([*labels, name, measure], number)
        yield source


class HealthServer:
    """Answers health probes and Prometheus from a thread of its own, as a context manager.

    A process is alive while it answers, and ready while its state is ``running``.
    """

    def __init__(self, context: Context, host: str) -> None:
        registry = CollectorRegistry()
        registry.register(ContextCollector(context))
        ProcessCollector(registry=registry)

        class Handler(BaseHTTPRequestHandler):
            timeout = _TIMEOUT_S

            def do_GET(self) -> None:
                match self.path:
                    case "/livez":
                        self._answer(200, b"alive\n")
                    case "/readyz":
                        self._answer(200 if context.state == "running" else 503, f"{context.state}\n".encode())
                    case "/metrics":
                        self._answer(200, generate_latest(registry), CONTENT_TYPE_LATEST)
                    case _:
                        self._answer(404, b"there are /livez, /readyz and /metrics\n")

            def _answer(self, status: int, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Keep silent: a probe a second is no event."""

        self._server = ThreadingHTTPServer((host, 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="health", daemon=True)

    @property
    def port(self) -> int:
        """Port that it listens on."""
        return self._server.server_port

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
