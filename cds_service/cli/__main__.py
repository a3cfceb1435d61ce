"""The command line: ``cds-service``.

serve      run the service under gunicorn
demo       run the demo: the service, synthetic mothers, and a small EHR to open their charts
load       load the synthetic mothers into a FHIR server
evaluate   show the cards for a hook request in a file
example    print a hook request for a synthetic mother, with times moved to the present
evaluate-bulk  evaluate all patients of a FHIR Bulk Data export
report     show the outcomes of the cards
forget     delete what is older than the retention period
content    check, test, mutate, list and reload the clinical content
lactmed    import LactMed records into the content, and compare a new archive with it
rxnorm     import products of RxNorm into the content; ``ndc`` and ``atc`` import other sources
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from functools import cache, partial
from pathlib import Path
from typing import IO, Any

import click
import orjson
import requests
from flask import Flask
from rich.console import Console, Group
from rich.markup import escape
from rich.panel import Panel
from rich.progress import Progress, track
from rich.progress import open as open_with_progress
from rich.table import Table
from rich.text import Text

from ..access.outgoing import is_loopback
from ..access.tracing import send_traces
from ..app import create_app, make_evaluation
from ..authoring.code_warnings import code_warnings
from ..authoring.form_warnings import OLD_NAMES, old_name_warnings, style_warnings
from ..authoring.lactmed import (
    FILE,
    ArchiveError,
    Record,
    Unread,
    changes,
    overlay,
    read_archive,
    write_overlay,
    write_records,
)
from ..authoring.medicine_table import as_csv as medicines_as_csv
from ..authoring.medicine_table import rows as medicine_rows
from ..authoring.medicine_table import seen_in
from ..authoring.mutations import mutations
from ..authoring.products import (
    MOST_UNMATCHED,
    KnownMedicines,
    Opened,
    Product,
    ProductsError,
    atc_products,
    bundle_of,
    codes_by_medicine,
    ndc_products,
    rxnorm_products,
    write,
)
from ..authoring.terminology import code_systems, value_sets
from ..authoring.vignettes import Vignette, VignetteError, differences, vignettes
from ..content.compiled import Content
from ..content.conditions import Because, Truth
from ..content.fact_types import FactValue
from ..content.files import ContentError
from ..content.loader import SHIPPED, load_content
from ..content.schema import BANDS, Assessment
from ..content.wording import say_value
from ..demo.ehr import example_request, present_request, write_examples
from ..engine.card_json import EXTENSION, Card, Cards
from ..engine.decide import NothingEvaluated
from ..engine.evaluation import Evaluation
from ..engine.facts import all_too_old, records_too_old, values_left_out
from ..engine.findings import Conclusion, Findings, say_conclusions
from ..engine.inert import one_line
from ..engine.patient import gets_no_card
from ..engine.render import SuggestionContext
from ..engine.suppression import Digests
from ..errors import CannotStart, Refusal
from ..fhir.chart import SAY_LEFT_OUT
from ..fhir.times import DAY
from ..hooks.fhir_server import FhirReader
from ..hooks.prefetch import resolve_prefetch
from ..hooks.protocol import HOOKS, HookRequest, read_request
from ..settings import Settings, SettingsError, read_settings
from ..storage.database import Database, DatabaseError
from ..storage.files import NoPlainFileError, file_for_owner, must_be_plain
from ..storage.report import (
    FEWEST,
    Report,
    as_csv,
    as_measure_report,
    disclosed_text,
    report_on,
    say_reasons,
)
from ..web.server import Options, run_under_gunicorn
from ..web.telemetry import write_logs_as_json
from .bulk import BulkEvaluation, ExportError, Summary, evaluate_all, open_export, scan

log = logging.getLogger("cds_service.command")

COLOURS = {"info": "blue", "warning": "dark_orange", "critical": "red"}
NOTHING_TO_DO = "All was read, and there is nothing to do."
MOST_SHOWN = 3  # vignettes named for a row, and warnings of one kind
MOST_NAMED = 40  # entries of one kind that ``content check`` names


def _hint(text: str) -> None:
    """Print advice to stderr: stdout may be redirected to a file or another command."""
    click.echo(text, err=True)


class Moment(click.ParamType[datetime]):
    """An ISO 8601 time with an offset."""

    name = "time"

    def convert(self, value: Any, param: Any, ctx: Any) -> datetime:
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value} is not an ISO 8601 time", param, ctx)
        if moment.tzinfo is None:
            self.fail(f"{value} needs an offset, such as Z or +02:00", param, ctx)
        return moment


@click.group()
@click.version_option(package_name="lactation-cds")
def main() -> None:
    """A CDS Hooks service for postpartum lactation support."""


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True)
@click.option("--workers", default=2, show_default=True, help="Processes.")
@click.option("--threads", default=24, show_default=True, help="Threads a process.")
def serve(host: str, port: int, workers: int, threads: int) -> None:
    """Run the service under gunicorn. Settings come from the environment (CDS_...).

    An open service (CDS_AUTH=open) listens on this machine only, unless
    CDS_OPEN_BEYOND_LOOPBACK=true says that more is meant.
    """
    settings = _serve_settings(host)
    _must_be_free(host, port, "serve")
    write_logs_as_json()
    if settings.traces:
        send_traces()
    if settings.suppression and not settings.patient_key.get_secret_value():
        log.warning(
            "CDS_PATIENT_KEY is not set: a card that was overridden is shown again all the same; "
            "set a secret, the same for all workers and machines"
        )
    options = Options(host, port, workers, threads, json_logs=True, pid_file=settings.pid_file)
    _serve(create_app, options)


@main.command(short_help="Try it: synthetic mothers and a small EHR.")
@click.option("--port", default=8000, show_default=True)
def demo(port: int) -> None:
    """Run the demo on 127.0.0.1: synthetic mothers, a FHIR endpoint, and a small EHR."""
    from ..demo.app import create_demo

    def invite() -> None:
        click.echo(
            f"Open http://127.0.0.1:{port}/ in a browser. Synthetic data only. Ctrl-C ends it."
        )

    _must_be_free("127.0.0.1", port, "demo")
    options = Options("127.0.0.1", port, workers=1, threads=32, ready=invite)
    _serve(lambda: create_demo(f"http://127.0.0.1:{port}"), options)


def _serve(make: Callable[[], Flask], options: Options) -> None:
    """Serve the application that ``make`` returns. Raises ``ClickException`` if it cannot start."""
    try:
        run_under_gunicorn(make, options)
    except CannotStart as error:
        raise click.ClickException(str(error)) from None


def _must_be_free(host: str, port: int, command: str) -> None:
    """Raises ``ClickException`` if the server could not listen at this address and port."""
    if any(given in os.environ for given in ("LISTEN_FDS", "GUNICORN_FD")):
        return  # the parent process listens already, and passes on its socket
    try:
        _listen(host, port)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            reason = error.strerror or type(error).__name__
            raise click.ClickException(f"nobody can listen at {host}:{port}: {reason}") from None
        for other in [*range(port + 1, min(port + 100, 65536)), 0]:
            with suppress(OSError):
                free = _listen(host, other)
                break
        at = "" if is_loopback(host) else f" --host {host}"
        raise click.ClickException(
            f"Port {port} is in use. Choose another: cds-service {command}{at} --port {free}"
        ) from None


def _listen(host: str, port: int) -> int:
    """Listen for a moment. Returns the port: a free one if ``port`` is 0. Raises ``OSError``."""
    family, kind, _, _, address = socket.getaddrinfo(
        host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tried.bind(address)
        tried.listen()
        return int(tried.getsockname()[1])


def _serve_settings(host: str) -> Settings:
    """The settings. Raises ``ClickException`` if an open service would listen beyond loopback.

    Unless ``CDS_OPEN_BEYOND_LOOPBACK`` confirms that this is meant.
    """
    settings = _settings()
    if settings.auth == "open" and not is_loopback(host) and not settings.open_beyond_loopback:
        raise click.ClickException(
            f"CDS_AUTH=open lets anyone in who reaches {host}. If that is meant, "
            "set CDS_OPEN_BEYOND_LOOPBACK=true as well."
        )
    return settings


def _settings() -> Settings:
    """The settings. Raises ``ClickException`` that names each setting that cannot be used."""
    try:
        return read_settings()
    except SettingsError as error:
        raise click.ClickException(str(error)) from None


@main.command(short_help="Load the synthetic mothers into a FHIR server.")
@click.argument("server", metavar="FHIR-SERVER")
@click.option("--wait", default=0, show_default=True, help="Seconds to wait for it to answer.")
def load(server: str, wait: int) -> None:
    """Load the synthetic mothers into a FHIR R4 server, with their times moved to the present.

    Each is a transaction; one that is there already is brought up to date.
    """
    base, now, until = server.rstrip("/"), datetime.now(UTC), time.monotonic() + wait
    while not _is_available(base):
        if time.monotonic() > until:
            raise click.ClickException(f"no FHIR server answers at {base}")
        time.sleep(2)
    mothers = vignettes()
    for mother in track(mothers, "Loading", console=Console(stderr=True), transient=True):
        answer = requests.post(
            base,
            data=orjson.dumps(mother.at(now)),
            headers={"Content-Type": "application/fhir+json"},
            timeout=60,
        )
        if answer.status_code != 200:
            text = f"{base} answered {answer.status_code} to {mother.name}"
            raise click.ClickException(text)
    click.echo(f"Loaded {len(mothers)} synthetic mothers into {base}.")
    _hint(f"One of them is Patient/{mothers[0].patient_id}.")


def _is_available(base: str) -> bool:
    try:
        return requests.get(f"{base}/metadata", timeout=60).status_code == 200
    except requests.RequestException:
        return False


@main.command(short_help="Show what became of the cards.")
@click.option("--days", default=90, show_default=True, type=click.IntRange(min=1))
@click.option("--csv", "as_text", is_flag=True, help="Print every figure as CSV.")
@click.option("--fhir", is_flag=True, help="Print the figures by card as a MeasureReport.")
def report(days: int, as_text: bool, fhir: bool) -> None:
    """Show what the cards achieve: shown, accepted, overridden and why, as on the dashboard."""
    loaded = _content()
    try:
        database = Database(_settings().database_url)
        database.upgrade()
        made = report_on(database, loaded, datetime.now(UTC), days)
    except DatabaseError as error:
        raise click.ClickException(str(error)) from None
    if as_text:
        click.echo(as_csv(made), nl=False)
    elif fhir:
        click.echo(orjson.dumps(as_measure_report(made), option=orjson.OPT_INDENT_2))
    elif not any(made.lines.values()):
        click.echo(f"No card was shown in the last {days} days.")
        _hint("CDS_DATABASE_URL must name the database of the service; --days looks further back.")
    else:
        console = Console()
        for kind in ("card", "intervention"):
            console.print(_report_table(kind, made))
        console.print(f"[dim]The last {days} days. Counts below {FEWEST} are not told.[/]")


def _report_table(kind: str, made: Report) -> Table:
    """A table of the outcomes of each card, or of each intervention (``kind``)."""
    table = Table(kind.capitalize(), title_justify="left")
    columns = ["shown", "accepted"]
    columns += ["overridden"] if kind == "card" else []
    for column in columns:
        table.add_column(column, justify="right")
    if kind == "card":
        table.add_column("why")
    for line in made.lines[kind]:
        cells = []
        for column in columns:
            count = getattr(line, column)
            share = line.share(count) if column != "shown" else None
            cells.append(
                disclosed_text(count) + (f" [dim]{share:4.0%}[/]" if share is not None else "")
            )
        table.add_row(line.label, *cells, *([say_reasons(line)] if kind == "card" else []))
    return table


@main.command(short_help="Delete what is older than CDS_KEEP_DAYS.")
@click.option("--older-than", "days", type=int, help="Days; CDS_KEEP_DAYS if not given.")
def forget(days: int | None) -> None:
    """Delete shown cards and feedback that are older than CDS_KEEP_DAYS from the database."""
    settings = _settings()
    keep = days if days is not None else settings.keep_days
    try:
        database = Database(settings.database_url)
        database.upgrade()
        deleted = database.forget_before(time.time() - keep * DAY)
    except DatabaseError as error:
        raise click.ClickException(str(error)) from None
    told = ", ".join(f"{count} of {table}" for table, count in deleted.items())
    click.echo(f"Deleted what is older than {keep} days: {told}.")


@main.command(short_help="Show the cards for a hook request in a file.")
@click.argument(
    "request_file", metavar="REQUEST.json", type=click.Path(exists=True, path_type=Path)
)
@click.option("--now", type=Moment(), help="Evaluate as of this time, not the present.")
@click.option("--json", "as_json", is_flag=True, help="Print the response as an EHR would get it.")
@click.option("--assess", is_flag=True, help="Also show how letdown was assessed, line by line.")
def evaluate(request_file: Path, now: datetime | None, as_json: bool, assess: bool) -> None:
    """Show the cards for a hook request in a file, as cds-service example prints one.

    What is not in its prefetch is read from its fhirServer, as the service would. Ends with 1 if
    the request is refused, with the OperationOutcome's text.
    """
    settings = _settings()
    content = _content()
    body = request_file.read_bytes()
    try:
        request, context = read_request(body, _hook_of(body))
        at = now or datetime.now(UTC)
        seconds = settings.deadline_ms / 1000
        chart = resolve_prefetch(
            content, request, context, FhirReader.of(settings), seconds, now=at
        )
        suggestion_context = SuggestionContext.of(request.hook, context)
        evaluation = make_evaluation(settings, content)
        answered = evaluation.answer(chart, suggestion_context, at, context.judged_orders)
    except Refusal as refusal:
        raise click.ClickException(f"{refusal.status}: {refusal.reason}") from None
    except NothingEvaluated as error:
        raise click.ClickException(f"500: no card could be judged: {error}") from None
    response: Cards = orjson.loads(answered.body)
    cards = response["cards"]
    if as_json:
        click.echo(orjson.dumps(response, option=orjson.OPT_INDENT_2))
        return
    console = Console()
    for card in cards:
        console.print(_card_panel(card))
    findings = evaluation.findings(evaluation.case(chart, at, context.judged_orders))
    if assess:
        for assessment in content.assessments.values():
            console.print(_assessment_table(assessment, findings.assess(assessment)))
    more = "" if assess else ", and --assess how letdown was assessed"
    _hint(f"--json prints the response as an EHR gets it{more}.")
    warnings = list(_unused_data(findings, request))
    for line in warnings:
        console.print("[dark_orange]Warning:[/]", Text(line))
    if cards:
        names = [f"{card['source']['topic']['code']} ({card['indicator']})" for card in cards]
        number = "1 card" if len(cards) == 1 else f"{len(cards)} cards"
        console.print(f"{number} as of {at.isoformat(timespec='minutes')}: {', '.join(names)}.")
    else:
        why = _why_no_cards(findings, all_used=not warnings)
        colour = "green" if why == NOTHING_TO_DO else "dark_orange"
        console.print(f"[{colour}]No cards.[/]", Text(why))


@main.command(short_help="Print a hook request for a synthetic mother.")
@click.argument("name", metavar="[MOTHER]", default="inhibited-letdown")
@click.option("--list", "names", is_flag=True, help="Print the names of all mothers instead.")
@click.option(
    "--write",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write Bundle and request of every mother into this directory instead.",
)
def example(name: str, names: bool, directory: Path | None) -> None:
    """Print the hook request for a synthetic mother, with her times moved to the present.

    Without MOTHER it is inhibited-letdown. The request can be judged by cds-service evaluate, or
    sent to the service with curl. What --write writes is as of the day for which the mothers are
    written: bundle.json, a transaction, and request.json, in a folder for each mother.
    """
    mothers = {mother.name: mother for mother in vignettes()}
    if names:
        click.echo("\n".join(sorted(mothers)))
        return
    if directory is not None:
        write_examples(_content(), mothers.values(), directory)
        click.echo(f"Wrote bundle.json and request.json of {len(mothers)} mothers to {directory}.")
        their_now = next(iter(mothers.values())).now.isoformat()
        _hint(f"cds-service evaluate FILE --now {their_now} shows the cards of one of them.")
        return
    if name not in mothers:
        near = get_close_matches(name, mothers)
        meant = f" Is it {' or '.join(near)}?" if near else ""
        raise click.ClickException(
            f"There is no mother {name}.{meant} cds-service example --list names all."
        )
    mother = mothers[name]
    click.echo(orjson.dumps(present_request(_content(), mother, datetime.now(UTC))))
    _hint(
        f"This is the {mother.expected.hook} of {name}, as of now. Into a file with > FILE, then "
        "cds-service evaluate FILE shows her cards."
    )


def _why_no_cards(findings: Findings, all_used: bool) -> str:
    """The reason why no card is shown."""
    if gets_no_card(findings.case.chart.patient, findings.content, findings.now):
        return "By the Patient resource, a child or someone who has died: there is never a card."
    if findings.closed_gates:
        return "Cards about milk are silent."
    if findings.unread:
        return f"Could not be read: {', '.join(findings.unread)}."
    statuses = {fact.status for fact in findings.facts.values()}
    if statuses == {"not-recorded"}:
        return "No record was sent that is read here."
    if all_too_old(findings.facts):
        return "Nothing that was sent of how it goes counts any more."
    if statuses.isdisjoint(("known", "conflicting")):
        return "Nothing that was sent counts any more, or could be read."
    return NOTHING_TO_DO if all_used else "Of what counts, nothing is to do."


def _describe_gates(findings: Findings) -> Iterator[str]:
    """A line for each closed gate: cards about milk are silent, and because of which facts."""
    for name in findings.closed_gates:
        gate = findings.content.gates[name]
        because: Because = {}
        findings.support(gate.finding, because)
        facts = dict.fromkeys(fact_id for fact_id, _ in because)
        told = "; ".join(
            _describe_fact(findings.facts[fact_id], findings.content) for fact_id in facts
        )
        yield f"Cards about milk are silent: {gate.label}{f' ({told})' if told else ''}."


def _describe_fact(fact: FactValue, content: Content) -> str:
    if fact.status == "conflicting":
        return f"{fact.spec.label}: records contradict each other"
    return f"{fact.spec.label}: {say_value(fact, content)}"


def _describe_old_records(records: int, newest: str) -> str:
    """A sentence: how many records are older than their windows, and the day of the newest."""
    older = (
        "1 record is older than its window"
        if records == 1
        else (f"{records:,} records are older than their windows")
    )
    return f"{older}, the newest of {newest}. With --now they are judged as of another time."


def _unused_data(findings: Findings, request: HookRequest) -> Iterator[str]:
    """A line for each kind of data that was sent and not used, and for each closed gate."""
    unknown = sorted(request.prefetch.keys() - findings.content.prefetch.keys())
    if unknown:
        yield f"Not read, for no prefetch key is called so: {', '.join(unknown)}."
    for why, count in findings.case.chart.left_out.items():
        yield f"Not used: {_records(count)} {SAY_LEFT_OUT[why]}."
    for reason, count in values_left_out(findings.facts).items():
        yield f"Not used: {_records(count)} ({reason.replace('-', ' ')})."
    yield from _describe_gates(findings)
    records, newest = records_too_old(findings.facts)
    if records:
        yield _describe_old_records(records, newest)


def _records(count: int) -> str:
    return "1 record" if count == 1 else f"{count:,} records"


@main.command("evaluate-bulk")
@click.argument(
    "directory", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option(
    "--output",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the cards go, as NDJSON. It names patients: only its owner can read it.",
)
@click.option("--now", type=Moment(), help="Evaluate as of this time, not the present.")
@click.option("--workers", default=os.cpu_count() or 1, show_default=True, help="Processes.")
def evaluate_bulk(directory: Path, output: Path, now: datetime | None, workers: int) -> None:
    """Evaluate a FHIR Bulk Data export, for everyone in it.

    Writes a line for each patient who has cards, and prints a summary. Ends with 1 if a line of the
    export could not be read, or someone could not be judged; all other results are still written.
    """
    settings, content = _settings(), _content()
    try:
        must_be_plain(output)  # before the long evaluation
        export = open_export(directory)
    except (ExportError, NoPlainFileError) as error:
        raise click.ClickException(str(error)) from None
    errors = Console(stderr=True)
    with Progress(console=errors, transient=True) as progress:
        task = progress.add_task("Reading", total=export.size)
        wanted = {key.resource for key in content.searches}
        scan(export, wanted, lambda read: progress.advance(task, read))
    at = now or datetime.now(UTC)
    evaluation = BulkEvaluation(export, content, at, settings.jurisdiction, settings.time_zone)
    patients, whole = export.patients, Summary()
    with Progress(console=errors, transient=True) as progress:
        task = progress.add_task("Evaluating", total=len(patients))
        with file_for_owner(output) as file:
            for lines, summary in evaluate_all(evaluation, patients, workers):
                file.write(lines)
                whole.add(summary)
                progress.advance(task, summary.patients)
    Console().print(_bulk_table(whole, content))
    if whole.too_old:
        many = "1 patient has" if whole.too_old == 1 else f"{whole.too_old:,} patients have"
        text = f"{many} no record of how it goes that counts any more."
        click.echo(f"{text} {_describe_old_records(whole.old_records, whole.newest_old)}")
    if count := export.without_patient:
        many = "1 line belongs" if count == 1 else f"{count:,} lines belong"
        click.echo(f"{many} to nobody: their subject is missing, or is no Patient.")
    missing = sorted(wanted - export.types)
    if missing:
        click.echo(f"Not exported, and so not known: {', '.join(missing)}.")
    click.echo(f"{whole.with_cards:,} lines are in {output}. They name patients.")
    if export.unreadable or whole.not_judged:
        raise click.ClickException(
            f"{export.unreadable} lines could not be read, {whole.not_judged} patients not judged"
        )


def _bulk_table(summary: Summary, content: Content) -> Table:
    title = f"{summary.with_cards:,} of {summary.patients:,} patients have cards"
    table = Table("Card", "Patients", title=title, title_justify="left")
    table.columns[1].justify = "right"
    for card, count in summary.cards.most_common():
        table.add_row(content.cards[card].title, f"{count:,}")
    return table


def _hook_of(body: bytes) -> str:
    """The hook of a request, if there is a service for it; else any hook: it is refused then."""
    hooks = tuple(HOOKS.values())
    try:
        named = orjson.loads(body)["hook"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return hooks[0]
    return named if named in hooks else hooks[0]


MARKS: dict[Truth, str] = {True: "[green]✓[/]", False: "[red]✗[/]", None: "[dark_orange]?[/]"}


def _assessment_table(assessment: Assessment, conclusions: list[Conclusion]) -> Table:
    """A table of an assessment: a row per conclusion, with its conditions and missing facts."""
    title = f"{assessment.label.capitalize()}: {say_conclusions(conclusions)}"
    table = Table("", "Conclusion", "Asks", "Missing", title=title, title_justify="left")
    for conclusion in conclusions:
        asks = [f"{MARKS[so]} {column} {word}" for column, (word, so) in conclusion.words.items()]
        table.add_row(
            MARKS[conclusion.holds],
            conclusion.finding.label,
            "\n".join(asks),
            Text(", ".join(conclusion.missing)),
        )
    return table


def _card_panel(card: Card) -> Panel:
    from rich.markdown import Markdown  # slow to import, and not needed by ``serve``

    colour = COLOURS[card["indicator"]]
    parts: list[Any] = [Text(card["summary"], style="bold"), Text(), Markdown(card["detail"])]
    for suggestion in card.get("suggestions", ()):
        mark = "★" if suggestion.get("isRecommended") else "•"
        kinds = ", ".join(
            str(action["resource"]["resourceType"]) if action["type"] == "create" else "delete"
            for action in suggestion["actions"]
        )
        parts.append(Text(f"{mark} {suggestion['label']}  ({kinds})", style=colour))
    for link in card.get("links", ()):
        parts.append(Text(f"↗ {link['label']}  {link['url']}", style="dim"))
    why = card["extension"][EXTENSION]
    topic = card["source"]["topic"]["code"]
    title = f"[bold {colour}]{card['indicator']}[/] {topic}"
    parts.append(Text(f"{' '.join(why['rows'])} · content {why['content']}", style="dim"))
    return Panel(Group(*parts), title=title, border_style=colour, title_align="left")


@main.group()
def content() -> None:
    """The clinical content."""


@content.command(short_help="Validate the content.")
@click.option(
    "--directory",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A directory laid over the shipped content; CDS_CONTENT_DIR if not given.",
)
@click.option(
    "--all", "everything", is_flag=True, help="Also what it holds, by name, and each row."
)
def check(directory: Path | None, everything: bool) -> None:
    """Validate the content and say what it holds. Ends with 1 if anything is wrong."""
    directory = directory or _settings().content_dir
    loaded = _content(directory)
    console = Console()
    if everything:
        console.print(_contents_table(loaded))
        _print_rows(console, loaded)
    else:
        counts = [f"{name} {len(entries)}" for name, entries in _sections(loaded).items()]
        console.print(f"It holds: {', '.join(counts)}.")
    waiting = [row.id for row in loaded.rows.values() if row.not_yet]
    working = len(loaded.rows) - len(waiting)
    console.print(f"{working} rows at work; not yet: {' '.join(waiting) or 'none'}.")
    reviews = Counter(entry.review for uses in loaded.row_uses().values() for _, entry in uses)
    told = ", ".join(f"{count} {review}" for review, count in reviews.most_common())
    console.print(f"Review of what is at work: {told}.")
    warnings = [*code_warnings(loaded), *old_name_warnings(loaded)]
    for read in (SHIPPED, directory):
        warnings += style_warnings(read) if read is not None else ()
    shown = Counter[str]()
    for kind, count in Counter(warning.kind for warning in warnings).most_common():
        console.print(f"[dark_orange]Warning:[/] {count} {kind}", soft_wrap=True)
        for warning in warnings:
            if warning.kind == kind and (everything or shown[kind] < MOST_SHOWN):
                shown[kind] += 1
                console.print("  ", Text(warning.text), soft_wrap=True)
    hidden = len(warnings) - shown.total()
    if hidden:
        _hint(f"{hidden} more warnings: cds-service content check --all names each.")
    elif not everything:
        _hint("--all also says row by row where it is at work, on what evidence, and who shows it.")
    _hint("Next: cds-service content test sees whether each vignette gets the cards it should.")
    console.print(
        f"Content [bold]{loaded.version}[/] is valid.",
        f"{len(warnings)} warnings." if warnings else "No warnings.",
    )


OVERLAY = click.option(
    "--overlay",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A directory laid over the shipped content; CDS_CONTENT_DIR if not given.",
)
VIGNETTES = click.argument(
    "directory", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path)
)


@content.command("reload", short_help="Have a running service load it anew.")
@click.option("--pid-file", type=click.Path(path_type=Path), help="CDS_PID_FILE if not given.")
def reload(pid_file: Path | None) -> None:
    """Have a running service load its content and clients anew.

    The content is checked whole before. Each worker ends what it has begun, and one with the new
    content takes its place, so that no answer mixes the two. /health/ready says what is served.
    """
    settings = _settings()
    checked = _content()
    path = pid_file or settings.pid_file
    if path is None:
        raise click.ClickException("set CDS_PID_FILE for the service, and here")
    try:
        os.kill(int(path.read_text()), signal.SIGHUP)
    except (OSError, ValueError) as error:
        raise click.ClickException(f"no service runs by {path} ({type(error).__name__})") from None
    _hint("/health/ready says which content is served.")
    click.echo(f"Content {checked.version} is checked. The workers change over to it.")


@content.command("test", short_help="Check that each vignette gets its cards.")
@VIGNETTES
@OVERLAY
def test_vignettes(directory: Path | None, overlay: Path | None) -> None:
    """Check that every vignette of DIRECTORY (the shipped ones, if not given) gets its cards.

    A vignette is a directory with expected.yaml and mother.yaml, or bundle.json. Ends with 1 if any
    differs.
    """
    loaded = _content(overlay)
    evaluation_in = cache(partial(Evaluation, loaded))
    console = Console()
    found = _vignettes(directory)
    failed = 0
    for vignette in found:
        told = vignette.slips(loaded)
        told += differences(vignette.expected, *_evaluator_of(loaded, vignette, evaluation_in)())
        failed += bool(told)
        mark = "[red]✗[/]" if told else "[green]✓[/]"
        console.print(f"{mark} [bold]{vignette.name}[/] {vignette.expected.title}")
        for line in told:
            console.print("    ", Text(line), soft_wrap=True)
    if failed:
        _hint("Correct the content, or what expected.yaml says of the vignettes marked ✗; again.")
    else:
        _hint("Next: cds-service content mutate sees whether they watch each threshold.")
    console.print(f"{len(found) - failed} of {len(found)} vignettes get the cards they should")
    if failed:
        raise click.exceptions.Exit(1)


@content.command(short_help="See that a vignette watches each threshold.")
@VIGNETTES
@OVERLAY
def mutate(directory: Path | None, overlay: Path | None) -> None:
    """Change each threshold, curve and contraindication, and see that some vignette notices.

    Prints the survivors: what could change by mistake and no vignette of DIRECTORY (the shipped
    ones, if not given) would see. Ends with 1 if there are any.
    """
    loaded = _content(overlay)
    evaluation_in = cache(partial(Evaluation, loaded))
    watching = [
        (vignette.expected, _evaluator_of(loaded, vignette, evaluation_in))
        for vignette in _vignettes(directory)
    ]
    console = Console()
    if any(differences(expected, *evaluate_hook()) for expected, evaluate_hook in watching):
        raise click.ClickException("a vignette differs already: see cds-service content test")
    every = list(mutations(loaded))
    survivors: list[str] = []
    for mutation in track(every, "Mutating", console=console, transient=True):
        mutation.make()
        try:
            if not any(
                differences(expected, *evaluate_hook()) for expected, evaluate_hook in watching
            ):
                survivors.append(mutation.name)
        finally:
            mutation.take_back()
    for name in survivors:
        console.print("[red]survives[/] ", Text(name), soft_wrap=True)
    if survivors:
        _hint("For each that survives, add a vignette just beside what it changes.")
    console.print(f"{len(every) - len(survivors)} of {len(every)} mutations are noticed")
    if survivors:
        raise click.exceptions.Exit(1)


@content.command("medicines", short_help="List the medicines, for a pharmacist.")
@click.option("--csv", "as_text", is_flag=True, help="As CSV, with all columns.")
@click.option("--not-read", is_flag=True, help="Those not read, by how often cards told of them.")
@click.option("--days", type=click.IntRange(1, 3650), default=90, show_default=True)
@click.option("--country", help="Where the service works; CDS_JURISDICTION if not given.")
@OVERLAY
def list_medicines(
    as_text: bool, not_read: bool, days: int, country: str | None, overlay: Path | None
) -> None:
    """List the medicines with what was read of them: the worst band first.

    With --not-read, those that are not read, by how often a card named them in the last days. That
    needs the database of the service (CDS_DATABASE_URL) and its secret (CDS_PATIENT_KEY).
    """
    loaded = _content(overlay)
    settings = _settings()
    here = country or settings.jurisdiction
    if not not_read:
        table = medicine_rows(loaded, here)
        if as_text:
            click.echo(medicines_as_csv(table), nl=False)
            return
        _print_table(table, ("name", "band", "line", "codes", "effects", "source", "review"))
        counts = Counter(row["band"] for row in table)
        told = ", ".join(f"{counts[band]} {band}" for band in BANDS)
        _hint("--csv has all columns; --not-read says which to read first.")
        Console().print(f"{len(table)} medicines in {here}: {told}.", soft_wrap=True)
        return
    table = medicine_rows(loaded, here, ["not-read"])
    secret = settings.patient_key.get_secret_value()
    seen: Counter[str] = Counter()
    shown: Sequence[Any] = ()
    if secret:
        cards = [card.id for card in loaded.cards.values() if card.body in ("medicines", "order")]
        since = datetime.now(UTC) - timedelta(days=days)
        try:
            database = Database(settings.database_url)
            database.upgrade()
            shown = database.reasons_of_cards(cards, since.timestamp())
        except DatabaseError as error:
            raise click.ClickException(str(error)) from None
        seen = seen_in(shown, [row["id"] for row in table], Digests(secret))
    table.sort(key=lambda row: -seen[row["id"]])
    for row in table:
        row["seen"] = disclosed_text(seen[row["id"]]) if secret else ""
    columns = ("name", "seen", "id", "codes", "effects")
    if as_text:
        click.echo(medicines_as_csv(table, columns), nl=False)
        return
    _print_table(table, columns)
    if secret:
        told = f"{len(shown)} cards about medicines in the last {days} days"
        Console().print(f"{len(table)} are not read; {told}. Below {FEWEST} is not told.")
    else:
        _hint("CDS_PATIENT_KEY and CDS_DATABASE_URL of the service tell how often each is seen.")
        Console().print(f"{len(table)} are not read.")


def _print_table(rows: list[dict[str, str]], columns: tuple[str, ...]) -> None:
    table = Table(*(name.capitalize() for name in columns))
    for column in table.columns:
        column.overflow = "fold"
    for row in rows:
        table.add_row(*(Text(row[name]) for name in columns))
    Console().print(table)


@content.command("terminology", short_help="Write all codes to a directory as FHIR.")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@OVERLAY
def write_terminology(directory: Path, overlay: Path | None) -> None:
    """Write all codes to DIRECTORY as FHIR, to be mapped and shared.

    The project's own as CodeSystems; each fact, answer, activity, medicine and feed as a ValueSet
    of its own code and of the standard and local ones that mean the same.
    """
    loaded = _content(overlay)
    directory.mkdir(parents=True, exist_ok=True)
    systems, sets = code_systems(loaded), value_sets(loaded)
    for name, resource in (systems | sets).items():
        (directory / name).write_bytes(orjson.dumps(resource, option=orjson.OPT_INDENT_2))
    console = Console()
    for name, code_system in systems.items():
        console.print(f"{directory / name}: {code_system['count']} codes", soft_wrap=True)
    console.print(f"and {len(sets)} ValueSets in {directory}", soft_wrap=True)


@main.group("lactmed", short_help="Read the National Library's archive of LactMed.")
def lactmed_commands() -> None:
    """The National Library's archive of LactMed (lactmed_NBK501922.tar.gz)."""


