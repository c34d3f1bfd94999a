from django.urls import path

from . import views

urlpatterns = [
    path("consent/", views.consent, name="consent"),
    path("consent/receipt/", views.receipt, name="consent_receipt"),
    path("consent/<str:token>/", views.consent_link, name="consent_link"),
    path("receipt/", views.mailed_receipt, name="receipt"),
    path("receipt/<str:token>/", views.receipt_link, name="receipt_link"),
]
