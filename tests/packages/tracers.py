"""Tracers of drivers, each with a way to see the spans that it makes."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple


class Span(NamedTuple):
    """What a tracer noted of one call of a driver."""

    name: str
    statement: str
    failed: bool = False


#: Gives a list that the spans of the block are in after the block.
Record = Callable[[], AbstractContextManager[list[Span]]]


#: OpenTelemetry's class for each driver.
INSTRUMENTORS = {
    "psycopg": "PsycopgInstrumentor",
    "psycopg2": "Psycopg2Instrumentor",
    "mysqlclient": "MySQLClientInstrumentor",
    "pymysql": "PyMySQLInstrumentor",
    "mysql": "MySQLInstrumentor",
    "sqlite3": "SQLite3Instrumentor",
}


def opentelemetry(drivers: Iterable[str]) -> Record:
    """OpenTelemetry, with an instrumentation for each driver.

    oracledb has none of its own; the one for any driver of PEP 249 takes it.
    """
    import oracledb
    from opentelemetry import trace
    from opentelemetry.instrumentation import dbapi
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import (
        InMemorySpanExporter,
    )

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    for driver in drivers:
        if driver == "oracledb":
            dbapi.wrap_connect("tests", oracledb, "connect", "oracle")
            continue
        module = importlib.import_module(f"opentelemetry.instrumentation.{driver}")
        getattr(module, INSTRUMENTORS[driver])().instrument(skip_dep_check=True)

    @contextmanager
    def record() -> Iterator[list[Span]]:
        exporter.clear()
        spans: list[Span] = []
        yield spans
        for span in exporter.get_finished_spans():
            statement = str((span.attributes or {}).get("db.statement", ""))
            spans.append(Span(span.name, statement, not span.status.is_ok))

    return record


def ddtrace(drivers: Iterable[str]) -> Record:
    """Datadog's, without its agent: a filter takes each trace before it is sent."""
    os.environ.update(
        DD_INSTRUMENTATION_TELEMETRY_ENABLED="false",
        DD_REMOTE_CONFIGURATION_ENABLED="false",
        DD_TRACE_STARTUP_LOGS="false",
    )
    logging.getLogger("ddtrace").setLevel(logging.CRITICAL)
    import ddtrace
    from ddtrace.trace import TraceFilter, tracer

    finished: list[Any] = []

    class Keep(TraceFilter):  # type: ignore[misc]
        def process_trace(self, trace: list[Any]) -> list[Any] | None:
            finished.extend(trace)
            return None

    tracer.configure(trace_processors=[Keep()])
    # Of oracledb it knows nothing; its integration with Django wraps cursors there.
    names = {"mysqlclient": "mysqldb", "psycopg2": "psycopg", "oracledb": "django"}
    patched = {names.get(driver, driver) for driver in (*drivers, "oracledb")}
    ddtrace.patch(**dict.fromkeys(patched, True))

    @contextmanager
    def record() -> Iterator[list[Span]]:
        finished.clear()
        spans: list[Span] = []
        yield spans
        spans += [Span(span.name, span.resource, bool(span.error)) for span in finished]

    return record


def elastic(_drivers: Iterable[str]) -> Record:
    """Elastic's, without its server: the queue of its transport is read."""
    import elasticapm

    finished: list[dict[str, Any]] = []

    def keep(event_type: str, data: Any, *_flush: Any, **_kwargs: Any) -> None:
        if event_type == "span":
            finished.append(data)

    client = elasticapm.Client(
        service_name="tests",
        transport_class="elasticapm.transport.base.Transport",
        central_config=False,
        cloud_provider="none",
        span_compression_enabled=False,
        exit_span_min_duration="0ms",
        transaction_max_spans=5000,
    )
    client._transport.queue = keep
    elasticapm.instrument()

    @contextmanager
    def record() -> Iterator[list[Span]]:
        finished.clear()
        spans: list[Span] = []
        client.begin_transaction("request")
        yield spans
        client.end_transaction("step", "done")
        for span in finished:
            statement = span.get("context", {}).get("db", {}).get("statement") or ""
            spans.append(Span(span["name"], statement, span["outcome"] == "failure"))

    return record


def newrelic(_drivers: Iterable[str]) -> Record:
    """New Relic's, in its developer mode, which sends nothing."""
    os.environ.update(
        NEW_RELIC_DEVELOPER_MODE="true",
        NEW_RELIC_APP_NAME="tests",
        NEW_RELIC_LOG="/dev/null",
    )
    import newrelic.agent
    from newrelic.api.database_trace import DatabaseTrace

    newrelic.agent.initialize()
    application = newrelic.agent.register_application(timeout=10)
    finished: list[Span] = []
    end = DatabaseTrace.finalize_data

    def note(self: Any, transaction: Any, exc: Any = None, *args: Any) -> Any:
        finished.append(Span(type(self).__name__, str(self.sql), exc is not None))
        return end(self, transaction, exc, *args)

    DatabaseTrace.finalize_data = note

    @contextmanager
    def record() -> Iterator[list[Span]]:
        finished.clear()
        spans: list[Span] = []
        with newrelic.agent.BackgroundTask(application, name="step"):
            yield spans
        spans += finished

    return record


def untraced(_drivers: Iterable[str]) -> Record:
    """No tracer, to compare the others with."""

    @contextmanager
    def record() -> Iterator[list[Span]]:
        yield []

    return record


#: Patches drivers, which are those of `DRIVERS`.
TRACERS: dict[str, Callable[[Iterable[str]], Record]] = {
    "opentelemetry": opentelemetry,
    "ddtrace": ddtrace,
    "elastic-apm": elastic,
    "newrelic": newrelic,
    "untraced": untraced,
}
