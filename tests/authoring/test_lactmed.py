"""The National Library's archive: read as a stream, safely, and laid beside the shipped medicines.

The archives are made here in its format (BITS, one NXML file a substance), of synthetic records.
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from cds_service.authoring import lactmed
from cds_service.authoring.form_warnings import style_warnings
from cds_service.authoring.lactmed import (
    ATC,
    FILE,
    UNII,
    ArchiveError,
    first_sentence,
    read_archive,
    write_records,
)
from cds_service.cli.__main__ import main
from cds_service.content.compiled import Content
from cds_service.content.dialect import read_yaml
from cds_service.content.files import ContentError
from cds_service.content.loader import SHIPPED, load_content
from tests.support.mothers import birth, cards_of, medicine, plan, why

pytestmark = pytest.mark.slow

DOCTYPE = (
    '<!DOCTYPE book-part-wrapper PUBLIC "-//NLM//DTD BITS Book Interchange DTD v2.0 20151225//EN"'
    ' "BITS-book2.dtd">'
)


def record(
    record_id: str = "LM9001",
    title: str = "Synthetin",
    revised: tuple[int, int, int] | None = (2026, 9, 15),
    keywords: Iterable[str] = (),
    summary: str = "Amounts in milk are low. Nothing else is known.",
    doctype: str = DOCTYPE,
) -> bytes:
    """One chapter as the archive holds it."""
    day = "<day>{2}</day><month>{1}</month><year>{0}</year>"
    date = f'<date date-type="revised">{day.format(*revised)}</date>' if revised else ""
    words = "".join(f"<kwd>{keyword}</kwd>" for keyword in keywords)
    return f"""<?xml version="1.0" encoding="UTF-8"?>
{doctype}
<book-part-wrapper id="{record_id}" content-type="chapter" dtd-version="2.0">
  <book-meta><book-id book-id-type="pmcid">lactmed</book-id></book-meta>
  <book-part book-part-type="chapter">
    <book-part-meta>
      <book-part-id book-part-id-type="pmcid">{record_id}</book-part-id>
      <title-group><title>{title}</title></title-group>
      <pub-history>
        <date date-type="created"><day>31</day><month>10</month><year>2006</year></date>{date}
      </pub-history>
      <kwd-group kwd-group-type="synonyms">{words}</kwd-group>
    </book-part-meta>
    <body>
      <sec id="a"><title>Drug Levels and Effects</title>
        <sec id="b"><title>Summary of Use during Lactation</title><p>{summary}</p></sec>
        <sec id="c"><title>Drug Levels</title><p>None.</p></sec>
      </sec>
    </body>
  </book-part>
