"""The desk itself: its navigation, its first pages (`queue`, `dashboard`) and its search."""

import re
from functools import partial, update_wrapper
from urllib.parse import urlsplit

from django.contrib import admin, messages
from django.contrib.auth.views import PasswordChangeView, redirect_to_login
from django.db.models import Q
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import Resolver404, get_script_prefix, path, resolve, reverse

from .. import operations, roles
from ..actors import Actor
from ..models import (
    Account,
    Batch,
    Consent,
    Contact,
    Instruction,
    LedgerEntry,
    Review,
    UnlockRequest,
)
from ..signin import showed
from ..signin.forms import ChangePasswordForm, SignInForm
from ..texts import normalize
from . import queue, typed
from .dashboard import dashboard_page
from .lists import accounts_found, best_first, contacts_found, has_words, starts_with
from .permissions import permissions_page
from .tags import with_recorded_by_phone

HITS = 20  # of a kind, in the search
NO_PAGES = (
    "login",
    "logout",
    "jsi18n",
    "autocomplete",
    "find_accounts",
    "view_on_site",
    "unlocks_consentterms_new",
)  # nothing to see after signing in


class Desk(admin.AdminSite):
    site_header = site_title = "Unlock Desk"
    index_title = "Queue"
    site_url = None
    enable_nav_sidebar = False

    NAV = [
        (UnlockRequest, "Requests"),
        (Batch, "Batches"),
        (Account, "Accounts"),
        (Instruction, "To do"),
        (Review, "Reviews"),
        (LedgerEntry, "Audit log"),
    ]

    def __init__(self, name="admin"):
        super().__init__(name)
        self.disable_action("delete_selected")

    def get_urls(self):
        return [
            path("search/", self.admin_view(self.search), name="search"),
            path("queue/", self.admin_view(self.queue), name="queue"),
            path("keys/", self.admin_view(self.keys), name="keys"),
            path("permissions/", self.admin_view(self.permissions), name="permissions"),
            *super().get_urls(),
        ]

    def page(self, request, template, *, status=200, **context):
        """Answer with a page of the desk: `context`, and what every page has."""
        return TemplateResponse(request, template, {**self.each_context(request), **context}, status=status)

    def admin_view(self, view, cacheable=False):
        """Have whoever sends a form after they were signed out sign in again, and keep what they typed."""
        inner = super().admin_view(view, cacheable)

        def desk_view(request, *args, **kwargs):
            if request.method == "POST" and request.user.is_anonymous and self.has_page(request.path):
                return self.keep_typed(request)
            if address := showed.what_is_missing(request):
                return redirect(address)
            return inner(request, *args, **kwargs)

        return update_wrapper(desk_view, inner)

    def keep_typed(self, request, *, expired=False):
        """Answer a form that was sent while signed out, or from before signing in again: nothing of it was saved.

        Someone else may have signed in and out since an expired form was opened, so it is kept for nobody.
        """
        may_be_sent_again = _may_be_sent_again(request.path_info)
        if request.user.is_authenticated and not may_be_sent_again:
            messages.warning(request, "This form was opened before you signed in. Nothing was saved: fill it in again.")
            return redirect(request.path)
        if request.user.is_authenticated:
            return self._send_again(request, typed.posted(request), "This form was opened before you signed in.")
        context = {
            "form": SignInForm(request=request),
            "redirect_field_value": request.get_full_path(),
            "signed_out": True,
            "typed": typed.keep(request) if may_be_sent_again and not expired else "",
            "expired": expired,
        }
        return self.page(request, "account/login.html", status=403, **context)

    def login(self, request, extra_context=None):
        """Lead to where staff sign in (`unlocks.signin`): there is one way in, and one out."""
        return redirect_to_login(request.GET.get("next") or reverse("admin:index"))

    def logout(self, request, extra_context=None):
        return redirect("account_logout")

    def signed_in(self, request, response, text):
        """Go on from signing in to the page that was asked for, or to the first one when there is no such page.

        Whoever was signed out while they typed (`text`) is asked whether to send it now.
        """
        if kept := typed.kept(text, request.user):
            response = self._send_again(request, kept, "You were signed out when you sent this form.")
        elif not self.has_page(response["Location"]):
            response["Location"] = reverse("admin:index")  # the response itself carries the new CSRF token
        return typed.remember(response, request)

    def has_page(self, address):
        """Say whether an address leads to a page of the desk; no row is ever deleted, so those of rows stay good."""
        if urlsplit(address).netloc:
            return False
        try:
            match = resolve(urlsplit(address).path.removeprefix(get_script_prefix().rstrip("/")))
        except Resolver404:
            return False
        return match.namespace == self.name and match.url_name not in (None, *NO_PAGES)

    def _send_again(self, request, kept, why):
        return self.page(request, "admin/send_again.html", title="Send your form again?", typed=kept, why=why)

    def password_change(self, request, extra_context=None):
        view = PasswordChangeView.as_view(
            form_class=ChangePasswordForm,
            success_url=reverse("admin:password_change_done"),
            extra_context={**self.each_context(request), **(extra_context or {})},
        )
        if request.method != "POST":
            return view(request)
        return operations.change_own_password(partial(view, request), by=Actor.staff(request.user, request))

    def get_app_list(self, request, app_label=None):
        return []  # no page shows Django's own list: the navigation below takes its place

    def each_context(self, request):
        return {
            **super().each_context(request),
            "desk_nav": self._navigation(request),
            "desk_role": role(request.user),
            "desk_more": self._more(request),
        }

    def _navigation(self, request):
        if not self.has_permission(request):
            return []
        first = [("Dashboard", "admin:index")] if _has_dashboard(request.user) else []
        pages = [(name, reverse(page)) for name, page in [*first, ("Queue", "admin:queue")]]
        entries = [{"name": name, "url": url, "current": request.path == url} for name, url in pages]
        for model, name in self.NAV:
            if self._leads_to(request, model):
                url = self._list(model)
                entries.append({"name": name, "url": url, "current": request.path.startswith(url)})
        return entries

    def _more(self, request):
        if not self.has_permission(request):
            return []
        return [
            {"name": model_admin.footer_name, "url": self._list(model)}
            for model, model_admin in self._registry.items()
            if getattr(model_admin, "footer_name", "")
            and self._shows(request, model)
            and not self._leads_to(request, model)
        ]

    def _leads_to(self, request, model):
        """Say whether the navigation has a list: that of instructions is for those who carry them out."""
        listed = model in dict(self.NAV) and self._shows(request, model)
        return listed and (model is not Instruction or queue.works_by_hand(request.user))

    def _shows(self, request, model):
        return model in self._registry and self._registry[model].has_view_permission(request)

    def _list(self, model):
        return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")

    # The first pages

    def index(self, request, extra_context=None):
        """Show managers and auditors the dashboard, once there is anything on the desk; agents the queue."""
        if _has_dashboard(request.user) and Account.objects.exists():
            return dashboard_page(self, request, **queue.callouts(request.user))
        return self.queue(request)

    def queue(self, request):
        """Show the open requests by what ends first: everyone's, or those of a team or of whoever looks."""
        shows, whose = self._shows(request, UnlockRequest), request.GET.get("whose")
        whose = whose if whose in queue.WHOSE else "all"
        return self.page(
            request,
            "admin/index.html",
            title=self.index_title,
            shows=shows,
            whose=whose,
            pills=queue.WHOSE.items(),
            sections=queue.sections(request.user, whose) if shows else [],
            failed=queue.failed() if shows else None,
            empty=shows and not Account.objects.exists(),
            importers=roles.staff_who_may(operations.stage_import.permission),
            may_open=request.user.has_perm(operations.open_request.permission),
            **(queue.callouts(request.user) if shows else {}),
        )

    def app_index(self, request, app_label, extra_context=None):
        return redirect("admin:index")

    def keys(self, request):
        """Say which keys do what: what `?` shows, for whoever can't press it."""
        return self.page(request, "admin/keys.html", title="Keys")

    def permissions(self, request):
        return permissions_page(self, request)

    # The search

    def search(self, request):
        """Find a request, consent, batch, account, contact or ticket; a single hit is opened, several are listed."""
        term = normalize.plain(request.GET.get("q", "")[:200])
        hits = self._hits(request, term) if term else {}
        found = [hit for rows in hits.values() for hit in rows]
        if len(found) == 1:
            return redirect(_address(found[0]))
        return self.page(
            request,
            "admin/search.html",
            title="Search",
            searched_for=term,
            hits={name: [(hit, _address(hit)) for hit in rows] for name, rows in hits.items() if rows},
            more=any(len(rows) == HITS for rows in hits.values()),
        )

    def _hits(self, request, term):
        if named := self._named(request, term):
            return {"Named": [named]}
        batches = with_recorded_by_phone(self._rows(request, Batch)).select_related("account")
        accounts, spellings = self._rows(request, Account), normalize.spellings(term)
        exact = {
            "Requests": self._requests(request, term),
            "Accounts": accounts.filter(number_plain__in=spellings),
            "Batches": batches.filter(number_plain__in=spellings).order_by("number_plain"),
        }
        found = best_first(accounts_found(term, accounts), term)
        begins = {
            "Accounts": found,
            "Batches": batches.filter(starts_with("number_plain", term)).order_by("number_plain"),
        }
        for wanted in (exact, begins):
            hits = {name: list(rows[:HITS]) for name, rows in wanted.items()}
            if any(hits.values()):
                return self._by_contacts(request, term, hits) if wanted is begins else hits
        return {}

    def _rows(self, request, model):
        return model.objects.all() if self._shows(request, model) else model.objects.none()

    def _requests(self, request, term):
        """Return the requests of a ticket, and the one with a bare number."""
        ticket = Q(ticket_number__in=normalize.spellings(term)) & ~Q(ticket_number="")
        bare = Q(pk=int(term)) if re.fullmatch(r"[0-9]{1,15}", term) else Q()
        return self._rows(request, UnlockRequest).filter(ticket | bare).select_related("account").order_by("-pk")

    def _by_contacts(self, request, term, hits):
        """List the contacts that were searched for, and leave out the accounts that were found by these alone."""
        contacts = self._rows(request, Contact).filter(account__in=[account.pk for account in hits["Accounts"]])
        found = contacts_found(term, contacts.select_related("account"))
        theirs = {contact.account_id for contact in found}
        own = [account for account in hits["Accounts"] if account.pk not in theirs or has_words(account, term)]
        return {"Accounts": own, "Contacts": found[:HITS], "Batches": hits["Batches"]}

    def _named(self, request, term):
        """Return the request, or the consent, of which this is the reference (or the number of a certificate)."""
        match = re.fullmatch(r"(?:(UR)|(CN))-?0*([0-9]{1,15})((?(2)(?:-[0-9]{1,9})?))", term, re.IGNORECASE)
        model = match and (UnlockRequest if match[1] else Consent)
        if not match or not self._shows(request, model):
            return None
        return model.objects.filter(pk=int(match[3])).first()


def _has_dashboard(user):
    return user.has_perm("unlocks.view_ledgerentry")


def _may_be_sent_again(path):
    """Say whether what someone typed is shown to be sent again: not a change of staff, which is mostly ticks."""
    return not resolve(path).url_name.startswith("auth_")


def role(user):
    """Return what a member of staff is here: their groups, or Superuser."""
    if user.is_anonymous:
        return ""
    groups = ", ".join(roles.names_of_groups(user))
    return ", ".join(filter(None, ["Superuser" if user.is_superuser else "", groups])) or "No role yet"


def _address(thing):
    """Return the page of what was found; that of a contact is its account's, from which the work begins."""
    thing = thing.account if isinstance(thing, Contact) else thing
    return reverse(f"admin:{thing._meta.app_label}_{thing._meta.model_name}_change", args=[thing.pk])


desk = Desk()
