"""The public page that checks whether a certificate is genuine and unaltered. It tells a stranger nothing else.

An upload stays in memory and is compared by its SHA-256. If it may be one of our JSON files in another layout, it is
parsed once. It is never stored, unpacked or run.
"""

from io import BytesIO
from pathlib import Path

from django.conf import settings
from django.core.exceptions import BadRequest, RequestDataTooBig, SuspiciousOperation
from django.core.files.uploadedfile import InMemoryUploadedFile
from django.core.files.uploadhandler import FileUploadHandler, StopUpload
from django.db.models import Q
from django.http import JsonResponse, UnreadablePostError
from django.http.multipartparser import MultiPartParserError
from django.shortcuts import render
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_http_methods, require_safe

from ..actors import client_ip
from ..certificates import facts, keys, verify_certificate
from ..digest import sha256
from ..ledger import chain, events, signing_keys
from ..models import Certificate, ConsentWithdrawal, LedgerEntry, RequestedBatch
from ..texts.formats import moment
from . import rate_limit
from .access import turn_to
from .certificates import attachment
from .forms import FileForm, NumberForm

# The largest size of what a form adds to its file: names, boundaries, the CSRF token.
FORM_OVERHEAD = 64 * 1024

BOTH = "Check either a file or a number with its code, not both at once."
SEVERAL = "Upload one file at a time."
UNREADABLE = "The form could not be read. Choose the file on this page and press the button below it."


@csrf_exempt
@require_http_methods(["GET", "HEAD", "POST"])
def check(request):
    """Check one certificate. The attempt is counted and the size limited before anything is read."""
    with timezone.override(None):
        response = _check(request) if request.method == "POST" else _page(request)
    response["Cache-Control"] = "no-store"
    return response


@require_safe
def public_keys(request):
    """Send the list of all public keys with which certificates were ever signed, and when each was valid."""
    return JsonResponse(signing_keys.published(), json_dumps_params={"indent": 1})


@require_safe
def script(request):
    """Send the script that checks a certificate's JSON file offline."""
    source = Path(verify_certificate.__file__).read_bytes()
    return attachment("verify_certificate.py", source, "text/x-python; charset=utf-8")


class OneFile(FileUploadHandler):
    """Keep one file of limited size in memory; stop at a second file, and at the first byte over the limit."""

    def __init__(self, request):
        super().__init__(request)
        self.content, self.several, self.too_large = None, False, False

    def new_file(self, *args, **kwargs):
        super().new_file(*args, **kwargs)
        if self.content is not None:
            self.several = True
            raise StopUpload(connection_reset=True)
        self.content = BytesIO()

    def receive_data_chunk(self, raw_data, start):
        if start + len(raw_data) > settings.CHECK_MAX_BYTES:
            self.too_large = True
            raise StopUpload(connection_reset=True)
        self.content.write(raw_data)

    def file_complete(self, file_size):
        self.content.seek(0)
        return InMemoryUploadedFile(self.content, self.field_name, self.file_name, self.content_type, file_size, None)


def _check(request):
    if until := rate_limit.count_attempt(client_ip(request)):
        return _too_many_checks(request, until)
    if _content_length(request) > settings.CHECK_MAX_BYTES + FORM_OVERHEAD:
        return _file_too_large(request)
    upload = OneFile(request)
    request.upload_handlers = [upload]
    try:
        request.POST  # noqa: B018  reads the body
    except (MultiPartParserError, SuspiciousOperation, BadRequest, UnreadablePostError) as error:
        if isinstance(error, RequestDataTooBig):
            return _file_too_large(request)
        return _page(request, notice=UNREADABLE, status=400)
    if upload.too_large:
        return _file_too_large(request)
    if upload.several:
        return _page(request, notice=SEVERAL, status=400)
    return _result(request)


@csrf_protect
def _result(request):
    typed = any(request.POST.get(name, "").strip() for name in ("number", "code"))
    if request.FILES and typed:
        return _page(request, notice=BOTH, status=400)
    if typed or request.POST.get("action") == "number":
        form = NumberForm(request.POST)
        if form.is_valid():
            found = find_by_number(*form.cleaned_data["number"], form.cleaned_data["code"])
            return _page(request, by_number=True, found=found, **(_since(found) if found else {}))
        return _page(request, number_form=form, status=400)
    form = FileForm(request.POST, request.FILES)
    if form.is_valid():
        content = form.cleaned_data["file"].read()
        found, other_layout = find_by_file(content)
        result = {"found": found, "other_layout": other_layout} | _since(found) if found else _unknown(content)
        return _page(request, by_file=True, sha256=sha256(content), **result)
    return _page(request, file_form=form, status=400)


def find_by_file(content):
    """Return the certificate that a file holds, or None, and whether the file has another layout."""
    digest = sha256(content)
    for same in _certificates().filter(Q(pdf_sha256=digest) | Q(sha256=digest)):
        if _facts_of(same):
            return same, False
    return _find_signed(content), True


def find_by_number(consent, ordinal, code):
    """Return the certificate with this number and code, or None.

    A wrong code and an unknown number cost the same: the content is read only once the code is right.
    """
    found = _certificates().filter(consent=consent, ordinal=ordinal).first()
    code_is_right = constant_time_compare(found.code if found else "0000-0000-0000", code)
    return found if found and code_is_right and _facts_of(found) else None


