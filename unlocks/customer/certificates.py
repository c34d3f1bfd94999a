"""A certificate as it was issued, as a page and as files; the desk and the customer's receipt show the same."""

import json

from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.utils.http import content_disposition_header

from ..certificates import batch_list, words


def page(request, certificate, *, address, back):
    """Show a certificate. Its files are under `address`, each under its own name."""
    facts = json.loads(certificate.content)["certificate"]
    context = {
        "facts": facts,
        "paper": words.paper(facts),
        "pdf_url": f"{address}{certificate.number}.pdf",
        "json_url": f"{address}{certificate.number}.json",
        "csv_url": f"{address}{batch_list.file_name(facts)}",
        "back_url": back,
    }
    return render(request, "unlocks/certificate.html", context)


def file(certificate, name):
    """Send the PDF or JSON of a certificate, byte for byte, or its batches as CSV. Raises Http404."""
    facts = json.loads(certificate.content)["certificate"]
    files = {
        f"{certificate.number}.pdf": ("application/pdf", bytes(certificate.pdf)),
        f"{certificate.number}.json": ("application/json", certificate.content.encode()),
        batch_list.file_name(facts): ("text/csv; charset=utf-8", batch_list.content(facts)),
    }
    if name not in files:
        raise Http404("A certificate has no such file.")
    media_type, content = files[name]
    return attachment(name, content, media_type)


def attachment(name, content, media_type="application/octet-stream"):
    """Send a file to be saved, never to be shown in the browser."""
    headers = {"Content-Disposition": content_disposition_header(True, name)}
    return HttpResponse(content, content_type=media_type, headers=headers)
