"""Every address of the project, filled in with rows that are there, and a browser for each role."""

import re
from uuid import uuid4

from django.apps import apps
from django.test import Client
from django.utils import timezone

from tests import factories
from tests.factories import acting, make_user
from tests.importing import bring
from tests.papers import PDF
from unlocks import operations
from unlocks.models import Act, LedgerEntry, SavedView, Selection, UnlockRequest


class Scene:
    """A desk with a row of every kind."""

    def __init__(self, settings):
        settings.PHONE_CONSENT, settings.REVIEW_SHARE = True, 100
        factories.record_certificate_key()
        self.users = {
            "agent": make_user("agent", group="Agent"),
            "manager": make_user("manager", group="Manager"),
            "auditor": make_user("auditor", group="Auditor"),
            "superuser": make_user("superuser", is_superuser=True),
            "newcomer": make_user("newcomer"),
            "outsider": make_user("outsider", is_staff=False),
        }
        agent, manager, superuser = (self.users[name] for name in ("agent", "manager", "superuser"))
        other = make_user("another-agent", group="Agent")
        self.phone = factories.case_recorded_by_phone(other)
        self.paper = operations.attach_evidence(
            self.phone.consent, what="signed_paper", file_name="signed.pdf", content=PDF, by=acting(other)
        )
        self.case = factories.case_unlocked(other)
        operations.mark_re_exported(self.case.rows, by=acting(other))
        self.case.refresh()
        self.certificate = operations.issue_certificate(self.case.consent, by=acting(manager))
        self.waiting = factories.case_awaiting(other)
        self.imported = bring(manager, accounts="A-9000,Northwind")
        self.terms = operations.draft_terms(by=acting(manager))
        self.token, _ = factories.make_token("portal", "read", by=superuser)
        now = timezone.now()
        self.selection = Selection.objects.create(made_by=superuser, made_at=now)
        self.order = operations.order(Act.Kind.UNLOCK, self.selection, options={}, by=acting(superuser), key=uuid4())
        self.case_files = operations.order_case_files(
            UnlockRequest.objects.filter(pk=self.waiting.unlock_request.pk), narrowed=[], by=acting(manager)
        )
        self.models = {
            "account": self.case.account.pk,
            "contact": self.case.account.contacts.get().pk,
            "batch": self.case.batch.pk,
            "batchitem": self.case.batch.items.first().pk,
            "unlockrequest": self.case.unlock_request.pk,
            "consent": self.case.consent.pk,
            "consentterms": self.terms.pk,
            "ledgerentry": LedgerEntry.objects.latest("sequence").pk,
            "casefiles": self.case_files.pk,
            "review": self.case.unlock_request.review.pk,
            "import": self.imported.pk,
            "apitoken": self.token.pk,
            "user": self.users["newcomer"].pk,
            "group": self.users["agent"].groups.get().pk,
            "act": Act.objects.filter(kind=Act.Kind.UNLOCK).first().pk,
        }
        made = {"owner": agent, "shared": True, "made_at": now}
        self.views = {
            model: SavedView.objects.create(list=model, name="All", query="", **made).pk
            for model in (*self.models, "instruction")
        }

    def browser(self, role):
        browser = Client(raise_request_exception=False)
        if role in self.users:
            factories.sign_in(browser, self.users[role])
        elif role == "customer":
            browser.get(f"/consent/{self.waiting.token}/")
            browser.post("/consent/", {"action": "open"})
        elif role == "reader":
            browser.get(f"/receipt/{self.case.receipt}/")
        return browser

    def address(self, pattern):
        """Return the address that a pattern means, of rows of this desk."""
        model = (re.match(r"desk/(?:unlocks|auth)/(\w+)/", pattern) or [None, ""])[1]
        key = self.models.get(model, "")
        special = {
            "desk/unlocks/consent/<key:pk>/evidence/<key:file>/": (self.paper.consent_id, self.paper.pk),
            "desk/unlocks/act/selection/<uuid:pk>/<str:kind>/": (self.selection.pk, "unlock"),
            "desk/unlocks/act/<uuid:pk>/cancel/": (self.order.pk,),
            "desk/r/<path:content_type_id>/<path:object_id>/": (1, 1),
            "desk/unlocks/unlockrequest/<path:object_id>/record-by-phone/": (self.waiting.unlock_request.pk,),
            "desk/unlocks/consent/<key:pk>/certificates/<key:ordinal>/<str:name>": (
                self.certificate.consent_id,
                1,
                f"{self.certificate.number}.json",
            ),
            "consent/<str:token>/": (self.waiting.token,),
            "receipt/<str:token>/": (self.case.receipt,),
            "staff/link/<str:token>/": ("made-up",),
        }.get(pattern)
        if special is None and "/views/" in pattern:
            special = (self.views.get(model),)
        values = {
            "ordinal": 1,
            "name": f"{self.certificate.number}.json",
            "kind": "accounts",
            "app_label": "unlocks",
            "url": "nowhere",
            "account": self.case.account.pk,
            "batch": self.case.batch.pk,
            "number": self.case.account.number,
            "case": self.case.unlock_request.pk,
            "imported": self.imported.pk,
        }
        given = iter(special or ())

        def value(found):
            name = re.sub(r".*[:<]|[>)].*", "", found[0])
            return str(next(given) if special else values.get(name, key))

        address = re.sub(r"<[^>]*>|\(\[\^/\]\+\)|\(\?P<[^)]*\)", value, pattern)
        if "simple_history" in pattern or "history/([" in pattern:
            row = self.history(model)
            address = f"desk/unlocks/{model}/{key}/history/{row}/"
        asked = "?app_label=unlocks&model_name=unlockrequest&field_name=account" if "autocomplete" in pattern else ""
        return f"/{re.sub(r'[^ -~]|[$^]', '', address)}{asked}"

    def history(self, model):
        return apps.get_model("unlocks", model).history.filter(id=self.models[model]).latest().pk
