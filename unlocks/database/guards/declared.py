"""The promise as the database keeps it: each guard is the condition under which a row is refused.

In a condition `{new}` and `{old}` are the row after and before, `{now}` is the database's clock, `{half_an_hour_ago}`
what it showed then, `{in_four_days}` what it will show, `{seconds:...}` a time in whole seconds, `{fingerprint}` the
fingerprint of the batch `{new}`, and `<!>` means "differs, NULL counted as a value". `of` narrows a guard to the
columns that an UPDATE names; never for a key, which SQLite knows by other names too (`SET rowid = ...`).
"""

from dataclasses import dataclass

from django.apps import apps

from .. import fingerprint

ONLY_GROWS = "{table} only grows: its rows are evidence."
STAYS = "Rows of {table} are never deleted."


@dataclass(frozen=True)
class Guard:
    name: str
    table: str
    event: str
    refused_when: str
    says: str
    of: tuple = ()

    def condition(self, *, differs, **names):
        """Return `refused_when` in the words of one database."""
        return self.refused_when.format(**names).replace("<!>", differs)


def _changes(columns):
    return " OR ".join(f"{{new}}.{column} <!> {{old}}.{column}" for column in columns)


def _along(column, arrows):
    allowed = " OR ".join(f"({{old}}.{column} = '{a}' AND {{new}}.{column} = '{b}')" for a, b in arrows)
    return f"{{new}}.{column} <> {{old}}.{column} AND NOT ({allowed})"


BATCH_ARROWS = [
    ("pending", "posted"),
    ("posted", "pending"),
    ("posted", "exported"),
    ("posted", "bypassed"),
    ("bypassed", "unlocking"),
    ("unlocking", "unlocked"),
    ("unlocking", "bypassed"),
    ("unlocking", "relocking"),
    ("unlocked", "relocking"),
    ("relocking", "bypassed"),
    ("unlocking", "exported"),
    ("unlocked", "exported"),
    ("relocking", "exported"),
]
REQUEST_ARROWS = [
    ("open", "awaiting_consent"),
    ("awaiting_consent", "consented"),
    ("consented", "awaiting_consent"),
    ("consented", "unlocked"),
    ("open", "closed"),
    ("awaiting_consent", "closed"),
    ("consented", "closed"),
    ("unlocked", "closed"),
]
LINE_ARROWS = [
    ("waiting", "unlocking"),
    ("waiting", "not_unlocked"),
    ("not_unlocked", "waiting"),
    ("unlocking", "waiting"),
    ("unlocking", "refused"),
    ("unlocking", "unlocked"),
    ("unlocking", "relocking"),
    ("unlocked", "relocking"),
    ("relocking", "relocked"),
    ("unlocking", "re_exported"),
    ("unlocked", "re_exported"),
    ("relocking", "re_exported"),
]
INSTRUCTION_ARROWS = [
    ("queued", "sent"),
    ("queued", "canceled"),
    ("sent", "queued"),
    ("sent", "unknown"),
    ("sent", "given_up"),
    ("unknown", "queued"),
    ("unknown", "sent"),
    ("unknown", "given_up"),
    ("given_up", "unknown"),
    ("given_up", "canceled"),
    # Whatever the desk thinks of it, the product knows, if it may have got it.
    ("canceled", "done"),
    *((state, answer) for state in ("queued", "sent", "unknown", "given_up") for answer in ("done", "refused")),
]

# The contact `p` is an Admin whose address came from the product, or was confirmed.
_CONFIRMED_ADMIN = "p.is_admin AND (p.entered_by_id IS NULL OR p.confirmed_by_id IS NOT NULL)"

# An email is tried for three days at most (`unlocks.outbox.rows`).
_PUT_OFF = "{new}.next_try_at > {in_four_days}"

_GRANTED = "('unlocking', 'unlocked', 'relocking')"


def _instruction(what, *states):
    """The batch has an instruction, in one of these states if any are named, under the grant that it had before."""
    listed = ", ".join(f"'{state}'" for state in states)
    state = f"AND i.state IN ({listed}) " if states else ""
    return (
        "EXISTS (SELECT 1 FROM unlocks_instruction i JOIN unlocks_requestedbatch l ON l.id = i.line_id "
        f"WHERE i.batch_id = {{new}}.id AND i.what = '{what}' {state}"
        f"AND l.consented_id = {{old}}.grant_id)"
    )


def _ends_too_late_for(act):
    """The batch ends after the window of this act, from the answer on that unlocked it."""
    return (
        "EXISTS (SELECT 1 FROM unlocks_instruction i JOIN unlocks_requestedbatch l ON l.id = i.line_id "
        f"JOIN unlocks_act a ON a.id = {act} "
        "WHERE i.batch_id = {new}.id AND i.what = 'unlock' AND i.state = 'done' AND l.consented_id = {old}.grant_id "
        "AND {seconds:{new}.unlocked_until} > {seconds:i.done_at} + coalesce(a.hours, 0) * 3600)"
    )


# A contact's version `h`, which who imported it answers for until a second person confirmed the contact; who typed it
# answers for it for good.
_STILL_THEIRS = """(h.entered_in_id IS NULL OR NOT EXISTS (SELECT 1 FROM unlocks_historicalcontact s
      WHERE s.id = h.id AND s.history_id >= h.history_id AND s.confirmed_by_id <> h.entered_by_id))"""


