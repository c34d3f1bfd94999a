"""Staff and groups. Nobody deletes a member of staff: their acts would lose their name. Deactivate them instead."""

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import Group, User
from django.forms import CheckboxSelectMultiple

from ..templatetags.desk import when
from .base import Listed, ReadOnlyAdmin

admin.site.unregister([User, Group])


@admin.register(User)
class StaffAdmin(Listed, UserAdmin):
    """What somebody may do comes from their groups alone, so that three lists say it all."""

    footer_name = "Staff"
    rows_are = "members of staff"
    list_display = ("username", "first_name", "last_name", "email", "in_groups", "is_active", "is_superuser")
    list_filter = ("is_active", "groups")
    search_fields = ("username", "last_name")
    search_help_text = "User name or last name, or how it begins"
    readonly_fields = ("signed_in", "joined")
    fieldsets = (
        (None, {"fields": ("username", "password", "first_name", "last_name", "email")}),
        ("May sign in, and do what", {"fields": ("is_active", "is_staff", "is_superuser", "groups")}),
        ("Dates", {"fields": ("signed_in", "joined")}),
    )
    add_fieldsets = (
        (None, {"fields": ("username", "usable_password", "password1", "password2")}),
        ("May sign in, and do what", {"fields": ("is_staff", "groups")}),
    )
    filter_horizontal = ()

    def get_queryset(self, request):
        return super().get_queryset(request).prefetch_related("groups")

    def formfield_for_manytomany(self, db_field, request, **kwargs):
        return super().formfield_for_manytomany(db_field, request, widget=CheckboxSelectMultiple, **kwargs)

    @admin.display(description="Groups")
    def in_groups(self, user):
        return ", ".join(group.name for group in user.groups.all())

    @admin.display(description="Last signed in")
    def signed_in(self, user):
        return when(user.last_login) or "never"

    @admin.display(description="On the desk since")
    def joined(self, user):
        return when(user.date_joined)


@admin.register(Group)
class StaffGroupAdmin(ReadOnlyAdmin):
    """The groups are the same everywhere (`unlocks.roles`): each migrate would undo what is changed here."""

    footer_name = "Groups"
    list_display = ("name",)
    search_fields = ("name",)
    fields = ("name", "may")

    @admin.display(description="May")
    def may(self, group):
        return "\n".join(permission.name for permission in group.permissions.order_by("content_type", "codename"))
