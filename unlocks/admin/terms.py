"""The terms that customers agree to: their versions, what differs between them, and how a customer sees them."""

from datetime import date
from decimal import Decimal

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, OuterRef, Subquery
from django.db.models.functions import Coalesce
from django.http import Http404
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import path
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from .. import operations
from ..actors import Actor
from ..customer.consent import form_context
from ..customer.forms import DecisionForm
from ..digest import sha256
from ..models import Account, Batch, Consent, ConsentLink, ConsentTerms, Contact, UnlockRequest
from ..rules import Refusal
from ..templatetags.desk import tag, thousands
from ..texts.formats import day
from ..texts.shown import shown_lines, terms_in_force
from ..texts.word_diff import differences
from .forms.terms import CompareForm, SoftwareForm, TermsForm
from .lists import ReadOnlyAdmin, column
from .site import desk

SHOW_OR_SUBMIT = method_decorator(require_http_methods(["GET", "HEAD", "POST"]))


@admin.register(ConsentTerms, site=desk)
class ConsentTermsAdmin(ReadOnlyAdmin):
    footer_name = "Consent terms"
    row_is, rows_are = "version", "versions"
    list_display = ("version", "title", "status", "drafted", "published", "links", "consents")
    list_display_links = ("version", "title")
    list_select_related = ("drafted_by", "published_by")
    sortable_by = ()

    def get_queryset(self, request):
        """Annotate each version with when it was replaced, and how many links and consents carry it."""
        links = ConsentLink.objects.filter(terms=OuterRef("pk"))
        agreed = Consent.objects.filter(terms=OuterRef("pk"), decision=Consent.Decision.AGREED)
        later = ConsentTerms.objects.filter(version__gt=OuterRef("version"), published_at__isnull=False)
        return (
            super()
            .get_queryset(request)
            .select_related("drafted_by", "published_by")
            .annotate(
                replaced_at=Subquery(later.order_by("version").values("published_at")[:1]),
                link_count=_counted(links),
                consent_count=_counted(agreed),
            )
        )

    @admin.display(description="Status")
    def status(self, terms):
        return tag(*state(terms))

    @admin.display(description="Drafted")
    def drafted(self, terms):
        return _by(terms.drafted_by, terms.drafted_at)

    @admin.display(description="Published")
    def published(self, terms):
        return _by(terms.published_by, terms.published_at)

    links = column("Links", "link_count", thousands)
    consents = column("Consents", "consent_count", thousands)

    def has_draft_permission(self, request):
        return request.user.has_perm(operations.draft_terms.permission)

    def has_publish_permission(self, request):
        return request.user.has_perm(operations.publish_terms.permission)

    def get_urls(self):
        def at(route, view, name):
            return path(route, self.admin_site.admin_view(view), name=f"unlocks_consentterms_{name}")

        return [
            at("new/", self.start_view, "new"),
            at("<key:pk>/preview/", self.preview_view, "preview"),
            at("<key:pk>/publish/", self.publish_view, "publish"),
            at("<key:pk>/compare/", self.compare_view, "compare"),
            *super().get_urls(),
        ]

    def changelist_view(self, request, extra_context=None):
        context = {"may_draft": self.has_draft_permission(request), "draft": _draft()}
        return super().changelist_view(request, context | (extra_context or {}))

    @method_decorator(require_POST)
    def start_view(self, request):
        """Start a new version and open it."""
        try:
            terms = operations.draft_terms(by=Actor.staff(request.user, request))
        except operations.Refused as refused:
            self.message_user(request, str(refused), messages.ERROR)
            return redirect("admin:unlocks_consentterms_changelist")
        message = f"Version {terms.version} begins with the words in force. Nobody is shown it until it is published."
        self.message_user(request, message, messages.SUCCESS)
        return redirect("admin:unlocks_consentterms_change", terms.pk)

    def add_view(self, request, form_url="", extra_context=None):
        """Redirect to the list, where a version is started."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        return redirect("admin:unlocks_consentterms_changelist")

    @SHOW_OR_SUBMIT
    def change_view(self, request, object_id, form_url="", extra_context=None):
        """Show a version; on POST change the draft."""
        terms = self.found(request, object_id)
        if request.method == "POST":
            return self._edit(request, terms)
        return self._show(request, terms, TermsForm(initial=_words(terms)))

    def _edit(self, request, terms):
        if not self.has_draft_permission(request):
            raise PermissionDenied
        form = TermsForm(request.POST)
        if not form.is_valid():
            return self._show(request, terms, form, status=422)
        try:
            saved = operations.edit_terms(terms, **form.cleaned_data, by=Actor.staff(request.user, request))
        except operations.Refused as refused:
            return self._not_saved(request, terms, form, refused)
        message = "Saved." if saved.drafted_at != terms.drafted_at else "Nothing was changed, so nothing was saved."
        self.message_user(request, message, messages.SUCCESS)
        return redirect("admin:unlocks_consentterms_change", terms.pk)

    def _not_saved(self, request, terms, form, refused):
        """Show the draft as it is now beside what was typed, so that the next save is made with both in view."""
        terms, typed = self.found(request, terms.pk), form.cleaned_data
        form = TermsForm({**typed, "seen": operations.terms_seen(terms)})
        form.add_error(None, str(refused))
        context = {"title_difference": differences(terms.title, typed["title"])}
        context |= {"text_difference": differences(terms.text, typed["text"]), "typed": typed}
        return self._show(request, terms, form, status=422, **context)

    def _show(self, request, terms, form, status=200, **context):
        return self._page(
            request,
            "change_form",
            terms,
            status=status,
            form=form if not terms.published_at and self.has_draft_permission(request) else None,
            refused=form,
            may_publish=self.has_publish_permission(request),
            obstacle=_obstacle(terms, request.user),
            open_link_count=_open_links().filter(terms=terms).count(),
            compare=_compare_form(terms),
            **context,
        )

    @method_decorator(require_safe)
    def compare_view(self, request, pk):
        """Show what differs between this version and another, word by word."""
        terms = self.found(request, pk)
        compare = _compare_form(terms, request.GET)
        if compare is None:
            raise Http404("There is no other version to compare with.")
        other = compare.cleaned_data["other"] if compare.is_bound and compare.is_valid() else compare.initial["other"]
        older, newer = sorted([terms, other], key=lambda one: one.version)
        title = f"Version {older.version} and {newer.version} compared"
        return self._page(request, "compare", terms, title=title, compare=compare, **_between(older, newer))

    @SHOW_OR_SUBMIT
    def publish_view(self, request, pk):
        """Show what would change for customers and ask once more; on POST publish the draft."""
        if not self.has_publish_permission(request):
            raise PermissionDenied
        terms = self.found(request, pk)
        refused = None
        if request.method == "POST":
            seen = request.POST.get("seen", "")
            try:
                operations.publish_terms(terms, seen=seen, by=Actor.staff(request.user, request))
            except operations.Refused as refusal:
                refused, terms = refusal, self.found(request, pk)
            else:
                message = f"Version {terms.version} is in force: consent links sent from now on show it."
                self.message_user(request, message, messages.SUCCESS)
                return redirect("admin:unlocks_consentterms_change", terms.pk)
        if terms.published_at:
            if refused:
                self.message_user(request, str(refused), messages.ERROR)
            return redirect("admin:unlocks_consentterms_change", terms.pk)
        in_force = terms_in_force()
        return self._page(
            request,
            "publish",
            terms,
            title=f"Publish version {terms.version}?",
            status=422 if refused else 200,
            seen=operations.terms_seen(terms),
            refused=refused if refused and refused.code == Refusal.TERMS_CHANGED else None,
            obstacle=_obstacle(terms, request.user),
            open_link_count=_open_links().count(),
            **_between(in_force, terms),
        )

    @method_decorator(require_safe)
    def preview_view(self, request, pk):
        """Show the customer's own page with these terms, for a made-up account; nothing can be done there."""
        terms = self.found(request, pk)
        asked = SoftwareForm(request.GET)
        software = asked.cleaned_data["software"] if asked.is_valid() else Account.Software.QUICKBOOKS_ONLINE
        link, batches = example(terms, software)
        context = form_context(link, batches, shown_lines(link.unlock_request, terms, batches))
        return TemplateResponse(
            request,
            "admin/unlocks/consentterms/preview.html",
            {
                **context,
                "form": DecisionForm(link=link, batches=batches),
                "notice": "",
                "terms": terms,
                "state": state(terms),
                "software": SoftwareForm(initial={"software": software}),
            },
        )

    def _page(self, request, template, terms, status=200, **context):
        context = {"title": str(terms), "terms": terms, "state": state(terms), "sha256": sha256(terms.text), **context}
        return desk.page(request, f"admin/unlocks/consentterms/{template}.html", status=status, **context)


