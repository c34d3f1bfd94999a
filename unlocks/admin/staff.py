"""Staff and groups. Staff accounts are deactivated, never deleted: their acts would lose their name."""

from django.contrib import admin, messages
from django.contrib.admin.utils import flatten_fieldsets, unquote
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import Group, User
from django.core.exceptions import BadRequest, PermissionDenied
from django.db.models import Exists, OuterRef, Q
from django.forms import CheckboxSelectMultiple
from django.http import Http404
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import format_html

from .. import operations
from ..actors import Actor
from ..factors import factors_of
from ..models import ApiToken, Outgoing
from ..rules import Refusal, sentence
from ..signin import showed
from ..texts.formats import moment
from .filters import by_column
from .forms.records import ColleagueForm, NewColleagueForm
from .lists import Listed, ReadOnlyAdmin, column
from .site import desk

NAME_STAYS = (
    "It can't be changed: consents, certificates and the audit log name people by it. "
    "To change a username, create a new account and deactivate this one."
)


_HELP = {
    "is_active": "Who is not active can't sign in, and is signed out at once.",
    "is_superuser": "May do everything, manages staff, and passes the same rules as everyone.",
    "is_staff": "May sign in.",
}
_SIGN_IN_VERBS = {
    "link": (operations.send_staff_link, "A link to {} waits to be sent."),
    "ask": (
        operations.ask_factor_reset,
        "You asked to reset the second factors of {}. Another superuser has to do it.",
    ),
    "reset": (operations.reset_factors, "The second factors of {} are taken away. They set up new ones."),
}


