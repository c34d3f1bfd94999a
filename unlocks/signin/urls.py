"""The pages of signing in, under the names that allauth knows them by. It has more of them, which the desk has not."""

from django.urls import path

from . import views

urlpatterns = [
    path("sign-in/", views.SignInView.as_view(), name="account_login"),
    path("sign-out/", views.SignOutView.as_view(), name="account_logout"),
]
