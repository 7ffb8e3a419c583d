"""The words of notices in many languages: that a page is missing, that a guard or a log-in stands before it."""

from __future__ import annotations

import re

from kb_pipeline.clean.address import words_of
from kb_pipeline.clean.signs import phrases

NAMES_PAGE = re.compile(
    r"\b(?:page|url|address|site|website|content|seite|inhalt|contenu|página|pagina|contenido|conteúdo|contenuto|stron[ay]|"
    r"страниц\w*|сторінк\w*|stránka|sidan|siden|sivu\w*|sayfa|oldal|σελίδα|trang|halaman|40[0-9]|410|50[0-9])\b"
    r"|الصفحة|הדף|העמוד|صفحه|पृष्ठ|पेज|页面|頁面|网页|ページ|페이지|หน้า",
)
"""That it is a page which is missing, not a device, a key or an account of which the page speaks."""
TO_THE_READER = phrases("""
    sorry
    oops
    ooops
    whoops
    uh oh
    page you are looking for
    page you re looking for
    page you were looking for
    page you requested
    page you are trying to
    page you tried to
    requested page
    requested url
    page that you requested
    we couldn t find
    we could not find
    we can t find
    we can t seem to find
    we cannot find
    what you re looking for
    what you are looking for
    what you were looking for
    looks like nothing was found
    has been moved or deleted
    has been removed
    have been removed
    been moved
    may have moved
    might have been
    back to home
    back to the home
    go back home
    go to homepage
    go to the homepage
    return to the home
    return home
    return to homepage
    take me home
    our home page
    our homepage
    check the url
    check the spelling
    mistyped
    try a search
    try searching
    be back soon
    back shortly
    you don t have permission
    you do not have permission
    you are not authorized
    leider
    entschuldigung
    es tut uns leid
    zur startseite
    die gesuchte seite
    die angeforderte seite
    gewünschte seite
    aufgerufene seite
    désolé
    vous cherchez
    vous recherchez
    que vous demandez
    page demandée
    retour à l accueil
    page d accueil
    lo sentimos
    que buscas
    que busca
    que está buscando
    que estás buscando
    que ha solicitado
    página solicitada
    volver al inicio
    página de inicio
    página principal
    desculpe
    você procura
    está procurando
    que procura
    página inicial
    spiacenti
    ci dispiace
    che stai cercando
    che cerchi
    pagina richiesta
    torna alla home
    die je zoekt
    u zoekt
    opgevraagde pagina
    naar de homepage
    przepraszamy
    której szukasz
    strona główna
    stronę główną
    strony głównej
    к сожалению
    извините
    вы ищете
    запрашиваемая
    запрошенная
    на главную
    главную страницу
    на жаль
    вибачте
    bohužel
    omlouváme se
    hledáte
    hlavní stránk
    tyvärr
    du söker
    du letar efter
    till startsidan
    beklager
    du leder efter
    du leter etter
    til forsiden
    valitettavasti
    etsimääsi
    etusivulle
    üzgünüz
    aradığınız
    ana sayfa
    sajnáljuk
    keresett oldal
    ne pare rău
    pe care o căutați
    που ψάχνετε
    λυπούμαστε
    rất tiếc
    bạn đang tìm
    trang chủ
    maaf
    yang anda cari
    عذرا
    عذراً
    الصفحة الرئيسية
    מצטערים
    متاسفانه
    क्षमा करें
    抱歉
    您访问的
    您请求的
    您要找的
    你访问的
    返回首页
    回首页
    很遗憾
    申し訳
    お探しの
    ホームへ
    トップページ
    죄송합니다
    요청하신
    홈으로
    ขออภัย
""")
WALL_TITLE = phrases("""
    just a moment
    attention required
    checking your browser
    checking if the site connection is secure
    verify you are human
    verify you are a human
    verify that you are human
    verify you re human
    verifying you are human
    confirm you are human
    confirm that you are human
    are you a robot
    are you a human
    are you human
    not a robot
    not a bot
    human verification
    bot verification
    robot check
    robot or human
    security check
    security checkpoint
    security verification
    client challenge
    one more step
    pardon our interruption
    access denied
    access to this page has been denied
    access to this website is blocked
    you have been blocked
    request unsuccessful
    request blocked
    website firewall
    ddos guard
    ddos protection
    browser check
    captcha
    unusual traffic
    nur einen moment
    einen moment
    un instant
    un momento
    um momento
    een ogenblik
    один момент
    подождите
    请稍候
    请稍等
    しばらくお待ちください
    잠시만
    ich bin kein roboter
    sicherheitsüberprüfung
    vérification de sécurité
    êtes vous un robot
    verificación de seguridad
    проверка браузера
    вы не робот
    安全验证
    人机验证
    访问验证
    セキュリティチェック
    보안 확인
""")
WALL_TEXT = phrases("""
    checking your browser
    checking if the site connection is secure
    this process is automatic
    please allow up to
    enable javascript and cookies to continue
    enable cookies and reload
    please enable cookies
    please enable js and disable any ad blocker
    verify you are human
    verify you are a human
    verify that you are human
    verify you re human
    verify you are not a robot
    verify that you are not a robot
    verifying you are human
    confirm you are human
    confirm that you are human
    confirm you are a human
    prove you are human
    prove that you are human
    needs to review the security of your connection
    security service to protect
    complete the security check
    complete a captcha
    complete the captcha
    solve the captcha
    solve this captcha
    solving the captcha
    completing the captcha
    enter the characters you see
    i m not a robot
    i am not a robot
    you re not a robot
    you are not a robot
    not a bot
    unusual traffic
    suspicious activity
    automated requests
    automated access
    think you were a bot
    think that you are a bot
    believe you are using automation
    super human speed
    press hold
    press and hold
    ray id
    incident id
    reference id
    support id
    reference 18
    errors edgesuite net
    edgesuite
    sucuri
    cloudproxy
    ddos protection by
    performance security by
    you have been blocked
    ihren browser
    dass sie ein mensch sind
    kein roboter
    vous êtes humain
    vous êtes un humain
    n êtes pas un robot
    eres humano
    es humano
    no eres un robot
    no soy un robot
    você é humano
    não sou um robô
    sei umano
    non sono un robot
    geen robot bent
    не робот
    что вы человек
    您是真人
    确认您是
    不是机器人
    ロボットではない
    人間であること
    로봇이 아닙니다
    사람인지 확인
""")
_LOGIN = """
    log in|login|log on|logon|sign in|signin|sign up|register|registration|create account|create an account
    authentication|einloggen|anmelden|anmeldung|registrieren|connexion|se connecter|connectez vous|identification
    iniciar sesión|inicie sesión|inicia sesión|acceder|identificarse|entrar|iniciar sessão|fazer login|accedi|accesso
    inloggen|aanmelden|zaloguj|zaloguj się|logowanie|войти|вход|авторизация|увійти|вхід|přihlášení|přihlásit se
    logga in|inloggning|log ind|logg inn|kirjaudu|kirjaudu sisään|giriş|giriş yap|bejelentkezés|autentificare|conectare
    σύνδεση|đăng nhập|masuk|تسجيل الدخول|התחברות|ورود|登录|登陆|登入|用户登录|会员登录|ログイン|로그인|เข้าสู่ระบบ
"""
_LOGIN_NAMES = "|".join(" ".join(words_of(each)) for each in re.split(r"[|\n]", _LOGIN.strip()))
LOGIN_TITLE = re.compile(
    r"(?:(?:please|user|member|customer|admin|account|staff|bitte|you must|you need to|must) )*"
    rf"(?:{_LOGIN_NAMES})"
    r"(?: (?:to|with|into|required|page|form|here|or|and|first|erforderlich|bei|auf|à|sur|en|na|em|su|a|al|v|в|på|til)"
    r"(?: \S+){0,4})?"
)
"""Titles of forms to log in, with a few words about where to."""
