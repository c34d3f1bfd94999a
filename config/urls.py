from django.urls import include, path
from django.views.generic import RedirectView

from unlocks.admin.site import desk
from unlocks.health import health

urlpatterns = [
    path("health/", health, name="health"),
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("desk/", desk.urls),
    path("", include("unlocks.customer.urls")),
]
