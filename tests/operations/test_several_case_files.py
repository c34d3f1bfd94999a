"""Case files of several requests: ordered once, made by the worker as whoever ordered them, downloaded and deleted."""

import hashlib
import os
import uuid
from copy import deepcopy
from datetime import timedelta
from io import BytesIO
from zipfile import ZipFile

import pytest
import time_machine
from django.core.exceptions import PermissionDenied
from django.db import OperationalError, connection
from django.utils import timezone

from tests import factories
from tests.factories import acting
from tests.operations import facts_of, only_for, refused
from tests.papers import PDF, kept_as
from unlocks import operations
from unlocks.actors import Actor
from unlocks.certificates import verify_certificate
from unlocks.database import guards
from unlocks.digest import canonical, sha256
from unlocks.ledger import chain, signing_keys
from unlocks.models import CaseFiles, LedgerEntry, UnlockRequest
from unlocks.operations import several_case_files
from unlocks.operations.several_case_files import delete_old_case_files, make_ordered_case_files
from unlocks.outbox import worker
from unlocks.rules import Refusal

pytestmark = pytest.mark.django_db
TOLD = ["case_files_ordered", "case_file_made", "case_files_made", "case_files_taken", "case_files_canceled"]


@pytest.fixture(scope="module")
def scene(shared):
    """Three requests, two with an answer, and who may take their case files."""
    factories.record_certificate_key()
    agent, manager = factories.make_user("agent", group="Agent"), factories.make_user("manager", group="Manager")
    cases = [factories.case_recorded_by_phone(agent), factories.case_consented(agent), factories.case_awaiting(agent)]
    for case in cases[:2]:
        operations.issue_certificate(case.consent, by=acting(manager))
    return agent, manager, cases


@pytest.fixture
def cases(db, scene):
    return deepcopy(scene[2])


@pytest.fixture
def manager(scene):
    return deepcopy(scene[1])


@pytest.fixture
def agent(scene):
    return deepcopy(scene[0])


@pytest.fixture(autouse=True)
def place(case_file_place):
    return case_file_place


def requests_of(cases):
    return UnlockRequest.objects.filter(pk__in=[case.unlock_request.pk for case in cases])


def ordered(cases, by, **more):
    by = Actor(name=by.username, user=by, ip="203.0.113.7")
    return operations.order_case_files(requests_of(cases), narrowed=["Status: Closed"], by=by, **more)


def made(cases, by):
    order = ordered(cases, by)
    assert make_ordered_case_files() == 1
    order.refresh_from_db()
    return order


def taken(order, by):
    with operations.take_case_files(order, by=acting(by)) as file:
        return file.read()


def unpacked(order, by, to):
    with ZipFile(BytesIO(taken(order, by))) as archive:
        assert archive.testzip() is None
        archive.extractall(to)
    return to / str(order)


def wrong(folder):
    try:
        verify_certificate.verify_folder(str(folder), keys=signing_keys.published())
    except verify_certificate.NotGenuine as reason:
        return str(reason)
    return ""


def told():
    entries = LedgerEntry.objects.filter(kind__in=TOLD).order_by("sequence")
    return [(entry.kind, entry.user.username, entry.ip, facts_of(entry)) for entry in entries]


def kinds():
    return [kind for kind, *_ in told()]


def test_the_worker_makes_one_zip_of_all_of_them_and_each_is_genuine(cases, manager, tmp_path):
    order = ordered(cases, manager)
    assert (order.state, order.requests) == ("queued", sorted(case.unlock_request.pk for case in cases))
    assert [make_ordered_case_files(), make_ordered_case_files()] == [1, 0]
    order.refresh_from_db()
    assert (order.state, order.tries, order.done, order.faults, order.answer) == ("made", 1, 2, 0, "")
    folder = unpacked(order, manager, tmp_path)
    references = [str(case.unlock_request) for case in cases]
    assert sorted(path.name for path in folder.iterdir()) == ["README.txt", *references, "manifest.json"]
    assert [wrong(folder), *(wrong(folder / reference) for reference in references)] == [""] * 4
    text = (folder / "README.txt").read_text()
    assert text.startswith("3 case files: Status: Closed\n")
    assert f"python3 verify_certificate.py {order} --keys keys.json" in text
    (folder / references[1] / "timeline.txt").write_text("Nothing happened.")
    assert wrong(folder) == f"{references[1]}: timeline.txt was changed."


