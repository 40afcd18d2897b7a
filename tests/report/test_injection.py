"""Nothing a model, a data file or a statement says is ever run or fetched by the card: two defences, each alone."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from markupsafe import Markup
from playwright.sync_api import Browser, Page

from evalgate.report import CardData, card, render_card

# `hit()` is run by whoever gets to run anything; CANARY is an address that counts who asks.
PAYLOADS = [
    "<script>hit()</script>",
    "<script src='CANARY/a.js'></script>",
    "<ScRiPt>hit()</sCrIpT>",
    "<script type=module>hit()</script>",
    "</script><script>hit()</script>",
    "</script ><script>hit()</script>",
    "</title><script>hit()</script>",
    "</textarea></select></style></title><script>hit()</script>",
    "</style><script>hit()</script>",
    "</noscript><script>hit()</script>",
    "</template><script>hit()</script>",
    "--><script>hit()</script>",
    "<!--<script>--><script>hit()</script>",
    "<!--<script ",
    "]]><script>hit()</script>",
    "\u2028<script>hit()</script>\u2029",
    "<scr\x00ipt>hit()</script>",
    "<<script>hit()//<</script>",
    "\ufeff<script>hit()</script>",
    "<img src=x onerror=hit()>",
    "<img src=CANARY/i.png>",
    "<img srcset='CANARY/i.png 1x'>",
    "<IMG SRC=`x` ONERROR='hit()'>",
    "<img/src=x/onerror=hit()>",
    "'><img src=x onerror=hit()>",
    '"><img src=x onerror=hit()>',
    "`><img src=x onerror=hit()>",
    '" onmouseover=hit() autofocus onfocus=hit() tabindex=1 x="',
    "' autofocus onfocus=hit() tabindex=1 x='",
    "<picture><source srcset=CANARY/p.png><img></picture>",
    "<svg onload=hit()>",
    "<svg><script>hit()</script></svg>",
    "<svg><script href='CANARY/s.js'/></svg>",
    "<svg><animate onbegin=hit() attributeName=x dur=1s></svg>",
    "<svg><image href='CANARY/v.png'/></svg>",
    "<svg><use href='data:image/svg+xml,<svg id=x onload=hit()>#x'/></svg>",
    "<svg><foreignObject><iframe srcdoc='<script>parent.hit()</script>'></iframe></foreignObject></svg>",
    "<svg><style><img src=x onerror=hit()></style></svg>",
    "<math><mtext><table><mglyph><style><img src=x onerror=hit()></style></table></mtext></math>",
    "<iframe srcdoc='<script>parent.hit()</script>'></iframe>",
    "<iframe src='javascript:parent.hit()'></iframe>",
    "<iframe src=CANARY/f.html></iframe>",
    "<object data='CANARY/o.html'></object>",
    "<object data='javascript:hit()'></object>",
    "<embed src='CANARY/e.html'>",
    "<embed src='javascript:hit()'>",
    "<body onload=hit()>",
    "<body background=CANARY/b.png>",
    "<input autofocus onfocus=hit()>",
    "<select autofocus onfocus=hit()></select>",
    "<input type=image src=CANARY/t.png>",
    "<details open ontoggle=hit()>x</details>",
    "<video src=x onerror=hit()></video>",
    "<video poster=CANARY/v.png></video>",
    "<video><source onerror=hit()></video>",
    "<audio src=CANARY/a.mp3 autoplay></audio>",
    "<marquee onstart=hit()>x</marquee>",
    "<style>@import 'CANARY/c.css';</style>",
    "<style>*{background:url(CANARY/u.png)}</style>",
    "<style>@font-face{font-family:q;src:url(CANARY/q.woff)}body{font-family:q}</style>",
    "<style>@keyframes k{}*{animation:k 1ms}</style><b onanimationstart=hit()>x</b>",
    "<p style='background:url(CANARY/s.png)'>x</p>",
    "<p style='animation:k 1ms' onanimationend=hit()>x</p>",
    "<link rel=stylesheet href=CANARY/l.css>",
    "<link rel=prefetch href=CANARY/l.html>",
    "<link rel=icon href=CANARY/l.ico>",
    "<link rel=modulepreload href=CANARY/m.js>",
    "<link rel=preload as=image href=CANARY/m.png>",
    "<base href='CANARY/'><img src=y.png>",
    "<form action=CANARY/f><button autofocus onfocus=hit()>x</button></form>",
    "<form id=controls><input name=bucket></form><script>hit()</script>",
    "<a href=javascript:hit() autofocus onfocus=hit()>x</a>",
    "<x onclick=hit() tabindex=1 autofocus onfocus=hit()>x</x>",
    "<template shadowrootmode=open><img src=x onerror=hit()></template>",
    "<div><template shadowrootmode=open><script>hit()</script></template></div>",
    "<meta http-equiv=refresh content='0;url=javascript:hit()'>",
    "<meta http-equiv=refresh content='0;url=CANARY/r.html'>",
    "<table background=CANARY/b.png><tr><td>x</table>",
    "<frameset onload=hit()><frame src=CANARY/r.html></frameset>",
    "<noscript><p title='</noscript><img src=x onerror=hit()>'></noscript>",
    "&lt;img src=x onerror=hit()&gt;",
    "&#60;script&#62;hit()&#60;/script&#62;",
    "\\u003cscript\\u003ehit()\\u003c/script\\u003e",
    "%3Cscript%3Ehit()%3C/script%3E",
    "\\x3cimg src=x onerror=hit()\\x3e",
    "javascript:hit()",
    "data:text/html,<script>hit()</script>",
    "');hit();('",
    '";hit();//',
    "${hit()}",
    "`${hit()}`",
    "__proto__",
    "constructor",
    "toString",
    "{{ 1337 * 1337 }}",
    "{% for x in range(9) %}{{ 1337 * 1337 }}{% endfor %}",
    "{{ self.__init__.__globals__ }}",
    "{# gone #}",
    "{{constructor.constructor('hit()')()}}",
    "![x](CANARY/m.png)",
    "![x][r]\n\n[r]: CANARY/m.png",
    "[x](javascript:hit())",
    "[x](<javascript:hit()>)",
    "[x](JaVaScRiPt&colon;hit&lpar;&rpar;)",
    "[x](data:text/html,<script>hit()</script>)",
    "<javascript:hit()>",
    "[x]: javascript:hit()\n\n[x]",
    "```\n</code></pre><script>hit()</script>\n```",
    "    </code></pre><img src=x onerror=hit()>",
    "| a |\n|---|\n| <img src=x onerror=hit()> |",
    "+ADw-script+AD4-hit()+ADw-/script+AD4-",
    "<script>hit()</script>\ud800",
    "A" * 700 + "<img src=x onerror=hit()>",
    "\r\n\r\n<script>hit()</script>",
    "e\u0301\u202e<script>hit()</script>",
    "<img src=x onerror=hit()>" * 30,
]
GROUP = 12  # payloads to a card
ROWS = 5  # of each payload's three evaluations, in conftest
FOREIGN = """() => ({
  elements: [...document.querySelectorAll(`img, picture, iframe, frame, object, embed, video, audio, marquee, math,
    base, link, template, style ~ style, meta[http-equiv=refresh], form:not(#controls), image, foreignObject, animate,
    use, x, textarea, [background], [style], [autofocus], [srcset]`)].map((e) => e.outerHTML.slice(0, 80)),
  handlers: [...document.querySelectorAll("*")].flatMap((e) => e.getAttributeNames().filter((a) => a.startsWith("on"))),
  scripts: document.scripts.length,
  links: [...document.links].map((a) => a.protocol).filter((p) => !["file:", "http:"].includes(p)),
  drawn: document.querySelectorAll("article").length,
})"""


@dataclass
class Canary:
    """An address that remembers who asked."""

    address: str = ""
    asked: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def canary() -> Iterator[Canary]:
    """A web server that nobody should ever ask."""
    found = Canary()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            self.send_response(204)
            self.end_headers()

        do_POST = do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Nothing: the test looks at `asked`."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield found
        server.shutdown()
        thread.join()


def listening(browser: Browser) -> Page:
    """A page in which `hit` and the dialogs count who runs."""
    context = browser.new_context()
    context.add_init_script("window.hits = 0; window.hit = alert = confirm = prompt = () => { window.top.hits++; }")
    return context.new_page()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that counts."""
    page = listening(browser)
    yield page
    page.context.close()


