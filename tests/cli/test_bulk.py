"""An export evaluated: everyone gets the cards that a hook would have given her."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from flask.testing import FlaskClient

from cds_service.authoring.vignettes import NOW, Vignette
from cds_service.cli.bulk import ExportError, Summary, evaluate_on_dask
from cds_service.content.compiled import Content
from tests.support.calls import VIEW
from tests.support.exports import EXPORTED, cards_in, evaluate, resources_of, write_export
from tests.support.mothers import average, birth, hook_request, inhibited, milk, observation

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("workers", ["1", "3"])
def test_each_mother_gets_her_cards_and_nobody_else_any(
    content: Content, tmp_path: Path, workers: str
) -> None:
    assert len(EXPORTED) > 60
    smoking = {"system": "urn:lactation-cds:fact", "code": "smoking-status"}
    smoker = {"system": "urn:lactation-cds:answer", "code": "smoker"}
    no_mother = {
        "resourceType": "Observation",
        "id": "of-a-man",
        "status": "final",
        "code": {"coding": [smoking]},
        "subject": {"reference": "Patient/man"},
        "effectiveDateTime": NOW.isoformat(),
        "valueCodeableConcept": {"coding": [smoker]},
    }
    write_export(tmp_path / "export", [*resources_of(EXPORTED), no_mother], content)
    result = evaluate(tmp_path / "export", tmp_path / "cards.ndjson", "--workers", workers)
    assert result.exit_code == 0, result.output
    expected = {m.patient_id: m.expected.cards for m in EXPORTED if m.expected.cards}
    assert cards_in(tmp_path / "cards.ndjson") == expected
    assert f"{len(expected)} of {len(EXPORTED) + 1} patients have cards" in result.output
    assert "Not exported" not in result.output
    assert stat.S_IMODE((tmp_path / "cards.ndjson").stat().st_mode) == 0o600


def small_export(content: Content, tmp_path: Path) -> Path:
    mother = next(mother for mother in EXPORTED if mother.name == "inhibited-letdown")
    write_export(tmp_path / "export", resources_of([mother]), content)
    return tmp_path / "export"


def test_an_output_that_others_could_read_is_replaced_by_one_that_they_cannot(
    content: Content, tmp_path: Path
) -> None:
    output = tmp_path / "cards.ndjson"
    output.write_text("of an earlier run")
    output.chmod(0o644)
    held_open = output.open()  # as by who looks at the earlier one
    assert evaluate(small_export(content, tmp_path), output).exit_code == 0
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert len(cards_in(output)) == 1
    assert held_open.read() == "of an earlier run"
    held_open.close()
    assert {path.name for path in tmp_path.iterdir()} == {"export", "cards.ndjson"}


@pytest.mark.parametrize("engine", ["processes", "dask"])
@pytest.mark.parametrize("there", ["a file", "nothing"])
def test_nothing_is_written_through_a_symbolic_link(
    content: Content, tmp_path: Path, there: str, engine: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    if there == "a file":
        elsewhere.write_text("mine")
    parts = tmp_path / "parts"
    parts.mkdir()
    link = parts / "part-00000.ndjson"
    link.symlink_to(elsewhere)
    export = small_export(content, tmp_path)
    if engine == "dask":
        with pytest.raises(OSError, match="is a symbolic link"):
            on_dask(export, parts, "synchronous", partitions=1)
    else:
        result = evaluate(export, link)
        assert result.exit_code == 1
        assert f"{link} is a symbolic link; name the file that is meant" in result.output
    assert [path.name for path in parts.iterdir()] == [link.name]
    assert elsewhere.read_text() == "mine" if there == "a file" else not elsewhere.exists()


def test_nothing_but_a_file_is_replaced(content: Content, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    result = evaluate(small_export(content, tmp_path), pipe)
    assert f"{pipe} is no plain file" in result.output
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    result = evaluate(tmp_path / "export", tmp_path / "none" / "cards.ndjson")
    assert f"{tmp_path / 'none'} is no directory" in result.output


def test_what_was_not_exported_is_not_known(content: Content, tmp_path: Path) -> None:
    mother = next(mother for mother in EXPORTED if mother.name == "inhibited-letdown")
    write_export(tmp_path / "export", resources_of([mother]), content)
    (tmp_path / "export" / "Condition.ndjson").unlink()
    result = evaluate(tmp_path / "export", tmp_path / "cards.ndjson")
    assert "Not exported, and so not known: Condition." in result.output
    (line,) = (tmp_path / "cards.ndjson").read_text().splitlines()
    assert "Could not be read: conditions" in json.loads(line)["cards"][0]["detail"]


BROKEN = [
    "{",
    "[]",
    '"x"',
    '{"id": "no-type", "subject": {}}',
    '{"resourceType": [], "subject": {}}',
]


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_line_is_told_and_spoils_nobody(
    content: Content, tmp_path: Path, broken: str
) -> None:
    mother = next(mother for mother in EXPORTED if mother.name == "inhibited-letdown")
    write_export(tmp_path / "export", resources_of([mother]), content)
    with (tmp_path / "export" / "Observation.ndjson").open("a") as file:
        file.write(f"{broken}\n\n")
    result = evaluate(tmp_path / "export", tmp_path / "cards.ndjson")
    assert result.exit_code == 1
    assert "1 lines could not be read" in result.output
    assert cards_in(tmp_path / "cards.ndjson") == {mother.patient_id: mother.expected.cards}


@pytest.mark.parametrize("focus", [5, True, "Patient/x", {"reference": "Patient/x"}, [5, None]])
def test_a_strange_focus_names_nobody(content: Content, tmp_path: Path, focus: Any) -> None:
    mother = next(mother for mother in EXPORTED if mother.name == "inhibited-letdown")
    odd = {"resourceType": "Observation", "id": "odd", "subject": {"reference": "Patient/other"}}
    write_export(tmp_path / "export", [*resources_of([mother]), odd | {"focus": focus}], content)
    result = evaluate(tmp_path / "export", tmp_path / "cards.ndjson")
    assert result.exit_code == 0, result.output
    assert cards_in(tmp_path / "cards.ndjson") == {mother.patient_id: mother.expected.cards}
    assert "1 of 2 patients have cards" in result.output


@pytest.mark.parametrize("engine", ["processes", "dask"])
def test_a_medicine_that_is_only_pointed_at_is_found(
    content: Content, tmp_path: Path, engine: str
) -> None:
    mother = next(mother for mother in EXPORTED if mother.name == "medicines")
    resources = json.loads(json.dumps(resources_of([mother])))
    number = 0
    for resource in list(resources):
        concept = resource.pop("medicationCodeableConcept", None)
        if concept is not None:
            number += 1
            identifier = f"medication-{number}"
            resource["medicationReference"] = {"reference": f"Medication/{identifier}"}
            medication = {"resourceType": "Medication", "id": identifier, "code": concept}
            resources.append(medication)
    assert number
    write_export(tmp_path / "export", resources, content)
    output = tmp_path / "cards.ndjson"
    if engine == "dask":
        on_dask(tmp_path / "export", tmp_path / "parts", "synchronous", partitions=1)
        output = tmp_path / "parts" / "part-00000.ndjson"
    else:
        evaluate(tmp_path / "export", output)
    assert cards_in(output) == {mother.patient_id: mother.expected.cards}


@pytest.mark.parametrize("engine", ["processes", "dask"])
def test_old_records_and_lines_of_nobody_are_counted(
    content: Content, tmp_path: Path, engine: str
) -> None:
    """Two mothers of long ago, one of now, and lines that say of nobody or of no Patient."""
    records: list[dict[str, Any]] = []
    for name, hours in (("old-1", 24 * 20), ("old-2", 24 * 30), ("now", 1.0)):
        hers = [birth(24 * 40), *(milk(20, hours + more) for more in (0, 5, 9))]
        records += [each | {"subject": {"reference": f"Patient/{name}"}} for each in hers]
    nobodys: list[Any] = [None, {"display": "she"}, {"reference": "Group/1"}, 5]
    records += [milk(20, 1, subject=subject) for subject in nobodys]
    write_export(tmp_path / "export", records, content)
    if engine == "dask":
        summary = on_dask(tmp_path / "export", tmp_path / "parts", "synchronous", partitions=3)
        assert (summary.too_old, summary.old_records) == (2, 6)
        assert (summary.newest_old, summary.without_patient) == ("2025-12-26", len(nobodys))
        return
    output = evaluate(tmp_path / "export", tmp_path / "cards.ndjson").output
    told = " ".join(output.split())
    assert "2 patients have no record of how it goes that counts any more." in told
    assert "6 records are older than their windows, the newest of 2025-12-26." in told
    assert "4 lines belong to nobody: their subject is missing, or is no Patient." in told


def test_a_directory_without_an_export_says_so(tmp_path: Path) -> None:
    result = evaluate(tmp_path, tmp_path / "cards.ndjson")
    assert result.exit_code == 1
    assert "no NDJSON file" in result.output
    assert not (tmp_path / "cards.ndjson").exists()


def on_dask(export: Path, output: Path, scheduler: str, **more: Any) -> Summary:
    """By a scheduler of Dask by its name, or by ``cluster``: processes that talk over TCP."""
    made = evaluate_on_dask(str(export), str(output), NOW, **more)
    with ExitStack() as later:
        if scheduler == "cluster":
            # Here, since it takes half a second and `make quick` only collects this module.
            import dask
            from distributed import Client, LocalCluster

            keep_on_disk_nothing = {"distributed.worker.memory.spill": False}
            later.enter_context(dask.config.set(keep_on_disk_nothing))
            cluster = LocalCluster(
                n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
            )
            scheduler = later.enter_context(Client(later.enter_context(cluster)))
        summary: Summary = made.compute(scheduler=scheduler)
    return summary


def with_infants_records(mother: Vignette) -> list[dict[str, Any]]:
    """Her resources, with those about her infant recorded for the infant, if there is but one."""
    infant = {"reference": f"Patient/infant-of-{mother.patient_id}"}
    resources = json.loads(json.dumps(resources_of([mother])))
    other = [{"reference": "Patient/the-other-infant"}]
    named = {str(resource["focus"]) for resource in resources if "focus" in resource}
    if len(named - {str(other)}) > 1:
        return resources
    for resource in resources:
        if resource.get("focus") == other:
            continue
        if resource.pop("focus", None):
            resource["subject"] = infant
    naming = {
        "resourceType": "Observation",
        "id": f"names-infant-of-{mother.patient_id}",
        "status": "final",
        "code": {"text": "Skin to skin"},
        "subject": {"reference": f"Patient/{mother.patient_id}"},
        "focus": [infant],
    }
    return [*resources, naming]


@pytest.mark.parametrize(
    ("scheduler", "partitions", "block"),
    [("cluster", 3, "16 KiB"), ("threads", 7, "40 KiB"), ("synchronous", None, "128 MiB")],
)
def test_partitions_on_dask_come_to_the_same(
    content: Content, tmp_path: Path, scheduler: str, partitions: int | None, block: str
) -> None:
    resources = [resource for mother in EXPORTED for resource in with_infants_records(mother)]
    assert sum("infant-of-" in str(resource.get("subject")) for resource in resources) > 20
    write_export(tmp_path / "export", resources, content)
    with (tmp_path / "export" / "Observation.ndjson").open("a") as file:
        file.write("{\n\n[]\n")
    evaluate(tmp_path / "export", tmp_path / "cards.ndjson")
    summary = on_dask(
        tmp_path / "export", tmp_path / "parts", scheduler, partitions=partitions, block=block
    )
    expected = {m.patient_id: m.expected.cards for m in EXPORTED if m.expected.cards}
    assert cards_in(tmp_path / "cards.ndjson") == expected
    parts = sorted((tmp_path / "parts").iterdir())
    lines = [line for part in parts for line in part.read_bytes().splitlines()]
    assert sorted(lines) == sorted((tmp_path / "cards.ndjson").read_bytes().splitlines())
    assert (summary.patients, summary.with_cards) == (len(EXPORTED), len(expected))
    assert (summary.unreadable, summary.not_judged) == (2, 0)
    assert {stat.S_IMODE(part.stat().st_mode) for part in parts} == {0o600}


def test_dask_is_told_if_there_is_no_export(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no NDJSON file"):
        on_dask(tmp_path, tmp_path / "parts", "synchronous")


# --- as a hook reads it -------------------------------------------------------------------------

HER, BABY = "mother-1", "baby-1"
MRN = [{"system": "urn:mrn", "value": "M-1"}]
STAY = {
    "resourceType": "Encounter",
    "id": "her-stay",
    "status": "in-progress",
    "subject": {"reference": f"Patient/{HER}"},
}
WITHIN = STAY | {
    "id": "its-stay",
    "subject": {"reference": f"Patient/{BABY}"},
    "partOf": {"reference": "https://ehr.example.org/fhir/Encounter/her-stay"},
}
RELATED = {
    "resourceType": "RelatedPerson",
    "id": "rp",
    "patient": {"reference": f"Patient/{BABY}"},
    "relationship": [{"coding": [{"code": "MTH"}]}],
}
SHE: dict[str, Any] = {"resourceType": "Patient", "id": HER}
BORN = {"resourceType": "Patient", "id": BABY, "birthDate": "2026-01-08"}
LINK = {"other": {"reference": "RelatedPerson/rp"}, "type": "seealso"}
PACIFIER = observation("pacifier-use", True, subject={"reference": f"Patient/{BABY}"})
FAMILIES: dict[str, tuple[list[dict[str, Any]], bool]] = {
    "an Encounter within hers": ([SHE, BORN, STAY, WITHIN], True),
    "her identifier": ([SHE | {"identifier": MRN}, BORN, RELATED | {"identifier": MRN}], True),
    "her link": ([SHE | {"link": [LINK]}, BORN, RELATED], True),
    "an Encounter within another's": (
        [SHE, BORN, STAY | {"subject": {"reference": "Patient/other"}}, WITHIN],
        False,
    ),
    "another's identifier": ([SHE, BORN, RELATED | {"identifier": MRN}], False),
    "a father": (
        [SHE | {"link": [LINK]}, BORN, RELATED | {"relationship": [{"coding": [{"code": "FTH"}]}]}],
        False,
    ),
}


def evaluated(export: Path, output: Path, engine: str, **more: Any) -> dict[str, list[str]]:
    """The cards of an export by patient: by processes, or by Dask in three partitions."""
    if engine == "processes":
        result = evaluate(export, output)
        assert result.exit_code == 0, result.output
        return cards_in(output)
    on_dask(export, output, "synchronous", partitions=3, block="1 KiB", **more)
    found = [cards_in(part) for part in output.iterdir()]
    return {patient: cards for part in found for patient, cards in part.items()}


@pytest.mark.parametrize("engine", ["processes", "dask"])
@pytest.mark.parametrize(("family", "linked"), FAMILIES.values(), ids=FAMILIES)
def test_an_infant_is_hers_by_what_links_it_in_a_hook(
    content: Content,
    client: FlaskClient,
    tmp_path: Path,
    family: list[dict[str, Any]],
    linked: bool,
    engine: str,
) -> None:
    hers = [*average(7), PACIFIER]
    write_export(tmp_path / "export", [*family, *hers], content)
    cards = evaluated(tmp_path / "export", tmp_path / "out", engine)
    assert cards.get(HER) == (["supply-risk-factors"] if linked else None)
    request = hook_request(content, *hers)
    request["prefetch"]["patient"] = family[0]
    request["prefetch"]["conditions"] = {
        "resourceType": "Bundle",
        "entry": [{"resource": each} for each in family[1:]],
    }
    answered = client.post(VIEW, json=request).get_json()["cards"]
    assert [card["source"]["topic"]["code"] for card in answered] == cards.get(HER, [])


@pytest.mark.parametrize("engine", ["processes", "dask"])
def test_a_child_and_one_who_has_died_get_no_card(
    content: Content, tmp_path: Path, engine: str
) -> None:
    persons = {
        "grown": {"birthDate": "1990-01-01"},
        "child": {"birthDate": "2020-01-01"},
        "dead": {"birthDate": "1990-01-01", "deceasedBoolean": True},
    }
    records = []
    for name, members in persons.items():
        records.append({"resourceType": "Patient", "id": name, **members})
        her = {"reference": f"Patient/{name}"}
        records += [
            each | {"subject": her, "id": f"{name}-{n}"} for n, each in enumerate(inhibited())
        ]
    write_export(tmp_path / "export", records, content)
    assert list(evaluated(tmp_path / "export", tmp_path / "out", engine)) == ["grown"]


@pytest.mark.parametrize("zone", [None, "UTC"])
@pytest.mark.parametrize("engine", ["processes", "dask"])
def test_times_without_an_offset_are_in_the_zone_that_is_set(
    content: Content, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, zone: str | None
) -> None:
    records = json.loads(json.dumps(inhibited()).replace("+00:00", ""))
    write_export(tmp_path / "export", records, content)
    if zone is not None:
        monkeypatch.setenv("CDS_TIME_ZONE", zone)
    more = {"time_zone": ZoneInfo(zone)} if zone and engine == "dask" else {}
    cards = evaluated(tmp_path / "export", tmp_path / "out", engine, **more)
    assert ("inhibited-letdown" in cards[HER]) is (zone is not None)


def test_the_program_of_before_finds_it_by_its_old_name_and_is_told() -> None:
    program = "from cds_service.bulk import evaluate_on_dask as old; print(old.__module__)"
    ran = subprocess.run(
        [sys.executable, "-W", "always", "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "cds_service.cli.bulk"
    assert "cds_service.bulk is cds_service.cli.bulk now" in ran.stderr
