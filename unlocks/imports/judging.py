"""What an import makes of each record: new, changed, as on file, left alone or refused. One query a kind.

Judged for the preview, and once more, part by part, when the records are written: under the locks, as everything is
then. What the query compares is what is written: `values_of_accounts` and its like are the one place that says so.
"""

import re
from collections.abc import Iterator
from datetime import timedelta
from functools import reduce
from operator import or_
from typing import Any

from django.db.models import (
    BooleanField,
    Case,
    CharField,
    Count,
    DateTimeField,
    DecimalField,
    Exists,
    F,
    Func,
    Model,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Sum,
    TextField,
    Value,
    When,
)
from django.db.models.functions import Cast, Coalesce, Concat, Round
from django.db.models.lookups import Exact
from django.utils import timezone

from .. import history
from ..models import (
    Account,
    Batch,
    BatchItem,
    Contact,
    Import,
    Instruction,
    Judgment,
    RequestedBatch,
    StagedAccount,
    StagedBatch,
    StagedContact,
    StagedItem,
    StagedLines,
    UnlockRequest,
)

Places = tuple[int, int]
CLOCKS_DIFFER = timedelta(minutes=5)  # later than that, nothing would be newer for as long
Status = Batch.Status
_MONEY = DecimalField(max_digits=14, decimal_places=2)