def visit(page: Page, canary: Canary, address: str) -> tuple[int, int]:
    """Open a page, unfold and show whatever it has, and count: what ran, and what was asked for."""
    canary.asked.clear()
    page.goto(address)
    page.evaluate(
        """() => {
          document.querySelectorAll("details").forEach((each) => { each.open = true; });
          for (const more = document.getElementById("more"); more && !more.hidden;) more.click();
          document.querySelectorAll("button.all").forEach((each) => each.click());
        }"""
    )
    page.wait_for_timeout(20)
    return page.evaluate("window.hits"), len(canary.asked)


def without_policy(html: str) -> str:
    """The card with its content security policy cut out."""
    bare, cut = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>\n', "", html)
    assert cut == 1
    return bare


@pytest.fixture(scope="module")
def dangerous(browser: Browser, canary: Canary, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The payloads that run or ask for something where nothing stops them: raw, in a page without a policy."""
    page = listening(browser)
    path = tmp_path_factory.mktemp("raw") / "index.html"
    found = []
    for text in PAYLOADS:
        raw = text.replace("CANARY", canary.address).encode("utf-8", "replace").decode()
        path.write_text(f"<!doctype html><meta charset=utf-8><body>{raw}", "utf-8")
        if visit(page, canary, path.as_uri()) != (0, 0):
            found.append(text)
    page.context.close()
    return found


def test_the_payloads_act_where_nothing_stops_them(dangerous: list[str]) -> None:
    """Negative control: most payloads can run or ask for something, and the tests here would see it."""
    assert len(PAYLOADS) >= 110
    assert len(dangerous) >= 60


@pytest.mark.parametrize("policy", ["with the policy", "without the policy"])
def test_escaped_payloads_in_every_field_do_nothing(
    page: Page, canary: Canary, page_of: Callable[[str], str], hostile_card: Callable[..., CardData], policy: str
) -> None:
    """In every field at once, each payload is only text: no element, no handler, nothing run, nothing asked for."""
    for start in range(0, len(PAYLOADS), GROUP):
        group = [text.replace("CANARY", canary.address) for text in PAYLOADS[start : start + GROUP]]
        data = hostile_card(*group)
        assert {str(verdict.outcome) for verdict in data.family.verdicts} == {"REGRESSION", "ERROR", "NO BASELINE"}
        html = render_card(data)
        assert "1787569" not in html
        outcome = visit(page, canary, page_of(html if policy == "with the policy" else without_policy(html)))
        drawn = 3 * ROWS * len(group)
        clean = {"elements": [], "handlers": [], "scripts": 2, "links": [], "drawn": drawn}
        assert (outcome, page.evaluate(FOREIGN)) == ((0, 0), clean), group


def test_the_policy_alone_stops_what_is_not_escaped(
    page: Page,
    canary: Canary,
    page_of: Callable[[str], str],
    hostile_card: Callable[..., CardData],
    dangerous: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With every escape turned off the payloads become elements, and still nothing runs and nothing is loaded.

    A page that is told to go elsewhere goes there (`meta refresh`): no policy in a file can forbid that.
    """
    unescaped = card._environment().overlay(autoescape=False)
    monkeypatch.setattr(card, "_environment", lambda: unescaped)
    monkeypatch.setattr(card, "_JSON_ESCAPES", {})
    monkeypatch.setattr(card, "_markdown", Markup)
    faults, elements = [], 0
    for text in dangerous:
        if "http-equiv=refresh" in text and "CANARY" in text:
            continue
        html = render_card(hostile_card(text.replace("CANARY", canary.address), kinds=1))
        outcome = visit(page, canary, page_of(html))
        seen = page.evaluate(FOREIGN)
        elements += bool(seen["elements"] or seen["handlers"] or seen["scripts"] > 2)
        if outcome != (0, 0):
            faults.append(f"{text[:60]!r}: {outcome} {canary.asked}")
    assert faults == []
    assert elements >= 55
