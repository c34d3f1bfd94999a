"""Facts of made-up certificates, one function a kind. Each call returns a new dict that its test may change."""

import hashlib

from unlocks.texts import first_terms, wording

# The trial run's.
PUBLIC_KEY = "7a1d27542365b1d3e5e7c6a66da628f26b9a44d7003b90ee84e34ce00e03e058"
PHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 "
    "Mobile/15E148 Safari/604.1"
)
TICKED = ["I am authorized to decide this for Northwind Heating", "I agree to the terms (version 1)"]
ASKED = (
    "ServiceTitan Support was asked to unlock the batches below, which were bypassed in the account of Northwind "
    "Heating. Support unlocks them only if you agree."
)
BATCHES = [
    ("INV-20261101-01", "Invoices, Service dept.", "11920.00", 14),
    ("PAY-20261101-02", "Payments, cards", "4410.50", 37),
    ("INS-20261102-01", "Invoices, Install dept.", "1174.00", 1),
]
CASE_HISTORY = [
    ("2026-11-23T13:02:11.000101+00:00", "Opened", "agent"),
    ("2026-11-23T13:04:40.000102+00:00", "Safer route offered", "agent"),
    ("2026-11-23T13:06:02.000103+00:00", "Consent link issued", "agent"),
    ("2026-11-23T13:06:02.500104+00:00", "Email sent", "Unlock Desk"),
    ("2026-11-23T13:40:17.000105+00:00", "Consent link opened", "Link for Dana Whitfield"),
    ("2026-11-23T13:43:58.000106+00:00", "PIN verified", "Link for Dana Whitfield"),
    ("2026-11-23T13:44:31.000107+00:00", "Consent given", "Link for Dana Whitfield"),
    ("2026-11-23T13:44:31.500108+00:00", "Email sent", "Unlock Desk"),
    ("2026-11-23T13:58:20.000109+00:00", "Assigned", "agent2"),
    ("2026-11-23T14:01:45.000110+00:00", "Unlock instructed", "agent2"),
    ("2026-11-23T14:02:10.000116+00:00", "Unlocked", "ServiceTitan"),
    ("2026-11-24T09:12:06.000111+00:00", "Marked as re-exported", "agent2"),
    ("2026-11-24T09:12:06.000112+00:00", "Closed", "agent2"),
]


INSTRUCTED_AT, UNLOCKED_AT = CASE_HISTORY[9][0], CASE_HISTORY[10][0]
INSTRUCTED = {"kind": "unlock", "at": INSTRUCTED_AT, "by": "agent2", "batches": 3, "why": ""}
UNLOCKED = {"kind": "unlocked", "at": UNLOCKED_AT, "by": "ServiceTitan", "batches": 3, "why": ""}
NEVER_INSTRUCTED = dict.fromkeys(("instructed_at", "unlocked_at", "unlocked_by"))
RECEIPT = "Receipt for Dana Whitfield"


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


def interim():
    """Agreed to through the link, instructed by somebody else and unlocked; the case is still open."""
    batches = [_batch(*row, outcome="unlocked") for row in BATCHES]
    text = shown_text(batches)
    return {
        "format": "unlock-desk-certificate/1",
        "number": "CN-000012-1",
        "code": "7K4Q-9M2X-TB6R",
        "issued_at": "2026-11-23T14:05:09.123456+00:00",
        "public_key": PUBLIC_KEY,
        "interim": True,
        "vendor": "ServiceTitan",
        "check_at": "https://desk.example/check/",
        "time_zone": "America/New_York",
        "consent": {
            "reference": "CN-000012",
            "decision": "agreed",
            "how": "link",
            "recorded_by": None,
            "decided_at": "2026-11-23T13:44:31.000107+00:00",
            "valid_until": "2026-11-26T13:44:31.000107+00:00",
            "terms_version": 1,
            "terms_title": first_terms.TITLE,
            "terms_published_at": "2026-11-01T05:00:00.000001+00:00",
            "text": text,
            "text_sha256": digest(text),
            "ticked": list(TICKED),
            "pressed": "Agree and record my consent",
            "why": None,
            "ip": "203.0.113.7",
            "browser": PHONE,
        },
        "case": {
            "reference": "UR-000007",
            "account_number": "4711",
            "account_name": "Northwind Heating",
            "accounting_software": "QuickBooks Online",
            "channel": "Phone",
            "opened_at": "2026-11-23T13:02:11.000101+00:00",
            "opened_by": "agent",
            "requester": "Dana Whitfield",
            "bypass_reason": "By mistake",
            "reason": "The batches were bypassed by mistake and are not in QuickBooks yet.",
            "advice": "Customer wants to export the batches",
            "advised_at": "2026-11-23T13:04:40.000102+00:00",
            "resolution": None,
            "closed_at": None,
        },
        "signer": {
            "name": "Dana Whitfield",
            "role": "Controller",
            "contact_name": "Dana Whitfield",
            "email": "d.whitfield@northwind.example",
        },
        "identity": {
            "pin_verified_at": "2026-11-23T13:43:58.000106+00:00",
            "pin_typed_by": "customer",
            "pin_verified_by": None,
        },
        "link": {
            "sent_at": "2026-11-23T13:06:02.000103+00:00",
            "sent_by": "agent",
            "shown_to": "agent",
            "expires_at": "2026-11-26T13:06:02.000103+00:00",
            "used_at": "2026-11-23T13:44:31.000107+00:00",
            "opened_at": "2026-11-23T13:40:17.000105+00:00",
            "opened_ip": "203.0.113.7",
            "opened_browser": PHONE,
            "openings": 1,
            "emailed": "sent",
            "emailed_at": "2026-11-23T13:06:03.000104+00:00",
        },
        "batches": batches,
        "acts": [dict(INSTRUCTED), dict(UNLOCKED)],
        "changed": {"batches": 0, "items": 0, "not_known": 3},
        "withdrawal": None,
        "evidence": [],
        "ledger": _ledger(CASE_HISTORY[:11], head=57),
    }


