from django.urls import include, path
from django.views.generic import RedirectView

from unlocks.admin.site import desk

handler500 = "config.errors.server_error"

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("desk/", desk.urls),
    path("", include("unlocks.customer.urls")),
]