def test_who_ordered_what_was_made_and_who_downloaded_it_is_in_the_ledger(cases, manager):
    order = made(cases[:2], manager)
    content, auditor = taken(order, manager), factories.make_user("auditor", group="Auditor")
    taken(order, auditor)
    of_order = {"order": str(order.pk), "requests": 2}
    picked = sha256(canonical([case.unlock_request.pk for case in cases[:2]]))
    digest = hashlib.sha256(content).hexdigest()
    first, *each, ready, one, other = told()
    assert first[:3] == ("case_files_ordered", "manager", "203.0.113.7")
    assert first[3] == of_order | {"sha256": picked, "narrowed": ["Status: Closed"]}
    assert [entry[:3] for entry in each] == [("case_file_made", "manager", "203.0.113.7")] * 2
    assert ready == ("case_files_made", "manager", "203.0.113.7", of_order | {"faults": 0, "sha256": digest})
    assert one == ("case_files_taken", "manager", None, of_order | {"sha256": digest})
    assert other[1] == "auditor"
    assert (order.size, order.sha256, list(chain.faults())) == (len(content), digest, [])
    rests = [chain.event_of(entry).rest for entry in LedgerEntry.objects.filter(kind__startswith="case_files_")]
    assert set(rests) == {": 2 requests, Status: Closed", ": 2 requests"}


def test_only_for_those_who_prove_what_happened(cases, manager):
    order = made(cases[2:], manager)
    only_for(["Manager", "Auditor"], lambda by: operations.order_case_files(requests_of(cases), narrowed=[], by=by))
    for group, may in (("Agent", False), ("Manager", True), ("Auditor", True), (None, False)):
        by = acting(factories.make_user(f"other-{group}", group=group))
        if may:
            operations.take_case_files(order, by=by).close()
        else:
            with pytest.raises(PermissionDenied):
                operations.take_case_files(order, by=by)
    assert kinds().count("case_files_taken") == 2


def test_the_same_order_is_taken_once_while_it_is_being_made(cases, manager, agent):
    first = ordered(cases, manager)
    assert ordered(cases, manager) == first
    assert ordered(cases[:2], manager) != first
    assert ordered(cases, factories.make_user("auditor", group="Auditor")) != first
    assert kinds() == ["case_files_ordered"] * 3
    while make_ordered_case_files():
        pass
    assert ordered(cases, manager) != first


def test_none_and_too_many_are_refused(cases, manager, monkeypatch):
    with refused(Refusal.NO_REQUESTS, says="Nothing was ordered: choose at least one request."):
        ordered([], manager)
    monkeypatch.setattr(several_case_files, "MOST", 2)
    with refused(Refusal.TOO_MANY_REQUESTS):
        ordered(cases, manager)
    ordered(cases[:2], manager)


def test_what_is_missing_or_damaged_is_said_at_the_top_too(cases, agent, manager, evidence_place, tmp_path):
    case = cases[0]
    operations.attach_evidence(case.consent, what="signed_paper", file_name="signed.pdf", content=PDF, by=acting(agent))
    (evidence_place / kept_as(PDF)).unlink()
    order = made(cases[:2], manager)
    assert (order.state, order.faults) == ("made", 1)
    folder = unpacked(order, manager, tmp_path / "out")
    path = f"{case.unlock_request}/evidence/{case.consent}-1.pdf"
    assert (
        f"MISSING OR DAMAGED\n------------------\n{path}: “signed.pdf” (SHA-256 " in (folder / "README.txt").read_text()
    )
    assert wrong(folder) == ""
    ready = LedgerEntry.objects.get(kind="case_files_made")
    assert chain.event_of(ready).rest == ": 2 requests, 1 missing or damaged"


def test_nothing_is_made_for_who_writes_a_row_of_their_own(cases, manager):
    now = timezone.now()
    keys = [case.unlock_request.pk for case in cases]
    order = CaseFiles.objects.create(id=uuid.uuid4(), by=manager, at=now, next_try_at=now, requests=keys)
    more = ordered(cases[:1], manager)
    CaseFiles.objects.filter(pk=more.pk).update(requests=keys)
    assert [make_ordered_case_files() for _ in range(3)] == [1, 1, 0]
    for one in (order, more):
        one.refresh_from_db()
        said = "This is not what the desk was told to make. Order the case files again."
        assert (one.state, one.answer) == ("failed", said)
    assert kinds() == ["case_files_ordered"]


def test_whoever_may_not_any_more_gets_none(cases, manager):
    order = ordered(cases, manager)
    manager.groups.clear()
    make_ordered_case_files()
    order.refresh_from_db()
    assert order.state == "failed"
    assert order.answer == "manager may not do this: it needs the permission unlocks.make_case_file."
    assert kinds() == ["case_files_ordered"]


