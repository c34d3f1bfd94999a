"""The competitor of the pages: Django's own admin with SimpleHistoryAdmin over the same tables, as anybody sets it up.

A URLconf and the settings of such a project. Keys of other records are raw ids: a list of all accounts to choose from
would be no competitor.
"""

from django.conf import settings
from django.contrib import admin
from django.test import override_settings
from django.urls import path
from simple_history.admin import SimpleHistoryAdmin

from unlocks.models import Batch, BatchItem, ConsentLink, LedgerEntry, RequestedBatch, UnlockRequest

site = admin.AdminSite(name="stock")

as_stock = override_settings(
    ROOT_URLCONF="bench.stock",
    TEMPLATES=[settings.TEMPLATES[0] | {"DIRS": []}],
    MIDDLEWARE=[name for name in settings.MIDDLEWARE if name.startswith("django.")],
)


def _inline(of):
    class Inline(admin.TabularInline):
        model = of
        extra = 0
        raw_id_fields = [field.name for field in of._meta.concrete_fields if field.is_relation]

    return Inline


@admin.register(Batch, site=site)
class BatchAdmin(SimpleHistoryAdmin):
    list_display = ["number", "account", "name", "status", "total", "item_count", "bypassed_on", "period_closed"]
    list_select_related = ["account"]
    list_filter = ["status", "period_closed", "bypassed_on"]
    search_fields = ["number", "account__number", "account__name"]
    raw_id_fields = ["account"]
    inlines = [_inline(BatchItem)]


@admin.register(UnlockRequest, site=site)
class UnlockRequestAdmin(SimpleHistoryAdmin):
    list_display = ["reference", "account", "requester", "status", "assignee", "opened_at"]
    list_select_related = ["account", "requester", "assignee"]
    list_filter = ["status", "resolution", "channel", "bypass_reason"]
    search_fields = ["account__number", "account__name", "lines__batch__number"]
    raw_id_fields = ["account", "requester", "assignee", "opened_by", "pin_verified_by"]
    inlines = [_inline(RequestedBatch), _inline(ConsentLink)]


@admin.register(LedgerEntry, site=site)
class LedgerEntryAdmin(admin.ModelAdmin):
    list_display = ["sequence", "at", "kind", "unlock_request", "account", "actor"]
    list_select_related = ["unlock_request", "account"]
    list_filter = ["kind", "at"]
    search_fields = ["actor", "kind"]


# Last: the site says here what is registered by now.
urlpatterns = [path("stock/", site.urls)]