TO = click.option(
    "--to",
    type=click.Path(file_okay=False, path_type=Path),
    help="The hospital's own directory; CDS_CONTENT_DIR if not given.",
)
ARCHIVE = click.argument("archive", type=click.Path(exists=True, dir_okay=False, path_type=Path))


def _content_directory(to: Path | None) -> Path:
    """The hospital's own directory: that of the option ``--to``, or else ``CDS_CONTENT_DIR``."""
    directory = to or _settings().content_dir
    if directory is None:
        raise click.UsageError("name a directory with --to, or set CDS_CONTENT_DIR")
    return directory


@contextmanager
def _replace_older(target: Path, older: Path) -> Iterator[None]:
    """Move ``target`` to ``older`` while the block writes it anew; if that fails, move it back.

    So the new import is compared with the content without the older import.
    """
    if target.exists():
        target.replace(older)
    try:
        yield
    except BaseException:
        target.unlink(missing_ok=True)
        if older.exists():
            older.replace(target)
        raise
    older.unlink(missing_ok=True)


@lactmed_commands.command("import", short_help="Lay an archive beside the medicines.")
@ARCHIVE
@TO
def import_lactmed(archive: Path, to: Path | None) -> None:
    """Lay all records of ARCHIVE beside the shipped medicines, as a file of the content.

    Nothing is written unless the whole archive was read and the content is valid with it.
    """
    directory = _content_directory(to)
    records, unread, source = _read_lactmed(archive)
    if not records:
        raise click.ClickException(f"{archive.name} holds no record")
    directory.mkdir(parents=True, exist_ok=True)
    target, older = directory / FILE, directory / f"{FILE}.older"
    with _replace_older(target, older):
        shipped = _content(directory)
        entries = list(overlay(records.values(), shipped, source))
        target.write_text(write_overlay(entries, source), "utf-8")
        loaded = _content(directory)
    console = Console()
    _print_unread(console, unread)
    laid = len(loaded.medicines) - len(shipped.medicines)
    console.print(f"{len(records)} records read: {laid} new medicines, {len(records) - laid} known")
    _hint(f"Next: cds-service content test --overlay {directory}")
    console.print(f"{target}: content {loaded.version} is valid", soft_wrap=True)