def test_without_a_key_none_is_made(cases, manager, settings):
    order = ordered(cases, manager)
    settings.CERTIFICATE_KEYS = [bytes(32)]
    make_ordered_case_files()
    order.refresh_from_db()
    assert (order.state, order.answer.partition(":")[0]) == ("failed", "No certificate can be signed")
    assert kinds() == ["case_files_ordered"]


# --- Canceled --------------------------------------------------------------------------------------------------------


def test_what_waits_is_canceled_by_who_ordered_it_or_a_manager(cases, manager, agent):
    auditor, other = (factories.make_user(name, group="Auditor") for name in ("auditor", "other-auditor"))
    orders = [ordered(cases, auditor), ordered(cases, manager), ordered(cases[:1], auditor)]
    for order, nobody in ((orders[0], other), (orders[0], agent), (orders[1], auditor)):
        with pytest.raises(PermissionDenied):
            operations.cancel_case_files(order, by=acting(nobody))
    assert kinds() == ["case_files_ordered"] * 3
    for order, by in zip(orders, (auditor, manager, manager), strict=True):
        operations.cancel_case_files(order, by=acting(by))
        assert (order.state, order.answer, order.keep_until) == ("canceled", f"{by} canceled it.", None)
    assert operations.cancel_case_files(orders[0], by=acting(manager)).answer == "auditor canceled it."
    assert make_ordered_case_files() == 0
    assert [entry for entry in told() if entry[0] == "case_files_canceled"] == [
        ("case_files_canceled", by, None, {"order": str(order.pk), "requests": len(order.requests)})
        for order, by in zip(orders, ("auditor", "manager", "manager"), strict=True)
    ]
    with refused(Refusal.NO_ZIP, says="There is nothing to download: canceled."):
        taken(orders[0], manager)
    assert ordered(cases, auditor) != orders[0]


@pytest.mark.parametrize("case", [1, 3])
def test_the_worker_stops_after_the_case_during_which_it_is_canceled(cases, manager, place, case):
    order = ordered(cases, manager)
    read = []

    def meanwhile(execute, sql, params, many, context):
        read.extend([sql] * ("unlocks_consentevidence" in sql))
        if len(read) == case:
            read.extend([sql] * 9)
            operations.cancel_case_files(CaseFiles.objects.get(), by=acting(manager))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(meanwhile):
        assert [make_ordered_case_files(), make_ordered_case_files()] == [1, 0]
    order.refresh_from_db()
    assert (order.state, order.size, list(place.iterdir())) == ("canceled", None, [])
    assert sorted(kinds()) == ["case_file_made"] * case + ["case_files_canceled", "case_files_ordered"]


def test_what_was_canceled_is_not_made_for_who_writes_its_row(cases, manager):
    order = ordered(cases, manager)
    operations.cancel_case_files(order, by=acting(manager))
    CaseFiles.objects.update(state="queued", answer="", done_at=None)
    assert [make_ordered_case_files(), make_ordered_case_files()] == [1, 0]
    order.refresh_from_db()
    assert (order.state, kinds()) == ("failed", ["case_files_ordered", "case_files_canceled"])


def test_what_has_ended_is_not_canceled(cases, manager):
    order = made(cases[2:], manager)
    with refused(Refusal.ALREADY_RECORDED, says="Already recorded as ready."):
        operations.cancel_case_files(order, by=acting(manager))
    taken(order, manager)


# --- Broken off ------------------------------------------------------------------------------------------------------


def test_what_cannot_be_written_is_tried_again_and_then_given_up(cases, manager, place):
    place.write_text("not a folder")
    order = ordered(cases[2:], manager)
    at = timezone.now()
    for tries in range(1, 6):
        with time_machine.travel(at := at + timedelta(days=1), tick=False):
            assert [make_ordered_case_files(), make_ordered_case_files()] == [1, 0]
        order.refresh_from_db()
        assert (order.state, order.tries) == ("queued", tries)
        assert order.answer.startswith("FileExistsError: ")
    with time_machine.travel(at + timedelta(days=1)):
        assert make_ordered_case_files() == 0
    order.refresh_from_db()
    assert (order.state, order.tries) == ("failed", 5)
    assert order.answer.startswith("It was tried 5 times, and the last try broke off (FileExistsError: ")
    assert order.answer.endswith("). Tell whoever looks after the server, and then order the case files again.")
    with refused(Refusal.NO_ZIP, says="There is nothing to download: not made."):
        taken(order, manager)


