"""Traces: a span for each call, and one for each prefetch key that is read (OpenTelemetry).

Off unless ``CDS_TRACES`` is set. Variables of OpenTelemetry, such as
``OTEL_EXPORTER_OTLP_ENDPOINT``, say where traces are sent. A span has the service, the status,
prefetch keys and counts, and no data of a patient: no address, no body, no exception. A trace that
an EHR has started is continued, and its ``traceparent`` is passed on to the FHIR server. Its
``tracestate``, which is free text, is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager

from flask import Flask, Response, g, request
from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

NAME = "lactation-cds"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_tracer = trace.get_tracer(NAME)
_propagator = TraceContextTextMapPropagator()


def send_traces() -> None:
    """Send the traces of this process to a collector. To be called once per process."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": NAME}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def trace_calls(app: Flask) -> None:
    """Record a span for each call of ``app``."""

    @app.before_request
    def begin() -> None:
        rule = request.url_rule.rule if request.url_rule is not None else "unknown"
        around = _propagator.extract({"traceparent": request.headers.get("traceparent", "")})
        name = f"{known_method(request.method)} {rule}"
        g.span = _tracer.start_span(name, around, trace.SpanKind.SERVER)
        g.span_before = context.attach(trace.set_span_in_context(g.span, around))

    @app.after_request
    def note_status(response: Response) -> Response:
        g.span.set_attribute("http.response.status_code", response.status_code)
        for name, value in g.call.about.items():
            if isinstance(value, dict):
                g.span.set_attributes({f"cds.{name}.{part}": each for part, each in value.items()})
            elif value is not None:
                g.span.set_attribute(f"cds.{name}", value)
        return response

    @app.teardown_request
    def end(_: BaseException | None) -> None:
        span = g.pop("span", None)
        if span is not None:
            context.detach(g.pop("span_before"))
            span.end()


def here() -> Context:
    """The current trace, to continue it in another thread."""
    return context.get_current()


@contextmanager
def reading(key: str, within: Context) -> Iterator[trace.Span]:
    """A span for the reading of one prefetch key."""
    with _tracer.start_as_current_span(
        "read",
        within,
        trace.SpanKind.CLIENT,
        {"cds.prefetch_key": key},
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        yield span


def pass_on(headers: MutableMapping[str, str]) -> None:
    """Add ``traceparent`` to the headers of a call, so that the server can continue the trace."""
    _propagator.inject(headers)


def known_method(method: str) -> str:
    """The method of a call, or ``OTHER``: a caller may send any word."""
    return method if method in METHODS else "OTHER"
