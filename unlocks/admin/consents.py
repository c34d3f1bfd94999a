"""The consents: what each of them holds, what proves it, and the files that go with it."""

import logging
import re

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Q
from django.shortcuts import get_object_or_404, redirect
from django.urls import path, reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.views.decorators.http import require_GET, require_safe

from .. import evidence, operations
from ..actors import Actor
from ..customer import certificates
from ..ledger import emails
from ..models import Certificate, Consent, ConsentEvidence, UnlockRequest
from ..signin import showed
from ..templatetags.desk import nowrap, recorded_by_phone, tag
from ..texts.formats import moment
from . import files
from .batches import account_link
from .case import Case, why_over, with_newest, with_waits
from .filters import by_column
from .forms.consents import CONSENT_FORMS, CertificateForm
from .lists import ReadOnlyAdmin, account_is, column, is_key, keys
from .phone_consent import lines_of
from .request_page import carry_out, form_of
from .site import desk

log = logging.getLogger(__name__)

BATCHES_A_PAGE = 100
SHOWN = ("link__sent_by", "opening", "terms", "contact", "recorded_by", "withdrawal")


@admin.register(Consent, site=desk)
class ConsentAdmin(ReadOnlyAdmin):
    footer_name = "Consents"
    list_display = ("number", "decided", "in_request", "on_account", "signer", "count_text", "given", "until")
    list_display_links = ("number",)
    list_select_related = ("unlock_request__account", "withdrawal")
    list_filter = (by_column("how"), by_column("decision"))
    sortable_by = ("number",)
    ordering = ("-id",)
    search_fields = ("unlock_request__account__number",)
    search_help_text = "Reference of a consent (CN-000045) or request (UR-000123), or a whole account number"

    def get_queryset(self, request):
        return with_waits(super().get_queryset(request).defer("text"))

    def get_object(self, request, object_id, from_field=None):
        """Return a consent with all that its page shows of the tables around it, read in one query."""
        consents = self.get_queryset(request).select_related(*SHOWN).defer(None)
        return consents.filter(pk=object_id).first() if is_key(object_id) else None

    def matching(self, term):
        found = Q(unlock_request__in=keys(UnlockRequest.objects.filter(account_is(term))))
        if reference := re.fullmatch(r"(?:(CN|UR)-?)?0*([0-9]{1,15})", term, re.IGNORECASE):
            key = "unlock_request" if (reference[1] or "").upper() == "UR" else "pk"
            found |= Q(**{key: int(reference[2])})
        return found

    number = column("Reference", "reference", nowrap, ordering="-id")
    on_account = column("Account", "unlock_request.account", account_link)
    given = column("Given", "given_at", lambda at: nowrap(moment(at)))

    @admin.display(description="Answer")
    def decided(self, consent):
        return format_html("{} {}", tag(*answer(consent)), recorded_by_phone() if consent.recorded_by_phone else "")

    @admin.display(description="Request")
    def in_request(self, consent):
        return format_html(
            '<a class="nowrap" href="{}">{}</a>', consent.unlock_request.get_absolute_url(), consent.unlock_request
        )

    @admin.display(description="By", empty_value="not recorded")
    def signer(self, consent):
        return consent.signer_name or None

    @admin.display(description="Batches")
    def count_text(self, consent):
        return f"{consent.batch_count:,}" if consent.batch_count else None

    @admin.display(description="Valid until")
    def until(self, consent):
        if not consent.valid_until:
            return None
        over = why_over(consent, consent.unlock_request.status, timezone.now())
        if not over:
            return nowrap(moment(consent.valid_until))
        return format_html(
            '<span class="muted nowrap">was {}</span><br><span class="muted small">{}</span>',
            moment(consent.valid_until),
            over,
        )

    # The pages

    def get_urls(self):
        def page(address, view, name):
            return path(f"<key:pk>/{address}", self.admin_site.admin_view(view), name=name)

        return [
            page("evidence/<key:file>/", self.evidence_view, "consent_evidence"),
            page("certificates/<key:ordinal>/", self.certificate_view, "certificate"),
            page("certificates/<key:ordinal>/<str:name>", self.certificate_file_view, "certificate_file"),
            *super().get_urls(),
        ]

    def change_view(self, request, object_id, form_url="", extra_context=None):
        """Show all that a consent holds; on POST carry out the verb that the form names."""
        case = _case(self.found(request, object_id), request.user)
        if request.method != "POST":
            return self._page(request, case)
        form = form_of(request, CONSENT_FORMS)(request.POST, request.FILES, case=case, user=request.user)
        message = carry_out(form, Actor.staff(request.user, request)) if form.is_valid() else None
        if message is None:
            return self._page(request, _case(self.found(request, object_id), request.user), form)
        if isinstance(form, CertificateForm):
            return redirect("admin:certificate", case.consent.pk, form.issued.ordinal)
        messages.success(request, message)
        return redirect("admin:unlocks_consent_change", case.consent.pk)

    def _page(self, request, case, bound=None):
        consent = case.consent
        forms = {
            verb: bound if bound and bound.verb == verb else form_class(case=case, user=request.user)
            for verb, form_class in CONSENT_FORMS.items()
            if request.user.has_perm(form_class.permission) and (verb != "attach" or consent.recorded_by_phone)
        }
        tags = [answer(consent)]
        if consent.recorded_by_phone:
            # The page has room to say how they agreed, and no word that reads like a consent through the link.
            tags = [*(one for one in tags if one[1] != "Agreed"), ("wait", "Recorded by phone")]
        covered = consent.batches.select_related("requested_batch", "batch").order_by("number", "batch__number", "pk")
        receipts = [receipt for receipt in emails.receipts(case.emails) if receipt.consent == consent.pk]
        return desk.page(
            request,
            "admin/unlocks/consent/change_form.html",
            status=422 if bound else 200,
            title=f"{consent.reference}: {', '.join(words for _, words in tags)}",
            consent=consent,
            case=case,
            tags=tags,
            withdrawal=getattr(consent, "withdrawal", None),
            lines=lines_of(consent.text, consent.terms),
            batches=Paginator(covered, BATCHES_A_PAGE).get_page(request.GET.get("page")),
            evidence=consent.evidence.select_related("attached_by"),
            receipts=receipts,
            link_email=emails.of_link(consent.link, case.emails) if consent.link else None,
            certificates=case.certificates,
            forms=forms,
            bound=bound,
        )

    @method_decorator(require_GET)  # HEAD would be told as an opening, and hands nothing out
    def evidence_view(self, request, pk, file):
        """Hand out a file as it was attached, to be saved and never to be shown in the browser."""
        if not request.user.has_perm("unlocks.view_consentevidence"):
            raise PermissionDenied
        kept = get_object_or_404(ConsentEvidence.objects.select_related("consent__unlock_request"), pk=file, consent=pk)
        if asked := showed.before_file(request, reverse("admin:unlocks_consent_change", args=[pk])):
            return asked
        try:
            return certificates.attachment(
                kept.file_name, operations.open_evidence(kept, by=Actor.staff(request.user, request))
            )
        except evidence.Damaged as damaged:
            log.error("Evidence %s of %s: %s", kept.pk, kept.consent, damaged)
            return desk.page(
                request,
                "admin/unlocks/consent/damaged.html",
                status=500,
                title="This file can't be handed out",
                kept=kept,
                damaged=damaged,
            )

    @method_decorator(require_safe)
    def certificate_view(self, request, pk, ordinal):
        """Show a certificate as it was issued."""
        address = reverse("admin:certificate", args=[pk, ordinal])
        back = reverse("admin:unlocks_consent_change", args=[pk])
        return certificates.page(request, self._certificate(request, pk, ordinal), address=address, back=back)

    @method_decorator(require_safe)
    def certificate_file_view(self, request, pk, ordinal, name):
        """Send a file of a certificate. The list of its batches is one as others are: whoever takes it is told."""
        certificate = self._certificate(request, pk, ordinal)
        answer = certificates.file(certificate, name)
        if not name.endswith(".csv") or request.method == "HEAD":
            return answer
        back = reverse("admin:unlocks_consent_change", args=[pk])
        if asked := files.before_many(request, certificate.consent.batches.all(), back):
            return asked
        narrowed = [f"batches of {certificate.number}"]
        operations.record_export(Consent, form="csv", narrowed=narrowed, by=Actor.staff(request.user, request))
        return answer

    def _certificate(self, request, pk, ordinal):
        if not self.has_view_permission(request):
            raise PermissionDenied
        return get_object_or_404(Certificate.objects.select_related("consent"), consent=pk, ordinal=ordinal)


def answer(consent):
    """Return the tone and the words for what a consent says: agreed, declined or withdrawn."""
    if consent.decision == Consent.Decision.DECLINED:
        return "bad", "Declined"
    if hasattr(consent, "withdrawal"):
        return "bad", "Withdrawn"
    return "" if consent.recorded_by_phone else "good", "Agreed"


def _case(consent, user):
    """Return the case of a consent, with that consent in place of the latest one."""
    requests = with_newest(user).select_related("account")
    consent.unlock_request = requests.get(pk=consent.unlock_request_id)
    case = Case(consent.unlock_request, user)
    case.consent = consent
    return case
