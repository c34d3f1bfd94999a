"""The public check page: is a certificate genuine and unaltered? It tells a stranger that, and nothing else.

What is uploaded stays in memory, is compared by its SHA-256 and, when it may be a JSON file of ours that was laid out
differently, read once; it is never stored, unpacked or run.
"""

import json
from io import BytesIO
from pathlib import Path

from django.conf import settings
from django.core.exceptions import BadRequest, RequestDataTooBig, SuspiciousOperation
from django.core.files.uploadedfile import InMemoryUploadedFile
from django.core.files.uploadhandler import FileUploadHandler, StopUpload
from django.db.models import Q
from django.http import HttpResponse, UnreadablePostError
from django.http.multipartparser import MultiPartParserError
from django.shortcuts import render
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_http_methods, require_safe

from ..actors import client_ip
from ..certificates import keys, verify_certificate
from ..digest import sha256
from ..ledger.chain import fits
from ..models import Certificate, LedgerEntry
from . import rate_limit
from .check_form import FileForm, NumberForm

# What a form adds around its file: names, boundaries, the CSRF token.
AROUND_THE_FILE = 64 * 1024

BOTH = "Check either a file, or a number and its code: not both at once."
SEVERAL = "Upload one file at a time."
UNREADABLE = "What was sent could not be read as a form. Choose the file on this page and press the button below it."


@csrf_exempt
@require_http_methods(["GET", "HEAD", "POST"])
def check(request):
    """Answer for one certificate. A try is taken first, and the size judged, before anything is read."""
    response = _judge(request) if request.method == "POST" else _page(request)
    response["Cache-Control"] = "no-store"
    return response


@require_safe
def script(request):
    """Hand out the script that checks a certificate's JSON file offline."""
    source = Path(verify_certificate.__file__).read_bytes()
    return HttpResponse(
        source,
        content_type="text/x-python; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="verify_certificate.py"'},
    )


class OneFile(FileUploadHandler):
    """Keep one file of bounded size in memory; stop at a second one, and at the byte that is too many."""

    def __init__(self, request):
        super().__init__(request)
        self.kept, self.several, self.too_large = None, False, False

    def new_file(self, *args, **kwargs):
        super().new_file(*args, **kwargs)
        if self.kept is not None:
            self.several = True
            raise StopUpload(connection_reset=True)
        self.kept = BytesIO()

    def receive_data_chunk(self, raw_data, start):
        if start + len(raw_data) > settings.CHECK_MAX_BYTES:
            self.too_large = True
            raise StopUpload(connection_reset=True)
        self.kept.write(raw_data)

    def file_complete(self, file_size):
        self.kept.seek(0)
        return InMemoryUploadedFile(self.kept, self.field_name, self.file_name, self.content_type, file_size, None)


def _judge(request):
    if until := rate_limit.take(client_ip(request)):
        return _too_many(request, until)
    if _announced(request) > settings.CHECK_MAX_BYTES + AROUND_THE_FILE:
        return _too_large(request)
    upload = OneFile(request)
    request.upload_handlers = [upload]
    try:
        request.POST  # noqa: B018  reads the body
    except (MultiPartParserError, SuspiciousOperation, BadRequest, UnreadablePostError) as error:
        if isinstance(error, RequestDataTooBig):
            return _too_large(request)
        return _page(request, notice=UNREADABLE, status=400)
    if upload.too_large:
        return _too_large(request)
    if upload.several:
        return _page(request, notice=SEVERAL, status=400)
    return _answer(request)


@csrf_protect
def _answer(request):
    typed = any(request.POST.get(name, "").strip() for name in ("number", "code"))
    if request.FILES and typed:
        return _page(request, notice=BOTH, status=400)
    if typed or request.POST.get("action") == "number":
        form = NumberForm(request.POST)
        if form.is_valid():
            return _page(request, by_number=True, found=issued(*form.cleaned_data["number"], form.cleaned_data["code"]))
        return _page(request, number_form=form, status=400)
    form = FileForm(request.POST, request.FILES)
    if form.is_valid():
        content = form.cleaned_data["file"].read()
        found, relaid = genuine(content)
        return _page(request, by_file=True, found=found, relaid=relaid, sha256=sha256(content))
    return _page(request, file_form=form, status=400)


