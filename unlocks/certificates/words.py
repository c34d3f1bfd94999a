"""The words of a certificate: made once from its facts, for the page and for the PDF alike.

What is not known is called so (`wording.NOT_RECORDED`), never guessed. Times are in the facts' time zone, and name it.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from django.utils import timezone

from ..texts import normalize, wording
from ..texts.formats import counted, day, moment_with_seconds, money
from . import batch_list
from .verify_certificate import key_id

_OUTCOMES = {
    "waiting": "Not unlocked yet",
    "unlocking": "Being unlocked",
    "unlocked": "Unlocked",
    "relocking": "Being relocked",
    "re_exported": "Re-exported",
    "relocked": "Relocked",
    "refused": "Could not be unlocked",
    "not_unlocked": "Never unlocked",
    "later_consent": "Under a later consent",
    None: wording.NOT_RECORDED,
}
_WAS_UNLOCKED = ("unlocked", "relocking", "re_exported", "relocked", None)  # or may have been
_RELOCK = ("relocking", "relocked")
_WAS_INSTRUCTED = ("unlocking", "refused", *_WAS_UNLOCKED)
_HAS_ENDED = ("re_exported", "relocked", "refused", None)
_ACTS = {
    "unlock": "Instructed to unlock",
    "cancel": "Instruction canceled",
    "unlocked": "Unlocked",
    "refused": "Unlock refused",
    "relock": "Instructed to relock",
    "relocked": "Relocked",
    "re_export": "Marked as re-exported",
}
_ANSWERS = ("unlocked", "refused", "relocked")  # the acts that record what the product answered
_ENDS = {
    "re_exported": "{number} {were} re-exported",
    "relocked": "{number} {were} relocked",
    "relocking": "{number} {were} being relocked when this was issued",
    "unlocked": "{number} {were} still unlocked when this was issued",
    None: "what happened to {number} is not recorded",
}
_PIN_TYPED_BY = {  # after "They used the link emailed to ..."
    "customer": ", and typed the account PIN on its page.",
    "agent": ". A staff member had typed the account PIN for them.",
    None: ". The account PIN was verified; who typed it is not recorded.",
}
_NONE = "–"
_FINGERPRINTS = "{} the SHA-256 of the batch and its items when they were consented to, and of nothing else."
_LISTED = 500  # batches; more than that are added up by day, and listed in a file of their own
COLUMNS = ("signer", "identity", "link"), ("decision", "case")  # the sections beside each other on paper
_BY_EMAIL = ("Link for ", "Receipt for ")  # what the ledger calls whoever acts through an email


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
    """`kind` is text, short (such as an outcome), time, number or amount (both to the right), or code.

    What is `under` stands below its row, not beside the rest.
    """

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
    """`name` is its anchor. `text` is shown line by line as it stands; `headings` are lines of it."""

    name: str
    heading: str
    paragraphs: tuple = ()
    table: Table | None = None
    facts: tuple = ()
    text: str = ""
    headings: frozenset = frozenset()

    def runs(self):
        """Return the text cut into (piece, is it a heading); put together, the pieces are the text as it stands."""
        runs = [["", False]]
        for line in self.text.splitlines(keepends=True):
            words = line.rstrip("\r\n")
            if words in self.headings:
                runs += [[words, True], [line[len(words) :], False]]
            else:
                runs[-1][0] += line
        return runs


@dataclass(frozen=True)
class Paper:
    """A whole certificate in words.

    `status` says whether it is interim, `notices` what else weighs against it; `stamps` go onto every page.
    """

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
    stamps: list
    summary: list
    sections: list


def paper(facts):
    """Return the certificate with these facts in words."""
    with timezone.override(_zone(facts["time_zone"])):
        return _paper(_Wording(facts), facts)


def _paper(written, facts):
    return Paper(
        title=written.title(),
        subtitle=f"Unlocking bypassed batches for {written.account()}",
        number=facts["number"],
        code=facts["code"],
        issued=_time(facts["issued_at"]),
        issuer=written.support,
        check_at=facts["check_at"],
        interim=facts["interim"],
        status=written.status(),
        notices=written.notices(),
        stamps=written.stamps(),
        summary=written.summary(),
        sections=[
            written.signer(),
            written.identity(),
            written.link(),
            written.decision(),
            written.case(),
            written.batches(),
            written.text(),
            *written.evidence(),
            written.ledger(),
            written.check(),
        ],
    )


class _Wording:
    """The facts of one certificate, being put into words."""

    def __init__(self, facts):
        self.facts = facts
        self.support = f"{facts['vendor']} Support"
        self.agreed = facts["consent"]["decision"] == "agreed"
        self.by_phone = facts["consent"]["how"] == "phone"
        told = ("instructed_at", "unlocked_by", "unlocked_at")
        self.instructed = [batch for batch in facts["batches"] if any(batch[key] for key in told)]
        self.instructors = {batch["unlocked_by"] for batch in self.instructed}
        # Unlocked, or maybe: not all are that were instructed.
        self.unlocked = [batch for batch in self.instructed if batch["outcome"] in _WAS_UNLOCKED]

    # Values.

    def staff(self, *names):
        """Name members of staff: "ServiceTitan Support (agent and agent2)"."""
        return f"{self.support} ({_listed([name or 'someone who is not recorded' for name in names])})"

    def account(self):
        case = self.facts["case"]
        if not case["account_name"] and not case["account_number"]:
            return "an account that is not recorded"
        return f"{_known(case['account_name'])}, account {_known(case['account_number'])}"

    def who(self):
        """Name the signer with role and company: "Dana Whitfield (Controller) of Northwind Heating"."""
        signer, company = self.facts["signer"], self.facts["case"]["account_name"]
        if not signer["name"]:
            return "someone whose name is not recorded"
        role = f" ({signer['role']})" if signer["role"] else ""
        return f"{signer['name']}{role} of {company}" if company else f"{signer['name']}{role}"

    def batches_in_all(self):
        batches = self.facts["batches"]
        count = counted(len(batches), "batch", "batches")
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
            return "Certificate of declined consent"
        return "Certificate of consent recorded by phone" if self.by_phone else "Certificate of consent"

    def status(self):
        if self.facts["interim"]:
            return Notice(
                "interim",
                "INTERIM",
                "The case was still open when this was issued. Ask for a newer certificate to see what happened since.",
            )
        return Notice(
            "final",
            "FINAL",
            "The case was closed when this was issued. Anything attached or noted later is on a newer certificate.",
        )

    def notices(self):
        consent, notices = self.facts["consent"], []
        if self.by_phone:
            notices.append(
                Notice(
                    "phone",
                    "LOWER-ASSURANCE CONSENT",
                    f"{self.staff(consent['recorded_by'])} recorded by phone what the customer is said to have "
                    "answered. The customer did not press anything themselves.",
                )
            )
        if withdrawal := self.facts["withdrawal"]:
            notices.append(
                Notice(
                    "withdrawn",
                    "WITHDRAWN",
                    f"This consent was withdrawn on {_time(withdrawal['at'])}. Nothing may be unlocked under it "
                    f"anymore.{self._relocking()}",
                )
            )
        elif never := self._expired():
            notices.append(
                Notice(
                    "expired",
                    "EXPIRED",
                    f"This consent expired on {_time(consent['valid_until'])}. {counted(never, 'batch', 'batches')} "
                    "had not been unlocked by then, and can't be unlocked under it anymore.",
                )
            )
        if self._signed_by_another():
            signer = self.facts["signer"]
            notices.append(
                Notice(
                    "another",
                    "NOT THE CONTACT ON FILE",
                    f"The name of the signer, {signer['name']}, is not that of the contact on file, "
                    f"{signer['contact_name']}.",
                )
            )
        return notices

    def _relocking(self):
        count = sum(batch["outcome"] == "relocking" for batch in self.facts["batches"])
        were = f"{counted(count, 'batch was', 'batches were')}"
        return f" {were} still being relocked when this was issued." if count else ""

    def _expired(self):
        """Return how many batches were not unlocked before the consent expired; 0 while it had not."""
        until = self.facts["consent"]["valid_until"]
        if until is None or datetime.fromisoformat(until) > datetime.fromisoformat(self.facts["issued_at"]):
            return 0
        return sum(batch["outcome"] in ("waiting", "not_unlocked") for batch in self.facts["batches"])

    def _signed_by_another(self):
        """Say whether the name of the signer is another than that of the contact on file; what is unknown is not."""
        name, contact = self.facts["signer"]["name"], self.facts["signer"]["contact_name"]
        return bool(name and contact) and normalize.person(name) != normalize.person(contact)

    def stamps(self):
        """Return the notices whose mark no single page may go without."""
        stamps = [
            (self.facts["withdrawal"], "withdrawn", "WITHDRAWN"),
            (not self.facts["withdrawal"] and self._expired(), "expired", "EXPIRED"),
            (self.by_phone, "phone", "RECORDED BY PHONE"),
            (not self.agreed, "declined", "DECLINED"),
            (self.facts["interim"], "interim", "INTERIM"),
        ]
        return [Notice(name, mark, "") for holds, name, mark in stamps if holds]

    def summary(self):
        parts = [self._decided(), self._identified(), self._instructed(), self._answered(), self._ended()]
        parts.append(self._withdrawn())
        return list(filter(None, parts))

    def left_out(self):
        """Return how much the customer left out, as the text says it; '' if nothing."""
        beginning = f"{wording.LEFT_OUT_HEADING}: "
        lines = self.facts["consent"]["text"].splitlines()
        return next((line.removeprefix(beginning) for line in lines if line.startswith(beginning)), "")

    def _decided(self):
        at = _time(self.facts["consent"]["decided_at"])
        if not self.agreed:
            return self._declined(at)
        without = f", and left out {left}" if (left := self.left_out()) else ""
        what = f"agreed that {self.support} may unlock {self.batches_in_all()}{without}"
        if self.by_phone:
            staff = self.staff(self.facts["consent"]["recorded_by"])
            return f"On {at}, {staff} recorded by phone that {self.who()} {what}."
        return f"On {at}, {self.who()} {what}."

    def _declined(self, at):
        who, why = self.who(), self.facts["consent"]["why"]
        answered = f"answered no when asked whether {self.support} may unlock the batches named in the text"
        if self.by_phone:
            staff = self.staff(self.facts["consent"]["recorded_by"])
            declined = f"On {at}, {staff} recorded by phone that {who} {answered}."
        else:
            declined = f"On {at}, {who} used {self._link_emailed()}, and {answered}."
        reason = f" The reason given: “{_short(why)}”." if why else ""
        return f"{declined}{reason} Nothing can be unlocked under it."

    def _link_emailed(self):
        """Say where the link went: "the link emailed to dana@example.com"."""
        address = self.facts["signer"]["email"] or "an address that is not recorded"
        to = {
            "sent": f"the link emailed to {address}",
            "failed": f"the link for {address} (which could not be emailed)",
            "not_sent": f"the link for {address} (which was not emailed)",
        }.get(self.facts["link"]["emailed"], f"the link for {address} (whether it was emailed is not recorded)")
        shown_to = self.facts["link"]["shown_to"]
        return f"{to} and shown on screen to {self.staff(shown_to)}" if shown_to else to

    def _identified(self):
        identity = self.facts["identity"]
        verified, typed_by = identity["pin_verified_at"] is not None, identity["pin_typed_by"]
        if self.by_phone and not verified:
            return "How the customer was identified is not recorded."
        if self.by_phone and typed_by != "agent":
            return "The account PIN was verified; how is described below."
        if self.by_phone:
            return (
                f"{self.staff(identity['pin_verified_by'])} typed the account PIN given by phone, and it was correct."
            )
        if not self.agreed:
            return ""
        how = _PIN_TYPED_BY[typed_by] if verified else ". How they were identified is not recorded."
        return f"They used {self._link_emailed()}{how}"

    def _instructed(self):
        if not self.agreed:
            return ""
        batches = self.facts["batches"]
        if not self.instructed:
            if self._unlocking_unknown():
                return "What was unlocked is not recorded."
            return f"Nothing {'has been' if self.facts['interim'] else 'was'} unlocked under it."
        if len(self.instructed) < len(batches):
            what = f"{len(self.instructed):,} of the {len(batches):,} batches"
        else:
            what = {1: "the batch", 2: "both batches"}.get(len(batches), f"all {len(batches):,} batches")
        who = self.staff(*([None] if None in self.instructors else sorted(self.instructors)))
        return f"{who} instructed the unlock of {what}{_when(self.instructed, 'instructed_at')}."

    def _unlocking_unknown(self):
        """Say whether batches were, or may have been, unlocked without its being recorded when and on whose word."""
        outcomes = [batch["outcome"] for batch in self.facts["batches"]]
        return not self.instructed and any(outcome in _WAS_UNLOCKED for outcome in outcomes)

    def _answered(self):
        """Say what the product made of what it was instructed to unlock: these are two facts."""
        said = {
            "unlocked": "{number} {were} unlocked in {vendor}{at}",
            "refused": "{number} {were} refused by {vendor} ({why})",
            "unlocking": "{number} {were} being unlocked when this was issued",
            "when": "when {number} {were} unlocked is not recorded",
            "open": "whether {number} {were} unlocked was not known when the relock was instructed",
            "whether": "whether {number} {were} unlocked is not recorded",
        }
        answered = {name: [] for name in said}
        for batch in self.instructed:
            answered[_answer(batch)].append(batch)
        parts = [
            said[name].format(
                **_numbered(some, of=self.instructed),
                vendor=self.facts["vendor"],
                at=_when(some, "unlocked_at"),
                why=_reason(some),
            )
            for name, some in answered.items()
            if some
        ]
        return f"{_capitalized(_listed(parts))}." if parts else ""

    def _ended(self):
        """Say what happened to what was unlocked; with a withdrawal, that follows it."""
        if not self.unlocked or self.facts["withdrawal"]:
            return ""
        return f"{_capitalized(_listed(self._ends(self.unlocked)))}."

    def _ends(self, batches):
        """Say how many of these, of what was unlocked, came to which end, such as "both were relocked"."""
        ends = {outcome: [] for outcome in ("re_exported", "relocked", "relocking", "unlocked", None)}
        for batch in batches:
            ends[batch["outcome"]].append(batch)
        return [_ENDS[outcome].format(**self._numbered(some)) for outcome, some in ends.items() if some]

    def _numbered(self, some):
        """Number some of what was unlocked; all of it is called so where not all that was instructed is meant."""
        numbered, known = _numbered(some, of=self.unlocked), all(batch["unlocked_at"] for batch in some)
        if len(some) == len(self.unlocked) < len(self.instructed) and known:
            numbered["number"] = "the one unlocked" if len(some) == 1 else f"the {len(some):,} unlocked"
        return numbered

    def _withdrawn(self):
        if self.facts["withdrawal"] is None:
            return ""
        withdrawn = self._how_withdrawn()
        if not self.unlocked:
            return f"{withdrawn}." if self._unlocking_unknown() else f"{withdrawn}, before any batch was unlocked."
        before, after = [], []
        for batch in self.unlocked:
            (before if self._was_exported_before(batch) else after).append(batch)
        exported = counted(len(before), "batch", "batches") if before else "nothing"
        ends = _listed(self._ends(after))
        return f"{withdrawn}. Before that, {exported} had been re-exported{'; ' if ends else ''}{ends}."

    def _was_exported_before(self, batch):
        """Say whether it was, before the withdrawal: an export may also come between that and the relock."""
        at, ended_at = self.facts["withdrawal"]["at"], batch["ended_at"]
        if batch["outcome"] != "re_exported" or not at or not ended_at:
            return False
        return datetime.fromisoformat(ended_at) <= datetime.fromisoformat(at)

    def _how_withdrawn(self):
        withdrawal = self.facts["withdrawal"]
        at, through = _time(withdrawal["at"]), withdrawal["through"]
        if through == "staff":
            why = f" (“{_short(withdrawal['why'])}”)" if withdrawal["why"] else ""
            return f"{self.staff(withdrawal['by'])} recorded on {at} that the customer withdrew it{why}"
        if through == "receipt":
            contact = withdrawal["contact"] or "a contact who is not recorded"
            return f"It was withdrawn on {at} through the receipt for {contact}"
        return f"It was withdrawn on {at}; how is not recorded"

    # The sections.

    def text(self):
        consent = self.facts["consent"]
        terms = wording.NOT_RECORDED
        if consent["terms_version"] is not None:
            terms = f"{_known(consent['terms_title'])}, version {consent['terms_version']}"
            terms = f"{terms}, published {_time(consent['terms_published_at'])}"
        answer = "the boxes checked are" if self.agreed else "the answer is"
        form = f"The form as it was shown, before it was filled in; {answer} under “The decision”."
        return Section(
            "text",
            "The text as it was read out" if self.by_phone else "The text as it was shown",
            () if self.by_phone else (form,),
            facts=(
                Fact("Terms", terms),
                Fact("SHA-256", consent["text_sha256"], code=True),
            ),
            text=consent["text"],
            headings=self._headings(),
        )

    def _headings(self):
        """Return the lines that head the parts of the text, as `operations.texts` writes them."""
        consent = self.facts["consent"]
        whole = {
            wording.ADVICE_HEADING,
            wording.AGREEING_HEADING,
            wording.SAYING_YES_HEADING,
            f"{consent['terms_title']} (version {consent['terms_version']})",
            wording.DECISION_HEADING,
            wording.READ_OUT_QUESTIONS_HEADING,
        }
        beginnings = (f"{wording.TITLE} ({self.facts['case']['reference']})", f"{wording.BATCHES_HEADING}: ")
        lines = consent["text"].splitlines()
        return frozenset(line for line in lines if line in whole or line.startswith(beginnings))

    def signer(self):
        signer, case = self.facts["signer"], self.facts["case"]
        how = "as noted" if self.by_phone else "as typed"
        return Section(
            "signer",
            "Who decided, and for whom",
            facts=(
                Fact(f"Name, {how}", _known(signer["name"])),
                Fact(f"Role, {how}", signer["role"] or (wording.NOT_RECORDED if self.agreed else "none given")),
                Fact("Admin contact on file", _both(signer["contact_name"], signer["email"])),
                Fact("Account", _both(case["account_name"], case["account_number"], ", number ")),
                Fact("Accounting software", _known(case["accounting_software"])),
            ),
        )

    def identity(self):
        identity, paragraphs = self.facts["identity"], ()
        verified_at, typed_by = identity["pin_verified_at"], identity["pin_typed_by"]
        typed = wording.NOT_RECORDED
        if typed_by == "customer":
            typed = "the customer, on the consent page"
        elif typed_by == "agent":
            typed = ", ".join(filter(None, [identity["pin_verified_by"], "a staff member (lower assurance)"]))
            paragraphs = ("A PIN typed by staff proves less than one the customer types: staff heard it.",)
        facts = Fact("Account PIN verified", _time(verified_at)), Fact("Typed by", typed)
        if not self.agreed and not self.by_phone and verified_at is None:
            facts = (Fact("Account PIN", "not asked for: declining does not require it"),)
        return Section("identity", "How they were identified", paragraphs, facts=facts)

    def link(self):
        link = self.facts["link"]
        if link is None:
            return Section("link", "The consent link", ("No link was used: this consent was recorded by phone.",))
        shown_to = link["shown_to"]
        return Section(
            "link",
            "The consent link",
            (f"The link was also shown on screen to {shown_to}.",) if shown_to else (),
            facts=(
                Fact("Issued", _time_by(link["sent_at"], link["sent_by"])),
                Fact("For", _known(self.facts["signer"]["email"])),
                Fact("Email with the link", self._emailed()),
                Fact("Valid until", _time(link["expires_at"])),
                Fact("Opened", self._opened()),
                Fact("IP address", _known(link["opened_ip"])),
                Fact("Browser", _known(link["opened_browser"])),
                Fact("Used to answer", _time(link["used_at"])),
            ),
        )

    def _emailed(self):
        """Say what became of the email with the link."""
        at = _time(self.facts["link"]["emailed_at"])
        return {"sent": f"sent {at}", "failed": f"could not be sent, {at}", "not_sent": "not sent"}.get(
            self.facts["link"]["emailed"], wording.NOT_RECORDED
        )

    def _opened(self):
        """Say when the form was opened by whoever decided, and that others opened it too, such as scanners."""
        opened, openings = _time(self.facts["link"]["opened_at"]), self.facts["link"]["openings"]
        if openings is None or openings < 2:
            return opened
        count = "50 or more" if openings >= 50 else f"{openings}"
        return f"{opened}, the opening that led to the decision, of {count} by different addresses or browsers"

    def decision(self):
        consent = self.facts["consent"]
        facts = [Fact("Agreed" if self.agreed else "Declined", _time(consent["decided_at"]))]
        if self.agreed:
            facts.append(Fact("Valid until", _time(consent["valid_until"])))
        if self.by_phone:
            facts += [
                Fact("Recorded by phone", _known(consent["recorded_by"])),
                Fact("Boxes and button", "none: the customer did not press anything"),
            ]
        else:
            facts += [Fact("Box checked", words) for words in consent["ticked"]]
            if self.agreed and not consent["ticked"]:
                facts.append(Fact("Boxes checked", wording.NOT_RECORDED))
            facts += [
                Fact("Button pressed", _known(consent["pressed"])),
                Fact("IP address", _known(consent["ip"])),
                Fact("Browser", self._browser()),
            ]
        if consent["why"]:
            facts.append(Fact("Reason given", consent["why"]))
        if not self.facts["evidence"]:
            facts.append(Fact("Evidence", "none attached"))
        if withdrawal := self.facts["withdrawal"]:
            facts += [
                Fact("Withdrawn", _time_by(withdrawal["at"], withdrawal["by"])),
                Fact("Why withdrawn", withdrawal["why"] or "no reason given"),
            ]
        return Section("decision", "The decision", facts=tuple(facts))

    def _browser(self):
        browser, opened_with = self.facts["consent"]["browser"], self.facts["link"]["opened_browser"]
        return "the same as when the form was opened" if browser and browser == opened_with else _known(browser)

    def batches(self):
        if not self.agreed:
            none = "None: this consent was declined. The batches it was about are named in the text."
            return Section("batches", "Batches", (none,))
        return self._batches_by_day() if len(self.facts["batches"]) > _LISTED else self._batches_listed()

    def _batches_listed(self):
        """List each batch; below it what was done and its fingerprint, unless above and in the text.

        What was done is said above the list where it is the same for all batches of an outcome.
        """
        batches, done, paragraphs = self.facts["batches"], {}, []
        cells = {
            Column("Number", "short"): [_known(batch["number"]) for batch in batches],
            Column("Name"): [_known(batch["name"]) for batch in batches],
            Column("Items", "number"): [_items(batch) for batch in batches],
            Column("Total", "amount"): [_total(batch) for batch in batches],
            Column("Outcome", "short"): [_OUTCOMES[batch["outcome"]] for batch in batches],
        }
        for batch in batches:
            done.setdefault(_OUTCOMES[batch["outcome"]], set()).add(self._done(batch))
        if all(len(ways) == 1 for ways in done.values()):
            paragraphs += [f"{_capitalized(outcome)}: {way}." for outcome, [way] in done.items() if way]
        else:
            cells[Column("What was done", under=True)] = [self._done(batch) for batch in batches]
        if self._fingerprints_in_text():
            paragraphs.append(_FINGERPRINTS.format("The fingerprint of each, in the text below, is"))
        else:
            paragraphs.append(_FINGERPRINTS.format("Fingerprint:"))
            cells[Column("Fingerprint", "code", under=True)] = [_known(batch["fingerprint"]) for batch in batches]
        return Section("batches", "Batches", tuple(paragraphs), _table(cells, total=self.batches_in_all()))

    def _fingerprints_in_text(self):
        """Say whether the text names the fingerprint of each batch."""
        named = set(re.findall("[0-9a-f]{64}", self.facts["consent"]["text"]))
        return named.issuperset(batch["fingerprint"] for batch in self.facts["batches"])

    def _done(self, batch):
        """Say what was done to a batch, such as "instructed ... by agent, unlocked ..., re-exported ... by agent2"."""
        outcome, done = batch["outcome"], []
        if outcome in _WAS_INSTRUCTED or batch["instructed_at"] or batch["unlocked_by"]:
            done.append(f"instructed {_time_by(batch['instructed_at'], batch['unlocked_by'])}")
        if not batch["unlocked_at"] and outcome in _RELOCK:
            done.append("not answered before the relock was instructed")
        elif batch["unlocked_at"] or outcome in _WAS_UNLOCKED:
            done.append(f"unlocked {_time(batch['unlocked_at'])}")
        if outcome in _HAS_ENDED or batch["ended_at"] or batch["ended_by"]:
            ended = {"re_exported": "re-exported", "relocked": "relocked", "refused": "refused"}.get(outcome, "ended")
            done.append(f"{ended} {self._ended_by(batch)}")
        if outcome == "refused":
            done.append(_reason([batch]))
        return ", ".join(done)

    def _ended_by(self, batch):
        """Write when and by whom a batch's unlock ended: the customer ends it by a withdrawal, described elsewhere."""
        if batch["ended_at"] and (batch["ended_by"] or "").startswith(_BY_EMAIL):
            return f"{_time(batch['ended_at'])} by withdrawal"
        if batch["outcome"] == "relocked" and batch["ended_by"]:
            return f"{_time(batch['ended_at'])} (instructed by {batch['ended_by']})"
        return _time_by(batch["ended_at"], batch["ended_by"])

    def _batches_by_day(self):
        """Add up the batches by outcome and days."""
        days, name = {}, batch_list.file_name(self.facts)
        times = ("instructed_at", "unlocked_at", "ended_at")
        for batch in sorted(self.facts["batches"], key=lambda each: [each[time] or "" for time in times]):
            days.setdefault(self._days(batch), []).append(batch)
        cells = {
            Column("Outcome"): [outcome for outcome, *_ in days],
            Column("Instructed on"): [instructed for _, instructed, _, _ in days],
            Column("Unlocked on"): [unlocked for _, _, unlocked, _ in days],
            Column("Ended on"): [ended for *_, ended in days],
            Column("Batches", "amount"): [f"{len(batches):,}" for batches in days.values()],
            Column("Items", "amount"): [_items(*batches) for batches in days.values()],
            Column("Total", "amount"): [_total(*batches) for batches in days.values()],
        }
        where = (
            f"More than {_LISTED} batches are added up by day. Each of them is in the text below, in the JSON file and "
            f"in the file {name}."
        )
        sha256 = Fact(f"SHA-256 of {name}", batch_list.sha256(self.facts), code=True)
        return Section("batches", "Batches", (where,), _table(cells, total=self.batches_in_all()), (sha256,))

    def _days(self, batch):
        """Return a batch's outcome, and the days of its instruction, of its unlock and of the end of that."""
        outcome = batch["outcome"]
        return (
            _OUTCOMES[outcome],
            _day(batch["instructed_at"], known_of=outcome in _WAS_INSTRUCTED),
            _day(batch["unlocked_at"], known_of=outcome in _WAS_UNLOCKED),
            _day(batch["ended_at"], known_of=outcome in _HAS_ENDED),
        )

    def _separate(self):
        """Say plainly whether whoever obtained the consent also had batches unlocked under it."""
        if not self.agreed:
            return "Nothing could be unlocked, so there were no duties to separate."
        obtained = self.facts["consent"]["recorded_by"] if self.by_phone else self.facts["link"]["sent_by"]
        did = "recorded the consent" if self.by_phone else "issued the link"
        if not self.instructed and not self._unlocking_unknown():
            none = "No instruction to unlock stands under this consent"
            return f"{none}, so there is no one to compare with whoever {did}."
        if obtained and obtained in self.instructors:
            return f"Not different people: {obtained} {did} and also instructed the unlock."
        if obtained is None or not self.instructed or None in self.instructors:
            return f"Whether whoever {did} also instructed the unlock is not recorded."
        return f"Different people: {obtained} {did}, {_listed(sorted(self.instructors))} instructed the unlock."

    def case(self):
        case = self.facts["case"]
        closed = "not yet" if self.facts["interim"] else f"{_time(case['closed_at'])}: {_known(case['resolution'])}"
        advised_at = case["advised_at"] and _time(case["advised_at"])
        return Section(
            "case",
            f"The case {case['reference']}",
            facts=(
                Fact("Opened", _time_by(case["opened_at"], case["opened_by"])),
                Fact("Requested by", f"{_known(case['requester'])}; channel: {_known(case['channel'])}"),
                Fact("Why it was bypassed", _known(case["bypass_reason"])),
                Fact("Reason for the unlock", _known(case["reason"])),
                Fact("Safer route offered", _both(advised_at, case["advice"], ": ")),
                *self._acts(),
                *self._changed(),
                Fact("Separation of duties", self._separate()),
                Fact("Closed", closed),
            ),
        )

    def _acts(self):
        """Yield what was done. The product may answer in many steps: those that say the same are added up."""
        alike = {}
        for place, act in enumerate(self.facts["acts"]):
            own = {"refused": act["why"]}.get(act["kind"]) if act["kind"] in _ANSWERS else place
            alike.setdefault((act["kind"], act["by"], own), []).append(act)
        for (kind, by, _), acts in alike.items():
            counts = [act["batches"] for act in acts]
            done = _time_by(acts[-1]["at"], by)
            if len(acts) > 1:
                first, last = _time(acts[0]["at"]), _time(acts[-1]["at"])
                done = f"{'' if first == last else f'{first} to '}{done}, in {len(acts):,} steps"
            done += f", {wording.NOT_RECORDED if None in counts else counted(sum(counts), 'batch', 'batches')}"
            yield Fact(_ACTS[kind], ". ".join(filter(None, [done, self._why(kind, {act["why"] for act in acts})])))

    def _changed(self):
        """Yield what changed while it was unlocked, as far as the product's data tell."""
        if (changed := self.facts["changed"]) is None:
            return
        said = []
        if changed["batches"]:
            said.append(
                f"{counted(changed['batches'], 'batch', 'batches')}, {counted(changed['items'], 'item', 'items')}"
            )
        elif changed["not_known"] < sum(batch["unlocked_at"] is not None for batch in self.facts["batches"]):
            said.append("no change in the product's newer data")
        if changed["not_known"]:
            of = counted(changed["not_known"], "batch", "batches")
            said.append(f"not known of {of}, of which the product has sent no newer data")
        yield Fact("Changed while unlocked", "; ".join(said))

    def _why(self, kind, reasons):
        """Return why something was done, or the product's reference, if that is one for all.

        What stands under The decision is left out.
        """
        why = (reasons.pop() if len(reasons) == 1 else "") or ""
        if kind in ("unlocked", "relocked"):
            return why and f"Reference: {why}"
        withdrawal = self.facts["withdrawal"]
        return why.removesuffix(withdrawal["why"]).rstrip(": ") if withdrawal and withdrawal["why"] else why

    def evidence(self):
        """Yield the section on papers and emails, where there are any."""
        if files := self.facts["evidence"]:
            cells = {
                Column("What", "short"): [_known(file["what"]) for file in files],
                Column("File"): [_known(file["file_name"]) for file in files],
                Column("Size", "amount"): [_size(file["size"]) for file in files],
                Column("Attached", "time"): [_time_by(file["attached_at"], file["attached_by"]) for file in files],
                Column("SHA-256 of the file", "code", under=True): [_known(file["sha256"]) for file in files],
            }
            yield Section("evidence", "Evidence attached", table=_table(cells))

    def ledger(self):
        entries, head = self.facts["ledger"]["entries"], self.facts["ledger"]["head"]
        cells = {
            Column("Entry", "number"): [str(entry["sequence"]) for entry in entries],
            Column("When", "time"): [_time(entry["at"]) for entry in entries],
            Column("What", "short"): [_known(entry["what"]) for entry in entries],
            Column("Who"): [_known(entry["actor"]) for entry in entries],
            Column("Hash, first 24 digits", "code"): [entry["hash"][:24] for entry in entries],
        }
        covers = (
            "Each hash covers the entry before it, so none can be changed or removed unnoticed. Missing numbers belong "
            "to other cases."
        )
        newest = Fact(f"Newest entry in the whole ledger: {head['sequence']}", head["hash"], code=True)
        table = _table(cells) if entries else None
        return Section("ledger", "The case in the ledger", (covers,), table, (newest,))

    def check(self):
        number, code, page = self.facts["number"], self.facts["code"], self.facts["check_at"]
        public_key = self.facts["public_key"]
        return Section(
            "check",
            "How to check this certificate",
            (
                f"Online: open {page} and enter the number {number} and the code {code}, or upload its PDF or JSON "
                "file.",
                f"Offline: run “python3 verify_certificate.py {number}.json --keys keys.json” with the script and the "
                "list of keys from the same page and Python 3.9 or newer.",
            ),
            facts=(Fact("Signed with key", f"{key_id(public_key)} (Ed25519): {public_key}", code=True),),
        )


