"""Who may see and send what: a list of every address and every verb, for people to read.

The list says what is; what makes it so are the permissions of the groups (`unlocks.roles`), of verbs and of pages. A
test walks through all of it as each role and with a token of each scope, and fails for what is not listed.
"""

import re
from types import SimpleNamespace

from django.core.exceptions import PermissionDenied
from django.urls import get_resolver
from django.utils.decorators import method_decorator
from django.utils.text import capfirst
from django.views.decorators.http import require_safe

from .. import operations
from ..roles import GROUPS, SCOPES

ROLES = {
    "O": "Anyone",
    "P": "Signed in, and no staff",
    "C": "Customer with a consent link",
    "R": "Customer with a receipt",
    "N": "Staff without a role",
    "A": "Agent",
    "M": "Manager",
    "U": "Auditor",
    "S": "Superuser",
}
EVERY = "every scope"
OWN = "its own alone"  # whatever the scope

# Of each address, who gets its page and who may send it something. A page asks for more where it depends on the case.
PAGES: dict[str, tuple[str, str]] = {
    "": ("OPCRNAMUS", "OPCRNAMUS"),
    "desk/search/": ("NAMUS", "NAMUS"),
    "desk/queue/": ("NAMUS", "NAMUS"),
    "desk/keys/": ("NAMUS", "NAMUS"),
    "desk/permissions/": ("MUS", ""),
    "desk/": ("NAMUS", "NAMUS"),
    "desk/login/": ("", ""),
    "desk/logout/": ("OPNAMUS", "OPNAMUS"),
    "desk/password_change/": ("NAMUS", "NAMUS"),
    "desk/password_change/done/": ("NAMUS", ""),
    "desk/autocomplete/": ("AMUS", ""),
    "desk/jsi18n/": ("NAMUS", ""),
    "desk/r/<path:content_type_id>/<path:object_id>/": ("", ""),
    "desk/unlocks/act/selection/<uuid:pk>/<str:kind>/": ("S", "S"),
    "desk/unlocks/act/<uuid:pk>/cancel/": ("", "MS"),
    "desk/unlocks/act/file/": ("", "AMUS"),
    "desk/unlocks/act/views/": ("AMUS", "AMUS"),
    "desk/unlocks/act/views/<key:pk>/": ("AMUS", "AMUS"),
    "desk/unlocks/act/": ("AMUS", "AMUS"),
    "desk/unlocks/act/add/": ("", ""),
    "desk/unlocks/act/<path:object_id>/history/": ("", ""),
    "desk/unlocks/act/<path:object_id>/delete/": ("", ""),
    "desk/unlocks/act/<path:object_id>/change/": ("AMUS", "AMUS"),
    "desk/unlocks/act/<path:object_id>/": ("NAMUS", "NAMUS"),
    "desk/unlocks/account/<key:pk>/issue-pin/": ("MS", "MS"),
    "desk/unlocks/account/file/": ("", "AMUS"),
    "desk/unlocks/account/views/": ("AMUS", "AMUS"),
    "desk/unlocks/account/views/<key:pk>/": ("AMUS", "AMUS"),
    "desk/unlocks/account/^([^/]+)/history/([^/]+)/$": ("AMUS", ""),
    "desk/unlocks/account/": ("AMUS", "AMUS"),
    "desk/unlocks/account/add/": ("MS", "MS"),
    "desk/unlocks/account/<path:object_id>/history/": ("AMUS", ""),
    "desk/unlocks/account/<path:object_id>/delete/": ("", ""),
    "desk/unlocks/account/<path:object_id>/change/": ("AMUS", "MS"),
    "desk/unlocks/account/<path:object_id>/": ("NAMUS", "NAMUS"),
    "desk/unlocks/contact/<key:pk>/confirm/": ("AMS", "AMS"),
    "desk/unlocks/contact/file/": ("", "AMUS"),
    "desk/unlocks/contact/views/": ("AMUS", "AMUS"),
    "desk/unlocks/contact/views/<key:pk>/": ("AMUS", "AMUS"),
    "desk/unlocks/contact/^([^/]+)/history/([^/]+)/$": ("AMUS", ""),
    "desk/unlocks/contact/": ("AMUS", "AMUS"),
    "desk/unlocks/contact/add/": ("MS", "MS"),
    "desk/unlocks/contact/<path:object_id>/history/": ("AMUS", ""),
    "desk/unlocks/contact/<path:object_id>/delete/": ("", ""),
    "desk/unlocks/contact/<path:object_id>/change/": ("AMUS", "MS"),
    "desk/unlocks/contact/<path:object_id>/": ("NAMUS", "NAMUS"),
    "desk/unlocks/batch/file/": ("", "AMUS"),
    "desk/unlocks/batch/views/": ("AMUS", "AMUS"),
    "desk/unlocks/batch/views/<key:pk>/": ("AMUS", "AMUS"),
    "desk/unlocks/batch/^([^/]+)/history/([^/]+)/$": ("AMUS", ""),
    "desk/unlocks/batch/": ("AMUS", "AMUS"),
    "desk/unlocks/batch/add/": ("", ""),
    "desk/unlocks/batch/<path:object_id>/history/": ("AMUS", ""),
    "desk/unlocks/batch/<path:object_id>/delete/": ("", ""),
    "desk/unlocks/batch/<path:object_id>/change/": ("AMUS", ""),
    "desk/unlocks/batch/<path:object_id>/": ("NAMUS", "NAMUS"),
    "desk/unlocks/batchitem/file/": ("", "AMUS"),
    "desk/unlocks/batchitem/views/": ("AMUS", "AMUS"),
    "desk/unlocks/batchitem/views/<key:pk>/": ("AMUS", "AMUS"),
    "desk/unlocks/batchitem/^([^/]+)/history/([^/]+)/$": ("AMUS", ""),
    "desk/unlocks/batchitem/": ("AMUS", "AMUS"),
    "desk/unlocks/batchitem/add/": ("", ""),
    "desk/unlocks/batchitem/<path:object_id>/history/": ("AMUS", ""),
    "desk/unlocks/batchitem/<path:object_id>/delete/": ("", ""),
    "desk/unlocks/batchitem/<path:object_id>/change/": ("AMUS", ""),
    "desk/unlocks/batchitem/<path:object_id>/": ("NAMUS", "NAMUS"),
    "desk/unlocks/ledgerentry/verify/": ("", "MS"),
    "desk/unlocks/ledgerentry/file/": ("", "MUS"),
    "desk/unlocks/ledgerentry/views/": ("MUS", "MUS"),
    "desk/unlocks/ledgerentry/views/<key:pk>/": ("MUS", "MUS"),
    "desk/unlocks/ledgerentry/": ("MUS", "MUS"),
    "desk/unlocks/ledgerentry/add/": ("", ""),
    "desk/unlocks/ledgerentry/<path:object_id>/history/": ("", ""),
    "desk/unlocks/ledgerentry/<path:object_id>/delete/": ("", ""),
    "desk/unlocks/ledgerentry/<path:object_id>/change/": ("MUS", ""),
    "desk/unlocks/ledgerentry/<path:object_id>/": ("NAMUS", "NAMUS"),
    "desk/unlocks/worker/": ("MUS", ""),
    "desk/unlocks/consent/<key:pk>/evidence/<key:file>/": ("AMUS", ""),
    "desk/unlocks/consent/<key:pk>/certificates/<key:ordinal>/": ("AMUS", ""),
    "desk/unlocks/consent/<key:pk>/certificates/<key:ordinal>/<str:name>": ("AMUS", ""),
    "desk/unlocks/consent/file/": ("", "AMUS"),
    "desk/unlocks/consent/views/": ("AMUS", "AMUS"),
    "desk/unlocks/consent/views/<key:pk>/": ("AMUS", "AMUS"),
    "desk/unlocks/consent/": ("AMUS", "AMUS"),
    "desk/unlocks/consent/add/": ("", ""),
    "desk/unlocks/consent/<path:object_id>/history/": ("", ""),
    "desk/unlocks/consent/<path:object_id>/delete/": ("", ""),
    "desk/unlocks/consent/<path:object_id>/change/": ("AMUS", "AMUS"),
    "desk/unlocks/consent/<path:object_id>/": ("NAMUS", "NAMUS"),
    "desk/unlocks/import/columns/": ("AMUS", ""),
    "desk/unlocks/import/<str:kind>/template.csv": ("AMUS", ""),
    "desk/unlocks/import/<str:kind>/sample.csv": ("AMUS", ""),
    "desk/unlocks/import/<uuid:pk>/errors.csv": ("AMUS", ""),
    "desk/unlocks/import/<uuid:pk>/confirm/": ("AMS", "AMS"),
    "desk/unlocks/import/file/": ("", "AMUS"),
    "desk/unlocks/import/views/": ("AMUS", "AMUS"),
    "desk/unlocks/import/views/<key:pk>/": ("AMUS", "AMUS"),
    "desk/unlocks/import/": ("AMUS", "AMUS"),
    "desk/unlocks/import/add/": ("MS", "MS"),
    "desk/unlocks/import/<path:object_id>/history/": ("", ""),
    "desk/unlocks/import/<path:object_id>/delete/": ("", ""),
    "desk/unlocks/import/<path:object_id>/change/": ("AMUS", "AMUS"),
    "desk/unlocks/import/<path:object_id>/": ("NAMUS", "NAMUS"),
    "desk/unlocks/instruction/file/": ("", "AMUS"),
    "desk/unlocks/instruction/views/": ("AMUS", "AMUS"),
    "desk/unlocks/instruction/views/<key:pk>/": ("AMUS", "AMUS"),
    "desk/unlocks/instruction/": ("AMUS", "AMS"),
    "desk/unlocks/unlockrequest/accounts/": ("AMS", "AMS"),
    "desk/unlocks/unlockrequest/<path:object_id>/record-by-phone/": ("AMS", "AMS"),
    "desk/unlocks/unlockrequest/<path:object_id>/case-file/": ("", "MUS"),
    "desk/unlocks/unlockrequest/<path:object_id>/changes/": ("AMUS", ""),
    "desk/unlocks/unlockrequest/<path:object_id>/live/": ("AMUS", ""),
    "desk/unlocks/unlockrequest/file/": ("", "AMUS"),
    "desk/unlocks/unlockrequest/views/": ("AMUS", "AMUS"),
    "desk/unlocks/unlockrequest/views/<key:pk>/": ("AMUS", "AMUS"),
    "desk/unlocks/unlockrequest/^([^/]+)/history/([^/]+)/$": ("AMUS", ""),
    "desk/unlocks/unlockrequest/": ("AMUS", "AMUS"),
    "desk/unlocks/unlockrequest/add/": ("AMS", "AMS"),
    "desk/unlocks/unlockrequest/<path:object_id>/history/": ("AMUS", ""),
    "desk/unlocks/unlockrequest/<path:object_id>/delete/": ("", ""),
    "desk/unlocks/unlockrequest/<path:object_id>/change/": ("AMUS", "AMUS"),
    "desk/unlocks/unlockrequest/<path:object_id>/": ("NAMUS", "NAMUS"),
    "desk/unlocks/casefiles/<uuid:pk>/cancel/": ("", "MS"),
    "desk/unlocks/casefiles/<uuid:pk>/zip/": ("", "MUS"),
    "desk/unlocks/casefiles/file/": ("", "MUS"),
    "desk/unlocks/casefiles/views/": ("MUS", "MUS"),
    "desk/unlocks/casefiles/views/<key:pk>/": ("MUS", "MUS"),
    "desk/unlocks/casefiles/": ("MUS", "MUS"),
    "desk/unlocks/casefiles/add/": ("", ""),
    "desk/unlocks/casefiles/<path:object_id>/history/": ("", ""),
    "desk/unlocks/casefiles/<path:object_id>/delete/": ("", ""),
    "desk/unlocks/casefiles/<path:object_id>/change/": ("MUS", ""),
    "desk/unlocks/casefiles/<path:object_id>/": ("NAMUS", "NAMUS"),
    "desk/unlocks/review/file/": ("", "MUS"),
    "desk/unlocks/review/views/": ("MUS", "MUS"),
    "desk/unlocks/review/views/<key:pk>/": ("MUS", "MUS"),
    "desk/unlocks/review/": ("MUS", "MUS"),
    "desk/unlocks/review/add/": ("", ""),
    "desk/unlocks/review/<path:object_id>/history/": ("", ""),
    "desk/unlocks/review/<path:object_id>/delete/": ("", ""),
    "desk/unlocks/review/<path:object_id>/change/": ("MUS", ""),
    "desk/unlocks/review/<path:object_id>/": ("NAMUS", "NAMUS"),
    "desk/auth/user/file/": ("", "S"),
    "desk/auth/user/views/": ("S", "S"),
    "desk/auth/user/views/<key:pk>/": ("S", "S"),
    "desk/auth/user/<id>/password/": ("S", "S"),
    "desk/auth/user/": ("S", "S"),
    "desk/auth/user/add/": ("S", "S"),
    "desk/auth/user/<path:object_id>/history/": ("S", "S"),
    "desk/auth/user/<path:object_id>/delete/": ("", ""),
    "desk/auth/user/<path:object_id>/change/": ("S", "S"),
    "desk/auth/user/<path:object_id>/": ("NAMUS", "NAMUS"),
    "desk/auth/group/file/": ("", "S"),
    "desk/auth/group/views/": ("S", "S"),
    "desk/auth/group/views/<key:pk>/": ("S", "S"),
    "desk/auth/group/": ("S", "S"),
    "desk/auth/group/add/": ("", ""),
    "desk/auth/group/<path:object_id>/history/": ("", ""),
    "desk/auth/group/<path:object_id>/delete/": ("", ""),
    "desk/auth/group/<path:object_id>/change/": ("S", ""),
    "desk/auth/group/<path:object_id>/": ("NAMUS", "NAMUS"),
    "desk/unlocks/consentterms/new/": ("", "MS"),
    "desk/unlocks/consentterms/<key:pk>/preview/": ("AMUS", ""),
    "desk/unlocks/consentterms/<key:pk>/publish/": ("MS", "MS"),
    "desk/unlocks/consentterms/<key:pk>/compare/": ("AMUS", ""),
    "desk/unlocks/consentterms/file/": ("", "AMUS"),
    "desk/unlocks/consentterms/views/": ("AMUS", "AMUS"),
    "desk/unlocks/consentterms/views/<key:pk>/": ("AMUS", "AMUS"),
    "desk/unlocks/consentterms/": ("AMUS", "AMUS"),
    "desk/unlocks/consentterms/add/": ("AMUS", "AMUS"),
    "desk/unlocks/consentterms/<path:object_id>/history/": ("", ""),
    "desk/unlocks/consentterms/<path:object_id>/delete/": ("", ""),
    "desk/unlocks/consentterms/<path:object_id>/change/": ("AMUS", "MS"),
    "desk/unlocks/consentterms/<path:object_id>/": ("NAMUS", "NAMUS"),
    "desk/unlocks/apitoken/<key:pk>/revoke/": ("", "S"),
    "desk/unlocks/apitoken/file/": ("", "S"),
    "desk/unlocks/apitoken/views/": ("S", "S"),
    "desk/unlocks/apitoken/views/<key:pk>/": ("S", "S"),
    "desk/unlocks/apitoken/": ("S", "S"),
    "desk/unlocks/apitoken/add/": ("S", "S"),
    "desk/unlocks/apitoken/<path:object_id>/history/": ("", ""),
    "desk/unlocks/apitoken/<path:object_id>/delete/": ("", ""),
    "desk/unlocks/apitoken/<path:object_id>/change/": ("S", ""),
    "desk/unlocks/apitoken/<path:object_id>/": ("NAMUS", "NAMUS"),
    "desk/^(?P<app_label>unlocks|auth)/$": ("NAMUS", "NAMUS"),
    "desk/(?P<url>.*)$": ("", ""),
    "staff/sign-in/": ("OPNAMUS", "OPNAMUS"),
    "staff/sign-in/code/": ("NAMUS", "NAMUS"),
    "staff/sign-in/passkey/": ("OPNAMUS", "NAMUS"),
    "staff/with/<str:provider_id>/": ("", ""),
    "staff/with/<str:provider_id>/callback/": ("", ""),
    "staff/sign-out/": ("OPNAMUS", "OPNAMUS"),
    "staff/link/<str:token>/": ("OPNAMUS", "OPNAMUS"),
    "staff/password/": ("OPNAMUS", "OPNAMUS"),
    "staff/confirm/": ("", ""),
    "staff/confirm/code/": ("", ""),
    "staff/confirm/passkey/": ("", ""),
    "staff/yours/": ("NAMUS", ""),
    "staff/yours/app/": ("NAMUS", "NAMUS"),
    "staff/yours/app/remove/": ("", ""),
    "staff/yours/codes/": ("", ""),
    "staff/yours/codes/new/": ("NAMUS", "NAMUS"),
    "staff/yours/passkeys/": ("NAMUS", "NAMUS"),
    "staff/yours/passkeys/<int:pk>/remove/": ("", ""),
    "staff/yours/sessions/<slug:key>/end/": ("", ""),
    "product/answers/": ("", ""),
    "check/": ("OPCRNAMUS", "OPCRNAMUS"),
    "check/keys.json": ("OPCRNAMUS", ""),
    "check/verify_certificate.py": ("OPCRNAMUS", ""),
    "consent/": ("C", "C"),
    "consent/receipt/": ("", ""),
    "consent/receipt/batches.csv": ("", ""),
    "consent/receipt/withdraw/": ("", ""),
    "consent/receipt/certificate/": ("", ""),
    "consent/receipt/certificate/<key:ordinal>/": ("", ""),
    "consent/receipt/certificate/<key:ordinal>/<str:name>": ("", ""),
    "consent/batches.csv": ("C", ""),
    "consent/<str:token>/": ("OPCR", ""),
    "receipt/": ("R", ""),
    "receipt/batches.csv": ("R", ""),
    "receipt/withdraw/": ("R", "R"),
    "receipt/certificate/": ("", "R"),
    "receipt/certificate/<key:ordinal>/": ("R", ""),
    "receipt/certificate/<key:ordinal>/<str:name>": ("R", ""),
    "receipt/<str:token>/": ("OPCRNAMUS", ""),
    "trial/emails/": ("", ""),
    "trial/product/": ("", ""),
}
# Of each call of the API, the scope that it takes.
CALLS: dict[str, str] = {
    "GET api/v1/openapi.json": EVERY,
    "GET api/v1/me": EVERY,
    "GET api/v1/accounts": "read",
    "POST api/v1/accounts": "records",
    "GET api/v1/accounts/<account>": "read",
    "GET api/v1/batches": "read",
    "POST api/v1/batches": "records",
    "GET api/v1/batches/<batch>": "read",
    "GET api/v1/batches/<batch>/items": "read",
    "GET api/v1/requests": "read",
    "POST api/v1/requests": "requests",
    "GET api/v1/requests/<case>": "read",
    "GET api/v1/requests/<case>/batches": "read",
    "GET api/v1/events": "events",
    "POST api/v1/requests/<case>/add-batches": "requests",
    "POST api/v1/requests/<case>/take-out-batches": "requests",
    "POST api/v1/requests/<case>/advice": "requests",
    "POST api/v1/requests/<case>/consent-links": "requests",
    "POST api/v1/requests/<case>/notes": "requests",
    "POST api/v1/requests/<case>/close": "requests",
    "POST api/v1/requests/<case>/unlock": "unlock",
    "POST api/v1/requests/<case>/cancel-unlock": "unlock",
    "POST api/v1/requests/<case>/extend-window": "unlock",
    "POST api/v1/requests/<case>/relock": "unlock",
    "POST api/v1/requests/<case>/re-exported": "unlock",
    "POST api/v1/instructions/pull": "product",
    "POST api/v1/instructions/answers": "product",
    "POST api/v1/contacts": "contacts",
    "GET api/v1/imports/<imported>": OWN,
    "PUT api/v1/accounts/<path:number>/pin": "pins",
}


