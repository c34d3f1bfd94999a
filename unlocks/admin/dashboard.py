"""The dashboard, the first page of managers and auditors: the figures of a period, each with the list it counts."""

from django.utils.http import urlencode

from .. import figures
from ..figures import Figures
from .forms.period import PeriodForm, initial, latest

PERIODS = {7: "7 days", 30: "30 days", 90: "90 days", 365: "12 months"}
HEIGHT, STEP, BAR = 48, 12, 9  # of a chart, of a part in it, and of its bar, in its own units
WIDTH = 100  # of a bar that lies


def dashboard_page(desk, request, **context):
    """Answer with the figures of the days in the address; of what can't be read there, say so and show the usual ones.

    Those of many cases are counted when that was asked for.
    """
    form = PeriodForm.of({name: request.GET[name] for name in PeriodForm.base_fields if name in request.GET})
    counted = Figures(form.period, form.parts)
    address = initial(form.period) | {"by": form.parts}
    shown = "anyway" in request.GET or not counted.takes_longer
    return desk.page(
        request,
        "admin/dashboard.html",
        title="Dashboard",
        form=form,
        pills=[(words, latest(days), urlencode(initial(latest(days)))) for days, words in PERIODS.items()],
        figures=counted,
        many=figures.MANY,
        anyway=f"?{urlencode({**address, 'anyway': 1})}",
        **(_counted(counted) if shown else {}),
        **context,
    )


def _counted(counted):
    """Return what is counted, with the charts' bars."""
    parts = list(counted.period.parts(counted.by))
    longest = max((one.most.total_seconds() for one in counted.lasted if one.most is not None), default=0)
    most_open = max((sum(age.count for age in ages) for _, ages in counted.backlog), default=0)
    return {
        "open_now": figures.open_now(),
        "flow": [(flow, _bars(flow.parts, parts)) for flow in counted.flow],
        "chart": {"width": STEP * len(parts), "height": HEIGHT, "bar": BAR},
        "table": [(part, [flow.parts[n] for flow in counted.flow]) for n, part in enumerate(parts)],
        "ages": [words for _, _, words in figures.AGES],
        "backlog": [(stage, ages, _side_by_side(ages, most_open)) for stage, ages in counted.backlog],
        "lasted": [(one, *(_share(length, longest) for length in (one.median, one.most))) for one in counted.lasted],
    }


def _bars(counts, parts):
    """Return where the bar of each part of a period stands, how high it is, what it says."""
    most = max((figure.count for figure in counts), default=0) or 1
    heights = [round(HEIGHT * figure.count / most, 1) for figure in counts]
    return [
        (STEP * n, HEIGHT - height, height, part, figure.count)
        for n, (height, part, figure) in enumerate(zip(heights, parts, counts, strict=True))
    ]


def _side_by_side(counts, most):
    """Return where each of some counts begins in a bar, and how wide it is there."""
    bars, begins = [], 0.0
    for figure in counts:
        width = round(WIDTH * figure.count / most, 2) if most else 0
        bars.append((begins, width))
        begins += width
    return bars


def _share(length, longest):
    return round(WIDTH * length.total_seconds() / longest, 2) if length and longest else 0