def state(terms):
    """Return the tone and the words for the state of an annotated version."""
    if not terms.published_at:
        return "wait", "Draft"
    if terms.replaced_at:
        return "", f"Replaced {day(timezone.localtime(terms.replaced_at))}"
    return "good", f"In force since {day(timezone.localtime(terms.published_at))}"


def example(terms, software):
    """Return a link and batches that are in no database, for a page as a customer would see it."""
    account = Account(number="0000", name="Example Heating & Air", accounting_software=software)
    link = ConsentLink(
        unlock_request=UnlockRequest(pk=0, account=account),
        sent_to=Contact(account=account, name="Example Admin"),
        terms=terms,
        expires_at=timezone.now() + settings.CONSENT_LINK_LIFETIME,
    )
    batches = [
        Batch(
            pk=position,
            account=account,
            number=number,
            name=name,
            total=Decimal(total),
            item_count=items,
            posted_on=date(2026, 1, 30),
            bypassed_on=date(2026, 1, 31),
        )
        for position, number, name, total, items in (
            (1, "EXAMPLE-1", "Invoices Jan 30, 2026", "11920.00", 14),
            (2, "EXAMPLE-2", "Payments Jan 30, 2026", "-1250.50", 3),
        )
    ]
    for batch in batches:
        batch.content = sha256(f"made up: {batch.number}")
    return link, batches


def _between(older, newer):
    return {
        "older": older,
        "newer": newer,
        "title_difference": differences(older.title, newer.title),
        "text_difference": differences(older.text, newer.text),
        "differs": (older.title, older.text) != (newer.title, newer.text),
    }


def _words(terms):
    return {"title": terms.title, "text": terms.text, "seen": operations.terms_seen(terms)}


def _compare_form(terms, chosen=None):
    """Return the choice of versions to compare with, set to the one before; None when there is no other."""
    others = ConsentTerms.objects.exclude(pk=terms.pk)
    nearest = others.filter(version__lt=terms.version).first() or others.last()
    return CompareForm(chosen or None, terms=terms, initial={"other": nearest}) if nearest else None


def _draft():
    return ConsentTerms.objects.filter(published_at=None).select_related("drafted_by").first()


def _open_links():
    return ConsentLink.objects.filter(used_at=None, revoked_at=None, expires_at__gt=timezone.now())


def _obstacle(terms, user):
    return "" if terms.published_at else operations.obstacle_to_publishing(terms, user)


def _counted(rows):
    return Coalesce(Subquery(rows.order_by().values("terms").annotate(n=Count("pk")).values("n")), 0)


def _by(user, at):
    return ", ".join(filter(None, [at and day(timezone.localtime(at)), user and user.get_username()]))