@lactmed_commands.command(short_help="Write which record each medicine has, and its revision.")
@ARCHIVE
@click.option(
    "--to",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file of the content: in a checkout, cards/lactmed-records.yaml.",
)
def revisions(archive: Path, to: Path) -> None:
    """Write which record of ARCHIVE each shipped medicine has, and when it was revised.

    This is the one file of the shipped content that a program writes. A record that is not in
    ARCHIVE stays as it was. What was read of a record that was revised is to be read again.
    """
    loaded = _content()
    records, unread, source = _read_lactmed(archive)
    found = Counter(change.kind for change in changes(records.values(), loaded))
    to.write_text(write_records(records, loaded, source), "utf-8")
    console = Console()
    _print_unread(console, unread)
    _hint(
        "Next: cds-service content check, and read again what was revised: lactmed diff names it."
    )
    told = f"{found['revised']} revised, {found['gone']} not in the archive and left as they were"
    console.print(f"{to}: {told}", soft_wrap=True)


@lactmed_commands.command(short_help="Show how an archive differs from the content.")
@ARCHIVE
@OVERLAY
def diff(archive: Path, overlay: Path | None) -> None:
    """Show how ARCHIVE differs from the content: gone, revised, renamed and new records."""
    loaded = _content(overlay)
    records, unread, _ = _read_lactmed(archive)
    found = changes(records.values(), loaded)
    console = Console()
    table = Table("", "Record", "Title", "Was", "Is", "Our line, to be read again")
    for column in table.columns:
        column.overflow = "fold"
    for change in found:
        row = (change.kind, change.record_id, change.title, change.was, change.now)
        table.add_row(*(Text(cell) for cell in row), Text(change.note or ""))
    if found:
        console.print(table)
    _print_unread(console, unread)
    counts = Counter(change.kind for change in found)
    kinds = ("gone", "revised", "renamed", "new")
    told = ", ".join(f"{counts[kind]} {kind}" for kind in kinds)
    if found:
        _hint("Next: cds-service lactmed import lays them beside the content.")
    console.print(f"{len(records)} records in {archive.name}: {told}", soft_wrap=True)


