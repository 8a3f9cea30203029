"""The pages of a tenant, below t/<tenant_id>/."""

from django.urls import path

from batches.web import digest, line, line_list, listing, upload
from tenants.web import team

urlpatterns = [
    path("batches", listing.batch_list, name="batches"),
    # a batch's errors and lines
    path("batches/<str:batch_id>/digest", digest.digest, name="digest"),
    path("batches/<str:batch_id>/digest/retry", digest.retry_cause, name="retry_cause"),
    path("batches/<str:batch_id>/lines", line_list.line_list, name="lines"),
    path("batches/<str:batch_id>/lines/<int:line>", line.line, name="line"),
    # a new batch
    path("upload", upload.upload, name="upload"),
    path("upload/report", upload.report, name="report"),
    path("upload/example", upload.example, name="example"),
    path("uploads", upload.receive, name="uploads"),
    path("uploads/<str:file_id>/remove", upload.remove, name="remove_file"),
    # people
    path("team", team.people, name="team"),
    path("team/invite", team.invite, name="team_invite"),
    path("team/resend", team.resend, name="team_resend"),
    path("team/take-back", team.take_back, name="team_take_back"),
    path("team/role", team.role, name="team_role"),
    path("team/remove", team.remove, name="team_remove"),
    path("team/leave", team.leave, name="team_leave"),
]