def _since(certificate):
    """Return what the page says has become of a genuine certificate: in a word (`but`), and in sentences (`since`)."""
    consent, now = certificate.consent, timezone.now()
    turn_to(consent.unlock_request)
    said, but = [], "no longer current"
    if withdrawal := ConsentWithdrawal.objects.filter(consent=consent).first():
        but = "the consent was withdrawn"
        said.append(f"The consent was withdrawn on {moment(withdrawal.at)}. Nothing more may be unlocked under it.")
    elif consent.valid_until and consent.valid_until <= now and _waiting(consent):
        but = "the consent has expired"
        said.append(
            f"The consent expired on {moment(consent.valid_until)}. What was neither unlocked nor being unlocked by "
            "then can't be unlocked under it anymore."
        )
    newer = _certificates().filter(consent=consent, ordinal__gt=certificate.ordinal).order_by("-ordinal")
    if newest := next(filter(_facts_of, newer), None):
        said.append(f"A newer certificate of this consent was issued on {moment(newest.issued_at)}: {newest.number}.")
    elif facts.entries_of(consent.unlock_request).filter(sequence__gt=certificate.upto).exists():
        said.append("More has happened in the case since it was issued. Ask for a newer certificate.")
    return {"since": said, "but": but}


def _waiting(consent):
    """Say whether a batch was never unlocked under a consent."""
    lines = RequestedBatch.objects.filter(consented__consent=consent)
    return lines.filter(outcome__in=(RequestedBatch.Outcome.WAITING, RequestedBatch.Outcome.NOT_UNLOCKED)).exists()


def _unknown(content):
    """Return what the page says of a file that no record fits: whether we signed it, and the latest restore."""
    try:
        signed = verify_certificate.verify(content, keys=signing_keys.published())
    except verify_certificate.KeyNotValid as why:
        return {"why": str(why)}
    except verify_certificate.NotGenuine:
        return _list_of_case_file(content)
    return {"signed": signed["number"], "restored": LedgerEntry.objects.filter(kind=events.Restored.kind).first()}


def _list_of_case_file(content):
    """Return what the page says of the list of a case file, {} when it is none of ours: it is no forged certificate."""
    try:
        manifest, _ = verify_certificate.verify_manifest(content, keys=signing_keys.published())
    except verify_certificate.NotGenuine:
        return {}
    return {"listed": manifest["request"] or "several requests"}


def _find_signed(content):
    """Return the certificate whose facts a JSON file holds under our signature, in any layout, or None."""
    signed = _verified(content)
    if signed is None:
        return None
    _, consent, ordinal = signed["number"].split("-")
    found = _certificates().filter(consent=int(consent), ordinal=int(ordinal)).first()
    return found if found and _facts_of(found) == signed else None


def _facts_of(certificate):
    """Return the facts of a certificate in the database, or None when its row may not have been written by the desk.

    Its content is signed and agrees with its columns, its code belongs to its number, and the ledger has its entry.
    """
    signed = _verified(certificate.content.encode())
    if signed is None:
        return None
    number, issued_at = certificate.number, certificate.issued_at.isoformat()
    columns = [number, certificate.code, certificate.interim, issued_at]
    if [signed[name] for name in ("number", "code", "interim", "issued_at")] != columns:
        return None
    if keys.code(number, issued_at) != certificate.code or sha256(certificate.content) != certificate.sha256:
        return None
    return signed if _in_the_ledger(certificate, signed["public_key"]) else None


def _in_the_ledger(certificate, public_key):
    """Say whether an entry that nobody altered is about this certificate, with both of its hashes."""
    entries = LedgerEntry.objects.filter(kind=events.Certified.kind, about="certificate", about_id=certificate.pk)
    key = verify_certificate.key_id(public_key)
    recorded = events.Certified.of(certificate, certificate=certificate.number, key=key)
    return any(chain.event_of(entry) == recorded for entry in entries)


def _verified(content):
    try:
        return verify_certificate.verify(content, keys=signing_keys.published())
    except verify_certificate.NotGenuine:
        return None


def _certificates():
    """Return the certificates without their files, so that a foreign file is answered fast."""
    certificates = Certificate.objects.select_related("consent__unlock_request__account")
    return certificates.defer("content", "pdf", "consent__text")


def _content_length(request):
    """Return the declared length of the request's body; 0 when there is none, and then nothing is read."""
    length = request.META.get("CONTENT_LENGTH") or ""
    return int(length) if length.isascii() and length.isdigit() else 0


def _page(request, *, status=200, **context):
    forms = {"file_form": FileForm(), "number_form": NumberForm()}
    context = forms | {"keys": signing_keys.recorded(), "at": timezone.now()} | context
    if context.get("found"):
        context["signed_with"] = keys.key_id_of(context["found"].content)
    context["problems"] = next((context[form] for form in forms if context[form].errors), None)
    return render(request, "unlocks/check_certificate.html", context, status=status)


def _file_too_large(request):
    return render(request, "unlocks/file_too_large.html", {"limit": settings.CHECK_MAX_BYTES >> 20}, status=413)


def _too_many_checks(request, until):
    minutes = int(settings.CHECK_WINDOW.total_seconds()) // 60
    context = {"until": until, "limit": settings.CHECK_LIMIT, "minutes": minutes}
    response = render(request, "unlocks/too_many_checks.html", context, status=429)
    response["Retry-After"] = max(1, round((until - timezone.now()).total_seconds()))
    return response
