from django.urls import include, path
from django.views.generic import RedirectView

from unlocks.admin.site import desk

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("desk/", desk.urls),
    path("", include("unlocks.customer.urls")),
]
