"""The words of a certificate: made once from its facts, for the page and for the PDF alike.

What is not known is said to be so (`wording.NOT_RECORDED`), never guessed. Times are told in the facts' time zone,
with its name.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from .. import wording
from . import keys

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")  # in no locale
_WAS_UNLOCKED = ("Unlocked", "Re-exported", "Locked again")
_NONE = "–"


@dataclass(frozen=True)
class Notice:
    """What must not be overlooked: a word in capitals, and what it means. `name` is final, interim, ... ."""

    name: str
    mark: str
    text: str


@dataclass(frozen=True)
class Fact:
    """One thing that was recorded. `code`: hexadecimal digits or a command, to be copied and compared."""

    label: str
    value: str
    code: bool = False


@dataclass(frozen=True)
class Column:
    """`kind` is text, number (to the right) or code. What is `under` stands below its row, not beside the rest."""

    heading: str
    kind: str = "text"
    under: bool = False


@dataclass(frozen=True)
class Table:
    columns: tuple
    rows: list
    total: str = ""

    def beside(self):
        return [column for column in self.columns if not column.under]

    def cells(self):
        """Yield each row as two lists of (column, cell): those beside each other, those below."""
        for row in self.rows:
            pairs = list(zip(self.columns, row, strict=True))
            yield [pair for pair in pairs if not pair[0].under], [pair for pair in pairs if pair[0].under]


@dataclass(frozen=True)
class Section:
    """`name` is its anchor. `text` is shown line by line as it stands."""

    name: str
    heading: str
    paragraphs: tuple = ()
    table: Table | None = None
    facts: tuple = ()
    text: str = ""


@dataclass(frozen=True)
class Paper:
    """A whole certificate in words. `status` says whether it is interim; `notices` what else weighs against it."""

    title: str
    subtitle: str
    number: str
    code: str
    issued: str
    issuer: str
    check_at: str
    interim: bool
    status: Notice
    notices: list
    summary: list
    sections: list

    def section(self, name):
        return next(section for section in self.sections if section.name == name)


def paper(facts):
    """Return the certificate with these facts in words."""
    told = _Told(facts)
    return Paper(
        title=told.title(),
        subtitle=f"Unlocking bypassed batches of {told.account()}",
        number=facts["number"],
        code=facts["code"],
        issued=told.time(facts["issued_at"]),
        issuer=told.support,
        check_at=facts["check_at"],
        interim=facts["interim"],
        status=told.status(),
        notices=told.notices(),
        summary=told.summary(),
        sections=[
            told.text(),
            told.signer(),
            told.identity(),
            told.link(),
            told.decision(),
            told.batches(),
            told.duties(),
            told.case(),
            *told.evidence(),
            told.ledger(),
            told.check(),
        ],
    )


class _Told:
    """The facts of one certificate, being put into words."""

    def __init__(self, facts):
        self.facts = facts
        self.zone = _zone(facts["time_zone"])
        self.support = f"{facts['vendor']} Support"
        self.agreed = facts["consent"]["decision"] == "agreed"
        self.by_staff = facts["consent"]["how"] == "staff"
        self.unlocked = [batch for batch in facts["batches"] if batch["unlocked_at"] or batch["unlocked_by"]]

    # Values.

    def time(self, moment):
        """Write a time such as "23 Nov 2026, 08:44:31 EST"; one that is not known is said to be so."""
        if moment is None:
            return wording.NOT_RECORDED
        local = datetime.fromisoformat(moment).astimezone(self.zone)
        name = local.tzname()
        name = f"UTC{name}" if name[0] in "+-" else name
        return f"{local.day} {_MONTHS[local.month - 1]} {local.year}, {local:%H:%M:%S} {name}"

    def time_by(self, moment, who):
        """Write when and by whom; where nothing of it is known, that once."""
        if moment is None and who is None:
            return wording.NOT_RECORDED
        return f"{self.time(moment)} by {_known(who)}"

    def account(self):
        case = self.facts["case"]
        if not case["account_name"] and not case["account_number"]:
            return "an account that is not recorded"
        return f"{_known(case['account_name'])}, account {_known(case['account_number'])}"

    def who(self):
        """Name the signer with role and company: "Dana Whitfield (Controller) of Northwind Heating"."""
        signer, company = self.facts["signer"], self.facts["case"]["account_name"]
        name = signer["name"] or "somebody whose name is not recorded"
        role = f" ({signer['role']})" if signer["role"] else ""
        return f"{name}{role} of {company}" if company else f"{name}{role}"

    def batches_in_all(self):
        batches = self.facts["batches"]
        count = wording.counted(len(batches), "batch", "batches")
        if any(batch["item_count"] is None or batch["total"] is None for batch in batches):
            return f"{count} (items and total {wording.NOT_RECORDED})"
        return wording.batches_summary(
            len(batches),
            sum(batch["item_count"] for batch in batches),
            sum(Decimal(batch["total"]) for batch in batches),
        )

    # The top of the paper.

    def title(self):
        if not self.agreed:
            return "Certificate of a declined consent"
        return "Certificate of a consent taken down by staff" if self.by_staff else "Certificate of consent"

    def status(self):
        if self.facts["interim"]:
            return Notice(
                "interim",
                "INTERIM",
                "The case was open when this was issued, so more may follow. Ask for the final certificate once it is "
                "closed.",
            )
        case = self.facts["case"]
        return Notice(
            "final",
            "FINAL",
            f"The case was closed on {self.time(case['closed_at'])}. Resolution: {_known(case['resolution'])}.",
        )

    def notices(self):
        consent, notices = self.facts["consent"], []
        if self.by_staff:
            notices.append(
                Notice(
                    "weaker",
                    "WEAKER KIND",
                    "This is a different, weaker kind of consent: staff wrote it down. What the customer is said to "
                    f"have answered was recorded by {consent['recorded_by']}; the customer did not press anything "
                    "themselves.",
                )
            )
        if withdrawal := self.facts["withdrawal"]:
            notices.append(
                Notice(
                    "withdrawn",
                    "WITHDRAWN",
                    f"This consent was taken back on {self.time(withdrawal['at'])}. No batch can be unlocked on it "
                    "any more.",
                )
            )
        return notices

    def summary(self):
        return list(filter(None, [self._decided(), self._identified(), self._unlocked(), self._withdrawn()]))

    def _decided(self):
        at = self.time(self.facts["consent"]["decided_at"])
        if not self.agreed:
            return (
                f"On {at}, {self.who()} did not agree that {self.support} unlocks the batches named in the text. "
                "Nothing can be unlocked on this."
            )
        what = f"agreed that {self.support} unlocks {self.batches_in_all()}"
        if self.by_staff:
            staff = self.facts["consent"]["recorded_by"]
            return f"On {at}, {staff} of {self.support} wrote down that {self.who()} {what}."
        return f"On {at}, {self.who()} {what}."

    def _identified(self):
        identity = self.facts["identity"]
        if self.by_staff:
            if identity["pin_verified_at"] is None:
                return "How the customer was identified is not recorded."
            if identity["pin_typed_by"] != "agent":
                return "The account PIN was verified; how is told below."
            typed = identity["pin_verified_by"] or "A member"
            return f"{typed} of {self.support} typed the account PIN that they were told, and it was right."
        to = self.facts["signer"]["email"] or "an address that is not recorded"
        decided = f"They answered on the page that a link mailed to {to} led to"
        if identity["pin_verified_at"] is None:
            return f"{decided}." if not self.agreed else f"{decided}. How they were identified is not recorded."
        if identity["pin_typed_by"] == "customer":
            return f"{decided}, and typed the account PIN there."
        if identity["pin_typed_by"] == "agent":
            return f"{decided}. A member of staff had typed the account PIN for them."
        return f"{decided}. The account PIN was verified; who typed it is not recorded."

    def _unlocked(self):
        if not self.agreed:
            return ""
        batches = self.facts["batches"]
        if not self.unlocked:
            if self._unlocking_unknown():
                return "What was unlocked is not recorded."
            return "Nothing has been unlocked on it yet." if self.facts["interim"] else "Nothing was unlocked on it."
        if len(batches) == 1:
            what = "the batch"
        elif len(self.unlocked) == len(batches):
            what = f"all {len(batches):,} batches"
        else:
            what = f"{len(self.unlocked):,} of the {len(batches):,} batches"
        who = f"{self._unlockers() or 'Somebody who is not recorded'} of {self.support}"
        times = sorted({batch["unlocked_at"] for batch in self.unlocked if batch["unlocked_at"]})
        if not times:
            return f"{who} unlocked {what}; when is not recorded."
        first, last = self.time(times[0]), self.time(times[-1])
        return f"{who} unlocked {what} on {first}." if first == last else f"{who} unlocked {what}, {first} to {last}."

    def _unlockers(self):
        """Name who unlocked; '' unless all of them are known."""
        names = {batch["unlocked_by"] for batch in self.unlocked}
        return "" if None in names else _listed(sorted(names))

    def _unlocking_unknown(self):
        """Say whether batches were, or may have been, unlocked without its being recorded when and by whom."""
        outcomes = [batch["outcome"] for batch in self.facts["batches"]]
        return not self.unlocked and any(outcome is None or outcome in _WAS_UNLOCKED for outcome in outcomes)

    def _withdrawn(self):
        withdrawal = self.facts["withdrawal"]
        if withdrawal is None:
            return ""
        what = f"{_known(withdrawal['by'])} took the consent back on {self.time(withdrawal['at'])}"
        if self.unlocked:
            return f"{what}; what was still unlocked then was locked again in the same act."
        return f"{what}." if self._unlocking_unknown() else f"{what}, before any batch was unlocked."

    # The sections.

    def text(self):
        consent = self.facts["consent"]
        terms = wording.NOT_RECORDED
        if consent["terms_version"] is not None:
            terms = f"{_known(consent['terms_title'])}, version {consent['terms_version']}"
            terms = f"{terms}, published {self.time(consent['terms_published_at'])}"
        return Section(
            "text",
            "The text as it was read out" if self.by_staff else "The text as it was shown",
            facts=(
                Fact("Terms", terms),
                Fact("SHA-256", consent["text_sha256"], code=True),
            ),
            text=consent["text"],
        )

    def signer(self):
        signer, case = self.facts["signer"], self.facts["case"]
        how = "as noted" if self.by_staff else "as typed"
        return Section(
            "signer",
            "Who decided, and for whom",
            facts=(
                Fact(f"Name, {how}", _known(signer["name"])),
                Fact(f"Role, {how}", _known(signer["role"])),
                Fact("Admin contact on file", _both(signer["contact_name"], signer["email"])),
                Fact("Account", _both(case["account_name"], case["account_number"], "number ")),
                Fact("Accounting software", _known(case["accounting_software"])),
            ),
        )

    def identity(self):
        identity = self.facts["identity"]
        typed = {
            "customer": "the customer, on the consent page",
            "agent": ", ".join(filter(None, [identity["pin_verified_by"], "a member of staff (lower assurance)"])),
            None: wording.NOT_RECORDED,
        }[identity["pin_typed_by"]]
        paragraphs = ()
        if identity["pin_typed_by"] == "agent":
            paragraphs = (
                "A PIN that staff type proves less than one that customers type themselves: staff were told it.",
            )
        return Section(
            "identity",
            "How they were identified",
            paragraphs,
            facts=(Fact("Account PIN verified", self.time(identity["pin_verified_at"])), Fact("Typed by", typed)),
        )

    def link(self):
        link = self.facts["link"]
        if link is None:
            return Section(
                "link", "How the link travelled", ("No link was used for this consent: staff took it down.",)
            )
        return Section(
            "link",
            "How the link travelled",
            facts=(
                Fact("Sent", self.time_by(link["sent_at"], link["sent_by"])),
                Fact("To", _known(self.facts["signer"]["email"])),
                Fact("Good until", self.time(link["expires_at"])),
                Fact("First opened", self.time(link["first_opened_at"])),
                Fact("Internet address", _known(link["first_opened_ip"])),
                Fact("Browser", _known(link["first_opened_browser"])),
                Fact("Used to decide", self.time(link["used_at"])),
            ),
        )

    def decision(self):
        consent = self.facts["consent"]
        facts = [Fact("Agreed" if self.agreed else "Not agreed", self.time(consent["decided_at"]))]
        if self.agreed:
            facts.append(Fact("Valid until", self.time(consent["valid_until"])))
        if self.by_staff:
            facts += [
                Fact("Taken down by staff", _known(consent["recorded_by"])),
                Fact("Boxes and button", "none: the customer did not press anything themselves"),
            ]
        else:
            if self.agreed:
                facts += [Fact("Box ticked", words) for words in consent["ticked"]] or [
                    Fact("Boxes ticked", wording.NOT_RECORDED)
                ]
            facts += [
                Fact("Button pressed", _known(consent["pressed"])),
                Fact("Internet address", _known(consent["ip"])),
                Fact("Browser", self._browser()),
            ]
        if not self.facts["evidence"]:
            facts.append(Fact("Evidence attached", "none"))
        if withdrawal := self.facts["withdrawal"]:
            facts += [
                Fact("Withdrawn", self.time_by(withdrawal["at"], withdrawal["by"])),
                Fact("Why withdrawn", withdrawal["why"] or "no reason given"),
            ]
        return Section("decision", "The decision", facts=tuple(facts))

    def _browser(self):
        browser, opened_with = self.facts["consent"]["browser"], self.facts["link"]["first_opened_browser"]
        return "the same as when the link was first opened" if browser and browser == opened_with else _known(browser)

    def batches(self):
        if not self.agreed:
            return Section(
                "batches",
                "Batches",
                ("None, as this consent was declined. The batches that were asked about are named in the text.",),
            )
        return Section(
            "batches",
            "Batches",
            ("Fingerprint: SHA-256 of the batch and its items when the consent was given; it covers nothing else.",),
            Table(
                (
                    Column("Number"),
                    Column("Name"),
                    Column("Items", "number"),
                    Column("Total", "number"),
                    Column("Outcome"),
                    Column("Unlocked"),
                    Column("Ended"),
                    Column("Fingerprint", "code", under=True),
                ),
                [self._batch(batch) for batch in self.facts["batches"]],
                total=self.batches_in_all(),
            ),
        )

    def _batch(self, batch):
        outcome = batch["outcome"]
        ended = outcome is None or outcome in _WAS_UNLOCKED[1:] or batch["ended_at"] or batch["ended_by"]
        unlocked = outcome is None or outcome in _WAS_UNLOCKED or batch["unlocked_at"] or batch["unlocked_by"]
        return (
            _known(batch["number"]),
            _known(batch["name"]),
            wording.NOT_RECORDED if batch["item_count"] is None else f"{batch['item_count']:,}",
            wording.NOT_RECORDED if batch["total"] is None else wording.money(Decimal(batch["total"])),
            _known(outcome),
            self.time_by(batch["unlocked_at"], batch["unlocked_by"]) if unlocked else _NONE,
            self.time_by(batch["ended_at"], batch["ended_by"]) if ended else _NONE,
            _known(batch["fingerprint"]),
        )

    def duties(self):
        case, consent, link = self.facts["case"], self.facts["consent"], self.facts["link"]
        facts = [Fact("Opened the case", _known(case["opened_by"]))]
        if self.by_staff:
            facts += [
                Fact("Typed the PIN", _known(self.facts["identity"]["pin_verified_by"])),
                Fact("Took it down", _known(consent["recorded_by"])),
            ]
        else:
            typed = {"customer": "the customer", "agent": "a member of staff", None: wording.NOT_RECORDED}
            facts += [
                Fact("Sent the link", _known(link["sent_by"])),
                Fact("Typed the PIN", typed[self.facts["identity"]["pin_typed_by"]]),
            ]
            facts.append(Fact("Agreed" if self.agreed else "Declined", "the customer"))
        if self.agreed:
            nobody = not self.unlocked and not self._unlocking_unknown()
            facts.append(Fact("Unlocked", "nobody" if nobody else self._unlockers() or wording.NOT_RECORDED))
        return Section("duties", "Separation of duties", (self._separate(),), facts=tuple(facts))

    def _separate(self):
        """Say plainly whether whoever obtained the consent also unlocked on it."""
        if not self.agreed:
            return "Nothing could be unlocked, so no duties had to be kept apart."
        obtained = self.facts["consent"]["recorded_by"] if self.by_staff else self.facts["link"]["sent_by"]
        did = "took the consent down" if self.by_staff else "sent the link"
        unlockers = {batch["unlocked_by"] for batch in self.unlocked}
        if not self.unlocked and not self._unlocking_unknown():
            return f"Nobody has unlocked on this consent, so there is nobody to compare with whoever {did}."
        if obtained in unlockers and obtained:
            return f"Not different people: {obtained} {did} and unlocked as well."
        if obtained is None or not self._unlockers():
            return f"Whether whoever {did} also unlocked can't be said: it is not recorded."
        return f"Different people: {obtained} {did}, {self._unlockers()} unlocked."

    def case(self):
        case = self.facts["case"]
        closed = "not yet" if self.facts["interim"] else f"{self.time(case['closed_at'])}: {_known(case['resolution'])}"
        advice = (
            wording.NOT_RECORDED
            if case["advice"] is None and case["advised_at"] is None
            else f"{self.time(case['advised_at'])}: {_known(case['advice'])}"
        )
        return Section(
            "case",
            f"The case {case['reference']}",
            facts=(
                Fact("Opened", self.time_by(case["opened_at"], case["opened_by"])),
                Fact("Asked by", f"{_known(case['requester'])}; channel: {_known(case['channel'])}"),
                Fact("Why it was bypassed", _known(case["bypass_reason"])),
                Fact("Reason for the unlock", _known(case["reason"])),
                Fact("Safer route offered", advice),
                *(Fact(act["kind"], self._act(act)) for act in self.facts["acts"]),
                Fact("Closed", closed),
            ),
        )

    def _act(self, act):
        count = act["batches"]
        batches = wording.NOT_RECORDED if count is None else wording.counted(count, "batch", "batches")
        done = f"{self.time_by(act['at'], act['by'])}, {batches}"
        return f"{done}. {act['why']}" if act["why"] else done

    def evidence(self):
        """Yield the section on papers and mails, where there are any."""
        if not self.facts["evidence"]:
            return
        rows = [
            (
                _known(kept["what"]),
                _known(kept["file_name"]),
                wording.NOT_RECORDED if kept["size"] is None else f"{kept['size']:,} bytes",
                self.time_by(kept["attached_at"], kept["attached_by"]),
                _known(kept["sha256"]),
            )
            for kept in self.facts["evidence"]
        ]
        columns = (
            Column("What"),
            Column("File"),
            Column("Size", "number"),
            Column("Attached"),
            Column("SHA-256 of the file", "code", under=True),
        )
        yield Section("evidence", "Evidence attached", table=Table(columns, rows))

    def ledger(self):
        entries, head = self.facts["ledger"]["entries"], self.facts["ledger"]["head"]
        rows = [
            (str(e["sequence"]), self.time(e["at"]), _known(e["what"]), _known(e["actor"]), e["hash"]) for e in entries
        ]
        columns = (
            Column("Entry", "number"),
            Column("When"),
            Column("What"),
            Column("Who"),
            Column("Hash", "code"),
        )
        return Section(
            "ledger",
            "The case in the ledger",
            ("The hash of each entry covers the entry before it: none can be changed or taken out unnoticed.",),
            Table(columns, rows) if rows else None,
            facts=(Fact(f"Newest entry of the whole ledger: {head['sequence']}", head["hash"], code=True),),
        )

    def check(self):
        number, code, page = self.facts["number"], self.facts["code"], self.facts["check_at"]
        return Section(
            "check",
            "How to check this certificate",
            (
                f"Online: open {page} and type the number {number} and the code {code}, or upload the PDF or the JSON "
                "file of this certificate.",
                "Offline: with the script verify_certificate.py from the same page and Python 3.9 or newer, run "
                f"“python3 verify_certificate.py {number}.json --key KEY”. KEY is the public key (Ed25519) below; "
                "compare it with the one on the page.",
            ),
            facts=(Fact("Public key", keys.public_key(), code=True),),
        )


def _zone(name):
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return UTC


def _known(value):
    return wording.NOT_RECORDED if value is None or value == "" else str(value)


def _both(first, second, before=""):
    """Write two values that belong together; where neither is known, that once."""
    if not first and not second:
        return wording.NOT_RECORDED
    return f"{_known(first)}, {before}{_known(second)}"


def _listed(words):
    """Write "a", "a and b" or "a, b and c"; nothing as ''."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else ""
