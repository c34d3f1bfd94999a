"""The words of a certificate, whole: one file of expected words for each kind, beside this one."""

from pathlib import Path

import pytest

from unlocks.certificates import batch_list, words
from unlocks.certificates.words import paper

from . import samples

WORDS = Path(__file__).parent / "words"


def written(facts):
    """Write a paper as plain text, everything that is on it."""
    whole = paper(facts)
    lines = [whole.title, whole.subtitle, f"{whole.number} | {whole.code} | {whole.issued} | {whole.issuer}"]
    lines += [f"{notice.name}: {notice.mark}: {notice.text}" for notice in (*whole.notices, whole.status)]
    lines += ["", *whole.summary]
    for part in whole.sections:
        lines += ["", f"# {part.heading}", *part.paragraphs]
        if part.table:
            lines += [" | ".join(column.heading for column in part.table.columns)]
            lines += [" | ".join(row) for row in part.table.rows]
            lines += [f"In all: {part.table.total}"] if part.table.total else []
        lines += [f"{fact.label}: {fact.value}" for fact in part.facts]
        if part.text:
            lines[-1] = lines[-1].replace(facts["consent"]["text_sha256"], "(of the text)")
            assert part.text == facts["consent"]["text"]
            lines.append("(the text)")
    return "\n".join(lines) + "\n"


def sentences(facts):
    return paper(facts).summary


def section(facts, name):
    return next(part for part in paper(facts).sections if part.name == name)


@pytest.mark.parametrize("kind", samples.EVERY_KIND)
def test_words(kind):
    assert written(kind()) == (WORDS / f"{kind.__name__}.txt").read_text()


def test_unknown_is_said_and_never_made_up():
    assert [line for line in written(samples.unknown()).splitlines() if "None" in line or "null" in line] == []


def test_same_facts_same_words():
    assert paper(samples.closed()) == paper(samples.closed())


def test_times_are_in_the_zone_of_the_facts():
    times = {}
    for zone in ("America/New_York", "America/Sao_Paulo", "Asia/Kolkata", "UTC", "Nowhere/At_All", "../etc/passwd"):
        times[zone] = paper(samples.interim() | {"time_zone": zone}).issued
    assert times == {
        "America/New_York": "Nov 23, 2026, 9:05:09 AM EST",
        "America/Sao_Paulo": "Nov 23, 2026, 11:05:09 AM UTC-03",
        "Asia/Kolkata": "Nov 23, 2026, 7:35:09 PM IST",
        "UTC": "Nov 23, 2026, 2:05:09 PM UTC",
        "Nowhere/At_All": "Nov 23, 2026, 2:05:09 PM UTC",
        "../etc/passwd": "Nov 23, 2026, 2:05:09 PM UTC",
    }


def test_some_batches_unlocked_by_several():
    facts = samples.interim()
    facts["batches"][1] |= {"instructed_at": "2026-11-23T16:00:00+00:00", "unlocked_by": "agent3"}
    facts["batches"][1]["unlocked_at"] = "2026-11-23T16:00:09+00:00"
    facts["batches"][2] |= {"outcome": "waiting"} | samples.NEVER_INSTRUCTED
    assert sentences(facts)[2:] == [
        "ServiceTitan Support (agent2 and agent3) instructed the unlock of 2 of the 3 batches between "
        "Nov 23, 2026, 9:01:45 AM EST and Nov 23, 2026, 11:00:00 AM EST.",
        "Both were unlocked in ServiceTitan between Nov 23, 2026, 9:02:10 AM EST and Nov 23, 2026, 11:00:09 AM EST.",
        "Both were still unlocked when this was issued.",
    ]


