"""Opening a request: whose batches, then who asks, why and for which. Works without JavaScript."""

import re
import uuid

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Sum
from django.http import Http404
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.http import urlencode

from .. import operations
from ..actors import Actor
from ..models import Account, Batch, Selection, UnlockRequest
from ..rules import Refusal, eligible, sentence
from ..texts import normalize
from ..texts.formats import counted
from .forms.opening import AccountForm, OpenRequestForm
from .lists import starts_with
from .site import desk
from .tags import ON_ITS_WAY

LISTED_ACCOUNTS = 20
LISTED_BATCHES = 100


def open_request(request):
    """Ask for the account first, then for the rest; check the batches at once; open the request."""
    if not request.user.has_perm("unlocks.open_request"):
        raise PermissionDenied
    selection = _selection(request)
    choice = AccountForm(_account_asked_for(request), site=desk)
    if choice.is_valid():
        return _ask_the_rest(request, choice.cleaned_data["account"], selection)
    accounts = _accounts_of(selection) if selection else _found(normalize.plain(request.GET.get("q", "")))
    if selection and len(accounts) == 1 and not choice.is_bound:
        return redirect(f"{request.path}?{urlencode({'account': accounts[0].pk, 'selection': selection.pk})}")
    q = request.GET.get("q", "")
    return _page(request, "open_account.html", form=choice, accounts=accounts, selection=selection, q=q)


def _account_asked_for(request):
    """Return the form's data, or None. The widget would query the database for any value in the address."""
    if "account" not in request.GET:
        return None
    asked = request.GET["account"]
    return {"account": asked if re.fullmatch(r"[0-9]{0,18}", asked) else "0"}


def _selection(request):
    if "selection" not in request.GET:
        return None
    try:
        key = uuid.UUID(request.GET["selection"])
    except ValueError:
        raise Http404("There is no such selection.") from None
    return get_object_or_404(Selection, pk=key, made_by=request.user)


def _accounts_of(selection):
    # Filtered first: a count beside a filter would join the batches twice and count each with each.
    of_batches = Account.objects.filter(batches__selections=selection)
    return list(of_batches.annotate(chosen=Count("batches"))[: LISTED_ACCOUNTS + 1])


def _found(term):
    if not term:
        return []
    found = Account.objects.filter(starts_with("number_plain", term) | starts_with("name_plain", term), active=True)
    return list(found[:LISTED_ACCOUNTS])


def _ask_the_rest(request, account, selection):
    if request.method != "POST":
        form = OpenRequestForm(account=account, selection=selection, initial={"picked": request.GET.getlist("picked")})
        return _page(request, "open.html", form=form, account=account, checked=Checked(form.chosen))
    only_batches = "check" in request.POST
    form = OpenRequestForm(request.POST, account=account, selection=selection, only_batches=only_batches)
    complete = form.is_valid()
    checked = Checked(form.chosen)
    if complete and "check" not in request.POST:
        opened = _opened(form, checked, request)
        if opened:
            messages.success(request, f"{opened} is open, for {counted(opened.lines.count(), 'batch', 'batches')}.")
            return redirect(opened)
        checked = Checked(form.chosen)
    status = 200 if complete and not form.errors else 422
    return _page(request, "open.html", status=status, form=form, account=account, checked=checked)


def _opened(form, checked, request):
    """Open the request and return it, or put on the form why not and return None."""
    batches, by = form.chosen, Actor.staff(request.user, request)
    if opened := operations.open_request.first(form.cleaned_data["key"], by):
        return opened
    if checked.refused:
        if request.POST.get("leave_out") != str(checked.refused):
            form.add_error(None, f"{checked.refusal_count} can't be unlocked. See below.")
            return None
        batches = Batch.objects.filter(pk__in=eligible(form.chosen).filter(obstacle="").values("pk"))
    try:
        return form.carry_out(by, batches)
    except operations.Refused as refused:
        for code, why in refused.refusals[:20]:
            form.add_error("requester" if code in (Refusal.NOT_AN_ADMIN, Refusal.NOT_CONFIRMED) else None, why)
        return None


class Checked:
    """What the rules say of the batches that were named, before any request is open."""

    def __init__(self, chosen):
        judged = eligible(chosen)
        self._counts = {
            row["obstacle"]: row
            for row in judged.order_by().values("obstacle").annotate(n=Count("pk"), amount=Sum("total"))
        }
        self.fine = self._counts.get("", {}).get("n", 0)
        self.amount = self._counts.get("", {}).get("amount", 0)
        self.refused = sum(row["n"] for code, row in self._counts.items() if code)
        self.fine_batches = list(judged.filter(obstacle="").order_by("number")[:LISTED_BATCHES])
        self.refused_batches = list(judged.exclude(obstacle="").order_by("obstacle", "number")[:LISTED_BATCHES])
        for batch in self.refused_batches:
            batch.sentence = sentence(batch.obstacle, batch)
            if batch.open_request:
                batch.request_url = reverse("admin:unlocks_unlockrequest_change", args=[batch.open_request])
        self.already = self._already(judged)

    def __bool__(self):
        return bool(self._counts)

    @property
    def refusal_count(self):
        return counted(self.refused, "batch", "batches")

    @property
    def unlisted(self):
        return self.fine + self.refused - len(self.fine_batches) - len(self.refused_batches)

    def _already(self, judged):
        """Return the one open request that holds what was named, when nothing is left to open: a second submit."""
        if self.fine:
            return None
        keys = judged.exclude(open_request=None).order_by().values_list("open_request", flat=True).distinct()[:2]
        held = UnlockRequest.objects.select_related("opened_by").filter(pk__in=list(keys))
        return held[0] if len(held) == 1 else None

    @property
    def in_already(self):
        """How many are in an open request."""
        taken = (Refusal.IN_ANOTHER_REQUEST, *ON_ITS_WAY)
        return sum(self._counts[code]["n"] for code in taken if code in self._counts)


def _page(request, template, **context):
    return desk.page(request, f"admin/unlocks/unlockrequest/{template}", title="Open a request", **context)
