"""What is no page but a notice to its reader is told from pages about such notices, by what it says."""

# ruff: noqa: E501 - titles and texts of pages, one a line
from __future__ import annotations

import lxml.html
import pytest

from kb_pipeline.clean.notices import notice_in
from kb_pipeline.clean.signs import PASSWORD, WALL_SCRIPT, controls_of, signs_of

ERRORS = [
    ("Page not found | Example", "# 404 - Page not found\n\nSorry, the page you were looking for does not exist."),
    ("Acme", "# Oops!\n\n## That page can't be found.\n\nIt looks like nothing was found at this location. Try a search."),
    ("404", ""),
    ("404 Not Found", "# Not Found\n\nThe requested URL was not found on this server."),
    ("Not found - Acme", "# Not found\n\nWe couldn’t find what you are looking for. Go back home."),
    ("Seite nicht gefunden – Muster GmbH", "# Seite nicht gefunden\n\nDie gesuchte Seite gibt es leider nicht."),
    ("Page introuvable", "# Page introuvable\n\nLa page que vous recherchez n’existe plus. Retour à l’accueil."),
    ("Página no encontrada", "# Error 404\n\nLo sentimos, la página que buscas no existe."),
    ("Página não encontrada", "# Página não encontrada\n\nA página que procura não existe. Voltar à página inicial."),
    ("Pagina non trovata", "# Pagina non trovata\n\nSpiacenti, la pagina richiesta non esiste."),
    ("Pagina niet gevonden", "# Pagina niet gevonden\n\nDe pagina die je zoekt bestaat niet."),
    ("Nie znaleziono strony", "# Nie znaleziono strony\n\nPrzepraszamy, strona, której szukasz, nie istnieje."),
    ("Страница не найдена", "# Страница не найдена\n\nК сожалению, запрашиваемая страница не существует."),
    ("页面不存在", "# 页面不存在\n\n抱歉,您访问的页面不存在。返回首页"),
    ("ページが見つかりません", "# ページが見つかりません\n\nお探しのページは削除された可能性があります。"),
    ("페이지를 찾을 수 없습니다", "# 페이지를 찾을 수 없습니다\n\n요청하신 페이지가 없습니다."),
    ("Sidan hittades inte", "# Sidan hittades inte\n\nTyvärr finns inte sidan du söker."),
    ("Access denied", "# Access denied\n\nYou do not have permission to view this page."),
    ("Service unavailable", "We are down for maintenance. Be back soon."),
]  # fmt: skip
WALLS = [
    ("Just a moment...", "# Checking your browser before accessing example.org\n\nThis process is automatic. Your browser"
     " will redirect to your requested content shortly. Please allow up to 5 seconds."),
    ("Attention Required! | Cloudflare", "# Sorry, you have been blocked\n\n## You are unable to access acme.com\n\n"
     "This website is using a security service to protect itself from online attacks. Cloudflare Ray ID: 7d0f"),
    ("Access Denied", '# Access Denied\n\nYou don\'t have permission to access "http://acme.com/" on this server.\n\n'
     "Reference #18.2d351ab8.1557333295.a4e16ab"),
    ("Access to this page has been denied", "Please verify you are a human. Access to this page has been denied because we"
     " believe you are using automation tools to browse the website. Reference ID: #aa-bb"),
    ("Pardon Our Interruption", "# Pardon Our Interruption...\n\nAs you were browsing something about your browser made us"
     " think you were a bot. You're a power user moving through this website with super-human speed."),
    ("Sucuri WebSite Firewall - Access Denied", "# Access Denied - Sucuri Website Firewall\n\nBlock ID: BFA036 Sucuri"),
    ("Making sure you're not a bot!", "# Making sure you're not a bot!\n\nYou are seeing this because the administrator"
     " set up a guard. Verify that you are human."),
    ("Einen Moment bitte", "# Einen Moment\n\nWir prüfen Ihren Browser. Bitte bestätigen Sie, dass Sie ein Mensch sind."),
]  # fmt: skip
PAGES = [
    ("404 Not Found", "Sent when there is no such item."),
    ("404 Not Found - HTTP", "# 404 Not Found\n\nThe HTTP 404 Not Found client error response status code indicates that"
     " the server cannot find the resource. Links that lead to a 404 page are often called broken or dead links."),
    ("Device not found", "# Device not found\n\nIf the device is not found, check the cable and please try again."),
    ("Request timed out", "# Request timed out\n\nThe client waited too long. Raise the timeout and try again later."),
    ("KeyError: key not found", "# KeyError: key not found\n\nSorry to hear it. Call `get` instead."),
    ("How to fix a page that is not found", "# How to fix a page that is not found\n\nSorry pages happen. "
     + "Look at the server's logs. " * 20),
    ("Custom error pages", "# Page not found\n\nPut this into 404.html:\n\n```\nSorry, the page you requested is gone\n```"),
    ("Account no longer available", "# Account no longer available\n\nLeider können Konten nicht wiederhergestellt werden."),
    ("Captcha", "# Captcha\n\nA captcha is a test to tell people from programs, known since 1997."),
    ("Just a moment", "# Just a moment\n\nA short story. It was late when she came home and the house was dark."),
    ("DDoS protection by Acme", "# DDoS protection by Acme\n\n" + "Our network filters floods of packets. " * 30),
    ("Lost and found", "# Lost and found\n\nWe found a cat."),
]  # fmt: skip


@pytest.mark.parametrize(("title", "text"), ERRORS)
def test_a_notice_that_the_page_is_missing_is_no_page(title: str, text: str) -> None:
    assert notice_in(title, text, signs_of(title, text)) == "error_page"


@pytest.mark.parametrize(("title", "text"), WALLS)
def test_a_wall_against_robots_is_no_page(title: str, text: str) -> None:
    assert notice_in(title, text, signs_of(title, text)) == "bot_wall"


@pytest.mark.parametrize(("title", "text"), PAGES)
def test_pages_about_errors_and_walls_are_pages(title: str, text: str) -> None:
    assert notice_in(title, text, signs_of(title, text)) is None


@pytest.mark.parametrize(
    "title",
    ["Log in", "Sign in to Acme", "Please log in", "Login · Forum", "Anmelden – Muster GmbH", "Se connecter", "Войти",
     "Iniciar sesión", "登录", "ログイン", "Login required"],
)  # fmt: skip
def test_a_form_to_log_in_is_no_page(title: str) -> None:
    assert notice_in(title, "User name\n\nPassword", [PASSWORD]) == "login_page"
    assert notice_in(title, "Ask your administrator for an account.", []) is None, "no field to log in with"


@pytest.mark.parametrize("title", ["Login fails after the update", "Apples", "Entry hall", "How to log in"])
def test_a_page_beside_a_form_to_log_in_is_a_page(title: str) -> None:
    assert notice_in(title, "Some text about it.", [PASSWORD]) is None


def test_the_scripts_of_a_wall_are_a_sign_that_needs_words_to_it() -> None:
    tree = lxml.html.fromstring(
        "<script src='/cdn-cgi/challenge-platform/scripts/jsd/main.js'></script><p>Apples keep."
    )
    assert WALL_SCRIPT in controls_of(tree)
    assert notice_in("Apples", "Apples keep.", controls_of(tree)) is None
    assert notice_in("acme.com", "Please enable JS and disable any ad blocker", controls_of(tree)) == "bot_wall"