def _answered(*outcomes, reasons=()):
    """Return what the summary says after the instruction, of batches whose unlock was answered like this."""
    facts, reasons = samples.interim(), iter(reasons)
    for batch, outcome in zip(facts["batches"], outcomes, strict=True):
        word, _, rest = (outcome or "").partition(" ")
        batch |= {"outcome": word or None} | ({} if rest == "answered" else {"unlocked_at": None})
        if outcome == "refused":
            batch["refusal"] = next(reasons)
    return sentences(facts)[3:]


def test_instructed_and_unlocked_are_two_facts():
    at, issued = "unlocked in ServiceTitan on Nov 23, 2026, 9:02:10 AM EST", "when this was issued"
    yes = "unlocked answered"
    assert [
        _answered("unlocking", "unlocking", "unlocking"),
        _answered(yes, "unlocking", "refused", reasons=["In {use}"]),
        _answered("refused", "refused", "refused", reasons=["Exported"] * 3),
        _answered("refused", "refused", yes, reasons=["Exported", None]),
        _answered("refused", "unlocking", "unlocking", reasons=[None]),
        _answered("relocking", "relocking answered", "relocked"),
        _answered("refused", "relocked", "relocked", reasons=["Exported"]),
        _answered("re_exported", None, "re_exported answered"),
        _answered("re_exported answered", "relocked answered", "unlocking"),
        _answered("re_exported answered", "re_exported answered", "unlocking"),
    ] == [
        [f"All 3 were being unlocked {issued}."],
        [
            f"1 was {at}, 1 was refused by ServiceTitan (“In {{use}}”) and 1 was being unlocked {issued}.",
            f"The one unlocked was still unlocked {issued}.",
        ],
        ["All 3 were refused by ServiceTitan (“Exported”)."],
        [
            f"1 was {at} and 2 were refused by ServiceTitan (the reasons stand with the batches).",
            f"The one unlocked was still unlocked {issued}.",
        ],
        [f"1 was refused by ServiceTitan (the reason is not recorded) and 2 were being unlocked {issued}."],
        [
            f"1 was {at} and whether 2 were unlocked was not known when the relock was instructed.",
            f"1 was relocked and 2 were being relocked {issued}.",
        ],
        [
            "1 was refused by ServiceTitan (“Exported”) and whether 2 were unlocked was not known when the relock was "
            "instructed.",
            "Both were relocked.",
        ],
        [
            f"1 was {at}, when 1 was unlocked is not recorded and whether 1 was unlocked is not recorded.",
            "2 were re-exported and what happened to 1 is not recorded.",
        ],
        [f"2 were {at} and 1 was being unlocked {issued}.", "1 was re-exported and 1 was relocked."],
        [f"2 were {at} and 1 was being unlocked {issued}.", "The 2 unlocked were re-exported."],
    ]


def test_expired_before_all_was_unlocked():
    facts = samples.interim()
    expired = [
        (
            "EXPIRED",
            "This consent expired on Nov 26, 2026, 8:44:31 AM EST. 1 batch had not been unlocked by then, and can't "
            "be unlocked under it anymore.",
        )
    ]
    marks = {}
    for issued_at, outcome in (
        ("2026-11-26T13:44:31.000106+00:00", "waiting"),
        ("2026-11-26T13:44:31.000107+00:00", "waiting"),
        ("2026-12-01T00:00:00.000000+00:00", "not_unlocked"),
        ("2026-12-01T00:00:00.000000+00:00", "unlocked"),
    ):
        facts["issued_at"], facts["batches"][2]["outcome"] = issued_at, outcome
        issued = paper(facts)
        marks[issued_at, outcome] = [(notice.mark, notice.text) for notice in issued.notices]
        assert ("EXPIRED" in [stamp.mark for stamp in issued.stamps]) == bool(issued.notices)
    assert list(marks.values()) == [[], expired, expired, []]
    facts["batches"][2]["outcome"], facts["withdrawal"] = "waiting", samples.withdrawn()["withdrawal"]
    assert [notice.mark for notice in paper(facts).notices] == ["WITHDRAWN"]