def _scope_of(token, scopes):
    """The token has one of these scopes."""
    return "(" + " OR ".join(f"' ' || {token}.scopes || ' ' LIKE '% {scope} %'" for scope in scopes) + ")"


def _entered_by(person):
    """A contact's version `h` is kept from this person, who entered it, or made a token that a system put it by."""
    return f"""(h.entered_by_id = {person} AND {_STILL_THEIRS} OR h.entered_by_id IS NULL AND EXISTS (
      SELECT 1 FROM unlocks_apitoken t WHERE t.system_id = h.history_user_id AND t.made_by_id = {person}
      AND t.made_at <= h.history_date AND {_scope_of("t", ["contacts"])}))"""


# `+ 0` here and below: not by an index of that column. For each batch PostgreSQL would read all lines of the request,
# or all entries of a user.
def _nobody_obtained_it(*users, request):
    """None of these users, none of them NULL, recorded the consent `c` or could have agreed to it alone.

    Nor did anybody who made a token of one of them, a system.
    """
    people = " UNION ALL ".join(f"SELECT {user} AS id" for user in users)
    return f"""NOT EXISTS (SELECT 1 FROM ({people} UNION ALL
      SELECT m.made_by_id FROM unlocks_apitoken m WHERE m.system_id IN ({", ".join(users)})) p
    WHERE c.recorded_by_id = p.id
    OR EXISTS (SELECT 1 FROM unlocks_consentlink k WHERE k.unlock_request_id = {request} AND k.shown_to_id = p.id)
    OR EXISTS (SELECT 1 FROM unlocks_ledgerentry e WHERE e.unlock_request_id = {request}
      AND e.user_id + 0 = p.id AND e.kind = 'pin_typed')
    OR EXISTS (SELECT 1 FROM unlocks_historicalcontact h WHERE h.id = c.contact_id AND {_entered_by("p.id")}))"""


_GRANT_HOLDS = f"""EXISTS (
  SELECT 1 FROM unlocks_consentedbatch cb
  JOIN unlocks_consent c ON c.id = cb.consent_id
  JOIN unlocks_requestedbatch l ON l.id = cb.requested_batch_id
  JOIN unlocks_unlockrequest r ON r.id = l.unlock_request_id + 0
  JOIN unlocks_account a ON a.id = r.account_id
  WHERE cb.id = {{new}}.grant_id AND cb.batch_id = {{new}}.id AND l.batch_id = {{new}}.id
    AND l.outcome = 'waiting' AND l.consented_id = cb.id
    AND r.id = c.unlock_request_id AND r.status IN ('consented', 'unlocked')
    AND a.id = {{new}}.account_id AND a.active
    AND c.decision = 'agreed' AND c.valid_until > {{now}}
    AND {_nobody_obtained_it("{new}.unlocked_by_id", request="r.id")}
    AND cb.fingerprint = {{new}}.fingerprint AND cb.fingerprint <> ''
    AND NOT EXISTS (SELECT 1 FROM unlocks_consentwithdrawal w WHERE w.consent_id = c.id))"""


_MAKES_CUSTOMERS, _ACTS_ON_REQUESTS = ("contacts", "pins"), ("requests", "unlock")


def _another_token(scopes):
    """The system of a new token has, or had, another one with one of these scopes."""
    return (
        "EXISTS (SELECT 1 FROM unlocks_apitoken t WHERE t.system_id = {new}.system_id AND "
        + _scope_of("t", scopes)
        + ")"
    )


# The person `p`, or a system of which `p` made a token, opened the case {request}, recorded a consent of it by phone,
# instructed an unlock of it or carried one out by hand.
_TOOK_PART = """EXISTS (SELECT 1 FROM (SELECT {new}.by_id AS id UNION ALL
    SELECT t.system_id FROM unlocks_apitoken t WHERE t.made_by_id = {new}.by_id) p
  JOIN unlocks_review v ON v.id = {new}.review_id
  WHERE EXISTS (SELECT 1 FROM unlocks_unlockrequest r WHERE r.id = v.unlock_request_id AND r.opened_by_id = p.id)
  OR EXISTS (SELECT 1 FROM unlocks_consent c WHERE c.unlock_request_id = v.unlock_request_id
    AND c.recorded_by_id = p.id)
  OR EXISTS (SELECT 1 FROM unlocks_requestedbatch l JOIN unlocks_instruction i ON i.line_id = l.id
    JOIN unlocks_act a ON a.id = i.act_id WHERE l.unlock_request_id = v.unlock_request_id AND i.what = 'unlock'
    AND (a.by_id = p.id OR i.started_by_id = p.id)))"""
# The decision before it on the same case.
_LAST_FLAGGED = """EXISTS (SELECT 1 FROM unlocks_reviewdecision d WHERE d.review_id = {new}.review_id
  AND d.position = {new}.position - 1 AND d.decision = 'flagged')"""


