"""Nothing a model, a data file or a statement says is ever run or fetched by the card: two defences, each alone."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from markupsafe import Markup
from playwright.sync_api import Browser, Page

from evalgate.report import CardData, render_card
from evalgate.report import page as pages
from evalgate.report.card import html as rendering

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
    # Ends of elements, comments and sections, as parsers and not as people read them.
    "</script\t><script>hit()</script>",
    "</script/><script>hit()</script>",
    "</SCRIPT\x0c><script>hit()</script>",
    "<!--><script>hit()</script>-->",
    "<!---><script>hit()</script>-->",
    "<!-- --!><script>hit()</script>",
    "<!--<script><!--</script><script>hit()</script>",
    "<![CDATA[<script>hit()</script>]]>",
    "<?xml version='1.0'?><script>hit()</script>",
    "</a><script>hit()</script><a href='",
    "</pre></td></tr></table></section></main><script>hit()</script>",
    "</option></select><img src=x onerror=hit()>",
    "</svg><img src=x onerror=hit()>",
    "<plaintext><script>hit()</script>",
    "<xmp></xmp><script>hit()</script>",
    # Handlers behind odd separators, and names that parsers accept.
    "<img\x0csrc=x\x0conerror=hit()>",
    "<img\tsrc=x\nonerror\r=\rhit()>",
    "<img src='x'onerror='hit()'>",
    '<img src="x"/onerror="hit()"/>',
    "<img src=x onerror\x0b=hit()><img src=x onerror=hit()>",
    "<img src=x onerror=&#x68;it&lpar;&rpar;>",
    "<img src=x onerror=h\\u0069t()>",
    "<img src=x:x onerror=eval(atob('aGl0KCk='))>",
    "<b/onpointerrawupdate=hit() onfocus=hit() tabindex=1 autofocus>x",
    "<svg/onload=hit()>",
    "<svg><a xlink:href=javascript:hit()><text y=20>x</text></a></svg>",
    # Mutations: what is harmless when parsed and is not when written out and parsed again.
    "<noscript><style></noscript><img src=x onerror=hit()>",
    "<svg></p><style><a id='</style><img src=1 onerror=hit()>'>",
    "<form><math><mtext></form><form><mglyph><style></math><img src onerror=hit()>",
    "<math><annotation-xml encoding='text/html'><style><img src=x onerror=hit()></style></annotation-xml></math>",
    "<math><mi><table><mglyph><svg><mtext><textarea><path id='</textarea><img onerror=hit() src=1>'>",
    "<select><template><style><!--</style><a rel='--></style></template></select><img src=x onerror=hit()>'>",
    "<option><style></option></select><b><style></style><img src=x onerror=hit()>",
    "<table><caption><svg><title><style><img src=x onerror=hit()></style></title></svg></caption></table>",
    # SVG and MathML that fetch or animate.
    "<svg><set onbegin=hit() attributeName=x to=1 />",
    "<svg><animateTransform onbegin=hit() attributeName=x dur=1s>",
    "<svg><image xlink:href=CANARY/x.svg></svg>",
    "<svg><use xlink:href='CANARY/x.svg#a'></use></svg>",
    "<svg><filter><feImage href=CANARY/fe.png /></filter></svg>",
    "<svg><style>@import url(CANARY/svg.css);</style></svg>",
    "<svg><rect width=9 height=9 fill='url(CANARY/x.svg#g)'/></svg>",
    "<math href='javascript:hit()'><mtext>x</mtext></math>",
    # Style: what CSS may fetch.
    "<style>:root{--u:url(CANARY/var.png)}body{background:var(--u)}</style>",
    "<style>li{list-style:url(CANARY/li.png)}</style><ul><li>x</ul>",
    "<style>b{content:url(CANARY/content.png)}</style><b>x</b>",
    "<style>b{cursor:url(CANARY/c.cur),auto;border-image:url(CANARY/bi.png) 1}</style><b>x</b>",
    "<style>@media all{@import 'CANARY/nested.css'} b{background:image-set(url(CANARY/set.png) 1x)}</style><b>x</b>",
    "x{}</style><img src=CANARY/out.png>",
    "expression(hit())",
    "<div style='width:expression(hit());background:url(\"CANARY/d.png\")'>x</div>",
    # Names that scripts look up: clobbered elements, prototypes.
    "<form name=controls id=list><input id=data name=elements></form><img src=x onerror=hit()>",
    "<a id=data></a><a id=data name=textContent href=CANARY/clobber></a>",
    "<img name=querySelector src=CANARY/q.png>",
    "<iframe name=parent srcdoc='<script>top.hit()</script>'></iframe>",
    "prototype",
    "hasOwnProperty",
    "__defineGetter__",
    "valueOf",
    "__proto__[hits]=1",
    # Going elsewhere, asking for something, framing.
    "<meta http-equiv='refresh' content='0; URL=data:text/html,<script>top.hit()</script>'>",
    "<meta http-equiv=Content-Security-Policy content=\"script-src 'unsafe-inline'\"><script>hit()</script>",
    "<base target=_blank><base href=CANARY/ ><link rel=stylesheet href=b.css>",
    "<form id=f action=CANARY/f></form><button form=f autofocus onfocus=hit()>x</button>",
    "<form action=javascript:hit()><input type=submit autofocus onfocus=this.form.submit()></form>",
    "<iframe srcdoc='&lt;script&gt;parent.hit()&lt;/script&gt;'></iframe>",
    "<iframe src='data:text/html,<script src=CANARY/df.js></script>'></iframe>",
    "<object type=text/html data='data:text/html,<script src=CANARY/do.js></script>'></object>",
    "<link rel=dns-prefetch href=CANARY/dns><link rel=preconnect href=CANARY/pre>",
    '<script type=importmap>{"imports":{"x":"CANARY/im.js"}}</script><script type=module>import \'x\'</script>',
    '<script type=speculationrules>{"prefetch":[{"urls":["CANARY/spec"]}]}</script>',
    "<video autoplay><track default kind=captions src=CANARY/t.vtt onerror=hit()><source src=CANARY/v.mp4></video>",
    "<portal src=CANARY/portal></portal><fencedframe></fencedframe>",
    "<input type=image src=x onerror=hit()>",
    "<details ontoggle=hit() open><summary>x</summary></details>",
    "<div popover onbeforetoggle=hit() id=p>x</div><button popovertarget=p autofocus onfocus=this.click()>x</button>",
    # Markdown and templates.
    "[x](vbscript:hit())",
    "[x](file:///etc/passwd)",
    "[x](\tjavascript:hit())",
    "[x](javascript&#58;hit())",
    "[x](data:text/html;base64,PHNjcmlwdD5oaXQoKTwvc2NyaXB0Pg==)",
    "<https://x.example/'onmouseover=hit()//>",
    '[a](<x"onmouseover="hit()>)',
    '[a](x "title" onmouseover=hit() x="")',
    "![x](javascript:hit())",
    "[![x](CANARY/in.png)](javascript:hit())",
    "# <img src=x onerror=hit()>",
    "{%raw%}{{ 1337 * 1337 }}{%endraw%}<script>hit()</script>",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "#{1337*1337} <%= 1337*1337 %> ${1337*1337}",
    # Bytes that are not what they seem.
    "\xc0\xbcscript\xc0\xbehit()\xc0\xbc/script\xc0\xbe",
    "\uff1cscript\uff1ehit()\uff1c/script\uff1e",
    "\x00<\x00script\x00>hit()<\x00/script>",
    "<script\x0b>hit()</script>",
    "\u202e<script>hit()</script>\u202c\u2066x\u2069",
    "\u200b<im\u200bg src=x onerror=hit()>",
    "<img src=x onerror=hit()>\x85\u2028\u2029",
    "\ud83d<img src=x onerror=hit()>\udc00",
    "\x1b]8;;javascript:hit()\x07x\x1b]8;;\x07",
    "\ufffe\uffff<script>hit()</script>",
]
GROUP = 25  # payloads to a card
SHARED = 6  # that are not escaped, to a card
FRAMES = 40  # raw payloads to a page
ROWS = 5  # of each payload's three evaluations, in conftest
FOREIGN = """() => ({
  elements: [...document.querySelectorAll(`img, picture, iframe, frame, object, embed, video, audio, marquee, math,
    base, link, template, style ~ style, meta[http-equiv=refresh], form:not(#controls), image, foreignObject, animate,
    use, x, textarea, [background], [style], [autofocus], [srcset]`)].map((e) => e.outerHTML.slice(0, 80)),
  handlers: [...document.querySelectorAll("*")].flatMap((e) => e.getAttributeNames().filter((a) => a.startsWith("on"))),
  scripts: document.scripts.length,
  links: [...document.links].map((a) => a.protocol).filter((p) => !["file:", "http:", "https:"].includes(p)),
  drawn: document.querySelectorAll("article").length,
})"""


@dataclass
class Canary:
    """An address that remembers who asked, and serves what it is given."""

    address: str = ""
    asked: list[str] = field(default_factory=list)
    pages: dict[str, bytes] = field(default_factory=dict)


@pytest.fixture(scope="module")
def canary() -> Iterator[Canary]:
    """A web server that nobody should ever ask."""
    found = Canary()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served = found.pages.get(self.path)
            self.send_response(204 if served is None else 200)
            if served is None:
                found.asked.append(self.path)
            else:
                self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(served or b"")

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


UNFOLD = """async (patience) => {
  const list = document.getElementById("list"), until = Date.now() + patience;
  while (list?.hasAttribute("aria-busy") && Date.now() < until) await new Promise((go) => setTimeout(go, 5));
  document.querySelectorAll("details").forEach((each) => { each.open = true; });
  for (const more = document.getElementById("more"); more && !more.hidden;) more.click();
  document.querySelectorAll("button.all").forEach((each) => each.click());
  await new Promise((go) => setTimeout(go, 20));
  return window.hits;
}"""


def visit(page: Page, canary: Canary, address: str, *, patience: int = 10_000) -> tuple[int, int]:
    """Open a card, unfold and show whatever it has, and count: what ran, and what was asked for.

    Args:
        page: to open it in.
        canary: that counts who asks.
        address: of the card.
        patience: milliseconds until the samples have to be there; a broken page never shows them.
    """
    canary.asked.clear()
    page.goto(address)
    return page.evaluate(UNFOLD, patience), len(canary.asked)


def without_policy(html: str) -> str:
    """The card with its content security policy cut out."""
    bare, cut = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>\n', "", html)
    assert cut == 1
    return bare


@dataclass(frozen=True)
class Acting:
    """Payloads that run or ask for something where nothing stops them, in groups that can share a page.

    Attributes:
        together: they leave what comes after them alone.
        alone: what comes after them is a comment or text to them.
    """

    together: tuple[str, ...]
    alone: tuple[str, ...]


# Each raw payload in a frame of one page, which hears what its frames run; what waits for the focus is given it.
HEAR = "window.hit = alert = confirm = prompt = () => { (top.ran ??= new Set()).add(location.pathname); }"
ACT = """async () => {
  const frames = [...document.querySelectorAll("iframe.raw")];
  for (const frame of frames)
    for (const each of frame.contentDocument?.querySelectorAll("[autofocus]") ?? []) each.focus();
  await new Promise((go) => setTimeout(go, 250));
  const whole = frames.filter((frame) => frame.contentDocument?.getElementById("after"));
  return [[...(window.ran ?? [])], whole.map((frame) => new URL(frame.src).pathname)];
}"""


@pytest.fixture(scope="module")
def acting(browser: Browser, canary: Canary) -> Acting:
    """Every payload raw, in a document of its own without a policy."""
    context = browser.new_context()
    context.add_init_script(HEAR)
    page = context.new_page()
    for number, text in enumerate(PAYLOADS):
        raw = text.replace("CANARY", f"{canary.address}/asked/{number}").encode("utf-8", "replace").decode()
        canary.pages[f"/raw/{number}"] = f"<!doctype html><meta charset=utf-8><body>{raw}<b id=after>".encode()
    ran: set[str] = set()
    whole: set[str] = set()
    for start in range(0, len(PAYLOADS), FRAMES):
        numbers = range(start, min(start + FRAMES, len(PAYLOADS)))
        frames = "".join(f"<iframe class=raw src=/raw/{number}></iframe>" for number in numbers)
        canary.pages["/"] = f"<!doctype html><body>{frames}".encode()
        page.goto(f"{canary.address}/")
        heard, unharmed = page.evaluate(ACT)
        ran.update(heard)
        whole.update(unharmed)
    context.close()
    asked = {path.split("/")[2] for path in canary.asked if path.startswith("/asked/")}
    acted = [number for number in range(len(PAYLOADS)) if f"/raw/{number}" in ran or str(number) in asked]
    together = tuple(PAYLOADS[number] for number in acted if f"/raw/{number}" in whole)
    return Acting(together, tuple(PAYLOADS[number] for number in acted if PAYLOADS[number] not in together))


def test_the_payloads_act_where_nothing_stops_them(acting: Acting) -> None:
    """Negative control: most payloads can run or ask for something, and the tests here would see it."""
    assert len(PAYLOADS) == len(set(PAYLOADS)) >= 200
    assert len(acting.together) >= 110
    assert acting.alone


def named(payloads: Sequence[str], canary: Canary) -> list[str]:
    """The payloads with the address that counts who asks."""
    return [text.replace("CANARY", canary.address) for text in payloads]


@pytest.fixture(scope="module")
def escaped(canary: Canary, hostile_card: Callable[..., CardData]) -> list[tuple[list[str], str]]:
    """Every payload in every field of a card, some payloads to a card."""
    found = []
    for start in range(0, len(PAYLOADS), GROUP):
        group = named(PAYLOADS[start : start + GROUP], canary)
        data = hostile_card(*group)
        assert {str(verdict.outcome) for verdict in data.family.verdicts} == {"REGRESSION", "ERROR", "NO BASELINE"}
        found.append((group, render_card(data)))
    return found


@pytest.mark.parametrize("policy", ["with the policy", "without the policy"])
def test_escaped_payloads_in_every_field_do_nothing(
    page: Page, canary: Canary, page_of: Callable[[str], str], escaped: list[tuple[list[str], str]], policy: str
) -> None:
    """In every field at once, each payload is only text: no element, no handler, nothing run, nothing asked for."""
    for group, html in escaped:
        assert "1787569" not in html
        outcome = visit(page, canary, page_of(html if policy == "with the policy" else without_policy(html)))
        drawn = 3 * ROWS * len(group)
        clean = {"elements": [], "handlers": [], "scripts": 2, "links": [], "drawn": drawn}
        assert (outcome, page.evaluate(FOREIGN)) == ((0, 0), clean), group


def sparse(data: CardData, texts: Sequence[str]) -> CardData:
    """A card with hostile texts in a few places: every frame starts a process of the browser, and nothing else."""
    return replace(data, name="".join(texts), noise="".join(texts), lines=texts, statement="\n\n".join(texts))


def test_the_policy_alone_stops_what_is_not_escaped(
    page: Page,
    canary: Canary,
    page_of: Callable[[str], str],
    hostile_card: Callable[..., CardData],
    acting: Acting,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With every escape turned off the payloads become elements, and still nothing runs and nothing is loaded.

    A page that is told to go elsewhere goes there (`meta refresh`): no policy in a file can forbid that.
    """
    unescaped = pages.environment().overlay(autoescape=False)
    monkeypatch.setattr(pages, "environment", lambda: unescaped)
    monkeypatch.setattr(rendering, "_markdown", Markup)
    stopped = [text for text in acting.together if "http-equiv" not in text or "CANARY" not in text]
    framing = [text for text in stopped if re.search("<(iframe|object|embed)", text)]
    shared = [text for text in stopped if text not in framing]
    groups = [shared[i : i + SHARED] for i in range(0, len(shared), SHARED)]
    cards = [(group, hostile_card(*named(group, canary), kinds=1)) for group in (*groups, acting.alone)]
    faults = []
    for group, data in [*cards, (framing, sparse(hostile_card("x", kinds=1), named(framing, canary)))]:
        outcome = visit(page, canary, page_of(render_card(data)), patience=150)
        seen = page.evaluate(FOREIGN)
        if outcome != (0, 0):
            faults.append(f"{group}: {outcome} {canary.asked}")
        assert seen["elements"] or seen["handlers"] or seen["scripts"] > 2, group
    assert faults == []
