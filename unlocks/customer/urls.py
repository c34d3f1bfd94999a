from django.urls import include, path

from . import certificate_check, consent, receipt, trial_emails, trial_product


def receipt_urls(view, name):
    """Return the addresses of a receipt: the same under /consent/ and /receipt/, each with cookies of its own."""
    return [
        path("", view, name=name),
        path("batches.csv", receipt.batch_list),
        path("withdraw/", receipt.withdraw),
        path("certificate/", receipt.get_certificate),
        path("certificate/<key:ordinal>/", receipt.certificate),
        path("certificate/<key:ordinal>/<str:name>", receipt.certificate_file),
    ]


urlpatterns = [
    path("check/", certificate_check.check, name="check"),
    path("check/keys.json", certificate_check.public_keys, name="check_keys"),
    path("check/verify_certificate.py", certificate_check.script, name="check_script"),
    path("consent/", consent.consent, name="consent"),
    path("consent/receipt/", include(receipt_urls(receipt.receipt, "consent_receipt"))),
    path("consent/batches.csv", consent.consent_batches, name="consent_batches"),
    path("consent/<str:token>/", consent.consent_link, name="consent_link"),
    path("receipt/", include(receipt_urls(receipt.emailed_receipt, "receipt"))),
    path("receipt/<str:token>/", receipt.receipt_link, name="receipt_link"),
    path("trial/emails/", trial_emails.trial_emails, name="trial_emails"),
    path("trial/product/", trial_product.trial_product, name="trial_product"),
]