</book-part-wrapper>""".encode()


CONTENTS = (
    b"<book-part-wrapper content-type='toc'><book-part><body/></book-part></book-part-wrapper>"
)


def packed(files: dict[str, bytes], *others: tarfile.TarInfo) -> bytes:
    """A tar.gz with these files below the archive's own directory."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for other in others:
            archive.addfile(other)
        for name, data in files.items():
            member = tarfile.TarInfo(name if "/" in name else f"lactmed_NBK501922/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def read(data: bytes) -> tuple[list[lactmed.Record], dict[str, str]]:
    unread: list[lactmed.Unread] = []
    records = list(read_archive(io.BytesIO(data), unread))
    return records, {Path(file.file).name: file.reason for file in unread}


def test_a_record_is_read_with_all_that_is_kept_of_it() -> None:
    keywords = [
        "Synthetin",
        "Synthetin [USAN:INN]",
        "Milkalin (sulfate salt)",
        "N02BE99",
        "UNII-ABCDEF1234",
        "ABCDEF1234",
        "51-84-3",
        "EINECS 251-509-1",
        "tablet",
        "SYN",
        "2-[[(5S)-7-hydroxy]oxy]-a-very-long-chemical-name-of-it",
    ]
    data = packed(
        {"toc.nxml": CONTENTS, "figure1.jpg": b"\xff\xd8", "LM9001.nxml": record(keywords=keywords)}
    )
    (found,), unread = read(data)
    assert found == lactmed.Record(
        "LM9001",
        "Synthetin",
        "2026-09-15",
        ("Synthetin", "Milkalin"),
        ((ATC, "N02BE99"), (UNII, "ABCDEF1234")),
        "Amounts in milk are low.",
    )
    assert unread == {"toc.nxml": "it is no chapter"}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (record(revised=None), "it lacks a revision date"),
        (record(title=""), "it lacks a title"),
        (record(record_id="../../etc/passwd"), "it lacks an id"),
        (b"<book-part-wrapper", "it is not well-formed XML"),
        (b"", "it is not well-formed XML"),
        (b"\x00\x01\x02", "it is not well-formed XML"),
        (record(doctype="<!DOCTYPE x [<!ENTITY a 'aaaa'>]>"), "its XML defines entities"),
        (
            record(doctype="<!DOCTYPE x [<!ENTITY a SYSTEM 'file:///etc/passwd'>]>", title="&a;"),
            "its XML defines entities",
        ),
        (b"<a>" * 200_000, "it is not well-formed XML"),
        (b"<a>" * 50_000 + b"</a>" * 50_000, "it is no chapter"),
        (b" " * (lactmed.MOST_BYTES_OF_A_RECORD + 1), "it is larger than any record"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_record_is_told_and_spoils_nothing(data: bytes, reason: str) -> None:
    records, unread = read(packed({"bad.nxml": data, "LM9001.nxml": record()}))
    assert [each.id for each in records] == ["LM9001"]
    assert unread == {"bad.nxml": reason}


def linked(name: str, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    return member


def test_nothing_of_the_archive_is_followed_or_unpacked(tmp_path: Path) -> None:
    links = [linked("link.nxml", tarfile.SYMTYPE), linked("hard.nxml", tarfile.LNKTYPE)]
    outside = {"../../outside.nxml": record("LM9002"), "/etc/absolute.nxml": record("LM9003")}
    records, unread = read(packed(outside, *links))
    assert [each.id for each in records] == ["LM9002", "LM9003"]
    assert unread == {"link.nxml": "it is no plain file", "hard.nxml": "it is no plain file"}
    assert list(tmp_path.iterdir()) == []


def large_header() -> bytes:
    member = tarfile.TarInfo("x.nxml")
    member.pax_headers = {"comment": "a" * (lactmed.MOST_BYTES_OF_A_HEADER + 1)}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(member)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: b"", "no whole tar.gz"),
        (lambda: b"PK\x03\x04", "no whole tar.gz"),
        (lambda: gzip.compress(b"not a tar" * 100), "no whole tar.gz"),
        (lambda: packed({"LM9001.nxml": record()})[:-200], "no whole tar.gz"),
        (large_header, "a header of it is larger than any header"),
    ],
)
def test_an_archive_that_is_none_is_refused(make: Callable[[], bytes], reason: str) -> None:
    with pytest.raises(ArchiveError, match=reason):
        read(make())


@pytest.mark.parametrize(
    ("limit", "value", "reason"),
    [
        ("MOST_BYTES", 20_000, "it unpacks to far more than LactMed"),
        ("MOST_FILES", 2, "it holds far more files than LactMed"),
    ],
)
def test_a_bomb_is_put_down(
    monkeypatch: pytest.MonkeyPatch, limit: str, value: int, reason: str
) -> None:
    monkeypatch.setattr(lactmed, limit, value)
    bomb = packed({f"{n}.jpg": bytes(10_000) for n in range(20)})
    with pytest.raises(ArchiveError, match=reason):
        read(bomb)


def test_the_archive_is_never_in_memory_whole() -> None:
    long = "Amounts are low. " + "Much more is told here. " * 8_000
    data = packed({f"LM{n}.nxml": record(f"LM{n}", summary=long) for n in range(9001, 9201)})
    whole = 200 * len(long)
    tracemalloc.start()
    count = sum(1 for _ in read_archive(io.BytesIO(data), []))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 200
    assert peak < whole / 10


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("Low in milk. Second.", "Low in milk."),
        ("After 80 mg/sq. m. or less, wait. Then nurse.", "After 80 mg/sq. m. or less, wait."),
        ("Some drugs, e.g. Aspirin, differ. No.", "Some drugs, e.g. Aspirin, differ."),
        ("It is 0.5 mg. A dose of 2.5 mg is high.", "It is 0.5 mg. A dose of 2.5 mg is high."),
        ("No end", "No end"),
        ("", ""),
    ],
)
def test_the_first_sentence(text: str, first: str) -> None:
    assert first_sentence(text) == first


