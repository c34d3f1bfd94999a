from allauth.account.views import LoginView, LogoutView
from django.shortcuts import render
from django.urls import reverse

from .. import operations
from ..actors import Actor


class SignInView(LoginView):
    """Sign in by password. What was typed while signed out waits in the session until it is known who it was."""

    def form_valid(self, form):
        self.request.session["typed"] = form.cleaned_data["typed"]
        return super().form_valid(form)

    def get_authenticated_redirect_url(self):
        return reverse("admin:index")


class SignOutView(LogoutView):
    def post(self, request, *args, **kwargs):
        if request.user.is_authenticated:
            operations.record_session_end(request.user, how="signed_out", by=Actor.staff(request.user, request))
        self.logout()
        return render(request, "account/signed_out.html")
