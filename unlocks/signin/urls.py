"""The pages of signing in, under the names that allauth knows them by. It has more of them, which the desk has not."""

from allauth.mfa.base.views import authenticate, reauthenticate
from django.urls import path

from . import views

urlpatterns = [
    path("sign-in/", views.SignInView.as_view(), name="account_login"),
    path("sign-in/code/", authenticate, name="mfa_authenticate"),
    path("sign-in/passkey/", views.SignInByPasskeyView.as_view(), name="mfa_login_webauthn"),
    path("with/<str:provider_id>/", views.sign_in_with_company, name="openid_connect_login"),
    path("with/<str:provider_id>/callback/", views.back_from_company, name="openid_connect_callback"),
    path("sign-out/", views.SignOutView.as_view(), name="account_logout"),
    path("link/<str:token>/", views.staff_link, name="staff_link"),
    path("password/", views.set_password, name="set_password"),
    path("confirm/", views.ConfirmView.as_view(), name="account_reauthenticate"),
    path("confirm/code/", reauthenticate, name="mfa_reauthenticate"),
    path("confirm/passkey/", views.ConfirmByPasskeyView.as_view(), name="mfa_reauthenticate_webauthn"),
    path("yours/", views.YourSignInView.as_view(), name="mfa_index"),
    path("yours/app/", views.SetUpAppView.as_view(), name="mfa_activate_totp"),
    path("yours/app/remove/", views.RemoveAppView.as_view(), name="mfa_deactivate_totp"),
    path("yours/codes/", views.CodesView.as_view(), name="mfa_view_recovery_codes"),
    path("yours/codes/new/", views.NewCodesView.as_view(), name="mfa_generate_recovery_codes"),
    path("yours/passkeys/", views.AddPasskeyView.as_view(), name="mfa_add_webauthn"),
    path("yours/passkeys/<int:pk>/remove/", views.RemovePasskeyView.as_view(), name="mfa_remove_webauthn"),
    path("yours/sessions/<slug:key>/end/", views.end_session, name="end_session"),
]
