"""Staff and groups. Nobody deletes a member of staff: their acts would lose their name. Deactivate them instead."""

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User

from .base import Listed

admin.site.unregister([User, Group])


@admin.register(User)
class StaffAdmin(Listed, UserAdmin):
    footer_name = "Staff"
    list_display = ("username", "first_name", "last_name", "email", "in_groups", "is_active", "is_superuser")
    list_filter = ("is_active", "groups")
    search_fields = ("username", "last_name")
    search_help_text = "User name or last name, or how it begins"

    def get_queryset(self, request):
        return super().get_queryset(request).prefetch_related("groups")

    @admin.display(description="Groups")
    def in_groups(self, user):
        return ", ".join(group.name for group in user.groups.all())


@admin.register(Group)
class StaffGroupAdmin(Listed, GroupAdmin):
    footer_name = "Groups"
    search_fields = ("name",)
