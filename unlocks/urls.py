from django.urls import include, path

from . import checking, receipts, views


def of_a_receipt(first, name):
    """Return what belongs to a receipt: the same under both of its addresses, each with cookies of its own."""
    return [
        path("", first, name=name),
        path("withdraw/", receipts.withdraw),
        path("certificate/", receipts.get_certificate),
        path("certificate/<key:ordinal>/", receipts.certificate),
        path("certificate/<key:ordinal>/<str:name>", receipts.certificate_file),
    ]


urlpatterns = [
    path("check/", checking.check, name="check"),
    path("check/verify_certificate.py", checking.script, name="check_script"),
    path("consent/", views.consent, name="consent"),
    path("consent/receipt/", include(of_a_receipt(receipts.receipt, "consent_receipt"))),
    path("consent/<str:token>/", views.consent_link, name="consent_link"),
    path("receipt/", include(of_a_receipt(receipts.mailed_receipt, "receipt"))),
    path("receipt/<str:token>/", receipts.receipt_link, name="receipt_link"),
]
