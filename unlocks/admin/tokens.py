"""Tokens of the API. Superusers make them, each is shown once, and revoke them at once."""

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.shortcuts import redirect
from django.urls import path
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.views.decorators.http import require_http_methods, require_safe

from .. import operations
from ..actors import Actor
from ..models import ApiToken
from ..signin import showed
from ..templatetags.desk import tag
from ..texts.formats import moment
from .filters import by_column
from .forms.tokens import MakeTokenForm
from .lists import ReadOnlyAdmin, column
from .site import desk


@admin.register(ApiToken, site=desk)
class ApiTokenAdmin(ReadOnlyAdmin):
    list_name = footer_name = "API tokens"
    list_display = ("name", "system", "may", "made_by", "expires", "used", "state")
    list_select_related = ("system", "made_by")
    list_filter = (by_column("system"),)
    sortable_by = ()

    expires = column("Works until", "expires_at", moment)
    used = column("Last used", "last_used_at", moment)

    def get_urls(self):
        view = self.admin_site.admin_view
        return [path("<key:pk>/revoke/", view(self.revoke), name="unlocks_apitoken_revoke"), *super().get_urls()]

    def has_add_permission(self, request, obj=None):
        return request.user.is_superuser

    @admin.display(description="May")
    def may(self, token):
        return token.scopes.replace(" ", ", ")

    @admin.display(description="State")
    def state(self, token):
        return tag(*state(token))

    @method_decorator(require_http_methods(["GET", "HEAD", "POST"]))
    def add_view(self, request, form_url="", extra_context=None):
        """Make a token. The page that answers shows it, once: it is kept nowhere, and no address leads there again."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        showed.confirm(request)
        form = MakeTokenForm(request.POST if request.method == "POST" else None)
        if form.is_bound and form.is_valid():
            try:
                made, secret = form.carry_out(Actor.staff(request.user, request))
            except operations.Refused as refused:
                form.add_error(None, str(refused))
            else:
                return self._show(request, made, secret=secret, made_before=not secret)
        return desk.page(
            request,
            "admin/unlocks/apitoken/make.html",
            status=422 if form.errors else 200,
            title="Make an API token",
            form=form,
        )

    @method_decorator(require_safe)
    def change_view(self, request, object_id, form_url="", extra_context=None):
        return self._show(request, self.found(request, object_id))

    @method_decorator(require_http_methods(["POST"]))
    def revoke(self, request, pk):
        token = self.found(request, pk)
        showed.confirm(request)
        try:
            operations.revoke_api_token(token, by=Actor.staff(request.user, request))
        except operations.Refused as refused:
            self.message_user(request, str(refused), messages.WARNING)
        else:
            self.message_user(request, f"{token} is revoked: no call by it is answered any more.", messages.SUCCESS)
        return redirect("admin:unlocks_apitoken_change", token.pk)

    def _show(self, request, token, **context):
        return desk.page(
            request,
            "admin/unlocks/apitoken/token.html",
            title=str(token),
            token=token,
            state_tag=tag(*state(token)),
            scopes=[ApiToken.Scope(scope).label for scope in token.scopes.split()],
            **context,
        )


def state(token):
    """Return the tone and the words for whether a token works."""
    if token.revoked_at:
        return "bad", "Revoked"
    if token.expires_at <= timezone.now():
        return "wait", "Expired"
    return ("good", "Works") if token.system.is_active else ("wait", "Its system is deactivated")
