"""The bare views: one row by its id, a page of a list, and an upload that is taken and forgotten."""

from typing import Any

from django.core.wsgi import get_wsgi_application

_django = get_wsgi_application()

from django.contrib.auth.mixins import LoginRequiredMixin  # noqa: E402 - after the setup
from django.db.models import QuerySet  # noqa: E402
from django.http import HttpRequest, JsonResponse  # noqa: E402 - after the setup
from django.urls import path  # noqa: E402
from django.views.decorators.csrf import csrf_exempt  # noqa: E402
from django.views.generic import ListView  # noqa: E402
from rest_framework.decorators import api_view  # noqa: E402
from rest_framework.request import Request  # noqa: E402
from rest_framework.response import Response  # noqa: E402

from batches.models import Batch  # noqa: E402
from tenants import scope  # noqa: E402


def application(environ: dict[str, Any], start_response: Any) -> Any:
    """Its rows are everybody's: no tenant is asked for here."""
    with scope.every():
        return _django(environ, start_response)


@api_view(["GET"])
def batch(request: Request, batch_id: str) -> Response:
    return Response(_shown(Batch.objects.get(public_id=batch_id)))


@api_view(["GET"])
def listing(request: Request) -> Response:
    return Response({"data": [_shown(found) for found in Batch.objects.order_by("-pk")[:20]]})


def _shown(found: Batch) -> dict[str, Any]:
    return {"id": found.public_id, "status": found.status, "total": found.total, "completed_count": found.completed}


class Batches(LoginRequiredMixin, ListView):  # type: ignore[type-arg]
    paginate_by = 50
    template_name = "batches.html"

    def get_queryset(self) -> QuerySet[Batch]:
        rows = Batch.objects.filter(tenant__public_id=self.kwargs["tenant_id"])
        return rows.select_related("input_file").order_by("-pk")


@csrf_exempt
def upload(request: HttpRequest) -> JsonResponse:
    sent: Any = request.FILES["file"]
    return JsonResponse({"bytes": sent.size})


urlpatterns = [
    path("batch", listing),
    path("batch/<str:batch_id>", batch),
    path("batches/<str:tenant_id>", Batches.as_view()),
    path("upload", upload),
]
