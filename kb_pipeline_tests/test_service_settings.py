"""Settings of the service: limits within bounds, and no page elsewhere trusted by mistake."""

from __future__ import annotations

import pytest

from kb_pipeline.errors import InvalidSetting
from kb_pipeline.service_settings import SERVICE_VARIABLES, ServiceSettings, read_service_settings


def test_without_settings_no_page_elsewhere_may_send_requests() -> None:
    assert read_service_settings({}) == ServiceSettings()
    assert ServiceSettings().cors_origins == ()


def test_what_is_set_is_read() -> None:
    given = {
        "KB_MAX_BODY_BYTES": "2048", "KB_REQUEST_TIMEOUT_S": "5", "KB_MAX_CONCURRENT_REQUESTS": "2",
        "KB_MAX_STREAMS": "3", "KB_CORS_ORIGINS": "https://a.example, http://localhost:3000,",
        "KB_CORS_CREDENTIALS": "true",
    }  # fmt: skip
    assert given.keys() == set(SERVICE_VARIABLES)
    assert read_service_settings(given) == ServiceSettings(
        2048, 5, 2, 3, ("https://a.example", "http://localhost:3000"), cors_credentials=True
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KB_MAX_BODY_BYTES", "0"), ("KB_MAX_BODY_BYTES", "1 MiB"), ("KB_MAX_BODY_BYTES", "9" * 5000),
        ("KB_REQUEST_TIMEOUT_S", "-1"), ("KB_REQUEST_TIMEOUT_S", "1.5"), ("KB_MAX_CONCURRENT_REQUESTS", "1"),
        ("KB_MAX_STREAMS", "\u0663"), ("KB_CORS_ORIGINS", "a.example"), ("KB_CORS_ORIGINS", "https://a.example/path"),
        ("KB_CORS_ORIGINS", "null"), ("KB_CORS_CREDENTIALS", "maybe"),
    ],
)  # fmt: skip
def test_impossible_values_name_the_variable(name: str, value: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        read_service_settings({name: value})
    assert caught.value.name == name


def test_credentials_are_not_sent_from_everywhere() -> None:
    with pytest.raises(InvalidSetting, match="cannot be set for every origin"):
        read_service_settings({"KB_CORS_ORIGINS": "*", "KB_CORS_CREDENTIALS": "1"})
