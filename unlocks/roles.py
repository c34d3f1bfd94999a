"""Who may do what: three groups, made the same after every migrate, and the scopes of API tokens."""

from django.contrib.auth import get_user_model
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import Group, Permission, User
from django.db.models import Exists, OuterRef, Q, Value

from . import pins
from .models import ApiToken

AGENT = {
    "open_request",
    "verify_pin",
    "confirm_contact",
    "send_consent_link",
    "record_phone_consent",
    "withdraw_consent",
    "unlock_batch",
    "carry_out_instruction",
    "relock_batch",
    "extend_window",
    "mark_re_exported_batch",
}
MANAGER = AGENT | {
    "import_records",
    "put_back_instruction",
    "cancel_ordered_act",
    "issue_pin",
    "add_account",
    "change_account",
    "add_contact",
    "change_contact",
    "draft_terms",
    "publish_terms",
    "order_verification",
    "review_case",
    "make_case_file",
}
AUDITOR = {"make_case_file"}
# What a token of the API may. Those that name no permission of Django's are asked for by the API alone.
SCOPES: dict[str, set[str]] = {
    ApiToken.Scope.CONTACTS: {"api.put_contacts", "unlocks.import_records"},
    ApiToken.Scope.EVENTS: {"api.read_events"},
    ApiToken.Scope.PERSONAL: {"api.see_personal"},
    ApiToken.Scope.PINS: {"api.set_pins"},
    ApiToken.Scope.PRODUCT: {"api.answer_instructions"},
    ApiToken.Scope.READ: {"api.read"},
    ApiToken.Scope.RECORDS: {"api.put_records", "unlocks.import_records"},
    ApiToken.Scope.REQUESTS: {"unlocks.open_request", "unlocks.send_consent_link"},
    ApiToken.Scope.UNLOCK: {
        "unlocks.unlock_batch",
        "unlocks.extend_window",
        "unlocks.relock_batch",
        "unlocks.mark_re_exported_batch",
    },
}
AUDIT = {
    "view_ledgerentry",
    "view_casefiles",
    "view_act",
    "view_verdict",
    "view_worker",
    "view_review",
    "view_reviewdecision",
}


def _see(permission):
    return permission.codename.startswith("view_")


def _see_the_work(permission):
    return _see(permission) and permission.codename not in AUDIT


GROUPS = {
    "Agent": lambda permission: (
        _see_the_work(permission) or permission.codename in AGENT | {"view_act", "view_verdict"}
    ),
    "Manager": lambda permission: _see(permission) or permission.codename in MANAGER,
    "Auditor": lambda permission: _see(permission) or permission.codename in AUDITOR,
}


class Rights(ModelBackend):
    """Who may sign in, and what they may; that and the names of their groups are read in one query.

    Only active members of staff sign in, and whoever is none any more is signed out by it. A password that is stored in
    an outdated way stays so: whoever changes it tells the ledger.
    """

    def authenticate(self, request, username=None, password=None, **kwargs):
        """Return whose username and password these are, or None, in the same time whether the name is known or not."""
        user = user_named(username or "")
        right, _ = pins.password_matches(password or "", user.password if user else "")
        return user if right and self.user_can_authenticate(user) else None

    def user_can_authenticate(self, user):
        return user.is_active and user.is_staff

    def get_all_permissions(self, user_obj, obj=None):
        if user_obj.is_superuser or not user_obj.is_active or obj is not None:
            return super().get_all_permissions(user_obj, obj)
        if not hasattr(user_obj, "_perm_cache"):
            named = ("content_type__app_label", "codename")
            of_groups = Group.objects.filter(user=user_obj).values_list(
                "name", *(f"permissions__{one}" for one in named)
            )
            own = Permission.objects.filter(user=user_obj).order_by().values_list(Value(""), *named)
            held = list(of_groups.order_by().union(own))
            user_obj.group_names = sorted({group for group, _, _ in held if group})
            user_obj._perm_cache = {f"{app}.{codename}" for _, app, codename in held if codename}
        return user_obj._perm_cache


def user_named(username):
    """Return the user with this name, without regard to capitals, or None."""
    found = User.objects.filter(username__iexact=username)
    # PostgreSQL compares capitals, and there a dotless i becomes an I
    return next((user for user in found if user.username.lower() == username.lower()), None)


def names_of_groups(user):
    """List the names of the groups of someone who is signed in."""
    if user.is_superuser:
        return list(user.groups.order_by("name").values_list("name", flat=True))
    user.get_all_permissions()
    return user.group_names


def staff_who_may(permission, *, superusers=True):
    """Return the active staff who hold a permission, by username; without `superusers`, by a role of theirs alone."""
    backend = "django.contrib.auth.backends.ModelBackend"
    able = get_user_model().objects.with_perm(permission, include_superusers=superusers, backend=backend)
    return able.filter(is_staff=True).order_by("username")


def who_may_do_anything():
    """Return the users, active or not, whom the desk gives any right: superusers, and staff with one or in a group."""
    own, groups = (
        Exists(held.objects.filter(user=OuterRef("pk")))
        for held in (User.user_permissions.through, User.groups.through)
    )
    return User.objects.filter(Q(is_superuser=True) | Q(is_staff=True) & (Q(own) | Q(groups))).order_by("pk")


def after_migrate(sender, using, **kwargs):
    """Make the groups hold exactly these permissions.

    Runs once they are there: `auth` makes them after each app's turn, and its own turn comes after this app's.
    """
    if sender.label != "auth":
        return
    ours = Permission.objects.using(using).filter(content_type__app_label="unlocks").select_related("content_type")
    for name, holds in GROUPS.items():
        group, _ = Group.objects.using(using).get_or_create(name=name)
        group.permissions.set([permission for permission in ours if holds(permission)])