def genuine(content):
    """Return the certificate that a file is, and whether only its layout differs; None when it is none of ours."""
    digest = sha256(content)
    for same in _certificates().filter(Q(pdf_sha256=digest) | Q(sha256=digest)):
        if _facts_of(same):
            return same, False
    return _signed(content), True


def issued(consent, ordinal, code):
    """Return the certificate with this number and code, or None: a wrong code and an unknown number look alike.

    Only once the code is right, more is read than the row's own code.
    """
    found = _certificates().filter(consent=consent, ordinal=ordinal).first()
    right = constant_time_compare(found.code if found else "0000-0000-0000", code)
    return found if found and right and _facts_of(found) else None


def _signed(content):
    """Return the certificate whose facts a JSON file holds under our own signature, however it is laid out."""
    facts = _verified(content)
    if facts is None:
        return None
    _, consent, ordinal = facts["number"].split("-")
    found = _certificates().filter(consent=int(consent), ordinal=int(ordinal)).first()
    return found if found and _facts_of(found) == facts else None


def _facts_of(certificate):
    """Return the facts of a certificate in the database, or None when anybody but the desk could have put it there.

    Its content is signed by us and says what its columns do; its code is the one of its number; the ledger tells of it.
    """
    facts = _verified(certificate.content.encode())
    if facts is None:
        return None
    number, issued_at = certificate.number, certificate.issued_at.isoformat()
    told = [facts[name] for name in ("number", "code", "interim", "issued_at")]
    if told != [number, certificate.code, certificate.interim, issued_at]:
        return None
    holds = keys.code(number, issued_at) == certificate.code
    holds = holds and sha256(certificate.content) == certificate.sha256
    return facts if holds and _in_the_ledger(certificate) else None


def _in_the_ledger(certificate):
    """Say whether an entry that nobody altered tells of this certificate with both of its hashes."""
    expected = {
        "consent": certificate.consent_id,
        "certificate": certificate.number,
        "sha256": certificate.sha256,
        "pdf_sha256": certificate.pdf_sha256,
    }
    certified = LedgerEntry.Kind.CERTIFIED
    of_the_case = LedgerEntry.objects.filter(unlock_request=certificate.consent.unlock_request_id, kind=certified)
    intact = [json.loads(entry.body) for entry in of_the_case.filter(body__contains=certificate.sha256) if fits(entry)]
    return any(body["kind"] == certified and expected.items() <= body["facts"].items() for body in intact)


def _verified(content):
    try:
        return verify_certificate.verify(content, keys.public_key())
    except verify_certificate.NotGenuine:
        return None


def _certificates():
    """Return the certificates without their files: what is none of ours is to be told soon."""
    return Certificate.objects.select_related("consent").defer("content", "pdf", "consent__text")


def _announced(request):
    """Return how many bytes the request says that it brings; 0 when it doesn't say, and then nothing is read."""
    length = request.META.get("CONTENT_LENGTH") or ""
    return int(length) if length.isascii() and length.isdigit() else 0


def _page(request, *, status=200, **context):
    forms = {"file_form": FileForm(), "number_form": NumberForm()}
    context = forms | {"key": keys.public_key(), "at": timezone.now()} | context
    context["problems"] = next((context[form] for form in forms if context[form].errors), None)
    return render(request, "unlocks/check_certificate.html", context, status=status)


def _too_large(request):
    return render(request, "unlocks/check_too_large.html", {"most": settings.CHECK_MAX_BYTES >> 20}, status=413)


def _too_many(request, until):
    response = render(
        request,
        "unlocks/check_too_many.html",
        {"until": until, "tries": settings.CHECK_TRIES, "window": settings.CHECK_TRIES_WINDOW},
        status=429,
    )
    response["Retry-After"] = max(1, round((until - timezone.now()).total_seconds()))
    return response
