"""Addresses of reports."""

from django.urls import path

from monitoring import views

urlpatterns = [
    path("reports/<int:report_id>/", views.page, name="report"),
    path("reports/<int:report_id>.csv", views.csv, name="report-csv"),
    path("reports/<int:report_id>.pdf", views.pdf, name="report-pdf"),
]