def test_single_batch():
    facts = samples.interim()
    facts["batches"] = facts["batches"][2:]
    assert [sentences(facts)[0][-67:], *sentences(facts)[2:]] == [
        "agreed that ServiceTitan Support may unlock 1 batch, 1 item, $1,174.00 in total."[-67:],
        "ServiceTitan Support (agent2) instructed the unlock of the batch on Nov 23, 2026, 9:01:45 AM EST.",
        "It was unlocked in ServiceTitan on Nov 23, 2026, 9:02:10 AM EST.",
        "It was still unlocked when this was issued.",
    ]


def _ends(*outcomes, kind=samples.closed):
    facts = kind()
    facts["batches"] = facts["batches"][: len(outcomes)]
    for batch, outcome in zip(facts["batches"], outcomes, strict=True):
        batch["outcome"] = outcome
    return sentences(facts)[-1]


def test_summary_says_how_it_ended():
    assert [
        _ends("re_exported", "re_exported", "re_exported"),
        _ends("relocked", "relocked"),
        _ends("re_exported"),
        _ends("re_exported", "unlocked", "relocked"),
        _ends("re_exported", None, None),
        _ends(None, None),
        _ends("re_exported", "relocked", kind=samples.withdrawn).partition("Dana Whitfield. ")[2],
        _ends("relocked", "relocked", kind=samples.withdrawn).partition("Dana Whitfield. ")[2],
        _ends("re_exported", "re_exported", kind=samples.withdrawn).partition("Dana Whitfield. ")[2],
        _ends("relocking", "relocked", kind=samples.withdrawn).partition("Dana Whitfield. ")[2],
    ] == [
        "All 3 were re-exported.",
        "Both were relocked.",
        "It was re-exported.",
        "1 was re-exported, 1 was relocked and 1 was still unlocked when this was issued.",
        "1 was re-exported and what happened to 2 is not recorded.",
        "What happened to both is not recorded.",
        "Before that, nothing had been re-exported; 1 was re-exported and 1 was relocked.",
        "Before that, nothing had been re-exported; both were relocked.",
        "Before that, nothing had been re-exported; both were re-exported.",
        "Before that, nothing had been re-exported; 1 was relocked and 1 was being relocked when this was issued.",
    ]


def test_what_was_exported_before_a_withdrawal_and_what_after_it():
    facts = samples.withdrawn()
    for batch, ended_at in zip(facts["batches"], ("2026-11-23T15:30:00+00:00", None, None), strict=True):
        batch |= {"outcome": "re_exported", "ended_at": ended_at}
    facts["batches"][1]["ended_at"] = "2026-11-23T15:30:01+00:00"
    said = sentences(facts)[-1].partition("Dana Whitfield. ")[2]
    assert said == "Before that, 1 batch had been re-exported; 2 were re-exported."


def test_what_waits_for_the_relock_is_told_with_the_withdrawal():
    facts = samples.relocking()
    facts["batches"][0]["outcome"] = facts["batches"][1]["outcome"] = "relocked"
    [notice] = paper(facts).notices
    assert notice.text == (
        "This consent was withdrawn on Nov 23, 2026, 10:30:00 AM EST. Nothing may be unlocked under it anymore. "
        "1 batch was still being relocked when this was issued."
    )


def test_who_withdrew_a_consent_and_how():
    said = []
    for through, why in (("receipt", "Not needed."), ("staff", "Dana called."), ("staff", None), (None, "x")):
        facts = samples.withdrawn()
        facts["withdrawal"] |= {"through": through, "why": why, "by": "agent2"}
        said.append(sentences(facts)[-1].partition(" Before")[0])
    assert said == [
        "It was withdrawn on Nov 23, 2026, 10:30:00 AM EST through the receipt for Dana Whitfield.",
        "ServiceTitan Support (agent2) recorded on Nov 23, 2026, 10:30:00 AM EST that the customer withdrew it "
        "(“Dana called”).",
        "ServiceTitan Support (agent2) recorded on Nov 23, 2026, 10:30:00 AM EST that the customer withdrew it.",
        "It was withdrawn on Nov 23, 2026, 10:30:00 AM EST; how is not recorded.",
    ]


