"""Bytes become text as in a browser, and by the detector where nothing true is declared."""

from __future__ import annotations

import time

import pytest

from kb_pipeline.charset import Undecodable, decode
from kb_pipeline_tests.clean.pages import document, rejection

RUSSIAN = "Расписание паромов меняется первого мая. Билеты продаются в кассе у ворот."
CHINESE = "渡轮每天早上八点从旧码头出发。船票在大门旁边的售票处出售。"
JAPANESE = "港の船は毎朝八時に古い桟橋を出ます。切符は門の横の窓口で売っています。"
KOREAN = "항구의 배는 매일 아침 여덟 시에 오래된 부두에서 출발합니다. 표는 창구에서 팝니다."
THAI = "เรือข้ามฟากออกจากท่าเรือเก่าทุกเช้าเวลาแปดโมง ตั๋วขายที่สำนักงานข้างประตู"
POLISH = "Prom odpływa ze starego nabrzeża codziennie o ósmej rano. Dzieci jeżdżą za darmo."


@pytest.mark.parametrize(
    ("label", "codec", "text"),
    [
        ("x-gbk", "gbk", CHINESE),
        ("gb_2312-80", "gb18030", CHINESE),
        ("x-x-big5", "big5", "渡輪每天早上八點從舊碼頭出發"),
        ("x-sjis", "cp932", JAPANESE),
        ("windows-31j", "cp932", "①" + JAPANESE),
        ("x-euc-jp", "euc_jp", JAPANESE),
        ("ks_c_5601-1987", "cp949", KOREAN + "뷁"),
        ("dos-874", "cp874", THAI),
        ("tis-620", "cp874", THAI),
        ("x-mac-cyrillic", "mac-cyrillic", RUSSIAN),
        ("csisolatin2", "iso8859-2", POLISH),
    ],
)
def test_every_label_of_the_standard_is_known(label: str, codec: str, text: str) -> None:
    body = text.encode(codec)
    assert decode(body, f"text/html; charset={label}") == text
    assert text in decode(f"<meta charset='{label}'>".encode() + body, "text/html")
    assert text in decode(f'<?xml version="1.0" encoding="{label}"?>'.encode() + body, "text/html")


@pytest.mark.parametrize(
    "head",
    [
        "<script>" + "x" * 9_000 + "</script><meta charset=koi8-r>",
        "<!--" + "x" * 9_000 + "--><META HTTP-EQUIV='Content-Type' CONTENT='text/html; charset=koi8-r'>",
        "<!-- <meta charset=windows-1252> --><meta charset=koi8-r>",
        "<script>document.write('<meta charset=windows-1252>')</script><meta charset=koi8-r>",
        "<title><meta charset=windows-1252></title><meta charset=koi8-r>",
        "<meta name=description content='how to write charset=windows-1252'><meta charset=koi8-r>",
        "<meta content=\"text/html; charset='koi8-r'\" http-equiv=content-type>",
        "<meta data-x='a > b' charset = koi8-r />",
        "<meta charset=no-such-label><meta charset=koi8-r>",
        "<meta httpequiv=ContentType content='text/html;charset=koi8-r'>",
    ],
)
def test_the_whole_head_is_searched_for_what_a_browser_takes_for_a_declaration(head: str) -> None:
    # Short enough for any detector to err, so it is the declaration that counts.
    assert "паром" in decode(f"<html><head>{head}</head><p>паром".encode("koi8-r"), "text/html")


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        (RUSSIAN, "cp1251"), (RUSSIAN, "koi8-r"), (RUSSIAN, "cp866"), (CHINESE, "gb18030"), (JAPANESE, "cp932"),
        (JAPANESE, "euc_jp"), (JAPANESE, "iso2022_jp"), (KOREAN, "cp949"), (THAI, "cp874"), (POLISH, "cp1250"),
        (POLISH, "iso8859-2"), ("L'été à Nîmes, où “tout” va bien", "cp1252"), ("£5 for a café", "cp1252"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("content_type", ["", "text/html", "text/html; charset=utf-8", "text/html; charset=unknown"])
def test_undeclared_and_contradicting_bytes_are_read_by_the_detector(text: str, codec: str, content_type: str) -> None:
    page = f"<html><head><title>Page</title><style>p {{ color: red }}</style></head><p>{text}</p>"
    assert text in decode(page.encode(codec), content_type)


def test_of_two_declarations_the_likelier_counts_and_in_doubt_that_of_the_header() -> None:
    russian = f"<meta charset=windows-1251><p>{RUSSIAN}".encode("cp1251")
    assert RUSSIAN in decode(russian, "text/html; charset=iso-8859-1"), "the default of some servers"
    assert RUSSIAN in decode(f"<p>{RUSSIAN}".encode("cp1251"), "text/html; charset=iso-8859-1"), "and of some editors"
    assert RUSSIAN in decode(f"<p>{RUSSIAN}".encode("cp1251"), "text/html; charset=windows-1251, text/html")
    assert "caf\u010d" in decode(b"<meta charset=windows-1252><p>caf\xe8", "text/html; charset=windows-1250")


def test_utf8_with_broken_bytes_stays_utf8() -> None:
    body = f"<p>{RUSSIAN}".encode() + b"\xff\xfe broken"
    assert decode(body, "text/html").startswith(f"<p>{RUSSIAN}")
    assert decode(body, "text/html; charset=windows-1252").startswith(f"<p>{RUSSIAN}"), "windows-1252 is no Russian"


@pytest.mark.parametrize("label", ["iso-2022-kr", "hz-gb-2312"])
def test_what_browsers_refuse_is_refused_with_the_reason(label: str) -> None:
    body = f"<meta charset={label}><p>~{{<:Ky2;~}} and more".encode()
    assert "browsers refuse" in rejection(body).message


def test_bytes_in_no_encoding_are_no_document_of_gibberish() -> None:
    noise = bytes((i * i * 7 + i // 3) % 128 + 128 if i % 3 else 97 + i % 26 for i in range(3_000))
    with pytest.raises(Undecodable, match="utf-8"):
        decode(b"<p>" + noise, "text/html; charset=utf-8")
    assert rejection(b"<p>" + noise).reason == "undecodable"


def test_a_few_strange_bytes_cost_no_page() -> None:
    assert "and so on" in document(b"<p>A ferry \xff\x81 leaves the quay, and so on").markdown


@pytest.mark.parametrize(
    "piece", [b"<!--", b"<script>", b"<meta ", b"<meta content='", b"<", b"&", b"\x1b$", b"<title"]
)
def test_hostile_markup_is_decoded_in_linear_time(piece: bytes) -> None:
    body = b"\xe9" + piece * (2_000_000 // len(piece))
    started = time.process_time()
    assert decode(body, "text/html")
    assert time.process_time() - started < 5
