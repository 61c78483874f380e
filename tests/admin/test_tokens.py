from datetime import timedelta

from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone

from api.models import ApiToken
from tests.admin.acting import answer, list_of, page_of

ADD = "/admin/api/apitoken/add/"


def make_token(client: Client, **fields: object) -> object:
    owner = User.objects.get(pk=client.session["_auth_user_id"])
    given = {"name": "shop", "owner": owner.pk, "scopes": ["read", "submit"], "expires_at_0": "", "expires_at_1": ""}
    return client.post(ADD, given | fields)


def test_a_new_token_is_shown_once_works_and_is_kept_nowhere(boss: Client) -> None:
    made = make_token(boss)
    secret = made.context["secret"]  # type: ignore[attr-defined]
    token = ApiToken.authenticate(secret)
    assert token is not None
    assert (token.name, token.scopes, token.owner.username) == ("shop", ["read", "submit"], "boss")
    assert secret in made.content.decode()  # type: ignore[attr-defined]
    later = boss.get(list_of(ApiToken)).content.decode() + boss.get(page_of(token)).content.decode()
    kept = [str(session.get_decoded()) for session in Session.objects.all()]
    kept += [cookie.value for cookie in boss.cookies.values()] + list(
        LogEntry.objects.values_list("object_repr", flat=True)
    )
    assert not any(secret.split(".")[1] in text for text in [later, *kept])
    assert token.digest not in later


def test_a_token_needs_a_known_scope_and_a_future(boss: Client) -> None:
    yesterday = timezone.now() - timedelta(days=1)
    make_token(boss, scopes=["fly"])
    make_token(boss, scopes=[])
    make_token(boss, expires_at_0=f"{yesterday:%Y-%m-%d}", expires_at_1="00:00:00")
    assert not ApiToken.objects.exists()


def test_a_revoked_token_opens_nothing_any_more(boss: Client) -> None:
    secret = make_token(boss).context["secret"]  # type: ignore[attr-defined]
    answer(boss, "revoke", [ApiToken.objects.get()], "")
    assert ApiToken.authenticate(secret) is None


def test_tokens_are_made_only_with_permission(person) -> None:
    viewer = person("api.view_apitoken")
    assert viewer.get(ADD).status_code == 403
    assert person("api.view_apitoken", "api.add_apitoken").get(ADD).status_code == 200