def closed():
    """The same case, re-exported and closed: the certificate that is final."""
    facts = interim()
    at = "2026-11-24T09:12:06.000111+00:00"
    facts |= {"number": "CN-000012-2", "code": "QF0Z-3W8N-1HJ5", "issued_at": "2026-11-24T09:15:00.000001+00:00"}
    facts["interim"] = False
    facts["case"] |= {"resolution": "Re-exported", "closed_at": "2026-11-24T09:12:06.000112+00:00"}
    for batch in facts["batches"]:
        batch |= {"outcome": "re_exported", "ended_at": at, "ended_by": "agent2"}
    facts["acts"].append({"kind": "re_export", "at": at, "by": "agent2", "batches": 3, "why": ""})
    facts["changed"] = {"batches": 2, "items": 3, "not_known": 1}
    facts["ledger"] = _ledger(CASE_HISTORY, head=63)
    return facts


def declined():
    """Declined through the link, which closed the case."""
    facts = interim()
    at = "2026-11-23T13:44:31.000107+00:00"
    facts["interim"] = False
    facts["consent"] |= {
        "decision": "declined",
        "valid_until": None,
        "ticked": [],
        "pressed": "Record that I do not agree",
    }
    facts["consent"]["why"] = "We keyed them in by hand last week."
    facts["signer"]["role"] = None
    facts["link"]["shown_to"] = None
    facts["case"] |= {"resolution": "Customer declined", "closed_at": at}
    facts["identity"] |= {"pin_verified_at": None, "pin_typed_by": None}
    facts |= {"batches": [], "acts": [], "changed": None}
    history = [
        *CASE_HISTORY[:5],
        (at, "Consent declined", "Link for Dana Whitfield"),
        (at, "Closed", "Unlock Desk"),
    ]
    facts["ledger"] = _ledger(history, head=48)
    return facts


def recorded_by_phone():
    """Recorded by phone, a signed paper attached, not unlocked yet."""
    facts = interim()
    facts["consent"] |= {
        "how": "phone",
        "recorded_by": "agent",
        "ticked": [],
        "pressed": None,
        "ip": None,
        "browser": None,
    }
    facts["identity"] |= {"pin_typed_by": "agent", "pin_verified_by": "agent"}
    facts |= {"link": None, "acts": [], "changed": None}
    for batch in facts["batches"]:
        batch |= {"outcome": "waiting"} | NEVER_INSTRUCTED
    facts["evidence"] = [
        {
            "what": "Signed paper",
            "file_name": "consent northwind signed.pdf",
            "size": 182_344,
            "sha256": digest("signed paper"),
            "attached_by": "agent",
            "attached_at": "2026-11-23T14:00:12.000113+00:00",
        }
    ]
    facts["ledger"] = _ledger(
        [
            *CASE_HISTORY[:2],
            ("2026-11-23T13:43:58.000106+00:00", "PIN verified", "agent"),
            ("2026-11-23T13:44:31.000107+00:00", "Consent recorded by phone", "agent"),
            ("2026-11-23T14:00:12.000113+00:00", "Evidence attached", "agent"),
        ],
        head=46,
    )
    return facts