GUARDS = [
    Guard(
        "review_of_a_closed_case",
        "unlocks_review",
        "INSERT",
        "NOT EXISTS (SELECT 1 FROM unlocks_unlockrequest r WHERE r.id = {new}.unlock_request_id "
        "AND r.status = 'closed')",
        "A case is reviewed once it is closed.",
    ),
    Guard(
        "review_by_another_person",
        "unlocks_reviewdecision",
        "INSERT",
        _TOOK_PART,
        "Whoever opened a case, recorded its consent or unlocked batches of it does not review it.",
    ),
    Guard(
        "review_decided_in_turn",
        "unlocks_reviewdecision",
        "INSERT",
        "{new}.position <> 1 + (SELECT count(*) FROM unlocks_reviewdecision d WHERE d.review_id = {new}.review_id "
        "AND d.position < {new}.position) "
        f"OR ({{new}}.decision = 'resolved' AND NOT {_LAST_FLAGGED}) "
        f"OR ({{new}}.decision <> 'resolved' AND {_LAST_FLAGGED}) "
        "OR ({new}.decision = 'signed_off' AND {new}.position > 1)",
        "A flag is resolved before anything else is said, and a case is signed off once.",
    ),
    Guard(
        "batch_starts_locked",
        "unlocks_batch",
        "INSERT",
        "{new}.status NOT IN ('pending', 'posted', 'exported', 'bypassed') OR {new}.fingerprint <> ''",
        "A batch starts pending, posted, exported or bypassed, with no fingerprint.",
    ),
    Guard(
        "batch_moves_along_the_arrows",
        "unlocks_batch",
        "UPDATE",
        _along("status", BATCH_ARROWS),
        "A batch cannot move from that status to this one.",
        of=("status",),
    ),
    Guard(
        "batch_keeps_its_identity",
        "unlocks_batch",
        "UPDATE",
        _changes(["id", "account_id", "number"]),
        "A batch keeps its account and number.",
    ),
    Guard(
        "batch_unlocked_only_with_consent",
        "unlocks_batch",
        "UPDATE",
        "{new}.status = 'unlocking' AND {old}.status <> 'unlocking' AND ({new}.period_closed OR "
        "{new}.differs NOT IN ('', 'bypassed') OR "
        f"({_changes(fingerprint.BATCH_CONTENT)}) OR NOT {_GRANT_HOLDS})",
        "No unlock without a recorded, agreed, unexpired and unwithdrawn consent for this batch as it stands.",
        of=("status",),
    ),
    Guard(
        "batch_grant_does_not_change",
        "unlocks_batch",
        "UPDATE",
        f"{{new}}.status IN {_GRANTED} AND {{old}}.status IN {_GRANTED} AND "
        f"({_changes(['grant_id', 'unlocked_by_id'])} OR (({_changes(['unlocked_until', 'extension_id'])}) "
        "AND NOT ({old}.status = 'unlocking' AND {new}.status = 'unlocked' AND {new}.extension_id IS NULL) "
        "AND NOT ({old}.status = 'unlocked' AND {new}.status = 'unlocked' AND {old}.extension_id IS NULL "
        "AND {new}.extension_id IS NOT NULL)))",
        "A batch keeps its grant and who unlocked it until it is locked, and the end that it is unlocked with, but for "
        "one extension.",
        of=("grant_id", "unlocked_until", "unlocked_by_id", "extension_id"),
    ),
    Guard(
        "batch_unlocked_for_the_window_chosen",
        "unlocks_batch",
        "UPDATE",
        "{old}.status = 'unlocking' AND {new}.status = 'unlocked' AND " + _ends_too_late_for("i.act_id"),
        "A batch is unlocked no longer than was chosen, from the product's answer on.",
        of=("status",),
    ),
    Guard(
        "batch_window_extended_with_consent",
        "unlocks_batch",
        "UPDATE",
        "{new}.extension_id IS NOT NULL AND {new}.extension_id <!> {old}.extension_id AND ("
        + _ends_too_late_for("{new}.extension_id")
        + " OR NOT EXISTS (SELECT 1 FROM unlocks_act e JOIN unlocks_verdict v ON v.act_id = e.id "
        "WHERE e.id = {new}.extension_id AND e.kind = 'extend' AND v.batch_id = {new}.id AND v.refusal = '') "
        "OR NOT EXISTS (SELECT 1 FROM unlocks_consentedbatch cb JOIN unlocks_consent c ON c.id = cb.consent_id "
        "WHERE cb.id = {new}.grant_id AND c.valid_until > {now} "
        "AND NOT EXISTS (SELECT 1 FROM unlocks_consentwithdrawal w WHERE w.consent_id = c.id)))",
        "A window is extended by an act on record, within what that allows, while the consent holds.",
        of=("extension_id",),
    ),
    Guard(
        "batch_unlocked_once_the_product_did_it",
        "unlocks_batch",
        "UPDATE",
        "{old}.status = 'unlocking' AND {new}.status = 'unlocked' AND NOT " + _instruction("unlock", "done"),
        "A batch is unlocked when the product says so.",
        of=("status",),
    ),
    Guard(
        "batch_given_back_only_if_not_unlocked",
        "unlocks_batch",
        "UPDATE",
        "{old}.status = 'unlocking' AND {new}.status = 'bypassed' AND ("
        f"{_instruction('unlock', 'queued', 'sent', 'unknown', 'given_up', 'done')} "
        f"OR NOT {_instruction('unlock')})",
        "A batch stays unlocking until the product refused, or the instruction was canceled.",
        of=("status",),
    ),
    Guard(
        "batch_relocked_once_the_product_did_it",
        "unlocks_batch",
        "UPDATE",
        "{old}.status = 'relocking' AND {new}.status = 'bypassed' AND NOT " + _instruction("lock", "done"),
        "A batch is relocked when the product says so.",
        of=("status",),
    ),
    Guard(
        "batch_grant_is_used_up",
        "unlocks_batch",
        "UPDATE",
        f"{{old}}.status IN {_GRANTED} AND {{new}}.status <> {{old}}.status AND NOT EXISTS (SELECT 1 FROM "
        "unlocks_requestedbatch l WHERE l.consented_id = {old}.grant_id AND l.outcome = {old}.status)",
        "The request does not show this batch as it is.",
        of=("status",),
    ),
    Guard(
        "batch_fingerprint_is_true",
        "unlocks_batch",
        "UPDATE",
        "{new}.fingerprint <> {old}.fingerprint AND {new}.fingerprint <> '' AND {new}.fingerprint <> {fingerprint}",
        "This is not the fingerprint of the batch's content.",
        of=("fingerprint",),
    ),
    Guard(
        "line_starts_waiting",
        "unlocks_requestedbatch",
        "INSERT",
        "{new}.outcome <> 'waiting' OR {new}.consented_id IS NOT NULL OR NOT EXISTS (SELECT 1 FROM "
        "unlocks_unlockrequest r JOIN unlocks_batch b ON b.account_id = r.account_id "
        "WHERE r.id = {new}.unlock_request_id AND b.id = {new}.batch_id AND r.status <> 'closed')",
        "A batch joins an open request of its own account, waiting.",
    ),
    Guard(
        "line_moves_along_the_arrows",
        "unlocks_requestedbatch",
        "UPDATE",
        _along("outcome", LINE_ARROWS),
        "A requested batch cannot move from that outcome to this one.",
        of=("outcome",),
    ),
    Guard(
        "line_comes_back_before_a_consent",
        "unlocks_requestedbatch",
        "UPDATE",
        "{new}.outcome = 'waiting' AND {old}.outcome = 'not_unlocked' AND NOT EXISTS (SELECT 1 FROM "
        "unlocks_unlockrequest r WHERE r.id = {new}.unlock_request_id AND r.status IN ('open', 'awaiting_consent') "
        "AND NOT EXISTS (SELECT 1 FROM unlocks_consent c WHERE c.unlock_request_id = r.id))",
        "A batch comes back to a request only before its customer has answered.",
        of=("outcome",),
    ),
    Guard(
        "line_keeps_its_identity",
        "unlocks_requestedbatch",
        "UPDATE",
        _changes(["id", "unlock_request_id", "batch_id"]),
        "A requested batch keeps its request and batch.",
    ),
    Guard(
        "line_follows_its_batch",
        "unlocks_requestedbatch",
        "UPDATE",
        "NOT EXISTS (SELECT 1 FROM unlocks_batch b WHERE b.id = {new}.batch_id AND ("
        f"({{new}}.outcome = 'not_unlocked' AND (b.status NOT IN {_GRANTED} OR b.grant_id <!> {{new}}.consented_id)) "
        "OR (b.status = {new}.outcome AND b.grant_id = {new}.consented_id) OR "
        "({new}.outcome = 're_exported' AND b.status = 'exported') OR "
        "({new}.outcome IN ('waiting', 'refused', 'relocked') AND b.status = 'bypassed')))",
        "The outcome does not fit the batch.",
        of=("outcome",),
    ),
    Guard(
        "line_names_its_own_consent",
        "unlocks_requestedbatch",
        "UPDATE",
        "{new}.consented_id <!> {old}.consented_id AND ({old}.outcome <> 'waiting' OR NOT EXISTS (SELECT 1 FROM "
        "unlocks_consentedbatch cb WHERE cb.id = {new}.consented_id AND cb.requested_batch_id = {new}.id))",
        "A requested batch names a consent given for it.",
        of=("consented_id",),
    ),
    Guard(
        "request_starts_open",
        "unlocks_unlockrequest",
        "INSERT",
        "{new}.status <> 'open'",
        "A request starts open.",
    ),
    Guard(
        "request_moves_along_the_arrows",
        "unlocks_unlockrequest",
        "UPDATE",
        _along("status", REQUEST_ARROWS),
        "A request cannot move from that status to this one.",
        of=("status",),
    ),
    Guard(
        "request_keeps_its_identity",
        "unlocks_unlockrequest",
        "UPDATE",
        f"{{old}}.status = 'closed' OR {_changes(['id', 'account_id', 'requester_id', 'opened_by_id', 'opened_at'])}",
        "A request keeps its account, requester and opening, and a closed one does not change.",
    ),
    Guard(
        "request_ready_only_with_consent",
        "unlocks_unlockrequest",
        "UPDATE",
        "{new}.status = 'consented' AND {old}.status <> 'consented' AND NOT EXISTS (SELECT 1 FROM unlocks_consent c "
        "WHERE c.unlock_request_id = {new}.id AND c.decision = 'agreed' AND NOT EXISTS (SELECT 1 FROM "
        "unlocks_consentwithdrawal w WHERE w.consent_id = c.id))",
        "A request is ready to unlock only once the customer has agreed.",
        of=("status",),
    ),
    Guard(
        "request_closed_without_open_batches",
        "unlocks_unlockrequest",
        "UPDATE",
        "{new}.status = 'closed' AND EXISTS (SELECT 1 FROM unlocks_requestedbatch l "
        "WHERE l.unlock_request_id = {new}.id AND l.outcome IN ('waiting', 'unlocking', 'unlocked', 'relocking'))",
        "A request is closed only when none of its batches is waiting, unlocked or between the two.",
        of=("status",),
    ),
    Guard(
        "terms_start_as_a_draft",
        "unlocks_consentterms",
        "INSERT",
        # Version 1 comes published, from a migration.
        "{new}.version <> 1 AND ({new}.published_at IS NOT NULL OR EXISTS (SELECT 1 FROM unlocks_consentterms t "
        "WHERE t.published_at IS NULL AND t.id <> {new}.id))",
        "Terms start as a draft, one at a time.",
    ),
    Guard(
        "terms_published_by_somebody",
        "unlocks_consentterms",
        "UPDATE",
        f"{{new}}.published_at IS NOT NULL AND ({{new}}.published_by_id IS NULL OR {_changes(['title', 'text'])})",
        "Terms are published by a named member of staff, just as they were drafted.",
    ),
    Guard(
        "terms_frozen",
        "unlocks_consentterms",
        "UPDATE",
        "{old}.published_at IS NOT NULL",
        "Published terms do not change.",
    ),
    Guard(
        "link_goes_to_an_admin",
        "unlocks_consentlink",
        "INSERT",
        "NOT EXISTS (SELECT 1 FROM unlocks_contact p JOIN unlocks_unlockrequest r ON r.account_id = p.account_id "
        f"WHERE p.id = {{new}}.sent_to_id AND {_CONFIRMED_ADMIN} AND p.email = {{new}}.email "
        "AND r.id = {new}.unlock_request_id) "
        "OR NOT EXISTS (SELECT 1 FROM unlocks_consentterms t WHERE t.id = {new}.terms_id "
        "AND t.published_at IS NOT NULL)",
        "A consent link goes to a confirmed Admin of the request's account, with published terms.",
    ),
    Guard(
        "link_goes_one_way",
        "unlocks_consentlink",
        "UPDATE",
        _changes(
            [
                "id",
                "unlock_request_id",
                "sent_to_id",
                "email",
                "terms_id",
                "token_hash",
                "sent_by_id",
                "shown_to_id",
                "sent_at",
            ]
        )
        + " OR {new}.expires_at > {old}.expires_at"
        + f" OR ({{old}}.used_at IS NOT NULL AND ({_changes(['pin_verified_at', 'expires_at'])}))"
        + "".join(
            f" OR ({{old}}.{column} IS NOT NULL AND {{new}}.{column} <!> {{old}}.{column})"
            for column in ("used_at", "revoked_at")
        ),
        "A consent link keeps what it was sent with; used and revoked cannot be undone.",
    ),
    Guard(
        "opening_is_of_a_link_that_works",
        "unlocks_linkopening",
        "INSERT",
        "NOT EXISTS (SELECT 1 FROM unlocks_consentlink k WHERE k.id = {new}.link_id AND k.used_at IS NULL "
        "AND k.revoked_at IS NULL AND k.expires_at > {new}.at AND k.expires_at > {now}) "
        "OR ({new}.position <> 1 AND NOT "
        "EXISTS (SELECT 1 FROM unlocks_linkopening o WHERE o.link_id = {new}.link_id "
        "AND o.position = {new}.position - 1))",
        "An opening is of a link that works, and the next one of it.",
    ),
    Guard(
        "consent_comes_by_its_link",
        "unlocks_consent",
        "INSERT",
        "{new}.how = 'link' AND NOT EXISTS (SELECT 1 FROM unlocks_consentlink k WHERE k.id = {new}.link_id "
        "AND k.unlock_request_id = {new}.unlock_request_id AND k.terms_id = {new}.terms_id AND k.revoked_at IS NULL "
        "AND k.sent_to_id = {new}.contact_id AND k.email = {new}.email "
        "AND EXISTS (SELECT 1 FROM unlocks_contact p "
        f"WHERE p.id = k.sent_to_id AND {_CONFIRMED_ADMIN} AND p.email = k.email) "
        "AND k.used_at IS NOT NULL AND EXISTS (SELECT 1 FROM unlocks_linkopening o WHERE o.link_id = k.id "
        "AND (o.id = {new}.opening_id OR {new}.opening_id IS NULL AND o.position = 50)) "
        "AND k.expires_at > {new}.given_at AND k.expires_at > {now} "
        "AND ({new}.decision = 'declined' OR k.pin_verified_at IS NOT NULL))",
        "A consent comes by a link of its request that was opened, PIN-verified, used in time and not revoked.",
    ),
    Guard(
        "consent_recorded_by_phone_with_the_pin",
        "unlocks_consent",
        "INSERT",
        "{new}.how = 'phone' AND NOT ({new}.decision = 'agreed' AND EXISTS (SELECT 1 FROM unlocks_unlockrequest r "
        "JOIN unlocks_account a ON a.id = r.account_id JOIN unlocks_contact p ON p.account_id = a.id "
        "JOIN unlocks_ledgerentry e ON e.unlock_request_id = r.id JOIN unlocks_consentterms t ON t.id = {new}.terms_id "
        "WHERE r.id = {new}.unlock_request_id AND r.status <> 'closed' AND r.pin_verified_by_id = {new}.recorded_by_id "
        f"AND p.id = {{new}}.contact_id AND {_CONFIRMED_ADMIN} AND p.email = {{new}}.email "
        "AND t.published_at IS NOT NULL "
        "AND e.kind = 'pin_verified' AND e.user_id = {new}.recorded_by_id AND e.at > {half_an_hour_ago} "
        "AND (a.pin_issued_at IS NULL OR e.at >= a.pin_issued_at)))",
        "The person who records a consent by phone has verified the PIN for this request within 30 minutes.",
    ),
    Guard(
        "evidence_is_of_a_consent_recorded_by_phone",
        "unlocks_consentevidence",
        "INSERT",
        "NOT EXISTS (SELECT 1 FROM unlocks_consent c WHERE c.id = {new}.consent_id AND c.how = 'phone')",
        "Evidence belongs to a consent recorded by phone.",
    ),
    Guard(
        "consented_batch_is_of_its_request",
        "unlocks_consentedbatch",
        "INSERT",
        "NOT EXISTS (SELECT 1 FROM unlocks_consent c "
        "JOIN unlocks_requestedbatch l ON l.unlock_request_id + 0 = c.unlock_request_id "
        "JOIN unlocks_batch b ON b.id = l.batch_id "
        "WHERE c.id = {new}.consent_id AND c.decision = 'agreed' AND l.id = {new}.requested_batch_id "
        "AND l.outcome = 'waiting' AND b.id = {new}.batch_id "
        "AND {new}.fingerprint <> '' AND b.fingerprint = {new}.fingerprint "
        "AND b.number = {new}.number AND b.name = {new}.name AND b.total = {new}.total "
        "AND b.item_count = {new}.item_count AND {new}.position > 0 AND {new}.position <= c.batch_count)",
        "A consent covers the batches of its own request as they stood, and no more of them than were shown.",
    ),
    Guard(
        "withdrawal_after_relock",
        "unlocks_consentwithdrawal",
        "INSERT",
        "EXISTS (SELECT 1 FROM unlocks_consentedbatch cb JOIN unlocks_batch b ON b.grant_id = cb.id "
        "WHERE cb.consent_id = {new}.consent_id AND b.status IN ('unlocking', 'unlocked'))",
        "A consent in use cannot be withdrawn before its batches are being relocked.",
    ),
    Guard(
        "ledger_is_a_chain",
        "unlocks_ledgerentry",
        "INSERT",
        "NOT (({new}.sequence = 1 AND {new}.previous_hash = '" + "0" * 64 + "') OR EXISTS (SELECT 1 FROM "
        "unlocks_ledgerentry p WHERE p.sequence = {new}.sequence - 1 AND p.hash = {new}.previous_hash))",
        "A ledger entry follows the one before it.",
    ),
    Guard(
        "account_keeps_its_number",
        "unlocks_account",
        "UPDATE",
        _changes(["id", "number"]),
        "An account keeps its number.",
    ),
    Guard(
        "contact_keeps_its_account",
        "unlocks_contact",
        "UPDATE",
        _changes(["id", "account_id"]),
        "A contact keeps its account.",
    ),
    Guard(
        "contact_starts_unconfirmed",
        "unlocks_contact",
        "INSERT",
        "{new}.confirmed_by_id IS NOT NULL",
        "A contact's address is confirmed once it is on file.",
    ),
    Guard(
        "contact_confirmed_by_a_second_person",
        "unlocks_contact",
        "UPDATE",
        "{new}.confirmed_by_id IS NOT NULL AND ({new}.email <> {old}.email OR ({new}.is_admin AND NOT {old}.is_admin) "
        "OR EXISTS (SELECT 1 FROM unlocks_historicalcontact h "
        f"WHERE h.id = {{new}}.id AND {_entered_by('{new}.confirmed_by_id')}))",
        "An address is confirmed as it stands, by someone else than who entered it.",
    ),
    Guard("item_keeps_its_key", "unlocks_batchitem", "UPDATE", _changes(["id"]), "An item keeps its key."),
    Guard(
        "terms_keep_their_key",
        "unlocks_consentterms",
        "UPDATE",
        _changes(["id", "version"]),
        "Terms keep their key and version.",
    ),
    Guard(
        "user_keeps_the_key",
        "auth_user",
        "UPDATE",
        # Evidence names staff by it.
        _changes(["id", "username"]),
        "A user keeps the key and the username.",
    ),
    Guard(
        "system_never_signs_in",
        "auth_user",
        "UPDATE",
        "EXISTS (SELECT 1 FROM unlocks_apitoken t WHERE t.system_id = {new}.id) "
        "AND ({new}.is_staff OR {new}.is_superuser OR {new}.password NOT LIKE '!%')",
        "A system that has API tokens is no member of staff, and has no password.",
    ),
    Guard(
        "token_made_by_a_superuser_for_a_system",
        "unlocks_apitoken",
        "INSERT",
        "{new}.revoked_at IS NOT NULL OR NOT EXISTS (SELECT 1 FROM auth_user u WHERE u.id = {new}.system_id "
        "AND NOT u.is_staff AND NOT u.is_superuser AND u.password LIKE '!%') OR NOT EXISTS (SELECT 1 FROM auth_user u "
        "WHERE u.id = {new}.made_by_id AND u.is_superuser AND u.is_active)",
        "An API token is made by a superuser, for a system that cannot sign in.",
    ),
    Guard(
        "token_makes_up_no_customer",
        "unlocks_apitoken",
        "INSERT",
        f"({_scope_of('{new}', _MAKES_CUSTOMERS)} AND {_scope_of('{new}', _ACTS_ON_REQUESTS)}) "
        f"OR ({_scope_of('{new}', _MAKES_CUSTOMERS)} AND {_another_token(_ACTS_ON_REQUESTS)}) "
        f"OR ({_scope_of('{new}', _ACTS_ON_REQUESTS)} AND {_another_token(_MAKES_CUSTOMERS)})",
        "No system both enters contacts or PINs and acts on requests: it could make up a customer alone.",
    ),
    Guard(
        "token_goes_one_way",
        "unlocks_apitoken",
        "UPDATE",
        _changes(["id", "name", "system_id", "scopes", "token_hash", "made_by_id", "made_at", "expires_at"])
        + " OR ({old}.revoked_at IS NOT NULL AND ("
        + _changes(["revoked_at", "revoked_by_id"])
        + ")) OR ({old}.last_used_at IS NOT NULL AND ({new}.last_used_at IS NULL "
        "OR {new}.last_used_at < {old}.last_used_at))",
        "An API token keeps what it was made with; revoked cannot be undone.",
    ),
    Guard(
        "staff_link_sent_by_a_superuser",
        "unlocks_stafflink",
        "INSERT",
        "{new}.used_at IS NOT NULL OR NOT EXISTS (SELECT 1 FROM auth_user u "
        "WHERE u.id = {new}.sent_by_id AND u.is_superuser AND u.is_active) OR NOT EXISTS (SELECT 1 FROM auth_user u "
        "WHERE u.id = {new}.user_id AND u.is_staff AND u.is_active)",
        "A link to set a password is sent by a superuser to a member of staff.",
    ),
    Guard(
        "staff_link_goes_one_way",
        "unlocks_stafflink",
        "UPDATE",
        "{old}.used_at IS NOT NULL OR "
        + _changes(["id", "user_id", "sent_by_id", "sent_at", "expires_at", "token_hash"]),
        "A link to set a password keeps what it was sent with, and works once.",
    ),
    Guard(
        "outgoing_keeps_what_it_is",
        "unlocks_outgoing",
        "UPDATE",
        "{old}.state <> 'queued' OR ({new}.nonce <> {old}.nonce AND ({new}.nonce <> '' OR {new}.state = 'queued')) OR "
        + _changes(
            [
                "id",
                "email",
                "address",
                "account_id",
                "unlock_request_id",
                "contact_id",
                "link_id",
                "consent_id",
                "resent_id",
                "entered_id",
                "actor",
                "mac",
                "queued_at",
            ]
        ),
        "An email keeps what it is and where it goes, and one that is done does not change.",
    ),
    Guard(
        "outgoing_starts_untried",
        "unlocks_outgoing",
        "INSERT",
        f"{{new}}.tries <> 0 OR {_PUT_OFF}",
        "An email starts untried, and is not put off for longer than it is tried.",
    ),
    Guard(
        "outgoing_is_tried_in_time",
        "unlocks_outgoing",
        "UPDATE",
        # PostgreSQL has no number beyond 32,767: one more try of that email would fail, and no other would be sent.
        f"{{new}}.tries NOT IN ({{old}}.tries, {{old}}.tries + 1) OR {{new}}.tries > 1000 OR {_PUT_OFF}",
        "An email is tried once more at a time, and is not put off for longer than it is tried.",
    ),
    Guard(
        "instruction_has_its_grant",
        "unlocks_instruction",
        "INSERT",
        "{new}.state <> 'queued' OR {new}.tries <> 0 OR {new}.sent_at IS NOT NULL OR {new}.started_by_id IS NOT NULL "
        f"OR {_PUT_OFF} OR NOT EXISTS (SELECT 1 FROM unlocks_batch b "
        "JOIN unlocks_requestedbatch l ON l.consented_id = b.grant_id "
        "WHERE b.id = {new}.batch_id AND l.id = {new}.line_id AND l.outcome = b.status "
        "AND (({new}.what = 'unlock' AND b.status = 'unlocking') OR "
        "({new}.what = 'lock' AND b.status = 'relocking')))",
        "The product is asked to unlock what is unlocking, and to lock what is relocking, under its grant.",
    ),
    Guard(
        "instruction_moves_along_the_arrows",
        "unlocks_instruction",
        "UPDATE",
        _along("state", INSTRUCTION_ARROWS),
        "An instruction cannot move from that state to this one.",
        of=("state",),
    ),
    Guard(
        "instruction_keeps_what_it_is",
        "unlocks_instruction",
        "UPDATE",
        "{old}.state IN ('done', 'refused') OR ({old}.state = 'canceled' AND {new}.state <> 'done') OR "
        + _changes(["id", "key", "what", "batch_id", "line_id", "act_id", "queued_at"]),
        "An instruction keeps what it asks for, and one that is ended does not change.",
    ),
    Guard(
        "instruction_handed_over_with_consent",
        "unlocks_instruction",
        "UPDATE",
        "{old}.state = 'queued' AND {new}.state = 'sent' AND {new}.what = 'unlock' AND NOT EXISTS (SELECT 1 "
        "FROM unlocks_batch b JOIN unlocks_consentedbatch cb ON cb.id = b.grant_id "
        "JOIN unlocks_consent c ON c.id = cb.consent_id JOIN unlocks_account a ON a.id = b.account_id "
        "WHERE b.id = {new}.batch_id AND cb.requested_batch_id = {new}.line_id "
        "AND b.status = 'unlocking' AND NOT b.period_closed AND b.differs IN ('', 'bypassed') AND a.active "
        "AND c.valid_until > {now} AND b.fingerprint = cb.fingerprint "
        "AND NOT EXISTS (SELECT 1 FROM unlocks_consentwithdrawal w WHERE w.consent_id = c.id) AND "
        # Whoever carries it out by hand, or else the product does.
        + _nobody_obtained_it(
            "b.unlocked_by_id", "coalesce({new}.started_by_id, b.unlocked_by_id)", request="c.unlock_request_id"
        )
        + ")",
        "The product is asked to unlock a batch only while the consent for it holds.",
        of=("state",),
    ),
    Guard(
        "instruction_canceled_before_the_product_got_it",
        "unlocks_instruction",
        "UPDATE",
        "{new}.state = 'canceled' AND {old}.sent_at IS NOT NULL AND EXISTS (SELECT 1 FROM unlocks_batch b "
        "WHERE b.id = {new}.batch_id AND b.status = 'unlocking')",
        "What the product may have got is not canceled: the batch is relocked.",
        of=("state",),
    ),
    Guard(
        "instruction_carried_out_by_who_took_it",
        "unlocks_instruction",
        "UPDATE",
        f"{_changes(['started_by_id'])} AND NOT (({{old}}.state = 'queued' AND {{new}}.state = 'sent') OR "
        "({old}.state IN ('sent', 'unknown') AND {new}.state = 'queued'))",
        "An instruction that someone took is theirs until they put it back.",
        of=("started_by_id",),
    ),
    Guard(
        "instruction_answered_once_handed_over",
        "unlocks_instruction",
        "UPDATE",
        "({new}.state IN ('done', 'refused') AND {old}.sent_at IS NULL) "
        "OR ({new}.state = 'sent' AND {new}.sent_at IS NULL) "
        "OR ({new}.sent_at <!> {old}.sent_at AND NOT (({old}.state = 'queued' AND {new}.state = 'sent') "
        "OR ({old}.state = 'sent' AND {new}.state = 'queued' AND {new}.sent_at IS NULL)))",
        "Nothing is answered that was not handed over, and the time of that does not change.",
        of=("state", "sent_at"),
    ),
    Guard(
        "instruction_is_tried_in_time",
        "unlocks_instruction",
        "UPDATE",
        f"{{new}}.tries NOT IN (0, 1, {{old}}.tries, {{old}}.tries + 1) OR {{new}}.tries > 1000 OR {_PUT_OFF}",
        "An instruction is tried once more at a time, and is not put off for longer than it is tried.",
    ),
]