def verbs():
    """Return (name, permission, roles, scopes) of each verb that staff and systems call."""
    named = ((name, getattr(getattr(operations, name), "permission", "")) for name in operations.__all__)
    return [(name, needed, _roles(needed), _scopes(needed)) for name, needed in named if needed]


def _scopes(permission):
    return [str(scope) for scope, held in SCOPES.items() if permission in held]


def _roles(permission):
    held = SimpleNamespace(codename=permission.partition(".")[2])
    letters = {"Agent": "A", "Manager": "M", "Auditor": "U"}
    return "".join(letters[group] for group, holds in GROUPS.items() if holds(held)) + "S"


def addresses(resolver=None, before=""):
    """Yield the pattern of every address of the project, with its parameters as `<...>` or as a regular expression."""
    for pattern in (resolver or get_resolver()).url_patterns:
        if hasattr(pattern, "url_patterns"):
            yield from addresses(pattern, f"{before}{pattern.pattern}")
        else:
            yield f"{before}{pattern.pattern}"


def not_listed():
    """Return the addresses that PAGES and CALLS lack, and those that they have and nobody serves."""
    served, called = set(addresses()), {call.partition(" ")[2] for call in CALLS}
    catch_all = {"api/v1/", "api/v1/<path:address>"}
    return sorted((served - catch_all) ^ (PAGES.keys() | called))


def words(letters):
    """Say which roles are meant."""
    return ", ".join(ROLES[letter] for letter in letters) or "nobody"


def _named(verb):
    return capfirst(verb.replace("_", " ").replace("pin", "PIN").replace("api", "API"))


def shown(pattern):
    """Write the pattern of an address for people."""
    pattern = re.sub(r"<[^>]*?:?(\w+)>", r"<\1>", pattern)
    return "/" + re.sub(r"[\^$]", "", pattern.replace("([^/]+)/history/([^/]+)", "<object_id>/history/<version>"))


@method_decorator(require_safe)
def permissions_page(site, request):
    """Show the list to whoever may see the ledger."""
    if not request.user.has_perm("unlocks.view_ledgerentry"):
        raise PermissionDenied
    return site.page(
        request,
        "admin/permissions.html",
        title="Permissions",
        verbs=[(_named(name), permission, words(roles), scopes) for name, permission, roles, scopes in verbs()],
        pages=[(shown(pattern), words(see), words(send)) for pattern, (see, send) in PAGES.items()],
        calls=[(shown(call)[1:], scope) for call, scope in CALLS.items()],
    )