def _table(cells, total=""):
    """Make a table of the cells of each column."""
    return Table(tuple(cells), list(zip(*cells.values(), strict=True)), total)


def _items(*batches):
    counts = [batch["item_count"] for batch in batches]
    return wording.NOT_RECORDED if None in counts else f"{sum(counts):,}"


def _total(*batches):
    totals = [batch["total"] for batch in batches]
    return wording.NOT_RECORDED if None in totals else money(sum(map(Decimal, totals)))


def _time(moment):
    """Write a time such as "Nov 23, 2026, 8:44:31 AM EST"; one that is not known is said to be so."""
    return moment_with_seconds(moment and datetime.fromisoformat(moment)) or wording.NOT_RECORDED


def _time_by(moment, who):
    """Write when and by whom; where nothing of it is known, that once."""
    if moment is None and who is None:
        return wording.NOT_RECORDED
    return f"{_time(moment)} {_by(who)}"


def _day(moment, *, known_of):
    """Write the day of a time, such as "Nov 23, 2026"; without one, whether there was any."""
    if moment is None:
        return wording.NOT_RECORDED if known_of else _NONE
    return day(timezone.localtime(datetime.fromisoformat(moment)))


def _when(batches, key):
    """Write when batches were instructed or unlocked, such as " on ..." or " between ... and ..."."""
    times = sorted({batch[key] for batch in batches if batch[key]})
    if not times:
        return "; the time is not recorded"
    first, last = _time(times[0]), _time(times[-1])
    return f" on {first}" if first == last else f" between {first} and {last}"


