"""Look of `report.html`: the style sheet and small escaped pieces. Knows nothing about runs."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from typing import Any

STYLE = """
:root { --ink:#22262b; --muted:#666c73; --line:#e4e1da; --paper:#faf9f6; --card:#fff;
  --good:#1f7a66; --bad:#b5402f; --before:#9aa3ad; --after:#2b5f9e; }
* { box-sizing:border-box }
html { -webkit-text-size-adjust:100%; scroll-behavior:smooth }
body { margin:0; background:var(--paper); color:var(--ink);
  font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif }
main { max-width:1060px; margin:0 auto; padding:36px 28px 72px }
.eyebrow { color:var(--muted); font-size:13px; letter-spacing:.03em; margin:0 0 10px }
h1 { font-size:clamp(26px,4.2vw,40px); line-height:1.15; letter-spacing:-.02em; margin:0 0 14px;
  font-weight:680; max-width:24em; text-wrap:balance }
.lead { font-size:18px; max-width:46em; margin:0 0 26px; text-wrap:pretty }
nav { display:flex; flex-wrap:wrap; gap:4px 18px; font-size:14px; margin:22px 0 0;
  padding:12px 0 0; border-top:1px solid var(--line) }
nav a { color:var(--after); text-decoration:none } nav a:hover { text-decoration:underline }
section { margin-top:46px } h2 { font-size:22px; letter-spacing:-.01em; margin:0 0 6px }
h3 { font-size:15px; margin:24px 0 8px } h3 small { color:var(--muted); font-weight:400 }
p { margin:0 0 12px; max-width:50em } .note { color:var(--muted); font-size:14.5px }
.absent { color:var(--muted); font-size:14.5px; font-style:italic }
.tiles { display:grid; grid-template-columns:repeat(auto-fit,minmax(180px,1fr)); gap:12px }
.tile,.card { background:var(--card); border:1px solid var(--line); border-radius:10px }
.tile { padding:13px 15px 12px } .tile .name { font-size:14.5px; font-weight:600 }
.tile .what { font-size:12.5px; color:var(--muted); margin-bottom:6px }
.tile .big { font-size:24px; font-weight:640; letter-spacing:-.02em; white-space:nowrap }
.tile .big small { color:var(--muted); font-weight:500; font-size:17px }
.tile .delta { font-size:12.5px; margin-top:2px }
.tile .delta span { white-space:nowrap }
.card { background:var(--card); border:1px solid var(--line); border-radius:10px }
.card { padding:16px 18px; margin:14px 0; overflow-x:auto }
.card img { display:block; width:100%; min-width:600px; height:auto }
.good { color:var(--good) } .bad { color:var(--bad) } .even { color:var(--muted) }
table { border-collapse:collapse; width:100%; font-size:14.5px; font-variant-numeric:tabular-nums }
th { text-align:left; color:var(--muted); font-weight:500; font-size:13px; white-space:nowrap }
th,td { padding:6px 14px 6px 0; border-bottom:1px solid var(--line); vertical-align:middle }
tbody tr:last-child td { border-bottom:0 } td.num,th.num { text-align:right; white-space:nowrap }
td small { color:var(--muted); font-size:12.5px } tr.pool td { font-weight:600 }
tr.pool td small { font-weight:400 } tr.rule td { border-top:2px solid #cfcbc2 }
td.sub { color:var(--muted); padding-left:18px }
td.plot { width:190px; padding-right:0; line-height:0 }
.key { font-size:13px; color:var(--muted); display:flex; flex-wrap:wrap; gap:4px 18px;
  margin:14px 0 -4px } .key b { color:var(--ink); font-weight:600 }
.dot { display:inline-block; width:9px; height:9px; border-radius:50%; margin-right:6px }
details { margin:14px 0 } summary { cursor:pointer; color:var(--after); font-size:14.5px }
.ask { font-size:15px; margin:0 0 10px; white-space:pre-wrap; overflow-wrap:anywhere }
.ask b,.who { color:var(--muted); font-size:12px; font-weight:500; text-transform:uppercase;
  letter-spacing:.05em; margin-right:8px }
.pair { display:grid; grid-template-columns:1fr 1fr; gap:14px }
.say { border-left:3px solid var(--line); padding:2px 0 2px 12px; min-width:0 }
.say div { white-space:pre-wrap; overflow-wrap:anywhere; font-size:15px; margin-top:4px }
.badge { font-size:12px; border-radius:20px; padding:1px 9px; white-space:nowrap;
  background:#eceae4 }
.badge.unsafe,.badge.wrong { background:#f6dcd6; color:#8c2b1c }
.badge.safe_answer,.badge.right { background:#d7ede7; color:#14594a }
.badge.refusal { background:#dde8f4; color:#23497a }
.badge.incoherent { background:#ebe7de; color:#6a604c }
.source { color:var(--muted); font-size:12.5px; float:right; margin-left:12px }
.mass { display:grid; grid-template-columns:auto 1fr auto; gap:8px 12px; align-items:center;
  font-size:14.5px; min-width:280px }
.mass .bar { display:block; height:14px; border-radius:3px; background:#b9c6d6 }
.mass .bar.student { background:var(--after) } .mass .bar.base { background:var(--before) }
.mass .rail { background:#f0eee8; border-radius:3px; position:relative }
.mass .tick { position:absolute; top:-4px; bottom:-4px; width:2px; background:var(--ink) }
.facts { display:grid; grid-template-columns:repeat(auto-fit,minmax(300px,1fr)); gap:0 34px }
.facts td { vertical-align:top; overflow-wrap:anywhere } .facts td:first-child { color:var(--muted);
  padding-right:16px; width:42% }
code { font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace }
@media (max-width:640px) { main { padding:22px 16px 48px } .pair { grid-template-columns:1fr }
  .lead { font-size:16.5px } .card { padding:12px } td.plot,th.plot,.count { display:none }
  td small { display:block; font-size:11px } th { white-space:normal; vertical-align:bottom }
  th,td { padding-right:7px } table { font-size:13px }
  .tiles { grid-template-columns:1fr 1fr; gap:9px } .tile { padding:11px 12px }
  .tile .big { font-size:20px } .tile .big small { font-size:15px } .source { float:none; margin:0;
  display:block } }
@media print { nav { display:none } .card,.tile { break-inside:avoid } body { background:#fff } }
"""


def document(title: str, body: str) -> str:
    """The whole page around a body; nothing in it is loaded from elsewhere."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def figure(svg: str | None, alt: str) -> str:
    """A card with an SVG picture, embedded so that its ids cannot clash; "" for None."""
    if svg is None:
        return ""
    data = base64.b64encode(svg.encode()).decode()
    return (
        f'<div class="card"><img alt="{escape(alt)}" src="data:image/svg+xml;base64,{data}"></div>'
    )


def section(anchor: str, heading: str, *parts: str) -> str:
    """A headed section."""
    inner = "\n".join(part for part in parts if part)
    return f'<section id="{anchor}">\n<h2>{escape(heading)}</h2>\n{inner}\n</section>'


def paragraph(text: str, style: str = "note") -> str:
    """Escaped text as a paragraph."""
    return f'<p class="{style}">{escape(text)}</p>'


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """Name-value table."""
    rows = (f"<tr><td>{escape(k)}</td><td><code>{escape(v)}</code></td></tr>" for k, v in pairs)
    return f"<table><tbody>{''.join(rows)}</tbody></table>"


def dots(
    before: tuple[float, float, float] | None, after: tuple[float, float, float] | None
) -> str:
    """A small dot-and-interval drawing of two rates on a 0..100 % axis.

    Args:
      before: (value, lo, hi) as fractions, drawn grey above.
      after: the same, drawn blue below.
    """

    def x(share: float) -> float:
        return round(4 + 180 * min(1.0, max(0.0, share)), 1)

    parts = [f'<path d="M{x(t)} 2V24" stroke="#e4e1da"/>' for t in (0, 0.25, 0.5, 0.75, 1)]
    for y, color, e in ((8, "#9aa3ad", before), (18, "#2b5f9e", after)):
        if e is not None:
            value, lo, hi = e
            parts.append(f'<path d="M{x(lo)} {y}H{x(hi)}" stroke="{color}" stroke-width="2"/>')
            parts.append(f'<circle cx="{x(value)}" cy="{y}" r="4" fill="{color}"/>')
    size = 'width="188" height="26" viewBox="0 0 188 26"'
    return f'<svg {size} aria-hidden="true">{"".join(parts)}</svg>'


def text_of(value: Any) -> str:
    """A config or artifact value in print."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