class Differs(Func):
    """Whether two values are different, NULL being one of them."""

    template = "(%(expressions)s)"
    arg_joiner = " IS DISTINCT FROM "
    output_field = BooleanField()

    def as_sqlite(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        return self.as_sql(compiler, connection, arg_joiner=" IS NOT ", **extra)


def said(sentence: str) -> Any:
    """Return a sentence as an expression; {names} in it are columns."""
    parts = re.split(r"\{(\w+)\}", sentence)
    if len(parts) == 1:
        return Value(sentence, output_field=TextField())
    texts = [_text(part) if place % 2 else Value(part) for place, part in enumerate(parts)]
    return Concat(*texts, output_field=TextField())


class _Dollars(Func):
    """An amount as text, as `formats.money` writes it."""

    template = (
        "CASE WHEN %(expressions)s < 0 THEN '-$' ELSE '$' END || "
        "to_char(abs(%(expressions)s), 'FM999,999,999,999,999,990.00')"
    )
    output_field = TextField()

    def as_sqlite(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        cents = "CAST(round(abs(%(expressions)s) * 100) AS integer)"
        sign = "CASE WHEN %(expressions)s < 0 THEN '-$' ELSE '$' END"
        written = f"{sign} || printf('%%%%,d.%%%%02d', {cents} / 100, {cents} %%%% 100)"
        return self.as_sql(compiler, connection, template=written, **extra)


def _text(column: str) -> Any:
    return _Dollars(F(column)) if column in ("amount", "says_amount") else Cast(F(column), TextField())


def _judge(rows: QuerySet[Any], *cases: tuple[Any, Judgment, str], default: Judgment) -> None:
    """Note what the first case that fits makes of each record, and then why some are refused or left alone."""
    whens = (When(fits, then=Value(judgment.value)) for fits, judgment, _ in cases)
    history.update_each(rows, judgment=Case(*whens, default=Value(default.value)), why="")
    whys = (When(fits, then=F("held") if sentence == "{held}" else said(sentence)) for fits, _, sentence in cases)
    told = rows.filter(judgment__in=[Judgment.REFUSED, Judgment.LEFT_ALONE])
    if told.exists():
        history.update_each(told, why=Case(*whys, default=Value(""), output_field=TextField()))


def _new(model: type[Model], target: str, names: list[str]) -> dict[str, Any]:
    """Return what is on file afterwards, by column: what came in, or what is there, or what a new record begins with.

    An empty cell says nothing, and neither does a column that is not there; an API may say that a text is ''.
    """
    values = {}
    for name in names:
        field: Any = model._meta.get_field(name)
        default = Value(field.get_default(), output_field=field)
        there = [F(f"{target}__{name}")] if target else []
        values[name] = Coalesce(F(name), *there, default, output_field=field)
    return values


def _any_differs(values: dict[str, Any], target: str) -> Any:
    return reduce(or_, (Q(Differs(F(f"{target}__{name}"), value)) for name, value in values.items()))


# Accounts


def accounts(places: Places) -> QuerySet[StagedAccount]:
    return StagedAccount.objects.filter(place__range=places)


def values_of_accounts() -> dict[str, Any]:
    names = ["name", "accounting_software", "active", "time_zone", "external_id"]
    return _new(Account, "account", names)


def judge_accounts(imported: Import, places: Places) -> None:
    rows, values = accounts(places), values_of_accounts()
    history.update_each(rows, account=Subquery(Account.objects.filter(number=OuterRef("number")).values("pk")))
    theirs = _by_external_id(Account.objects.all())
    _judge(
        rows,
        (~Q(held=""), Judgment.REFUSED, "{held}"),
        (
            Q(external_id__isnull=False) & Q(Exists(theirs.exclude(number=OuterRef("number")))),
            Judgment.REFUSED,
            "Another account has the external ID {external_id}. Correct the number or the ID.",
        ),
        (
            _other_external_id("account"),
            Judgment.REFUSED,
            "Account {number} has another external ID on file. Correct the number or the ID.",
        ),
        (Q(account=None), Judgment.NEW, ""),
        (_any_differs(values, "account"), Judgment.CHANGED, ""),
        default=Judgment.SAME,
    )


def _by_external_id(records: QuerySet[Any]) -> QuerySet[Any]:
    return records.filter(external_id=OuterRef("external_id")).exclude(external_id="")


def _other_external_id(target: str) -> Q:
    theirs = f"{target}__external_id"
    return (
        Q(external_id__isnull=False)
        & ~Q(**{theirs: ""})
        & Q(**{f"{theirs}__isnull": False})
        & Q(Differs(F(theirs), F("external_id")))
    )


def _unknown_account(imported: Import) -> Q:
    """Whether the account is neither on file nor comes with the same import."""
    coming = accounts(imported.places).filter(number=OuterRef("account_number")).exclude(judgment=Judgment.REFUSED)
    return Q(account=None) & ~Q(Exists(coming))


_NO_ACCOUNT = "There is no account {account_number}. Add it to a file of accounts, or correct the number."


# Contacts


def contacts(places: Places) -> QuerySet[StagedContact]:
    return StagedContact.objects.filter(place__range=places)


def values_of_contacts() -> dict[str, Any]:
    values = _new(Contact, "contact", ["name", "phone", "is_admin", "external_id"])
    return values | {"email": F("email")}


def judge_contacts(imported: Import, places: Places) -> None:
    rows, values = contacts(places), values_of_contacts()
    history.update_each(rows, account=Subquery(Account.objects.filter(number=OuterRef("account_number")).values("pk")))
    of_account = Contact.objects.filter(account=OuterRef("account_id"))
    by_address = of_account.filter(email=OuterRef("email"))
    by_id = _by_external_id(of_account)
    history.update_each(rows, contact=Coalesce(Subquery(by_id.values("pk")), Subquery(by_address.values("pk"))))
    _judge(
        rows,
        (~Q(held=""), Judgment.REFUSED, "{held}"),
        (_unknown_account(imported), Judgment.REFUSED, _NO_ACCOUNT),
        (
            Q(Exists(by_address.exclude(pk=OuterRef("contact_id")))),
            Judgment.REFUSED,
            "{email} is on file for another contact of the account than the external ID {external_id}.",
        ),
        (
            _other_external_id("contact"),
            Judgment.REFUSED,
            "{email} has another external ID on file. Correct the address or the ID.",
        ),
        (
            _another_persons_admin(imported),
            Judgment.REFUSED,
            "{email} is a new address of an Admin, found by the external ID {external_id}. Say in is_admin whether the "
            "contact still is one.",
        ),
        (
            Q(contact__in=_named_twice(rows)),
            Judgment.REFUSED,
            "Two rows name the same contact: {email}, one of them by the external ID. Correct one of them.",
        ),
        (Q(contact=None), Judgment.NEW, ""),
        (_any_differs(values, "contact"), Judgment.CHANGED, ""),
        default=Judgment.SAME,
    )


def _another_persons_admin(imported: Import) -> Q:
    """Whether the product may name someone else than the Admin to whom a file gave that person's ID.

    Its word counts at once, so that nobody is an Admin by it of whom it does not say so.
    """
    if imported.source != Import.Source.API:
        return Q(pk__in=[])
    return Q(Differs(F("contact__email"), F("email")), contact__is_admin=True, is_admin=None)


def _named_twice(rows: QuerySet[StagedContact]) -> QuerySet[Any]:
    """Return the keys of the contacts that several rows are, one by its external ID, say, and one by its address."""
    found = rows.filter(contact__isnull=False, held="").order_by().values("contact")
    return found.annotate(n=Count("pk")).filter(n__gt=1).values("contact")


def other_recipient(values: dict[str, Any]) -> Any:
    """Whether what was sent to the contact is another's by this."""
    return _any_differs({name: values[name] for name in ("email", "is_admin")}, "contact")


def to_be_confirmed(values: dict[str, Any]) -> Any:
    """Whether the address, changed like this, counts only once it is confirmed, as `rules.to_be_confirmed` says."""
    raised = Q(Differs(F("contact__is_admin"), values["is_admin"])) & Q(contact__is_admin=False)
    return Q(Differs(F("contact__email"), F("email"))) | raised


# Batches and their items


def batches(places: Places) -> QuerySet[StagedBatch]:
    return StagedBatch.objects.filter(place__range=places)


def items(places: Places) -> QuerySet[StagedItem]:
    return StagedItem.objects.filter(batch__place__range=places)


def lines(places: Places) -> QuerySet[StagedLines]:
    return StagedLines.objects.filter(batch__place__range=places)


_GRANTED = Q(batch__status__in=Batch.GRANTED)
_NOT_HANDED_OVER = Q(batch__status=Status.UNLOCKING) & Q(
    Exists(Instruction.objects.not_handed_over().filter(batch=OuterRef("batch_id")))
)
# That the product exported it closes its line, as `judged_to_mark` says.
RE_EXPORTED = Q(_GRANTED, status=Status.EXPORTED) & ~_NOT_HANDED_OVER
# What the product may say of a batch that has a grant, and nothing is amiss.
_FITS_A_GRANT = Q(_GRANTED, status__in=[Status.PENDING, Status.POSTED]) | Q(
    batch__status__in=[Status.UNLOCKING, Status.RELOCKING], status=Status.BYPASSED
)
_ALONG_THE_ARROWS = Q(batch__status=Status.PENDING) | Q(
    batch__status=Status.POSTED, status__in=[Status.PENDING, Status.EXPORTED, Status.BYPASSED]
)
# The customer is asked about it as it stands, or has agreed to it as it stands.
_CONSENT = Q(
    Exists(
        RequestedBatch.objects.filter(
            batch=OuterRef("batch_id"), outcome__in=[RequestedBatch.Outcome.WAITING, RequestedBatch.Outcome.UNLOCKING]
        ).exclude(unlock_request__status=UnlockRequest.Status.OPEN)
    )
)
_STATUS = Case(
    When(batch=None, then=F("status")),
    When(status=None, then=F("batch__status")),
    When(_ALONG_THE_ARROWS, then=F("status")),
    default=F("batch__status"),
    output_field=CharField(),
)
_DIFFERS = Case(
    When(status=None, then=Coalesce(F("batch__differs"), Value(""))),
    When(Q(batch=None) | Q(status=_STATUS) | _FITS_A_GRANT | RE_EXPORTED, then=Value("")),
    default=F("status"),
    output_field=CharField(),
)
# Both are the same: of what changed nothing since it was left out, and of what is on file just as it came in.
_SAME_ITEMS = Q(items_sha256=F("batch__items_sha256")) & ~Q(items_sha256="")
_ITEMS_DIFFER = Q(items__isnull=False) & ~_SAME_ITEMS & ~Q(items=F("items_same"), items_listed=F("items"))


def values_of_batches() -> dict[str, Any]:
    """Return the columns of batches as they are written; what an act of its own makes of them comes after that."""
    values = _new(Batch, "batch", ["name", "reached_by", "external_id", "period_closed"])
    pending, exported = Q(Exact(_STATUS, Status.PENDING)), Q(Exact(_STATUS, Status.EXPORTED))
    kept = {name: Coalesce(F(name), F(f"batch__{name}")) for name in ("posted_on", "bypassed_on", "exported_on")}
    return values | {
        "status": _STATUS,
        "differs": _DIFFERS,
        "posted_on": Case(When(pending & Q(status__isnull=False), then=F("posted_on")), default=kept["posted_on"]),
        "bypassed_on": kept["bypassed_on"],
        "exported_on": Case(When(exported, then=kept["exported_on"]), default=F("batch__exported_on")),
        # What the product says of its items, whatever came of them: the two are compared.
        "item_count": Coalesce(F("item_count"), F("batch__item_count"), F("items"), Value(0)),
        "total": Coalesce(F("total"), F("batch__total"), F("amount"), Value(0), output_field=_MONEY),
    }


def as_of(imported: Import, *, of: Any = F) -> Any:
    """When the product said so: it says it itself, or it is when the records came in. `of` is F or OuterRef."""
    return Coalesce(of("as_of"), Value(imported.at, output_field=DateTimeField()))


def on_file(places: Places) -> QuerySet[Batch]:
    """Return the batches on file that staged ones are, by their keys: often there are none."""
    theirs = Batch.objects.filter(account__number=OuterRef("account_number"), number=OuterRef("number"))
    found = batches(places).annotate(theirs=Subquery(theirs.values("pk"))).values_list("theirs", flat=True)
    return Batch.objects.filter(pk__in=list(filter(None, found)))


def _find_batches(places: Places) -> None:
    theirs = Batch.objects.filter(account__number=OuterRef("account_number"), number=OuterRef("number"))
    history.update_each(
        batches(places),
        account=Subquery(Account.objects.filter(number=OuterRef("account_number")).values("pk")),
        batch=Subquery(theirs.values("pk")),
    )


def judge_batches(imported: Import, places: Places) -> None:
    rows, values = batches(places), values_of_batches()
    _find_batches(places)
    compare_items(imported, places)
    theirs = _by_external_id(Batch.objects.filter(account=OuterRef("account_id")))
    is_file = imported.source != Import.Source.API
    cases: list[tuple[Any, Judgment, str]] = [
        (~Q(held=""), Judgment.REFUSED, "{held}"),
        (_unknown_account(imported), Judgment.REFUSED, _NO_ACCOUNT),
        (
            Q(line=None, batch=None),
            Judgment.REFUSED,
            "There is no batch {number} in account {account_number}. Add it to a file of batches, or correct it.",
        ),
        (
            Q(external_id__isnull=False) & Q(Exists(theirs.exclude(number=OuterRef("number")))),
            Judgment.REFUSED,
            "Another batch of the account has the external ID {external_id}. Correct the number or the ID.",
        ),
        (
            _other_external_id("batch"),
            Judgment.REFUSED,
            "Batch {number} has another external ID on file. Correct the number or the ID.",
        ),
        (
            Q(Exact(_STATUS, Status.EXPORTED), exported_on=None, batch__exported_on=None)
            | Q(Exact(_STATUS, Status.BYPASSED), bypassed_on=None, batch__bypassed_on=None),
            Judgment.REFUSED,
            "Batch {number} is {status}, and the day of that is missing.",
        ),
        (
            Q(as_of__gt=timezone.now() + CLOCKS_DIFFER),
            Judgment.REFUSED,
            "What is said of batch {number} holds as of a time to come. Correct as_of, or the clock behind it.",
        ),
        *_refused_for_its_items(imported, places),
        (Q(batch=None), Judgment.NEW, ""),
        (
            ~(_any_differs(values, "batch") | _ITEMS_DIFFER | Q(other_lines__gt=0) | RE_EXPORTED),
            Judgment.SAME,
            "",
        ),
        (
            _ITEMS_DIFFER & Q(left_out=True),
            Judgment.LEFT_ALONE,
            "The items of batch {number} were changed by another import after these were read. Import them again.",
        ),
        (
            Q(batch__as_of__gt=as_of(imported)),
            Judgment.LEFT_ALONE,
            "What is on file of batch {number} is newer than this.",
        ),
        (
            RE_EXPORTED & Q(Exists(_unlocked_after(as_of(imported, of=OuterRef)))),
            Judgment.LEFT_ALONE,
            "Batch {number} was unlocked after this was said of it, so it can't mean what came of the unlock. "
            "Import what the product says now.",
        ),
    ]
    if is_file:
        cases += [
            (
                _CONSENT,
                Judgment.LEFT_ALONE,
                "The customer was asked about batch {number} as it stands, or agreed to that. A file does not change "
                "it: the consent would no longer fit.",
            ),
        ]
        if not imported.re_exported:
            cases.append(
                (
                    RE_EXPORTED,
                    Judgment.LEFT_ALONE,
                    _UNTICKED,
                )
            )
    _judge(rows, *cases, default=Judgment.CHANGED)
    _sum_up_what_was_left_out(places)


_UNTICKED = (
    "Batch {number} is unlocked here and exported in the file. It is marked as re-exported only when that is ticked."
)


def left_alone_until_ticked(places: Places) -> QuerySet[StagedBatch]:
    """Leave the batches that were left alone for nothing but that the file may not mark them as re-exported."""
    return batches(places).filter(judgment=Judgment.LEFT_ALONE, why=said(_UNTICKED))


def _unlocked_after(said_at: Any) -> QuerySet[Instruction]:
    unlocks = Instruction.objects.filter(batch=OuterRef("batch_id"), what=Instruction.What.UNLOCK)
    return unlocks.filter(queued_at__gt=said_at)


def _refused_for_its_items(imported: Import, places: Places) -> Iterator[tuple[Any, Judgment, str]]:
    if "items" in imported.kinds:
        yield (
            _ITEMS_DIFFER & Q(pk__in=clashing_items(places).values("batch")),
            Judgment.REFUSED,
            "An item of batch {number} has the external ID of another item.",
        )
        yield (
            _ITEMS_DIFFER & Q(pk__in=_with_an_item_named_twice(places)),
            Judgment.REFUSED,
            "Two items of batch {number} are one on file: one by its external ID, the other by its number.",
        )
    if "lines" in imported.kinds:
        yield (
            Q(other_lines__gt=0) & Q(pk__in=lines_of_no_item(places).values("batch")),
            Judgment.REFUSED,
            "Lines of batch {number} name an item that it does not have.",
        )
    if imported.incomplete:
        yield (
            Q(items_listed__gt=F("items_known")),
            Judgment.REFUSED,
            "Items of batch {number} are missing here, and a row with an error may be one of them. Correct that first.",
        )


_TEXTS_OF_ITEMS = ["customer", "memo", "export_id", "external_id", "job_number", "business_unit"]


def values_of_items(*, new: bool = False) -> dict[str, Any]:
    """Return the columns of items as they are written; no longer listed is none of them."""
    values = _new(BatchItem, "" if new else "item", _TEXTS_OF_ITEMS)
    return values | {name: F(name) for name in ("kind", "number", "date", "amount")}


def lines_of_a_new_item(imported: Import) -> Any:
    if "lines" not in imported.kinds:
        return Value("[]", output_field=TextField())
    ours = StagedLines.objects.filter(batch=OuterRef("batch_id"), kind=OuterRef("kind"), number=OuterRef("number"))
    return Coalesce(Subquery(ours.order_by("line").values("lines")[:1]), Value("[]"), output_field=TextField())


def compare_items(imported: Import, places: Places) -> None:
    """Count, of each batch, what came in and what is on file, and find the item that each one is.

    By subqueries: each takes one item by the index of its batch, however little the database knows of these tables.
    """
    if "items" in imported.kinds:
        same = BatchItem.objects.listed().filter(
            batch=OuterRef("batch__batch_id"),
            **{name: OuterRef(name) for name in ("kind", "number", "date", "amount")},
            **{name: Coalesce(OuterRef(name), F(name), output_field=TextField()) for name in _TEXTS_OF_ITEMS},
        )
        compared = batches(places).filter(items__isnull=False, batch__isnull=False).exclude(_SAME_ITEMS)
        if compared.exists():
            staged = items(places).filter(batch__in=compared.values("pk")).order_by().values("batch")
            history.update_select(
                StagedBatch, staged, "batch", items_same=Count(Subquery(same.values("pk")[:1])), items_known=Value(0)
            )
            listed = BatchItem.objects.listed().filter(batch=OuterRef("batch_id")).order_by().values("batch")
            history.update_each(
                compared, items_listed=Coalesce(Subquery(listed.annotate(n=Count("pk")).values("n")), Value(0))
            )
            _find_items(compared.exclude(items=F("items_same"), items_listed=F("items")))
    if "lines" in imported.kinds:
        found = _on_file("batch__batch_id").order_by("pk").values("pk")[:1]
        history.update_each(lines(places), item=Subquery(found))
        history.update_each(batches(places), other_lines=0)
        other = lines(places).filter(Q(item=None) | Q(Differs(F("item__lines"), F("lines"))))
        history.update_select(StagedBatch, other.order_by().values("batch"), "batch", other_lines=Count("line"))


def _on_file(batch: str) -> QuerySet[BatchItem]:
    return BatchItem.objects.filter(batch=OuterRef(batch), kind=OuterRef("kind"), number=OuterRef("number"))


def _find_items(differing: QuerySet[StagedBatch]) -> None:
    """Find the item on file that each staged one is, in batches whose items are not all as they came in."""
    rows = StagedItem.objects.filter(batch__in=differing.values("pk"))
    by_id = _by_external_id(BatchItem.objects.filter(batch=OuterRef("batch__batch_id")))
    found = Coalesce(
        Subquery(by_id.order_by("pk").values("pk")[:1]),
        Subquery(_on_file("batch__batch_id").order_by("pk").values("pk")[:1]),
    )
    history.update_each(rows, item=found)
    known = rows.filter(item__isnull=False).order_by().values("batch")
    history.update_select(StagedBatch, known, "batch", items_known=Count("line"))


def clashing_items(places: Places) -> QuerySet[StagedItem]:
    """Leave the staged items whose external ID and number name two different ones on file."""
    renamed = Q(Differs(F("item__number"), F("number"))) | Q(Differs(F("item__kind"), F("kind")))
    theirs = F("item__external_id")
    other = Q(external_id__isnull=False) & ~Q(item__external_id="") & Q(Differs(theirs, F("external_id")))
    found = items(places).filter(item__isnull=False).order_by()
    return found.filter(Q(renamed & Q(Exists(_on_file("batch__batch_id")))) | other)


def _with_an_item_named_twice(places: Places) -> QuerySet[Any]:
    found = items(places).filter(item__isnull=False).order_by().values("batch")
    counted = found.annotate(n=Count("item"), different=Count("item", distinct=True))
    return counted.filter(n__gt=F("different")).values("batch")


def lines_of_no_item(places: Places) -> QuerySet[StagedLines]:
    """Leave the staged lines whose item neither comes with them nor is on file."""
    coming = StagedItem.objects.filter(batch=OuterRef("batch_id"), kind=OuterRef("kind"), number=OuterRef("number"))
    return lines(places).filter(~Exists(coming), item=None).order_by()


# What is written, by the judgments.

ITEMS_DIFFER = _ITEMS_DIFFER


def changed(rows: QuerySet[Any], values: dict[str, Any], target: str) -> QuerySet[Any]:
    """Leave the rows that write something else than is on file."""
    return rows.filter(_any_differs(values, target))


def that_do_not_add_up(places: Places) -> QuerySet[StagedBatch]:
    """Leave the batches whose items are not as many, or not of the amount, that the product says."""
    rows = batches(places).filter(judgment__in=[Judgment.NEW, Judgment.CHANGED, Judgment.SAME], line__isnull=False)
    many = Q(item_count__isnull=False) & ~Q(item_count=F("items"))
    much = Q(total__isnull=False, amount__isnull=False) & ~Q(total=F("amount"))
    says = {"says_items": Coalesce("item_count", "items"), "says_amount": Coalesce("total", "amount")}
    return rows.filter(many | much, items__isnull=False).annotate(**says)


def _sum_up_what_was_left_out(places: Places) -> None:
    """Sum up the items on file of batches whose items were not read, if the count or total may not be theirs."""
    listed = BatchItem.objects.listed().filter(batch=OuterRef("batch_id")).order_by().values("batch")
    history.update_each(
        batches(places).filter(
            Q(judgment=Judgment.CHANGED) | Q(judgment=Judgment.SAME) & ~Q(item_count=F("items")), left_out=True
        ),
        amount=Subquery(listed.annotate(sum=Round(Sum("amount"), 2)).values("sum")),
    )
