"""Power curves as a plain SVG that reads on light and dark pages: every curve has a letter and a dash of its own."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from benchmarks.gate.contest import Contest

SHOWN = {  # rule: colour on light, on dark, dash
    "evalgate": ("#0b57d0", "#8ab4f8", ""),
    "any drop": ("#5f6368", "#9aa0a6", "2 3"),
    "lm-eval comparator": ("#a142f4", "#c58af9", "8 3"),
    "vLLM accuracy CI": ("#137333", "#81c995", "8 3 2 3"),
    "statgate": ("#b06000", "#fcad70", "12 4"),
    "evalproof": ("#c5221f", "#f28b82", "4 3"),
}
_WIDTH, _HEIGHT, _TOP, _GAP, _LEFT = 330, 240, 40, 56, 56


def svg(contests: Sequence[Contest]) -> str:
    """Two panels, one per n, and a legend below."""
    panels = sorted({contest.n for contest in contests})
    width, height = _LEFT + len(panels) * (_WIDTH + _GAP), _TOP + _HEIGHT + 110
    title = "Share of candidates that each gate stops, by true drop"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{title}">',
        f"<title>{title}</title>",
        _style(),
        f'<rect class="page" width="{width}" height="{height}"/>',
    ]
    for place, n in enumerate(panels):
        found = sorted((each for each in contests if each.n == n), key=lambda each: each.points)
        parts += [f'<g transform="translate({_LEFT + place * (_WIDTH + _GAP)} {_TOP})">', *_panel(n, found), "</g>"]
    for place, name in enumerate(SHOWN):
        x, y = _LEFT + place % 3 * 250, height - 42 + place // 3 * 24
        parts.append(f'<line class="c{place}" x1="{x}" y1="{y}" x2="{x + 44}" y2="{y}"/>')
        parts += [*_letter(place, x + 22, y), f'<text x="{x + 54}" y="{y + 4}">{escape(name)}</text>']
    return "\n".join([*parts, "</svg>", ""])


def _style() -> str:
    light, dark = (
        "".join(f".c{place}{{stroke:{look[tone]}}}.l{place}{{fill:{look[tone]}}}" for place, look in enumerate(looks))
        for tone, looks in ((0, SHOWN.values()), (1, SHOWN.values()))
    )
    dashes = "".join(
        f".c{place}{{stroke-dasharray:{dash or 'none'}}}" for place, (*_, dash) in enumerate(SHOWN.values())
    )
    curves = ",".join(f".c{place}" for place in range(len(SHOWN)))
    return (
        "<style>text{font:12px sans-serif;fill:#202124}.page{fill:#fff}.grid{stroke:#dadce0}.letter{fill:#fff;"
        f"text-anchor:middle}}.head,.letter{{font-weight:bold}}{curves}{{fill:none;stroke-width:2}}.c0{{stroke-width:3}}{light}{dashes}"
        "@media(prefers-color-scheme:dark){text{fill:#e8eaed}.page{fill:#0d1117}.grid{stroke:#3c4043}"
        f".letter{{fill:#0d1117}}{dark}}}</style>"
    )


def _panel(n: int, contests: Sequence[Contest]) -> list[str]:
    most = contests[-1].points

    def at(points: float, share: float) -> tuple[float, float]:
        return round(points / most * _WIDTH, 1), round((1 - share) * _HEIGHT, 1)

    parts = [f'<text x="0" y="-14" class="head">stopped, with {n} questions</text>']
    for tenth in range(0, 11, 2):
        _, y = at(0, tenth / 10)
        parts.append(f'<line class="grid" x1="0" y1="{y}" x2="{_WIDTH}" y2="{y}"/>')
        parts.append(f'<text x="-8" y="{y + 4}" text-anchor="end">{10 * tenth} %</text>')
    for points in range(0, int(most) + 1, 2):
        parts.append(f'<text x="{at(points, 0)[0]}" y="{_HEIGHT + 18}" text-anchor="middle">{points}</text>')
    parts.append(f'<text x="{_WIDTH / 2}" y="{_HEIGHT + 36}" text-anchor="middle">true drop in points</text>')
    for place, name in enumerate(SHOWN):
        line = " ".join("{},{}".format(*at(each.points, each.red[name])) for each in contests)
        parts.append(f'<polyline class="c{place}" points="{line}"/>')
    taken: list[tuple[float, float]] = []
    for place, name in enumerate(SHOWN):
        spots = sorted(contests[1:-1], key=lambda each: -_clearance(each, name))
        places = [at(each.points, each.red[name]) for each in spots]
        free = (here for here in places if all(abs(here[0] - x) + abs(here[1] - y) > 20 for x, y in taken))
        taken.append(next(free, places[0]))
        parts += _letter(place, *taken[-1])
    return parts


def _clearance(contest: Contest, name: str) -> float:
    """How far a curve is from the next one there, and from the frame."""
    share = contest.red[name]
    return min(share, 1 - share, *(abs(share - contest.red[other]) for other in SHOWN if other != name))


def _letter(place: int, x: float, y: float) -> list[str]:
    return [
        f'<circle class="l{place}" cx="{x}" cy="{y}" r="8"/>',
        f'<text class="letter" x="{x}" y="{y + 4}">{"ABCDEF"[place]}</text>',
    ]
