"""The made-up product of a trial run, on a page: what it did, what it holds unlocked, and how it behaves next."""

from django.conf import settings
from django.http import Http404
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from ..product.sandbox import TAKES_TIME, Sandbox
from .forms import BehaviorForm

LISTED = 50


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def trial_product(request):
    """Show the made-up product, and let whoever tries the desk choose its faults. Only a trial run has this page."""
    if not (settings.TRIAL and settings.PRODUCT == "sandbox"):
        raise Http404("There is no made-up product on this machine.")
    product = Sandbox()
    behavior = product.behavior()
    if request.method == "POST":
        form = BehaviorForm(request.POST)
        if form.is_valid():
            product.behave(**form.cleaned_data)
            return redirect("trial_product")
    else:
        form = BehaviorForm(initial={"how": behavior.how, "calls": behavior.calls, "seconds": round(behavior.seconds)})
    instructed, unlocked = product.instructed(LISTED + 1), product.unlocked()
    context = {
        "form": form,
        "behavior": behavior,
        "takes_time": behavior.how in TAKES_TIME,
        "instructed": instructed[:LISTED],
        "more": len(instructed) > LISTED,
        "unlocked": unlocked[:LISTED],
        "unlocked_count": len(unlocked),
    }
    return render(request, "unlocks/trial_product.html", context, status=400 if form.errors else 200)