def test_declined_by_someone_with_a_name_or_without():
    said = []
    for name, why in ((None, None), ("Dana Whitfield", "We keyed them in.")):
        facts = samples.declined()
        facts["signer"]["name"], facts["consent"]["why"] = name, why
        said.append(sentences(facts))
    answered = (
        "used the link emailed to d.whitfield@northwind.example, and answered no when asked whether ServiceTitan "
        "Support may unlock the batches named in the text."
    )
    assert said == [
        [
            f"On Nov 23, 2026, 8:44:31 AM EST, someone whose name is not recorded {answered} Nothing can be unlocked "
            "under it.",
        ],
        [
            f"On Nov 23, 2026, 8:44:31 AM EST, Dana Whitfield of Northwind Heating {answered} The reason given: “We "
            "keyed them in”. Nothing can be unlocked under it."
        ],
    ]


@pytest.mark.parametrize("kind", samples.EVERY_KIND)
def test_no_sentence_begins_with_a_user_name(kind):
    whole = paper(kind())
    said = " ".join([*whole.summary, *(notice.text for notice in whole.notices)])
    assert [sentence for sentence in said.split(". ") if sentence[0].islower()] == []


def batches(facts):
    return section(facts, "batches")


def test_fingerprints_that_the_text_does_not_name_are_listed():
    facts = samples.closed()
    facts["batches"][2]["fingerprint"] = None
    assert [[column.heading for column in batches(f).table.columns][-1] for f in (samples.closed(), facts)] == [
        "Outcome",
        "Fingerprint",
    ]


def test_what_was_done_is_told_once_for_an_outcome_and_for_each_batch_where_it_differs():
    facts = samples.closed()
    facts["batches"][2] |= {"outcome": "unlocked", "ended_at": None, "ended_by": None}
    once, columns = batches(facts).paragraphs[:-1], len(batches(facts).table.columns)
    facts["batches"][1]["ended_by"] = "agent3"
    unlocked = "instructed Nov 23, 2026, 9:01:45 AM EST by agent2, unlocked Nov 23, 2026, 9:02:10 AM EST"
    assert (once, columns, batches(facts).paragraphs[:-1], [row[-1] for row in batches(facts).table.rows]) == (
        (f"Re-exported: {unlocked}, re-exported Nov 24, 2026, 4:12:06 AM EST by agent2.", f"Unlocked: {unlocked}."),
        5,
        (),
        [
            f"{unlocked}, re-exported Nov 24, 2026, 4:12:06 AM EST by agent2",
            f"{unlocked}, re-exported Nov 24, 2026, 4:12:06 AM EST by agent3",
            unlocked,
        ],
    )


def test_as_many_batches_as_are_listed():
    assert [len(batches(samples.many(count)).table.rows) for count in (500, 501)] == [500, 1]


def test_many_batches_are_added_up_by_day():
    facts = samples.many(501)
    facts["batches"][7] |= {"outcome": "relocked", "ended_at": "2026-11-25T04:30:00+00:00"}
    facts["batches"][8] |= {"outcome": "unlocked", "ended_at": None, "ended_by": None}
    never = {"ended_at": None} | samples.NEVER_INSTRUCTED
    facts["batches"][9] |= {"outcome": None, "total": None} | never
    facts["batches"][10] |= {"outcome": "not_unlocked"} | never
    facts["batches"][11] |= {"outcome": "unlocking"} | never
    facts["batches"][12] |= {"outcome": "refused", "unlocked_at": None}
    assert (batches(facts).table.rows, batches(facts).facts) == (
        [
            ("not recorded", "not recorded", "not recorded", "not recorded", "1", "11", "not recorded"),
            ("Never unlocked", "–", "–", "–", "1", "12", "$507.11"),
            ("Being unlocked", "not recorded", "–", "–", "1", "13", "$544.12"),
            ("Could not be unlocked", "Nov 23, 2026", "–", "Nov 24, 2026", "1", "14", "$581.13"),
            ("Unlocked", "Nov 23, 2026", "Nov 23, 2026", "–", "1", "10", "$433.09"),
            ("Re-exported", "Nov 23, 2026", "Nov 23, 2026", "Nov 24, 2026", "495", "14,823", "$2,243,202.88"),
            ("Relocked", "Nov 23, 2026", "Nov 23, 2026", "Nov 24, 2026", "1", "9", "$396.08"),
        ],
        (words.Fact("SHA-256 of CN-000012-2-batches.csv", batch_list.sha256(facts), code=True),),
    )


