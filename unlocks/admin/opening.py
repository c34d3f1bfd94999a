"""Opening a request while the customer is on the phone: whose batches, then all the rest. Works without JavaScript."""

import uuid

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Sum
from django.http import Http404, JsonResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.http import urlencode

from .. import operations
from ..actors import Actor
from ..models import Account, Batch, Contact, Selection, UnlockRequest
from ..rules import Refusal, eligible, sentence
from ..texts import normalize
from ..texts.formats import counted
from . import doubts
from .forms.opening import OpenRequestForm
from .lists import accounts_found, accounts_numbered, best_first, contacts_found
from .request_page import show_once
from .site import desk
from .tags import ON_ITS_WAY, in_words, with_what_became_of_it

LISTED_ACCOUNTS = 20
LISTED_BATCHES = 100
LISTED_REQUESTS = 5
# What a help desk, a list or the page of a batch asks for in the address, beside the account.
PREFILLED = ("picked", "ticket", "system")


def open_request(request):
    """Ask for the account first, then for the rest; check the batches at once; open the request."""
    if not request.user.has_perm("unlocks.open_request"):
        raise PermissionDenied
    selection = _selection(request)
    asked = normalize.number(request.GET.get("account", "")[:200])
    account = _numbered(asked)
    if account:
        return _ask_the_rest(request, account, selection)
    if selection:
        return _choose_account_of(request, selection)
    term = normalize.plain(request.GET.get("q", "")[:200]) or asked
    accounts = _described(_found(term), term, request)
    return _page(request, "open_account.html", term=term, unknown=asked, accounts=accounts, kept=_kept(request))


def _numbered(asked):
    """Return the active account with a number: the one that is spelled so, or else the only one, or None."""
    found = list(accounts_numbered(asked).filter(active=True)[:LISTED_ACCOUNTS]) if asked else []
    spelled = [account for account in found if account.number == asked]
    return next(iter(spelled or (found if len(found) == 1 else [])), None)


def find_accounts(request):
    """Answer with what is found while an account is typed: {"accounts": [{"name", "about", "url"}], "more": bool}."""
    if not request.user.has_perm("unlocks.open_request"):
        raise PermissionDenied
    term = normalize.plain(request.GET.get("q", "")[:200])
    described = _described(_found(term), term, request)
    found = [{"name": str(account), "about": account.about, "url": account.url} for account in described]
    return JsonResponse({"accounts": found[:LISTED_ACCOUNTS], "more": len(found) > LISTED_ACCOUNTS})


def _selection(request):
    if "selection" not in request.GET:
        return None
    try:
        key = uuid.UUID(request.GET["selection"])
    except ValueError:
        raise Http404("There is no such selection.") from None
    return get_object_or_404(Selection, pk=key, made_by=request.user)


def _choose_account_of(request, selection):
    # Filtered first: a count beside a filter would join the batches twice and count each with each.
    of_batches = Account.objects.filter(batches__selections=selection)
    accounts = list(of_batches.annotate(chosen=Count("batches"))[: LISTED_ACCOUNTS + 1])
    for account in accounts:
        account.url = _address(account, {"selection": selection.pk})
    if len(accounts) == 1 and accounts[0].active:
        return redirect(accounts[0].url)
    return _page(request, "open_account.html", accounts=accounts, selection=selection)


def _found(term):
    active = Account.objects.filter(active=True)
    return list(best_first(accounts_found(term, active), term)[: LISTED_ACCOUNTS + 1])


def _described(accounts, term, request):
    """Say of each account what it is, with the contacts that were searched for, and where the form for it is."""
    contacts = contacts_found(term, Contact.objects.filter(account__in=[account.pk for account in accounts]))
    named = {}
    for contact in contacts:
        named.setdefault(contact.account_id, []).append(f"{contact.name}, {contact.email}")
    for account in accounts:
        about = [account.get_accounting_software_display(), *named.get(account.pk, [])[:3]]
        account.about, account.url = " · ".join(about), _address(account, _kept(request))
    return accounts


def _kept(request):
    return {name: request.GET.getlist(name) for name in PREFILLED if request.GET.getlist(name)}


def _address(account, also):
    query = urlencode({"account": account.number, **also}, doseq=True)
    return f"{reverse('admin:unlocks_unlockrequest_add')}?{query}"


def _ask_the_rest(request, account, selection):
    if request.method != "POST":
        form = OpenRequestForm(account=account, selection=selection, initial=_prefilled(request, account))
        return _form_page(request, form, Checked(form.chosen))
    only_batches = "check" in request.POST or "without" in request.POST
    send = "send" in request.POST
    form = OpenRequestForm(request.POST, account=account, selection=selection, only_batches=only_batches, send=send)
    complete = form.is_valid()
    checked = Checked(form.chosen)
    if complete and not only_batches:
        opened = _opened(form, checked, request)
        if opened:
            return redirect(opened)
        checked = Checked(form.chosen)
    return _form_page(request, form, checked, status=200 if complete and not form.errors else 422)


def _prefilled(request, account):
    """Return what is filled in already: what the address says, the only Admin, and the channel of the last request."""
    admins = list(account.contacts.confirmed_admins()[:2])
    last = UnlockRequest.objects.filter(opened_by=request.user).order_by("-pk").values_list("channel", flat=True)
    known = {
        "requester": admins[0].pk if len(admins) == 1 else None,
        "channel": last.first(),
        "picked": request.GET.getlist("picked"),
        "ticket_number": request.GET.get("ticket"),
        "ticket_system": request.GET.get("system"),
    }
    return {name: value for name, value in known.items() if value}


def _form_page(request, form, checked, status=200):
    account = form.account
    others = with_what_became_of_it(account.requests.exclude(status=UnlockRequest.Status.CLOSED)).order_by("-pk")
    others = list(others[: LISTED_REQUESTS + 1])
    return _page(
        request,
        "open.html",
        status=status,
        title=f"Open a request for {account}",
        form=form,
        account=account,
        checked=checked,
        doubts=doubts.of(form.chosen) if checked else [],
        others=[(one, in_words(one)) for one in others[:LISTED_REQUESTS]],
        more_others=len(others) > LISTED_REQUESTS,
        no_link=_obstacle_to_sending(account, request.user),
    )


def _obstacle_to_sending(account, user):
    """Say why no consent link of this account can be sent by `user`; '' when one can."""
    if not user.has_perm(operations.send_consent_link.permission):
        return "You may not send consent links."
    return operations.own_contact(account, user) if account.pin_hash else account.pin_state


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
        opened, link = form.carry_out(by, batches)
    except operations.Refused as refused:
        for code, why in refused.refusals[:20]:
            form.add_error("requester" if code in (Refusal.NOT_AN_ADMIN, Refusal.NOT_CONFIRMED) else None, why)
        return None
    messages.success(request, _what_was_done(opened, link))
    show_once(request, opened, link)
    return opened


def _what_was_done(opened, link):
    if opened.status == UnlockRequest.Status.CLOSED:
        return f"{opened} is recorded and closed: the customer enters the items by hand, and nothing is unlocked."
    said = f"{opened} is open, for {counted(opened.lines.count(), 'batch', 'batches')}."
    return f"{said} The consent link waits to be sent to {link.sent_to}." if link else said


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
    page = f"admin/unlocks/unlockrequest/{template}"
    return desk.page(request, page, **({"title": "Open a request"} | context))
