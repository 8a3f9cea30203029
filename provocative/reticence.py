"""What a page of DEBUG=1 shows of a fault: where it happened, not what was at hand.

Variables of the frames and posted fields are prompts, metadata and keys here.
"""

from typing import Any

from django.http import HttpRequest
from django.views.debug import ExceptionReporter, SafeExceptionReporterFilter


class Reticent(SafeExceptionReporterFilter):
    """Neither variables nor what was posted; settings and headers as Django itself cleanses them."""

    def is_active(self, request: HttpRequest | None) -> bool:
        return True

    def get_post_parameters(self, request: HttpRequest | None) -> dict[str, Any]:
        return {}

    def get_traceback_frame_variables(self, request: Any, tb_frame: Any) -> Any:
        return ()


class Report(ExceptionReporter):
    """Nor the names of files."""

    def get_traceback_data(self) -> dict[str, Any]:
        return {**super().get_traceback_data(), "request_FILES_items": ()}