def unlocking():
    """Of three batches one was unlocked, the product refused one, and has not answered about the other."""
    facts = interim()
    facts["issued_at"] = "2026-11-23T14:02:30.000001+00:00"
    refused, why = "2026-11-23T14:02:11.000117+00:00", "Exported on Nov 23, 2026, at 8:59 AM"
    facts["batches"][1] |= {"outcome": "refused", "unlocked_at": None, "refusal": why}
    facts["batches"][1] |= {"ended_at": refused, "ended_by": "ServiceTitan"}
    facts["batches"][2] |= {"outcome": "unlocking", "unlocked_at": None}
    facts["changed"]["not_known"] = 1
    facts["acts"][1]["batches"] = 1
    facts["acts"].append({"kind": "refused", "at": refused, "by": "ServiceTitan", "batches": 1, "why": why})
    facts["ledger"] = _ledger([*_history(facts), (refused, "Refused by the product", "ServiceTitan")], head=58)
    return facts


def relocking():
    """Agreed to, unlocked, and withdrawn by the customer: the product has not relocked the batches yet."""
    facts, at = interim(), "2026-11-23T15:30:00.000114+00:00"
    facts["issued_at"] = "2026-11-23T15:30:10.000001+00:00"
    facts["withdrawal"] = {
        "at": at,
        "by": RECEIPT,
        "through": "receipt",
        "contact": "Dana Whitfield",
        "why": "We found them in QuickBooks after all.",
    }
    for batch in facts["batches"]:
        batch["outcome"] = "relocking"
    why = "Consent withdrawn: We found them in QuickBooks after all."
    facts["acts"].append({"kind": "relock", "at": at, "by": RECEIPT, "batches": 3, "why": why})
    done = [(at, "Relock instructed", RECEIPT), (at, "Consent withdrawn", RECEIPT)]
    facts["ledger"] = _ledger([*_history(facts), *done], head=59)
    return facts


def withdrawn():
    """The same case once the product has relocked the batches, which closed it."""
    facts, at = relocking(), "2026-11-23T15:30:40.000118+00:00"
    facts |= {"issued_at": "2026-11-23T15:31:00.000001+00:00", "interim": False}
    facts["changed"]["not_known"] = 0
    facts["case"] |= {"resolution": "Consent withdrawn", "closed_at": at}
    for batch in facts["batches"]:
        batch |= {"outcome": "relocked", "ended_at": at, "ended_by": RECEIPT}
    facts["acts"].append({"kind": "relocked", "at": at, "by": "ServiceTitan", "batches": 3, "why": ""})
    done = [(at, what, "ServiceTitan") for what in ("Relocked", "Closed")]
    facts["ledger"] = _ledger([*_history(facts), *done], head=62)
    return facts


def withdrawn_by_phone():
    """Recorded by phone, unlocked, one batch re-exported, then withdrawn by phone: staff recorded that."""
    facts = recorded_by_phone()
    at, why = "2026-11-24T15:30:00.000114+00:00", "Dana called: they keyed the payments by hand."
    facts |= {"issued_at": "2026-11-24T15:31:00.000001+00:00", "interim": False, "batches": facts["batches"][:2]}
    facts["changed"] = {"batches": 1, "items": 2, "not_known": 0}
    relocked = "2026-11-24T15:30:20.000119+00:00"
    facts["case"] |= {"resolution": "Consent withdrawn", "closed_at": relocked}
    facts["withdrawal"] = {"at": at, "by": "agent2", "through": "staff", "contact": "Dana Whitfield", "why": why}
    exported = "2026-11-24T09:12:06.000111+00:00"
    ends = [("re_exported", exported), ("relocked", relocked)]
    for batch, (outcome, ended_at) in zip(facts["batches"], ends, strict=True):
        batch |= {"instructed_at": INSTRUCTED_AT, "unlocked_at": UNLOCKED_AT, "unlocked_by": "agent2"}
        batch |= {"outcome": outcome, "ended_at": ended_at, "ended_by": "agent2"}
    facts["acts"] = [
        INSTRUCTED | {"batches": 2},
        UNLOCKED | {"batches": 2},
        {"kind": "re_export", "at": exported, "by": "agent2", "batches": 1, "why": ""},
        {"kind": "relock", "at": at, "by": "agent2", "batches": 1, "why": f"Consent withdrawn: {why}"},
        {"kind": "relocked", "at": relocked, "by": "ServiceTitan", "batches": 1, "why": ""},
    ]
    done = [
        *CASE_HISTORY[9:11],
        ("2026-11-23T14:02:20.000115+00:00", "Certificate issued", "agent"),
        (exported, "Marked as re-exported", "agent2"),
        *((at, what, "agent2") for what in ("Relock instructed", "Consent withdrawn")),
        (at, "Email sent", "Unlock Desk"),
        *((relocked, what, "ServiceTitan") for what in ("Relocked", "Closed")),
    ]
    facts["ledger"] = _ledger([*_history(facts), *done], head=70)
    return facts


