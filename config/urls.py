from django.urls import include, path
from django.views.generic import RedirectView

from unlocks.admin.site import desk
from unlocks.callback import product_answers

handler500 = "config.errors.server_error"

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("desk/", desk.urls),
    path("staff/", include("unlocks.signin.urls")),
    path("product/answers/", product_answers, name="product_answers"),
    path("api/v1/", include("unlocks.api.urls")),
    path("", include("unlocks.customer.urls")),
]