@admin.register(User, site=desk)
class StaffAdmin(Listed, UserAdmin):
    """Staff accounts. Permissions come from groups alone, so that three lists show them all."""

    form = ColleagueForm
    add_form = NewColleagueForm
    add_form_template = None
    list_name = footer_name = "Staff"
    rows_are = "members of staff"
    list_display = ("username", "first_name", "last_name", "email", "in_groups", "is_active", "is_superuser")
    list_filter = (by_column("is_active"), by_column("groups"))
    search_fields = ("username", "last_name")
    search_help_text = "Username or last name, or the start of one"
    readonly_fields = ("signs_in_by", "signed_in", "joined")
    fieldsets = (
        (None, {"fields": ("username", "first_name", "last_name", "email", "signs_in_by")}),
        ("May sign in, and do what", {"fields": ("is_active", "is_superuser", "groups")}),
        ("Dates", {"fields": ("signed_in", "joined")}),
    )
    add_fieldsets = (
        (None, {"fields": ("username", "first_name", "last_name", "email")}),
        ("May do what", {"fields": ("groups",)}),
    )
    filter_horizontal = ()

    def get_queryset(self, request):
        tokens = Exists(ApiToken.objects.filter(system=OuterRef("pk")))
        return super().get_queryset(request).annotate(has_api_tokens=tokens).prefetch_related("groups")

    def matching(self, term):
        return Q(username__istartswith=term) | Q(last_name__istartswith=term)

    def get_readonly_fields(self, request, obj=None):
        """Leave a system nothing but whether it is active: it acts by its API tokens."""
        if obj and operations.is_system(obj):
            return [name for name in flatten_fieldsets(self.fieldsets) if name != "is_active"]
        return (*self.readonly_fields, "username") if obj else self.readonly_fields

    def get_fieldsets(self, request, obj=None):
        hands_over = ["cases_to"] if obj and operations.open_cases(obj).exists() else []
        if obj and operations.is_system(obj):
            named = "A system, which acts by its API tokens and cannot sign in"
            return ((named, {"fields": ("username", "is_active", *hands_over)}), self.fieldsets[-1])
        # Colleagues are staff as soon as they are added. One who was made otherwise may be made staff here.
        made_otherwise = ["is_staff"] if obj and not obj.is_staff else []
        if hands_over or made_otherwise:
            who, (may, shown), dates = self.fieldsets
            active, *rest = shown["fields"]
            return (who, (may, {"fields": (active, *hands_over, *made_otherwise, *rest)}), dates)
        return super().get_fieldsets(request, obj)

    def get_form(self, request, obj=None, **kwargs):
        groups = {"groups": "What each may do is on the page Permissions."}
        help_texts = _HELP | {"username": NAME_STAYS} | groups if obj else groups
        return super().get_form(request, obj, **{"help_texts": help_texts, **kwargs})

    def changeform_view(self, request, object_id=None, form_url="", extra_context=None):
        if request.method == "POST" and self.has_change_permission(request):
            showed.confirm(request)
        title = {} if object_id else {"title": "Invite a colleague"}
        return super().changeform_view(request, object_id, form_url, title | (extra_context or {}))

    def save_model(self, request, obj, form, change):
        """Leave it to `save_related`, which Django calls next: an account and its groups are one change."""

    def save_related(self, request, form, formsets, change):
        def write():
            super(StaffAdmin, self).save_model(request, form.instance, form, change)
            super(StaffAdmin, self).save_related(request, form, formsets, change)

        by = Actor.staff(request.user, request)
        if change and form.hands_over:
            operations.deactivate(form.instance, write, cases_to=form.successor, by=by)
        else:
            operations.change_staff(form.instance, write, by=by)

    def response_add(self, request, obj, post_url_continue=None):
        """Send the invitation: nobody chooses a password for a colleague."""
        try:
            link = operations.send_staff_link(obj, by=Actor.staff(request.user, request))
        except operations.Refused as refused:
            self.message_user(request, f"{obj} was added, and got no invitation. {refused}", messages.WARNING)
        else:
            said = f"{obj} was added. An invitation to {obj.email} waits to be sent; it works until "
            self.message_user(request, f"{said}{moment(link.expires_at)}.", messages.SUCCESS)
        return redirect(f"admin:{self.opts.app_label}_{self.opts.model_name}_change", obj.pk)

    def response_change(self, request, obj):
        if request.POST.keys() & {"_continue", "_addanother"}:
            return super().response_change(request, obj)
        self.message_user(request, f"{obj} was saved.", messages.SUCCESS)
        return redirect(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")

    def user_change_password(self, request, id, form_url=""):
        """Show how a colleague signs in, and send them a link, or have lost second factors taken away by two."""
        user = self.get_object(request, unquote(id))
        if not self.has_change_permission(request, user):
            raise PermissionDenied
        if user is None:
            raise Http404("There is no such member of staff.")
        if operations.is_system(user):
            raise PermissionDenied(sentence(Refusal.SYSTEM_SIGNS_IN, name=user))
        if request.method == "POST":
            return self._act_on(request, user)
        reset, link = operations.factor_reset_of(user), user.staff_links.order_by("pk").last()
        return desk.page(
            request,
            "admin/auth/user/sign_in.html",
            title=f"How {user} signs in",
            colleague=user,
            factors=factors_of(user.pk),
            reset=reset,
            asked_yourself=reset is not None and reset.user_id == request.user.pk,
            emailed=Outgoing.objects.filter(email=Outgoing.Email.STAFF_LINK, address=user.email).last(),
            link=link,
            link_works=link and operations.staff_link_works(link),
        )

    def _act_on(self, request, user):
        verb, said = _SIGN_IN_VERBS.get(request.POST.get("verb"), (None, ""))
        if verb is None:
            raise BadRequest("There is no such button.")
        showed.confirm(request)
        try:
            verb(user, by=Actor.staff(request.user, request))
        except operations.Refused as refused:
            self.message_user(request, str(refused), messages.WARNING)
        else:
            self.message_user(request, said.format(user), messages.SUCCESS)
        return redirect("admin:auth_user_password_change", user.pk)

    @admin.display(description="Signs in by")
    def signs_in_by(self, user):
        if user.pk is None:
            return ""
        ways = ["password"] * user.has_usable_password() + factors_of(user.pk)
        page = reverse("admin:auth_user_password_change", args=[user.pk])
        return format_html('{} <a href="{}">Send a link, or reset</a>', ", ".join(ways) or "nothing yet", page)

    def formfield_for_manytomany(self, db_field, request, **kwargs):
        return super().formfield_for_manytomany(db_field, request, widget=CheckboxSelectMultiple, **kwargs)

    @admin.display(description="Groups")
    def in_groups(self, user):
        groups = ", ".join(group.name for group in user.groups.all())
        return "System" if user.has_api_tokens else groups

    @admin.display(description="Last signed in")
    def signed_in(self, user):
        return moment(user.last_login) or "never"

    joined = column("On the desk since", "date_joined", moment)


@admin.register(Group, site=desk)
class StaffGroupAdmin(ReadOnlyAdmin):
    """The groups are the same everywhere (`unlocks.roles`): each migrate would undo what is changed here."""

    footer_name = "Groups"
    list_display = ("name",)
    search_fields = ("name",)
    fields = ("name", "may")

    @admin.display(description="May")
    def may(self, group):
        return "\n".join(permission.name for permission in group.permissions.order_by("content_type", "codename"))