def many(count, kind=closed):
    """The same case with `count` batches, whose outcomes are those of the few."""
    facts = kind()
    few, facts["batches"] = facts["batches"], []
    for i in range(1, count + 1):
        row = (f"INV-2026{i:06d}", f"Invoices, Service dept. {i}", f"{100 + i * 37 % 9000}.{i % 100:02d}", i % 60 + 1)
        like = few[i % len(few)]
        keys = ("number", "name", "total", "item_count")
        facts["batches"].append(like | dict(zip(keys, row, strict=True)) | {"fingerprint": digest(row[0])})
    text = shown_text(facts["batches"])
    facts["consent"] |= {"text": text, "text_sha256": digest(text)}
    for act in facts["acts"]:
        act["batches"] = count
    return facts


def unknown():
    """Whatever may be unknown is unknown."""
    facts = interim()
    keep = {"consent": {"reference", "decision", "how", "decided_at", "text", "text_sha256", "ticked", "valid_until"}}
    keep |= {"case": {"reference"}, "signer": set(), "identity": set(), "link": set()}
    for part, known in keep.items():
        facts[part] = {key: value if key in known else None for key, value in facts[part].items()}
    facts["consent"]["ticked"] = []
    facts["batches"] = [dict.fromkeys(batch) | {"fingerprint": batch["fingerprint"]} for batch in facts["batches"]]
    facts["acts"] = [dict.fromkeys(act) | {"kind": act["kind"]} for act in facts["acts"]]
    facts["changed"] = None
    facts["ledger"]["entries"] = [
        dict.fromkeys(entry) | {"sequence": entry["sequence"], "hash": entry["hash"]}
        for entry in facts["ledger"]["entries"]
    ]
    return facts


EVERY_KIND = [
    interim,
    closed,
    declined,
    recorded_by_phone,
    unlocking,
    relocking,
    withdrawn,
    withdrawn_by_phone,
    unknown,
]


def shown_text(batches):
    """Write what the customer is shown the way `operations.consent.shown_text` does."""
    items = sum(batch["item_count"] for batch in batches)
    total = sum(round(float(batch["total"]) * 100) for batch in batches) / 100
    return "\n".join(
        [
            f"{wording.TITLE} (UR-000007)",
            ASKED,
            "",
            f"{wording.ACCOUNT_HEADING}: Northwind Heating, number 4711",
            f"{wording.BATCHES_HEADING}: {wording.batches_summary(len(batches), items, total)}",
            *(_batch_in_words(batch) for batch in batches),
            "",
            wording.ADVICE_HEADING,
            *wording.ADVICE,
            "",
            f"{first_terms.TITLE} (version 1)",
            first_terms.TEXT,
            "",
            wording.AGREEING_HEADING,
            *(f"- {sentence}" for sentence in wording.AGREEING),
            "",
            wording.DECISION_HEADING,
            *(f"[ ] {words}" for words in TICKED),
            f"[{wording.AGREE_BUTTON}] [{wording.DECLINE_BUTTON}]",
        ]
    )


def _batch(number, name, total, item_count, outcome):
    return {
        "number": number,
        "name": name,
        "total": total,
        "item_count": item_count,
        "fingerprint": digest(number),
        "outcome": outcome,
        "instructed_at": INSTRUCTED_AT,
        "unlocked_at": UNLOCKED_AT,
        "unlocked_by": "agent2",
        "ended_at": None,
        "ended_by": None,
        "refusal": None,
    }


def _batch_in_words(batch):
    return (
        f"- {batch['number']}, {batch['name']}: {wording.counted(batch['item_count'], 'item', 'items')}, "
        f"{wording.money(float(batch['total']))}, posted Nov 1, 2026, bypassed Nov 2, 2026, "
        f"content {batch['fingerprint']}"
    )


def _ledger(rows, head):
    entries = [
        {"sequence": sequence, "at": at, "what": what, "actor": actor, "hash": digest(f"entry {sequence}")}
        for sequence, (at, what, actor) in enumerate(rows, 41)
    ]
    return {"entries": entries, "head": {"sequence": head, "hash": digest(f"entry {head}")}}


def _history(facts):
    """Return what the ledger tells of a case so far, as `_ledger` takes it."""
    return [(entry["at"], entry["what"], entry["actor"]) for entry in facts["ledger"]["entries"]]
