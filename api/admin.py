"""API tokens in the admin: made and revoked, never read back."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone

from api.confirmation import ActingAdmin, Verb, row_by_row
from api.models import SCOPES, ApiToken
from api.readfirst import ago
from api.tally import Tally


def revoke(tokens: Sequence[ApiToken], *, actor: str, reason: str) -> Tally:
    """Make tokens useless at once; the log entry keeps who and why."""
    tally = Tally()
    for token in tokens:
        if ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=Now()):
            tally.done.append(token.pk)
        else:
            tally.skipped[token.pk] = f"{token} was revoked already."
    return tally


REVOKE = Verb(
    name="revoke",
    label="Revoke",
    done="Revoked",
    permission="api.change_apitoken",
    consequence="Clients that use these tokens are refused from now on. A revoked token cannot be brought back.",
    act=revoke,
    refusals=row_by_row(lambda token: "it was revoked already" if token.revoked_at else None),
    needs_reason=False,
    is_destructive=True,
)


class NewTokenForm(forms.ModelForm):
    scopes = forms.MultipleChoiceField(
        choices=[(scope, scope) for scope in SCOPES], widget=forms.CheckboxSelectMultiple
    )

    class Meta:
        model = ApiToken
        fields = ["name", "owner", "scopes", "expires_at"]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["owner"].queryset = get_user_model()._default_manager.filter(is_active=True)  # type: ignore[attr-defined]

    def clean_expires_at(self) -> Any:
        expires_at = self.cleaned_data["expires_at"]
        if expires_at and expires_at <= timezone.now():
            raise forms.ValidationError("This time has passed already.")
        return expires_at


@admin.register(ApiToken)
class ApiTokenAdmin(ActingAdmin):
    list_display = ("name", "prefix", "owner", "scopes_in_words", "made", "used", "expires", "status")
    list_select_related = ("owner",)
    search_fields = ("name", "prefix")
    list_title = "API tokens"
    lede = "What programs show instead of a password. Each is shown once, when it is made."
    empty_title = "No tokens yet"
    empty_text = "Add one for each program that is to use the API, so that each can be revoked alone."
    verbs = (REVOKE,)
    readable = ("name", "prefix", "owner", "scopes_in_words", "created_at", "last_used_at", "expires_at", "revoked_at")

    def has_add_permission(self, request: HttpRequest, *_: Any) -> bool:
        return request.user.has_perm("api.add_apitoken")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.readable if obj else NewTokenForm.Meta.fields

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **options: Any) -> Any:
        return super().get_form(request, obj, change, **options | ({} if obj else {"form": NewTokenForm}))

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"owner": request.user.pk, "scopes": ["read"]}

    def save_model(self, request: HttpRequest, obj: ApiToken, form: Any, change: bool) -> None:
        """The secret lives as long as this request, on the object the answer is made from."""
        issued, secret = ApiToken.issue(**form.cleaned_data)
        obj.__dict__.update(issued.__dict__, secret=secret)

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        # Not a message after a redirect: that would put the secret into a cookie or a session row.
        context = self.admin_site.each_context(request) | {"title": f"Token '{obj.name}'", "opts": self.opts}
        page = "admin/api/apitoken/made.html"
        return TemplateResponse(request, page, context | {"token": obj, "secret": obj.secret})

    @admin.display(description="scopes")
    def scopes_in_words(self, token: ApiToken) -> str:
        return ", ".join(token.scopes)

    @admin.display(description="created")
    def made(self, token: ApiToken) -> str:
        return ago(token.created_at)

    @admin.display(description="last used")
    def used(self, token: ApiToken) -> str:
        return ago(token.last_used_at)

    @admin.display(description="expires")
    def expires(self, token: ApiToken) -> str:
        return ago(token.expires_at)

    def status(self, token: ApiToken) -> str:
        if token.revoked_at:
            return "revoked"
        return "valid" if token.is_valid() else "not valid"
