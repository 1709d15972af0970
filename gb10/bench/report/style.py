"""Colours and the style sheet of all pages: a light and a dark theme, wide and narrow screens, paper.

Text keeps a contrast of 4.5 to its ground and lines one of 3 (WCAG 2.2, 1.4.3 and 1.4.11); the tests compute
both.
"""

from __future__ import annotations

LIGHT = {
    "page": "#f5f6f4", "card": "#ffffff", "ink": "#17191c", "muted": "#565d66", "rule": "#d9dcd8",
    "grid": "#e4e7e4", "axis": "#878e96", "band0": "#f1f4f8", "band1": "#e5eaf1", "alarm": "#fdecea",
    "alarm-ink": "#84160f", "alarm-rule": "#c5281c", "note": "#fdf5dd", "note-ink": "#5e4700",
    "note-rule": "#a87f00", "link": "#0b57b0", "c0": "#0b62c4", "c1": "#b8480b", "c2": "#1a7f4b",
    "c3": "#8a3ab9", "c4": "#ab2430", "c5": "#00747f", "c6": "#776000", "c7": "#a8326e",
}
DARK = {
    "page": "#111417", "card": "#1a1e23", "ink": "#e9ebee", "muted": "#a6aeb7", "rule": "#343a41",
    "grid": "#2b3138", "axis": "#7d858f", "band0": "#20262d", "band1": "#28303a", "alarm": "#3b1614",
    "alarm-ink": "#ffd0ca", "alarm-rule": "#ff7a6d", "note": "#332a0c", "note-ink": "#f6dd94",
    "note-rule": "#d3a81f", "link": "#8cbcff", "c0": "#6fb1ff", "c1": "#ff9a5c", "c2": "#5fd093",
    "c3": "#cf9bff", "c4": "#ff8a84", "c5": "#4fd0dc", "c6": "#d9c04a", "c7": "#ff8fc4",
}


def variables(colours: dict[str, str]) -> str:
    return ";".join(f"--{name}:{value}" for name, value in colours.items())


CHART = """
.chart{display:block;width:100%;height:auto;font-size:13px;overflow:visible}
.chart text{fill:var(--muted)}
.chart .strong{fill:var(--ink)}
.chart .rim{paint-order:stroke;stroke:var(--card);stroke-width:4px;stroke-linejoin:round}
.chart line{shape-rendering:crispEdges}
.chart .grid{stroke:var(--grid)}.chart .axis{stroke:var(--axis)}
.chart .one{stroke:var(--ink);stroke-width:1.5}
.chart .cut,.chart .limit{stroke:var(--muted);stroke-dasharray:4 4}
.chart .line{fill:none;stroke:var(--s);stroke-width:2.2;stroke-linejoin:round}
.chart .thin{stroke-width:1.6}
.chart .area{fill:var(--s);opacity:.16}
.chart .dot{fill:var(--s);stroke:var(--card);stroke-width:1.2}
.chart .near,.chart .tip{fill:var(--ink);fill-opacity:0}
.chart .mark:hover .dot{stroke:var(--ink);stroke-width:2}.chart .tip:hover{fill-opacity:.09}
.chart .band0{fill:var(--band0)}.chart .band1{fill:var(--band1)}
.chart .whisker{fill:none;stroke:var(--s);stroke-width:2.5}
.chart .shown{--s:var(--c0)}.chart .open{--s:var(--muted)}
.chart .open .dot{fill:var(--card);stroke:var(--s);stroke-width:2}
""" + "".join(f".s{i}{{--s:var(--c{i})}}" for i in range(8))