def test_a_worker_that_dies_leaves_it_to_the_next_one(cases, manager, place):
    order = ordered(cases, manager)

    def dies(execute, sql, params, many, context):
        if "INSERT INTO" in sql and "case_files_made" in str(params):
            raise OperationalError("server closed the connection unexpectedly")
        return execute(sql, params, many, context)

    CaseFiles.objects.update(answer="OSError: of an earlier try")
    with connection.execute_wrapper(dies), pytest.raises(OperationalError):
        make_ordered_case_files()
    order.refresh_from_db()
    assert (order.state, order.tries, order.answer, make_ordered_case_files()) == ("queued", 1, "", 0)
    with time_machine.travel(timezone.now() + timedelta(hours=1)):
        assert make_ordered_case_files() == 1
    order.refresh_from_db()
    assert (order.state, order.tries) == ("made", 2)
    assert ZipFile(BytesIO(taken(order, manager))).testzip() is None


@pytest.mark.parametrize(("at", "made_in_all"), [(1, 4), (3, 6)])
def test_a_worker_whose_lease_ran_out_makes_way(cases, manager, at, made_in_all):
    order = ordered(cases, manager)
    asked = []

    def slow(execute, sql, params, many, context):
        asked.extend(["papers"] * ("unlocks_consentevidence" in sql))
        if len(asked) == at:
            asked.extend(["papers"] * 9)
            with time_machine.travel(timezone.now() + timedelta(hours=1)):
                assert make_ordered_case_files() == 1
        return execute(sql, params, many, context)

    with connection.execute_wrapper(slow):
        assert make_ordered_case_files() == 1
    order.refresh_from_db()
    assert (order.state, order.tries) == ("made", 2)
    assert (kinds().count("case_file_made"), kinds().count("case_files_made")) == (made_in_all, 1)
    assert ZipFile(BytesIO(taken(order, manager))).testzip() is None


# --- The ZIP ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spoil", [lambda file: file.unlink(), lambda file: file.write_bytes(b"PK")])
def test_a_zip_that_is_damaged_is_not_handed_out(cases, manager, place, spoil):
    order = made(cases[2:], manager)
    [file] = place.iterdir()
    spoil(file)
    with refused(Refusal.ZIP_DAMAGED):
        taken(order, manager)


def test_a_zip_that_was_exchanged_with_its_row_is_not_handed_out(cases, manager, place):
    order = made(cases[2:], manager)
    [file] = place.iterdir()
    file.write_bytes(b"PK")
    with guards.lifted():
        CaseFiles.objects.update(sha256=hashlib.sha256(b"PK").hexdigest(), size=2)
    with refused(Refusal.ZIP_DAMAGED):
        taken(order, manager)


def test_what_is_not_ready_is_not_handed_out(cases, manager):
    order = ordered(cases, manager)
    with refused(Refusal.NO_ZIP, says="There is nothing to download: being made."):
        taken(order, manager)


def test_it_is_kept_for_the_days_that_are_set_and_then_deleted(cases, manager, place, settings):
    settings.CASE_FILE_LIFETIME = timedelta(days=2)
    order = made(cases[2:], manager)
    assert order.keep_until == order.done_at + timedelta(days=2)
    with time_machine.travel(order.keep_until - timedelta(seconds=5)):
        assert delete_old_case_files() == 0
    assert len(list(place.iterdir())) == 1
    with time_machine.travel(order.keep_until + timedelta(seconds=5)):
        assert [delete_old_case_files(), delete_old_case_files()] == [1, 0]
    order.refresh_from_db()
    assert (order.state, list(place.iterdir())) == ("deleted", [])
    with refused(Refusal.NO_ZIP, says="There is nothing to download: deleted."):
        taken(order, manager)
    assert kinds() == ["case_files_ordered", "case_file_made", "case_files_made"]


def test_what_workers_that_died_left_behind_is_deleted(cases, manager, place):
    order = made(cases[2:], manager)
    [kept] = place.iterdir()
    strays = [place / "old-1.zip", place / "old-1.part.zip", place / "new-1.part.zip"]
    for stray in strays:
        stray.write_bytes(b"PK")
    for old in (*strays[:2], kept):
        os.utime(old, (0, 0))
    assert delete_old_case_files() == 0
    assert sorted(place.iterdir()) == sorted([kept, strays[2]])
    order.refresh_from_db()
    assert order.state == "made"


def test_the_worker_does_both(cases, manager, settings):
    order = ordered(cases[2:], manager)
    worker.make_case_files()
    order.refresh_from_db()
    assert order.state == "made"
    settings.CASE_FILE_LIFETIME = timedelta(0)
    worker.look_after("one")
    order.refresh_from_db()
    assert order.state == "deleted"