def test_a_relock_says_who_decided_it_and_what_was_not_answered_says_so():
    facts = samples.closed()
    facts["batches"][0] |= {"outcome": "relocked", "ended_by": "manager"}
    facts["batches"][1] |= {"outcome": "relocked", "unlocked_at": None, "ended_by": None}
    facts["batches"][2] |= {"outcome": "refused", "unlocked_at": None, "ended_by": "ServiceTitan", "refusal": None}
    done = "instructed Nov 23, 2026, 9:01:45 AM EST by agent2"
    assert [row[-1] for row in batches(facts).table.rows] == [
        f"{done}, unlocked Nov 23, 2026, 9:02:10 AM EST, relocked Nov 24, 2026, 4:12:06 AM EST (instructed by manager)",
        f"{done}, not answered before the relock was instructed, relocked Nov 24, 2026, 4:12:06 AM EST by not recorded",
        f"{done}, refused Nov 24, 2026, 4:12:06 AM EST by ServiceTitan, the reason is not recorded",
    ]


def test_answers_that_say_the_same_are_added_up_and_decisions_are_not():
    facts = samples.unlocking()
    again = [act | {"at": "2026-11-23T14:05:00.000001+00:00", "batches": 1500} for act in facts["acts"]]
    facts["acts"][1]["why"] = again[1]["why"] = "TKT-9"
    facts["acts"] += [*again, again[2] | {"why": "In use"}, again[1] | {"by": "agent3", "batches": None}]
    facts["acts"] += [facts["acts"][-1] | {"why": "TKT-10"}, facts["acts"][1] | {"kind": "relocked", "why": "TKT-11"}]
    said = [(fact.label, fact.value) for fact in section(facts, "case").facts if fact.label in words._ACTS.values()]
    assert said == [
        ("Instructed to unlock", "Nov 23, 2026, 9:01:45 AM EST by agent2, 3 batches"),
        (
            "Unlocked",
            "Nov 23, 2026, 9:02:10 AM EST to Nov 23, 2026, 9:05:00 AM EST by ServiceTitan, in 2 steps, 1,501 batches. "
            "Reference: TKT-9",
        ),
        (
            "Unlock refused",
            "Nov 23, 2026, 9:02:11 AM EST to Nov 23, 2026, 9:05:00 AM EST by ServiceTitan, in 2 steps, 1,501 batches. "
            "Exported on Nov 23, 2026, at 8:59 AM",
        ),
        ("Instructed to unlock", "Nov 23, 2026, 9:05:00 AM EST by agent2, 1,500 batches"),
        ("Unlock refused", "Nov 23, 2026, 9:05:00 AM EST by ServiceTitan, 1,500 batches. In use"),
        ("Unlocked", "Nov 23, 2026, 9:05:00 AM EST by agent3, in 2 steps, not recorded"),
        ("Relocked", "Nov 23, 2026, 9:02:10 AM EST by ServiceTitan, 1 batch. Reference: TKT-11"),
    ]


