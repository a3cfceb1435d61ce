"""Answers to callers: JSON, and an OperationOutcome where a call is refused or fails."""

from __future__ import annotations

import logging
import time

import orjson
from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from ..engine.decide import NothingEvaluated
from ..errors import OperationOutcome, Refusal, operation_outcome
from ..hooks.request_body import discard_body
from ..limits.bounds import TooLateError, TooMuchError
from ..limits.concurrency import TooBusyError
from ..storage.database import DatabaseError
from .telemetry import note

CORS_HEADERS = "Authorization, Content-Type, Accept, traceparent, tracestate, X-Request-ID"
UNKNOWN_AFTER = 0.01  # seconds; longer than it takes to verify a token

log = logging.getLogger("cds_service.app")


def json_response(body: bytes, status: int = 200) -> Response:
    """An answer that caches must not store: it may be about a patient."""
    response = Response(body, status, mimetype="application/json")
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def answer_errors(app: Flask, body_seconds: float) -> None:
    """Answer each refusal and failure with an OperationOutcome and the right status.

    No answer repeats what was sent. ``body_seconds`` limits how long the rest of the body of a
    refused call is read.
    """

    @app.after_request
    def read_the_rest(response: Response) -> Response:
        if response.status_code >= 400:
            discard_body(body_seconds)
        return response

    @app.errorhandler(Refusal)
    def refused(refusal: Refusal) -> Response:
        if refusal.status == 401:
            note(refused=refusal.code)
            # The same time for every reason, so that the time does not reveal the reason.
            time.sleep(max(0.0, g.call.started + UNKNOWN_AFTER - time.perf_counter()))
            return Response(b"", 401, refusal.headers)
        note(refused=refusal.code)
        if refusal.expression:
            note(member=refusal.expression[0])
        outcome = operation_outcome(refusal.reason, refusal.code, refusal.expression)
        response = _outcome(outcome, refusal.status)
        response.headers.update(refusal.headers)
        return response

    @app.errorhandler(HTTPException)
    def refused_by_http(error: HTTPException) -> Response:
        codes = {404: "not-found", 405: "not-supported", 413: "too-long"}
        status = error.code or 500
        reason = "The body is too large." if status == 413 else f"{error.name}."
        response = _outcome(operation_outcome(reason, codes.get(status, "processing")), status)
        if status == 405:
            response.headers["Allow"] = ", ".join(sorted(getattr(error, "valid_methods", [])))
        return response

    @app.errorhandler(DatabaseError)
    def no_database(_: DatabaseError) -> Response:
        reason = "The database cannot be asked now."
        return refused(Refusal(503, reason, "transient", headers={"Retry-After": "1"}))

    @app.errorhandler(TooBusyError)
    def too_busy(busy: TooBusyError) -> Response:
        status, code = (429, "throttled") if busy.of_one else (503, "transient")
        reason = "Too many requests are being answered. Come again."
        return refused(Refusal(status, reason, code, headers={"Retry-After": "1"}))

    @app.errorhandler(TooMuchError)
    def too_much(_: TooMuchError) -> Response:
        return refused(Refusal(413, "There is more in the body than in any chart.", "too-costly"))

    @app.errorhandler(TooLateError)
    def too_late(_: TooLateError) -> Response:
        reason = "The chart could not be judged in time. This is not an answer of no concern."
        return refused(Refusal(503, reason, "timeout", headers={"Retry-After": "1"}))

    @app.errorhandler(NothingEvaluated)
    def nothing_evaluated(error: NothingEvaluated) -> Response:
        log.error("no card could be judged: %s", error)
        return _failure("No card could be judged. This is not an answer of no concern.")

    @app.errorhandler(Exception)
    def failed(error: Exception) -> Response:
        # Only the type and the place are logged: the message may contain what was sent.
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "?"
        log.error("a request failed with %s at %s", type(error).__name__, where)
        return _failure("The service failed. This is not an answer of no concern.")


def _failure(reason: str) -> Response:
    return _outcome(operation_outcome(reason, "exception", severity="fatal"), 500)


def _outcome(outcome: OperationOutcome, status: int) -> Response:
    return json_response(orjson.dumps(outcome), status)


def allow_origins(app: Flask, origins: frozenset[str] | set[str]) -> None:
    """Send CORS headers to browser clients, also with errors; a preflight needs no token."""
    if not origins:
        return

    @app.after_request
    def allow(response: Response) -> Response:
        origin = request.headers.get("Origin")
        response.headers.add("Vary", "Origin")
        if origin in origins and origin is not None:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Allow-Methods"] = "GET, POST, OPTIONS"
            response.headers["Access-Control-Allow-Headers"] = CORS_HEADERS
            response.headers["Access-Control-Expose-Headers"] = "X-Request-ID, Retry-After"
            response.headers["Access-Control-Max-Age"] = "600"  # seconds that a preflight is valid
        return response