CSS = f""":root{{color-scheme:light dark;{variables(LIGHT)}}}
@media screen and (prefers-color-scheme:dark){{:root{{{variables(DARK)}}}}}
""" + """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1120px;margin:0 auto;padding:40px 24px 56px}
h1{font-size:1.9rem;line-height:1.2;letter-spacing:-.01em;margin:0 0 10px;overflow-wrap:anywhere}
h2{font-size:1.2rem;line-height:1.3;margin:0 0 12px}
h3{font-size:1rem;line-height:1.35;margin:0 0 4px}
p{margin:0 0 10px}
section{margin-top:36px}
ul{margin:0;padding-left:1.2em}li{margin:0 0 6px}
.kicker,.small,figcaption p,footer{color:var(--muted);font-size:.875rem}
.kicker{margin:0 0 6px}
.lead{font-size:1.06rem;max-width:70ch}
.facts{display:flex;flex-wrap:wrap;gap:6px 32px;margin:16px 0 0}
.facts dt,.rows dt{color:var(--muted);font-size:.875rem}
.facts dd{margin:0;overflow-wrap:anywhere}
.rows{display:grid;grid-template-columns:minmax(9em,max-content) 1fr;gap:6px 24px;margin:0}
.rows dd{margin:0;overflow-wrap:anywhere}
.alarm,.note{border-left:5px solid var(--alarm-rule);background:var(--alarm);color:var(--alarm-ink);
padding:16px 20px;border-radius:4px;margin-top:28px}
.alarm h2{font-size:1.1rem;margin-bottom:6px}
.note{border-color:var(--note-rule);background:var(--note);color:var(--note-ink)}
.alarm li:last-child,.note li:last-child,.alarm p,.note p{margin:0}
.said{max-width:80ch;overflow-wrap:anywhere}.said li::marker{color:var(--muted)}
.card{background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:18px 20px}
.scroll{overflow-x:auto;background:var(--card);border:1px solid var(--rule);border-radius:8px}
.scroll:focus-visible,summary:focus-visible{outline:2px solid var(--link);outline-offset:2px}
table{border-collapse:separate;border-spacing:0;width:100%;font-size:.9375rem;
font-variant-numeric:tabular-nums}
th,td{padding:8px;text-align:right;vertical-align:baseline;white-space:nowrap}
th{font-weight:600}
thead th{vertical-align:bottom;color:var(--muted);font-size:.8125rem}
thead th[colspan]{border-bottom:1px solid var(--rule);text-align:center}
tbody th,tbody td{border-top:1px solid var(--rule)}
tbody th,.left{text-align:left}
th:first-child,td:first-child{padding-left:16px}th:last-child,td:last-child{padding-right:16px}
.wrap{white-space:normal;min-width:14em;overflow-wrap:anywhere}
td small,th small{color:var(--muted);font-weight:400;font-size:.75rem}
.edge{border-left:1px solid var(--rule)}
.pictures{display:grid;gap:20px;margin-top:20px}h2+.pictures{margin-top:0}
.of2,.of4{grid-template-columns:repeat(2,minmax(0,1fr))}.of3{grid-template-columns:repeat(3,minmax(0,1fr))}
figure{margin:0;min-width:0;display:flex;flex-direction:column}figure>div{margin-top:auto}
figcaption{margin-bottom:14px}figcaption p{margin:0;max-width:90ch}
.on-middle,.on-narrow{display:none}
details{background:var(--card);border:1px solid var(--rule);border-radius:8px;margin-top:12px}
summary{padding:12px 20px;font-weight:600;cursor:pointer;border-radius:8px}
details>.inside{padding:4px 20px 18px}
table.meta td,table.meta th{text-align:left;white-space:normal;overflow-wrap:anywhere;padding:6px 8px 6px 0}
.meta th{width:30%;font-weight:400;color:var(--muted);vertical-align:top}
code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.875em}
.under{margin-top:12px}h3.under{margin-top:18px}
footer{margin-top:40px}
@media (max-width:1000px){.of3{grid-template-columns:repeat(auto-fill,minmax(300px,1fr))}}
@media (max-width:900px){.of1 .on-wide{display:none}.of1 .on-middle{display:block}}
@media (max-width:820px){
.of2,.of4{grid-template-columns:minmax(0,1fr)}.of2 .chart,.of4 .chart{max-width:560px}}
@media (max-width:640px){
main{padding:24px 14px 40px}h1{font-size:1.5rem}.of3{grid-template-columns:minmax(0,1fr)}
.on-wide,.of1 .on-middle{display:none}.on-narrow{display:block}
.card{padding:14px 14px}.facts{flex-direction:column;gap:8px}
.rows{grid-template-columns:minmax(0,1fr);gap:0}.rows dd{margin-bottom:10px}
.stick{position:sticky;left:0;z-index:1;background:var(--card)}
.stick.first{min-width:5.6em;max-width:5.6em;overflow:hidden;text-overflow:ellipsis}.stick.second{left:5.6em}
th:first-child,td:first-child{padding-left:12px}}
@media print{
main{max-width:none;padding:0}.card,.scroll,figure,tr{break-inside:avoid}.tip,.near{display:none}}
""" + CHART