def _unlockers(*names, sent_by="agent", facts=None):
    facts = facts or samples.interim()
    for batch, name in zip(facts["batches"], names, strict=True):
        batch |= {"unlocked_by": name, "instructed_at": "2026-11-23T14:01:45+00:00"}
    if facts["link"]:
        facts["link"]["sent_by"] = sent_by
    return _duties(facts)


def _duties(facts):
    return next(fact.value for fact in section(facts, "case").facts if fact.label == "Separation of duties")


def test_separation_of_duties_is_said_plainly():
    assert [
        _unlockers("agent2", "agent2", "agent2"),
        _unlockers("agent2", "manager", "agent3"),
        _unlockers("agent2", "agent", "agent2"),
        _unlockers("agent2", None, "agent2"),
        _unlockers("agent2", "agent2", "agent2", sent_by=None),
        _unlockers("manager", "manager", "manager", facts=samples.recorded_by_phone()),
        _unlockers("agent", "agent", "agent", facts=samples.recorded_by_phone()),
        _duties(samples.unlocking()),
        _duties(samples.declined()),
    ] == [
        "Different people: agent issued the link, agent2 instructed the unlock.",
        "Different people: agent issued the link, agent2, agent3 and manager instructed the unlock.",
        "Not different people: agent issued the link and also instructed the unlock.",
        "Whether whoever issued the link also instructed the unlock is not recorded.",
        "Whether whoever issued the link also instructed the unlock is not recorded.",
        "Different people: agent recorded the consent, manager instructed the unlock.",
        "Not different people: agent recorded the consent and also instructed the unlock.",
        "Different people: agent issued the link, agent2 instructed the unlock.",
        "Nothing could be unlocked, so there were no duties to separate.",
    ]


def test_withdrawn_before_any_unlock():
    facts = samples.withdrawn()
    facts["withdrawal"]["why"] = None
    for batch in facts["batches"]:
        batch |= {"outcome": "not_unlocked", "ended_at": None, "ended_by": None} | samples.NEVER_INSTRUCTED
    facts["acts"] = []
    assert sentences(facts)[2:] == [
        "Nothing was unlocked under it.",
        "It was withdrawn on Nov 23, 2026, 10:30:00 AM EST through the receipt for Dana Whitfield, before any "
        "batch was unlocked.",
    ]
    assert section(facts, "decision").facts[-1] == words.Fact("Why withdrawn", "no reason given")


def test_another_browser_for_the_decision_is_told():
    facts = samples.interim()
    facts["consent"]["browser"] = "Mozilla/5.0 (X11)"
    assert words.Fact("Browser", "Mozilla/5.0 (X11)") in section(facts, "decision").facts


def test_who_typed_the_pin():
    typed = {}
    for kind in (samples.interim, samples.recorded_by_phone):
        for who in ("customer", "agent", None):
            facts = kind()
            facts["identity"]["pin_typed_by"] = who
            typed[kind.__name__, who] = (sentences(facts)[1], section(facts, "identity").facts[1].value)
    linked = (
        "They used the link emailed to d.whitfield@northwind.example and shown on screen to "
        "ServiceTitan Support (agent)"
    )
    by_phone = "ServiceTitan Support (agent) typed the account PIN given by phone, and it was correct."
    assert typed == {
        ("interim", "customer"): (
            f"{linked}, and typed the account PIN on its page.",
            "the customer, on the consent page",
        ),
        ("interim", "agent"): (
            f"{linked}. A staff member had typed the account PIN for them.",
            "a staff member (lower assurance)",
        ),
        ("interim", None): (f"{linked}. The account PIN was verified; who typed it is not recorded.", "not recorded"),
        ("recorded_by_phone", "customer"): (
            "The account PIN was verified; how is described below.",
            "the customer, on the consent page",
        ),
        ("recorded_by_phone", "agent"): (by_phone, "agent, a staff member (lower assurance)"),
        ("recorded_by_phone", None): ("The account PIN was verified; how is described below.", "not recorded"),
    }