@given(st.text())
def test_the_first_sentence_is_the_beginning_of_the_text(text: str) -> None:
    assert text.startswith(first_sentence(text))


# --- the commands -------------------------------------------------------------------------------


MONTH = {
    "LM142.nxml": record(  # ibuprofen, which is shipped
        "LM142", "Ibuprofen", (2026, 10, 15), ["Ibuprofen", "Synthobrufen"], "Synthetic sentence."
    ),
    "LM9001.nxml": record(
        keywords=["Milkalin", "N02BE99"], summary="Low | in &lt;b&gt;*milk*. More."
    ),
    "lm_x.nxml": record("new_one", "Newtin", keywords=["Sharedin"]),
    "LM9004.nxml": record("LM9004", "Oldtin", keywords=["Sharedin"]),
}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "lactmed_NBK501922.tar.gz"
    path.write_bytes(packed(MONTH))
    return path


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(main, ["lactmed", *arguments], env={"COLUMNS": "140"})
    assert result.exit_code == code, result.output
    return str(result.output)


def test_an_import_lays_the_records_beside_the_shipped_ones(
    archive: Path, tmp_path: Path, content: Content
) -> None:
    own = tmp_path / "own"
    output = run("import", str(archive), "--to", str(own))
    assert "4 records read: 3 new medicines, 1 known" in output
    loaded = load_content(own)
    assert len(loaded.medicines) == len(content.medicines) + 3
    ibuprofen, shipped = loaded.medicines["ibuprofen"], content.medicines["ibuprofen"]
    assert ibuprofen.lactmed.revised == "2026-10-15"
    assert ibuprofen.names == [*shipped.names, "Synthobrufen"]
    assert (ibuprofen.reading, ibuprofen.codes) == (shipped.reading, shipped.codes)

    atc = {"coding": [{"system": ATC, "code": "N02BE99"}]}
    by_code = cards_of(loaded, birth(200), plan("nurse"), medicine(medicationCodeableConcept=atc))
    card = by_code["medicines-and-milk"]
    assert card["detail"].startswith("- Synthetin: not read by us. LactMed: Low in b milk . LM9001")
    assert "LactMed: Synthetin, revised 2026-09-15" in [link["label"] for link in card["links"]]
    by_name = medicine(medicationCodeableConcept={"text": "Sharedin 5 mg"})
    card = cards_of(loaded, birth(200), plan("nurse"), by_name)["medicines-and-milk"]
    assert "Newtin (by name, one of 2 records that match)" in card["detail"]
    assert {e["value"] for e in why(card)["because"]} == {"lactmed-new-one", "lactmed-lm9004"}


def test_a_code_of_two_records_is_left_out(tmp_path: Path) -> None:
    archive = tmp_path / "lactmed.tar.gz"
    both = {f"{n}.nxml": record(n, f"Tin{n}", keywords=["A10BF77"]) for n in ("LM9005", "LM9006")}
    archive.write_bytes(packed(both))
    run("import", str(archive), "--to", str(tmp_path / "own"))
    loaded = load_content(tmp_path / "own")
    assert loaded.medicines["lactmed-lm9005"].codes == []