# After these changes the database blanks the batch's fingerprint: a consent given before no longer fits.
BLANKED_BY = [
    ("unlocks_batch", "UPDATE", "id", fingerprint.BATCH_CONTENT),
    ("unlocks_batchitem", "INSERT", "batch_id", ()),
    ("unlocks_batchitem", "UPDATE", "batch_id", (*fingerprint.ITEM_CONTENT, "batch_id", "left_at")),
]

APPEND_ONLY = {
    "unlocks_consent": ("link_id", "receipt_hash"),
    "unlocks_linkopening": (("link_id", "position"),),
    "unlocks_consentedbatch": (("consent_id", "batch_id"), ("consent_id", "position")),
    "unlocks_consentwithdrawal": ("consent_id",),
    "unlocks_consentevidence": (("consent_id", "sha256"),),
    "unlocks_resentreceipt": ("token_hash",),
    "unlocks_review": ("unlock_request_id",),
    "unlocks_reviewdecision": (("review_id", "position"),),
    "unlocks_certificate": ("sha256", "pdf_sha256", ("consent_id", "ordinal")),
    "unlocks_ledgerentry": ("sequence", "previous_hash", "hash"),
    "unlocks_act": (),
    "unlocks_verdict": (("act_id", "batch_id"),),
}
NEVER_DELETED = {
    "unlocks_account": ("number", "external_id"),
    "unlocks_contact": (("account_id", "email"), ("account_id", "external_id")),
    "unlocks_batch": (("account_id", "number"), ("account_id", "external_id")),
    "unlocks_batchitem": (("batch_id", "external_id"),),
    "unlocks_unlockrequest": (),
    "unlocks_requestedbatch": (("unlock_request_id", "batch_id"),),
    "unlocks_consentterms": ("version",),
    "unlocks_consentlink": ("token_hash",),
    "unlocks_outgoing": (),
    "unlocks_instruction": ("key",),
    "unlocks_import": (),
    "unlocks_apitoken": ("token_hash",),
    "unlocks_stafflink": ("token_hash",),
    "auth_user": ("username",),
}
# REPLACE makes room by deleting the row in the way, without any DELETE trigger: partial unique indexes as well.
# An UPDATE meets only that of instructions: one that was given up may be taken up again.
REPLACE_ALSO = {
    "unlocks_requestedbatch": "EXISTS (SELECT 1 FROM unlocks_requestedbatch x WHERE x.batch_id = NEW.batch_id "
    "AND x.outcome IN ('waiting', 'unlocking', 'unlocked', 'relocking') "
    "AND NEW.outcome IN ('waiting', 'unlocking', 'unlocked', 'relocking'))",
    "unlocks_instruction": "EXISTS (SELECT 1 FROM unlocks_instruction x WHERE x.batch_id = NEW.batch_id "
    "AND x.what = NEW.what AND x.state IN ('queued', 'sent', 'unknown') "
    "AND NEW.state IN ('queued', 'sent', 'unknown'))",
    "unlocks_consentlink": "EXISTS (SELECT 1 FROM unlocks_consentlink x "
    "WHERE x.unlock_request_id = NEW.unlock_request_id "
    "AND x.used_at IS NULL AND x.revoked_at IS NULL AND NEW.used_at IS NULL AND NEW.revoked_at IS NULL)",
}


def append_only_tables():
    """Return the tables that only grow, with the columns (or tuples of them) that are unique in each."""
    models = apps.get_app_config("unlocks").get_models()
    histories = {model._meta.db_table: () for model in models if hasattr(model, "history_object")}
    return APPEND_ONLY | histories
