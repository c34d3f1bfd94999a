"""Accounts and their contacts, and issuing a new PIN, which staff never see."""

from django.contrib import admin, messages
from django.contrib.admin.widgets import AutocompleteSelect
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.shortcuts import redirect
from django.urls import path, reverse
from django.utils.decorators import method_decorator
from django.views.decorators.http import require_http_methods

from .. import history, operations
from ..actors import Actor
from ..ledger import chain, emails, events
from ..models import Account, Contact, LedgerEntry
from ..templatetags.desk import tag
from .filters import by_column
from .forms.records import RECORD_FIELDS, AccountRecordForm, ConfirmContactForm, RecordForm
from .histories import DeskAdmin
from .lists import is_key
from .next_step import ask, who_confirms
from .request_page import already_done
from .site import desk
from .tags import in_words, with_what_became_of_it

LISTED = 20


class ContactInline(admin.StackedInline):
    model = Contact
    form = RecordForm
    extra = 0
    fields = [("name", "email", "phone", "is_admin")]
    show_change_link = True
    formfield_overrides = RECORD_FIELDS

    def has_delete_permission(self, request, obj=None):
        return False


@admin.register(Account, site=desk)
class AccountAdmin(DeskAdmin):
    form = AccountRecordForm
    comes_by_import = True
    empty_list = "No account is on file yet. A manager imports accounts from files, or the product sends them."
    list_display = ("number", "name", "accounting_software", "active", "pin")
    list_display_links = ("number", "name")
    list_filter = (by_column("active"), by_column("accounting_software"))
    sortable_by = ("number", "name")
    search_fields = ("number_plain", "name_plain")
    search_help_text = "Number, or the start of the number or name"
    fields = ("number", "name", "accounting_software", "time_zone", "active")
    inlines = (ContactInline,)

    @admin.display(description="PIN")
    def pin(self, account):
        if not account.pin_hash:
            return tag("wait", "Waits to be sent" if account.pending_pin_hash else "None yet")
        return tag("bad", "Locked") if account.pin_state else tag("good", "Issued")

    def get_readonly_fields(self, request, obj=None):
        return ("number",) if obj else ()

    def get_urls(self):
        issue = self.admin_site.admin_view(self.issue_pin)
        return [path("<key:pk>/issue-pin/", issue, name="unlocks_account_issue_pin"), *super().get_urls()]

    def render_change_form(self, request, context, add=False, change=False, form_url="", obj=None):
        if obj:
            admins = obj.contacts.filter(is_admin=True).select_related("entered_by", "confirmed_by")
            requests = with_what_became_of_it(obj.requests.select_related("requester"))
            context |= {
                "admins": [(admin, obstacle(admin, request.user)) for admin in admins],
                "batches": obj.batches.order_by("-id")[:LISTED],
                "requests": [(one, in_words(one)) for one in requests.order_by("-id")[:LISTED]],
                "failures": emails.failures(obj),
                "may_open": request.user.has_perm(operations.open_request.permission),
                "may_issue_pin": request.user.has_perm(operations.issue_pin.permission),
            }
        return super().render_change_form(request, context, add, change, form_url, obj)

    @method_decorator(require_http_methods(["GET", "HEAD", "POST"]))
    def issue_pin(self, request, pk):
        """Ask for a confirmation before a new PIN is issued and emailed; on POST issue it."""
        if not request.user.has_perm(operations.issue_pin.permission):
            raise PermissionDenied
        account = self.found(request, pk)
        if request.method == "POST":
            try:
                self.message_user(request, _issue_once(account, request), messages.SUCCESS)
            except operations.Refused as refused:
                self.message_user(request, str(refused), messages.ERROR)
            return redirect("admin:unlocks_account_change", account.pk)
        return desk.page(
            request,
            "admin/unlocks/account/issue_pin.html",
            title="Issue a new PIN?",
            account=account,
            admins=account.contacts.confirmed_admins().select_related("entered_by", "confirmed_by"),
            waiting=[admin for admin in account.contacts.filter(is_admin=True) if not admin.is_confirmed],
            own_contact=operations.own_contact(account, request.user),
            who=ask(operations.issue_pin.permission, but=request.user),
            seen=chain.head()[0],
        )