def _answer(batch):
    """Return what is known of the product's answer to the instruction to unlock a batch."""
    if batch["unlocked_at"]:
        return "unlocked"
    if batch["outcome"] in ("refused", "unlocking"):
        return batch["outcome"]
    if batch["outcome"] in _RELOCK:
        return "open"
    return "when" if batch["outcome"] in ("unlocked", "re_exported") else "whether"


def _reason(batches):
    """Write why the product refused to unlock batches, if it is the same for all."""
    reasons = {batch["refusal"] for batch in batches}
    if len(reasons) > 1:
        return "the reasons stand with the batches"
    [reason] = reasons
    return f"“{_short(reason)}”" if reason else f"the reason is {wording.NOT_RECORDED}"


def _numbered(some, *, of):
    """Return how many these are of a set, such as "both" or "2", and the verb that follows."""
    count = len(some)
    number = {1: "it", 2: "both"}.get(count, f"all {count:,}") if count == len(of) else f"{count:,}"
    return {"number": number, "were": "was" if count == 1 else "were"}


def _size(count):
    return wording.NOT_RECORDED if count is None else f"{count:,} bytes"


def _zone(name):
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return UTC


def _known(value):
    return wording.NOT_RECORDED if value is None or value == "" else str(value)


def _by(who):
    """Write "by agent"; of what came through an email, only through which is known."""
    if who and who.startswith(_BY_EMAIL):
        return f"through the {who[0].lower()}{who[1:]}"
    return f"by {_known(who)}"


def _short(words):
    """Write what someone typed on one line, no longer than the summary bears; the whole stands further down."""
    words = " ".join(words.split()).removesuffix(".")
    return words if len(words) <= 200 else f"{words[:199]}…"


def _capitalized(words):
    return f"{words[:1].upper()}{words[1:]}"


def _both(first, second, between=", "):
    """Write two values that belong together; where neither is known, that once."""
    if not first and not second:
        return wording.NOT_RECORDED
    return f"{_known(first)}{between}{_known(second)}"


def _listed(words):
    """Write "a", "a and b" or "a, b and c"; nothing as ''."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else ""
