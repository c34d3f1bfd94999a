"""Instructions that are in no database, for what only reads them."""

from datetime import UTC, datetime

from unlocks.models import Account, Batch, Instruction, RequestedBatch

QUEUED = datetime(2026, 11, 27, 15, 4, 5, tzinfo=UTC)


def instruction(number="B-1042", *, what="unlock", queued_at=QUEUED, account="5001", request=123):
    batch = Batch(number=number, account=Account(number=account))
    line = RequestedBatch(unlock_request_id=request, batch=batch)
    return Instruction(what=what, batch=batch, line=line, queued_at=queued_at)


def instructions(count=2):
    return [instruction(f"B-{number}") for number in range(1, count + 1)]