@transaction.atomic
def _issue_once(account, request):
    """Issue a PIN, unless one was issued since the page was made (a double click); return what happened."""
    history.lock(Account.objects.filter(pk=account.pk))
    seen = request.POST.get("seen", "")
    issued = LedgerEntry.objects.filter(kind=events.PinDrawn.kind, account=account)
    if is_key(seen) and (done := issued.filter(sequence__gt=seen).first()):
        return already_done(done)
    operations.issue_pin(account, by=Actor.staff(request.user, request))
    return "A new PIN waits to be sent to the Admin contacts."


def obstacle(contact, user):
    """Say what keeps `user` from confirming an address that waits for it, and who else can; '' if nothing does."""
    if contact.is_confirmed or not contact.is_admin:
        return ""
    why = operations.obstacle_to_confirming(contact, user)
    return why and f"{why} {who_confirms(contact)}"


class AccountSelect(AutocompleteSelect):
    """Django's own widget asks the database for whatever was sent, which fails at what can't be a key."""

    def optgroups(self, name, value, attr=None):
        return super().optgroups(name, [key for key in value if is_key(str(key))], attr)


@admin.register(Contact, site=desk)
class ContactAdmin(DeskAdmin):
    """The page and the history of one contact; staff come here from its account."""

    form = RecordForm
    list_display = ("name", "email", "account", "is_admin")
    list_select_related = ("account",)
    sortable_by = ()
    ordering = ("-id",)
    fields = ("account", "name", "email", "phone", "is_admin")
    autocomplete_fields = ("account",)

    def formfield_for_foreignkey(self, db_field, request, **kwargs):
        widget = AccountSelect(db_field, self.admin_site)
        return super().formfield_for_foreignkey(db_field, request, **{"widget": widget} | kwargs)

    def get_readonly_fields(self, request, obj=None):
        return ("account",) if obj else ()

    def get_urls(self):
        confirm = self.admin_site.admin_view(self.confirm)
        return [path("<key:pk>/confirm/", confirm, name="unlocks_contact_confirm"), *super().get_urls()]

    def render_change_form(self, request, context, add=False, change=False, form_url="", obj=None):
        if obj and obj.is_admin:
            context["obstacle"] = obstacle(obj, request.user)
        return super().render_change_form(request, context, add, change, form_url, obj)

    @method_decorator(require_http_methods(["GET", "HEAD", "POST"]))
    def confirm(self, request, pk):
        """Ask how the address of an Admin was confirmed; on POST confirm it."""
        contact = self.found(request, pk)
        if not request.user.has_perm(operations.confirm_contact.permission):
            raise PermissionDenied
        why = obstacle(contact, request.user)
        if contact.is_confirmed or not contact.is_admin:
            self.message_user(request, operations.obstacle_to_confirming(contact, request.user), messages.WARNING)
            return self._back(request, contact)
        form = ConfirmContactForm(request.POST or None, contact=contact)
        if request.method == "POST" and form.is_valid():
            try:
                form.carry_out(Actor.staff(request.user, request))
            except operations.Refused as refused:
                form.add_error(None, str(refused))
                contact.refresh_from_db()
                form.show(contact)
            else:
                self.message_user(request, f"The address of {contact.name} is confirmed.", messages.SUCCESS)
                return self._back(request, contact)
        return desk.page(
            request,
            "admin/unlocks/contact/confirm.html",
            status=422 if form.is_bound else 200,
            title=f"Confirm the address of {contact.name}",
            contact=contact,
            phone_by=operations.phone_entered_by(contact),
            others=[
                (other, operations.phone_entered_by(other))
                for other in contact.account.contacts.confirmed_admins().exclude(pk=contact.pk)
            ],
            form=form,
            obstacle=why,
        )

    def _back(self, request, contact):
        """Lead back to the request that the reader came from, or to the account."""
        key = request.GET.get("request", "")
        asked = contact.account.requests.filter(pk=key).first() if is_key(key) else None
        return redirect(asked or reverse("admin:unlocks_account_change", args=[contact.account_id]))
