"""Saved views: a list as someone narrowed and sorted it, to be opened again, shared and copied."""

from django.contrib import messages
from django.contrib.admin.views.main import ORDER_VAR, SEARCH_VAR
from django.core.exceptions import BadRequest, PermissionDenied
from django.http import Http404, QueryDict
from django.shortcuts import redirect
from django.urls import path, reverse
from django.utils.decorators import method_decorator
from django.utils.http import urlencode
from django.views.decorators.http import require_http_methods

from ..models import SavedView
from .forms.saved_views import SaveViewForm

PAGE = method_decorator(require_http_methods(["GET", "HEAD", "POST"]))


def written(parameters):
    """Write parameters of an address in the one way in which they are saved and compared; `parameters` are pairs."""
    return urlencode(sorted((name, value) for name, value in parameters if value))


def pairs_of(parameters):
    """Return the pairs of a QueryDict; a name that comes several times is in several of them."""
    return [(name, value) for name, values in parameters.lists() for value in values]


class SavedViews:
    """The saved views of a list, for its admin class."""

    def get_urls(self):
        view = self.admin_site.admin_view
        return [
            path("views/", view(self.save_view), name=self.name_of("views")),
            path("views/<key:pk>/", view(self.saved_view), name=self.name_of("view")),
            *super().get_urls(),
        ]

    def name_of(self, page):
        """Return the name of an address of this list."""
        return f"{self.opts.app_label}_{self.opts.model_name}_{page}"

    def known(self, request, query):
        """Return what this list knows of a query, written, and the names of what it doesn't know."""
        own = {SEARCH_VAR, ORDER_VAR, *(listed.parameter_name for listed in self.get_list_filter(request))}
        pairs = pairs_of(QueryDict(query.replace("\0", "")))
        return written(pair for pair in pairs if pair[0] in own), sorted({name for name, _ in pairs} - own)

    def views_of(self, request):
        """Return the views of this list that someone may open, their own first."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        return SavedView.objects.visible_to(request.user).filter(list=self.opts.model_name).select_related("owner")

    @PAGE
    def save_view(self, request):
        """Ask for a name for the list as it is narrowed; on POST save it."""
        self.views_of(request)
        asked = request.POST.get("query", "") if request.method == "POST" else request.GET.urlencode()
        query, _ = self.known(request, asked)
        form = SaveViewForm({**request.POST.dict(), "query": query} if request.method == "POST" else None)
        form.initial["query"] = query
        return self._save(request, form)

    @PAGE
    def saved_view(self, request, pk):
        """Open a view; on POST do to it what the button says. Raises Http404 for one that is not shared."""
        view = self.views_of(request).filter(pk=pk).first()
        if view is None:
            raise Http404("There is no such view, or its owner does not share it.")
        if request.method == "POST":
            return self._change(request, view)
        query, gone = self.known(request, view.query)
        if gone:
            said = f"“{view.name}” also filters by {', '.join(gone)}, which this list does not know. That is left out."
            self.message_user(request, said, messages.WARNING)
        return redirect(f"{self.list_address}?{query}")

    def _change(self, request, view):
        asked = request.POST.get("do")
        if asked == "copy":
            query, _ = self.known(request, view.query)
            return self._save(request, SaveViewForm({"name": view.name, "query": query}))
        if asked not in ("share", "keep", "delete"):
            raise BadRequest("There is no such button.")
        if view.owner != request.user:
            raise PermissionDenied("Only its owner changes a view.")
        if asked == "delete":
            SavedView.objects.filter(pk=view.pk).delete()
            self.message_user(request, f"The view “{view.name}” is deleted.", messages.SUCCESS)
            return redirect(self.list_address)
        SavedView.objects.filter(pk=view.pk).update(shared=asked == "share")
        said = "shared with colleagues now" if asked == "share" else "your own again"
        self.message_user(request, f"The view “{view.name}” is {said}.", messages.SUCCESS)
        return redirect(f"admin:{self.name_of('view')}", view.pk)

    def _save(self, request, form):
        saved = form.carry_out(self.opts.model_name, request.user) if form.is_valid() else None
        if saved:
            self.message_user(request, f"The view “{saved.name}” is saved.", messages.SUCCESS)
            return redirect(f"admin:{self.name_of('view')}", saved.pk)
        return self.admin_site.page(
            request,
            "admin/save_view.html",
            status=422 if form.is_bound else 200,
            title="Save this view",
            form=form,
            save_address=reverse(f"admin:{self.name_of('views')}"),
            list_address=f"{self.list_address}?{form['query'].value()}",
            list_title=self.title,
        )

    @property
    def list_address(self):
        return reverse(f"admin:{self.name_of('changelist')}")