FILES = click.argument(
    "files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)


@main.group("rxnorm", short_help="Read the products of RxNorm.")
def rxnorm_commands() -> None:
    """RxNorm in Rich Release Format; the prescribable subset needs no licence."""


@rxnorm_commands.command("import", short_help="Lay its products beside the medicines.")
@FILES
@TO
def import_rxnorm(files: tuple[Path, ...], to: Path | None) -> None:
    """Lay the ingredients and drugs of FILES beside the medicines, as ValueSets.

    FILES are RXNCONSO.RRF and RXNREL.RRF, and RXNSAT.RRF if its NDC codes are wanted too.
    """
    named = _by_kind(files, {"RXNCONSO": True, "RXNREL": True, "RXNSAT": False})
    _import_products(
        "rxnorm", files, to, lambda open_file, out, _: rxnorm_products(named, open_file, out)
    )


@main.group("ndc", short_help="Read the FDA's directory of NDC.")
def ndc_commands() -> None:
    """The National Drug Code directory of the FDA (ndctext.zip, unpacked)."""


@ndc_commands.command("import", short_help="Lay its products beside the medicines.")
@FILES
@TO
@click.option("--as-of", type=click.DateTime(["%Y-%m-%d"]), help="Today, if not given.")
def import_ndc(files: tuple[Path, ...], to: Path | None, as_of: datetime | None) -> None:
    """Lay the products of FILES beside the medicines, as ValueSets.

    FILES are product.txt, and package.txt if the codes of packages are wanted too.
    """
    named = _by_kind(files, {"product": True, "package": False})
    today = (as_of or datetime.now(UTC)).date()
    _import_products(
        "ndc", files, to, lambda open_file, out, _: ndc_products(named, open_file, out, today)
    )


@main.group("atc", short_help="Read ATC.")
def atc_commands() -> None:
    """The Anatomical Therapeutic Chemical classification, as a CSV of codes and names."""


@atc_commands.command("import", short_help="Lay its codes beside the medicines.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@TO
def import_atc(file: Path, to: Path | None) -> None:
    """Lay the substances and fixed combinations of FILE beside the medicines, as ValueSets.

    FILE has a column of codes (atc_code) and one of names (atc_name), in UTF-8.
    """
    _import_products(
        "atc", (file,), to, lambda open_file, out, known: atc_products(file, open_file, out, known)
    )


def _by_kind(files: tuple[Path, ...], kinds: dict[str, bool]) -> dict[str, Path]:
    """Files by kind, which is the name without its extension.

    ``kinds`` says of each kind whether it is needed. Raises ``UsageError`` for a file of no kind or
    of a kind that was given before, and if a needed one is missing.
    """
    named: dict[str, Path] = {}
    for file in files:
        kind = next((each for each in kinds if file.stem.casefold() == each.casefold()), None)
        if kind is None or kind in named:
            wanted = ", ".join(kinds)
            raise click.UsageError(f"{one_line(file.name[:60])}: one each of {wanted} is read")
        named[kind] = file
    for kind, needed in kinds.items():
        if needed and kind not in named:
            raise click.UsageError(f"{kind} is needed too")
    return named


def _import_products(
    kind: str,
    files: tuple[Path, ...],
    to: Path | None,
    read: Callable[[Opened, list[int], KnownMedicines], Iterator[Product]],
) -> None:
    """Write the products that ``read`` gives as a Bundle of ValueSets, and print a summary.

    Nothing is written if the content would not be valid with it.
    """
    directory = _content_directory(to)
    digests = [_digest(file) for file in files]
    source = ", ".join(map(_source_of, files, digests))
    directory.mkdir(parents=True, exist_ok=True)
    target = directory / f"0-{kind}.json"
    older = target.with_suffix(".older")
    left_out: list[int] = []
    try:
        must_be_plain(target)
        must_be_plain(older)
    except NoPlainFileError as error:
        raise click.ClickException(str(error)) from None
    with _replace_older(target, older):
        known = KnownMedicines(_content(directory))
        try:
            found = codes_by_medicine(read(_open_with_progress, left_out, known), known)
        except ProductsError as error:
            raise click.ClickException(str(error)) from None
        if not found.codes:
            raise click.ClickException(f"{found.read} codes read, and no medicine found in any")
        with file_for_owner(target) as file:
            file.writelines(write(bundle_of(found, source, digests[0])))
        target.chmod(0o644)  # it contains only codes, and the service may run as another user
        loaded = _content(directory)
    console = Console()
    if left_out:
        console.print(f"[dark_orange]not read[/] {len(left_out)} lines, the first {left_out[0]}")
    for name, count in found.unmatched.most_common(MOST_UNMATCHED):
        console.print("not in our list ", Text(f"{name}: {count}"))
    console.print(
        f"{found.read} codes read: {found.known} known in whole, {found.in_part} in part, "
        f"{found.unknown} not; {found.retired} of all retired",
        soft_wrap=True,
    )
    _hint(f"Next: cds-service content test --overlay {directory}")
    console.print(f"{target}: content {loaded.version} is valid", soft_wrap=True)


@contextmanager
def _open_with_progress(path: Path) -> Iterator[IO[bytes]]:
    console = Console(stderr=True)
    with open_with_progress(path, "rb", description=path.name, console=console) as file:
        yield file


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _source_of(path: Path, digest: str) -> str:
    """The name and digest of a file, to be written into the content as the source."""
    return f"{one_line(path.name[:60])} (sha256 {digest})"


def _read_lactmed(archive: Path) -> tuple[dict[str, Record], list[Unread], str]:
    """Read an archive, with a progress bar.

    Returns the records by id, the files that could not be read, and the name and digest of the
    archive. Raises ``ClickException``.
    """
    unread: list[Unread] = []
    console = Console(stderr=True)
    try:
        with open_with_progress(archive, "rb", description="Reading", console=console) as packed:
            records = {record.id: record for record in read_archive(packed, unread)}
        return records, unread, _source_of(archive, _digest(archive))
    except ArchiveError as error:
        raise click.ClickException(f"{archive.name}: {error}") from None


def _print_unread(console: Console, unread: list[Unread]) -> None:
    for file in unread:
        console.print("[dark_orange]not read[/] ", Text(f"{file.file}: {file.reason}"))


def _vignettes(directory: Path | None) -> list[Vignette]:
    try:
        found = vignettes(directory) if directory else vignettes()
        for vignette in found:
            _ = vignette.expected, vignette.bundle
    except VignetteError as error:
        raise click.ClickException(str(error)) from None
    if not found:
        raise click.ClickException("there is no vignette (a directory with expected.yaml) here")
    return found


def _evaluator_of(
    loaded: Content, vignette: Vignette, evaluation_in: Callable[[str], Evaluation]
) -> Callable[[], tuple[list[Card], dict[str, str]]]:
    """A function that evaluates the hook request of a vignette.

    It returns the cards, and the result of each assessment by id.
    """
    body = orjson.dumps(example_request(loaded, vignette))
    request, context = read_request(body, vignette.expected.hook)
    chart = resolve_prefetch(loaded, request, context, None, 0)
    suggestion_context = SuggestionContext.of(request.hook, context)
    orders = context.judged_orders
    evaluation = evaluation_in(vignette.expected.jurisdiction)
    now = vignette.now
    return lambda: (
        evaluation.cards(chart, suggestion_context, now, orders),
        evaluation.assessed(chart, now) if vignette.expected.assessments else {},
    )


def _content(overlay: Path | None = None) -> Content:
    """The content with an overlay: ``CDS_CONTENT_DIR`` if none is given.

    Raises ``ClickException`` after printing the faults, if the content is not valid.
    """
    try:
        return load_content(overlay or _settings().content_dir)
    except ContentError as error:
        console = Console(stderr=True)
        for fault in error.faults:
            where = f"{fault.file}:{fault.line}"
            console.print(f"[red]✗[/] [bold]{where}[/] ", Text(fault.reason), soft_wrap=True)
        for old_name in error.old_names:
            console.print(f"[dark_orange]{OLD_NAMES}:[/]", Text(str(old_name)), soft_wrap=True)
        raise click.ClickException(f"the content has {len(error.faults)} faults") from None


def _sections(loaded: Content) -> dict[str, Collection[str]]:
    """The ids of the main sections of the content, by the name of the section."""
    return {
        "facts": loaded.facts,
        "assessments": loaded.assessments,
        "findings": loaded.findings,
        "contraindications": loaded.contraindications,
        "interventions": loaded.interventions,
        "cards": loaded.cards,
        "medicines": loaded.medicines,
        "feeds": loaded.feeds,
        "curves": loaded.curves,
        "grades": loaded.grades,
        "evidence": loaded.evidence,
        "prefetch keys": loaded.prefetch,
    }


def _contents_table(loaded: Content) -> Table:
    table = Table("Holds", "Number", "Which", title="What the content holds", title_justify="left")
    for name, entries in _sections(loaded).items():
        names = list(entries)
        rest = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        table.add_row(name, str(len(names)), Text(", ".join(names[:MOST_NAMED]) + rest))
    return table


def _print_rows(console: Console, loaded: Content) -> None:
    """Print each row: where it is used, with which evidence and review, and which vignettes."""
    shown_by: dict[str, list[str]] = {}
    missed_by: dict[str, list[str]] = {}
    for vignette in vignettes():
        for row_id in vignette.expected.rows:
            shown_by.setdefault(row_id, []).append(vignette.name)
        for row_id in vignette.expected.near_misses:
            missed_by.setdefault(row_id, []).append(vignette.name)
    uses = loaded.row_uses()
    for row in loaded.rows.values():
        entries = [entry for _, entry in uses[row.id]]
        sources = dict.fromkeys(n for entry in entries for n in getattr(entry, "evidence", ()))
        grades = {grade for entry in entries if (grade := getattr(entry, "grade", None))}
        where = _describe_uses(uses[row.id])
        if row.not_yet:
            where = f"[dark_orange]not yet:[/] {row.not_yet}" + (f" ({where})" if where else "")
        evidence = "; ".join(dict.fromkeys(loaded.evidence[name].short for name in sources))
        told = {
            "at work in": where,
            "evidence": escape(evidence),
            "grade": " ".join(sorted(grades)),
            "review": ", ".join(dict.fromkeys(entry.review for entry in entries)),
            "shown by": _shorten(shown_by.get(row.id, [])),
            "near miss": _shorten(missed_by.get(row.id, [])),
        }
        console.print(f"\n[bold]{row.id}[/] {escape(row.says)}")
        lines = Table.grid(padding=(0, 2))
        for name, text in told.items():
            if text:
                lines.add_row(Text(f"  {name}", style="dim"), text)
        console.print(lines)
    console.print()


def _shorten(names: list[str]) -> str:
    """The first names of a list, and how many more there are."""
    rest = f" and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else ""
    return ", ".join(names[:MOST_SHOWN]) + rest


def _describe_uses(uses: list[tuple[str, Any]]) -> str:
    """The entries that a row stands behind; more than three medicines are only counted."""
    medicines = sum(kind == "medicine" for kind, _ in uses)
    named = [f"{kind} {entry.id}" for kind, entry in uses if kind != "medicine" or medicines <= 3]
    return ", ".join([*named, f"{medicines} medicines"] if medicines > 3 else named)


if __name__ == "__main__":
    sys.exit(main())