def test_a_new_month_replaces_the_older_one(archive: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    run("import", str(archive), "--to", str(own))
    archive.write_bytes(packed({"LM9001.nxml": record(title="Synthetin B", revised=(2026, 10, 1))}))
    output = run("diff", str(archive), "--overlay", str(own))
    assert "1 revised, 1 renamed, 0 new" in output
    run("import", str(archive), "--to", str(own))
    loaded = load_content(own)
    assert loaded.medicines["lactmed-lm9001"].name == "Synthetin B"
    assert list(style_warnings(own)) == []
    assert "lactmed-new-one" not in loaded.medicines
    assert "0 revised, 0 renamed, 0 new" in run("diff", str(archive), "--overlay", str(own))


def test_an_import_that_fails_leaves_all_as_it_was(archive: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    run("import", str(archive), "--to", str(own))
    before = {path.name: path.read_bytes() for path in own.iterdir()}
    archive.write_bytes(archive.read_bytes()[:-100])
    assert "it is no whole tar.gz" in run("import", str(archive), "--to", str(own), code=1)
    assert {path.name: path.read_bytes() for path in own.iterdir()} == before
    # A medicine of the hospital's own that has the id of a new record, and no name.
    (own / "own.yaml").write_text("medicines: [{id: lactmed-lm9005, names: []}]")
    archive.write_bytes(packed({"LM9005.nxml": record("LM9005")}))
    run("import", str(archive), "--to", str(own), code=1)
    assert (own / FILE).read_bytes() == before[FILE]


def test_the_hospitals_own_files_win(archive: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "1-own.yaml").write_text("medicines: [{id: ibuprofen, names: [ibuprofen]}]")
    run("import", str(archive), "--to", str(own))
    assert load_content(own).medicines["ibuprofen"].names == ["ibuprofen"]


def test_diff_says_what_a_month_changes_and_which_notes_to_read_again(
    archive: Path, content: Content
) -> None:
    gone = sum(each.lactmed is not None for each in content.medicines.values()) - 1
    output = run("diff", str(archive))
    assert "LM142" in output
    assert "2025-08-15" in output
    assert "2026-10-15" in output
    assert "A preferred choice for pain" in output  # our note on ibuprofen, older than the revision
    assert "Synthetin" in output
    said = f"4 records in lactmed_NBK501922.tar.gz: {gone} gone, 1 revised, 0 renamed, 3 new"
    assert said in output


def test_import_wants_a_directory_and_a_record(archive: Path, tmp_path: Path) -> None:
    assert "name a directory" in run("import", str(archive), code=2)
    archive.write_bytes(packed({"toc.nxml": CONTENTS}))
    assert "holds no record" in run("import", str(archive), "--to", str(tmp_path), code=1)


# --- the records of the shipped medicines -------------------------------------------------------


RECORDS = SHIPPED / "lactmed-records.yaml"


def test_what_a_program_writes_of_records_stands_in_one_file(content: Content) -> None:
    written = RECORDS.read_text()
    source = written.partition("revision: from ")[2].partition(".\n")[0]
    assert written == write_records({}, content, source)
    assert len(content.lactmed_records) > 300
    for path in SHIPPED.rglob("*.yaml"):
        assert path == RECORDS or not re.search(r"^ +lactmed:", path.read_text(), re.M), path


def test_the_revisions_of_an_archive_are_written_for_the_shipped_medicines(
    archive: Path, tmp_path: Path, content: Content
) -> None:
    to = tmp_path / "lactmed-records.yaml"
    output = run("revisions", str(archive), "--to", str(to))
    left = len(content.lactmed_records) - 1
    assert f"1 revised, {left} not in the archive and left as they were" in output
    before = {entry.id: entry for entry in content.lactmed_records.values()}
    after = {entry["id"]: entry for entry in read_yaml(to.read_bytes())["lactmed-records"]}
    assert after.keys() == before.keys()
    changed = {name for name in after if after[name]["revised"] != before[name].revised}
    assert changed == {"ibuprofen"}
    assert after["ibuprofen"]["revised"] == "2026-10-15"


def test_a_record_of_no_medicine_is_a_fault_but_not_of_one_that_a_hospital_leaves_out(
    tmp_path: Path,
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text('medicines: [{id: "ibuprofen", off: true}]\n')
    assert "ibuprofen" not in load_content(tmp_path).lactmed_records
    own.write_text('lactmed-records: [{id: "none-such", record: "LM1", revised: "2026-01-01"}]\n')
    with pytest.raises(ContentError, match="there is no medicine 'none-such'"):
        load_content(tmp_path)
