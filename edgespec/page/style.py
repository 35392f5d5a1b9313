"""The page's style sheet: two palettes, one column, and what changes on paper."""

from __future__ import annotations

_LIGHT = """\
    --paper: #ffffff; --panel: #f6f7f9; --ink: #1b1f24; --soft: #59636e; --rule: #e2e6ea;
    --faster: #0b7a6b; --slower: #b4490f; --unsure: #8b949e; --reference: #b4bdc6; --whisker: #1b1f24;
    --faster-rgb: 11 122 107; --slower-rgb: 180 73 15; --band: 27 31 36; --warn: #8a5a00; --warn-panel: #fff6e0;
    --hue-1: #0b7a6b; --hue-2: #1f5fae; --hue-3: #7a3f98; --hue-4: #7a6000; --hue-5: #b02a5b; --hue-6: #4b5563;
    --target: #4f6479; --draft: #0b7a6b; --rest: #96600a;
"""
_DARK = """\
    --paper: #14171b; --panel: #1c2026; --ink: #e7eaee; --soft: #9aa5b1; --rule: #2c323a;
    --faster: #3fb8a5; --slower: #e58a4f; --unsure: #77818c; --reference: #56606b; --whisker: #e7eaee;
    --faster-rgb: 63 184 165; --slower-rgb: 229 138 79; --band: 231 234 238; --warn: #e3b34c; --warn-panel: #2a2413;
    --hue-1: #3fb8a5; --hue-2: #7fb2f0; --hue-3: #c79be6; --hue-4: #d0b94e; --hue-5: #ef8fb0; --hue-6: #aab4c0;
    --target: #8fa6bf; --draft: #3fb8a5; --rest: #dca84a;
"""
_HUES = "\n".join(
    f"svg .hue-{n} {{ --hue: var(--hue-{n}); }}" for n in range(1, 7)
)  # a series and the label at its end have the same class

STYLE = (
    f"""\
:root {{
{_LIGHT}}}
@media (prefers-color-scheme: dark) {{
  :root {{
{_DARK}  }}
}}
"""
    + """\
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  -webkit-text-size-adjust: 100%;
}
main { max-width: 1008px; margin: 0 auto; padding: 48px 24px 72px; }
h1 { font-size: 25px; line-height: 1.35; font-weight: 600; margin: 6px 0 14px; text-wrap: pretty; }
h2 { font-size: 19px; font-weight: 600; margin: 0 0 6px; }
h3 { font-size: 15px; font-weight: 600; margin: 26px 0 4px; }
section { margin-top: 44px; padding-top: 22px; border-top: 1px solid var(--rule); }
.unbroken { white-space: nowrap; }
.against { font-size: 16px; margin: 0 0 12px; max-width: 72ch; }
.eyebrow { margin: 0; font-size: 13px; color: var(--soft); }
.facts, .lead { color: var(--soft); margin: 0 0 14px; max-width: 76ch; }
.scroll + .lead { margin-top: 10px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(168px, 1fr)); gap: 12px; margin-top: 22px; }
.tile { background: var(--panel); border-radius: 6px; padding: 14px 16px; border-left: 3px solid var(--rule); }
.tile strong {
  display: block; font-size: 20px; font-weight: 600; font-variant-numeric: tabular-nums; white-space: nowrap;
}
.tile span { font-size: 13px; color: var(--soft); }
.tile.faster { border-color: var(--faster); } .tile.slower { border-color: var(--slower); }
.tile.unsure { border-color: var(--unsure); }
.banner {
  background: var(--warn-panel); border: 1px solid var(--warn); border-left-width: 5px; border-radius: 6px;
  padding: 12px 16px; margin: 0 0 26px;
}
.banner strong { color: var(--warn); }
aside { margin-top: 26px; padding: 14px 18px; background: var(--panel); border-radius: 6px; }
aside h2 { font-size: 15px; }
nav { display: flex; flex-wrap: wrap; gap: 4px 18px; margin-top: 26px; font-size: 14px; }
a { color: var(--hue-2); text-underline-offset: 2px; }
ul { margin: 8px 0 0; padding-left: 20px; } li { margin: 3px 0; max-width: 80ch; overflow-wrap: anywhere; }
/* what is wider than the page scrolls in its own frame; a shade at the edge says that there is more */
.scroll {
  overflow-x: auto;
  background:
    linear-gradient(to right, var(--paper) 30%, transparent) left / 36px 100%,
    linear-gradient(to left, var(--paper) 30%, transparent) right / 36px 100%,
    linear-gradient(to right, rgb(var(--band) / .16), transparent) left / 10px 100%,
    linear-gradient(to left, rgb(var(--band) / .16), transparent) right / 10px 100%;
  background-repeat: no-repeat; background-attachment: local, local, scroll, scroll;
}
.scroll:focus-visible, a:focus-visible, summary:focus-visible { outline: 2px solid var(--hue-2); outline-offset: 2px; }
.chart { margin: 10px 0 6px; }
svg { display: block; width: 100%; height: auto; }
.chart.slim { display: none; }
svg text { font-family: inherit; font-size: 12px; fill: var(--ink); font-variant-numeric: tabular-nums; }
svg .value, svg .label { paint-order: stroke; stroke: var(--paper); stroke-width: 3px; stroke-linejoin: round; }
svg .tick { fill: var(--soft); font-size: 11.5px; }
svg .grid { stroke: var(--rule); stroke-width: 1; }
svg .one { stroke: var(--ink); stroke-width: 1.2; stroke-dasharray: 4 3; }
svg .band { fill: rgb(var(--band) / .1); }
svg .whisker { stroke: var(--whisker); stroke-width: 1.4; }
svg .faster .bar { fill: var(--faster); } svg .slower .bar, svg .loss .bar { fill: var(--slower); }
svg .unsure .bar { fill: var(--unsure); } svg .reference .bar { fill: var(--reference); }
svg .control .bar { fill: none; stroke: var(--soft); stroke-width: 1.4; stroke-dasharray: 3 2; }
svg .target .bar { fill: var(--target); } svg .draft .bar { fill: var(--draft); } svg .rest .bar { fill: var(--rest); }
svg .unsplit .bar { fill: var(--reference); }
svg .inside { fill: var(--paper); font-size: 11.5px; } svg .inside.unsplit { fill: var(--ink); }
svg .end { stroke: var(--ink); stroke-width: 1.6; } svg .step { stroke: var(--soft); stroke-width: 1; }
"""
    + _HUES
    + """
svg .curve { fill: none; stroke: var(--hue); stroke-width: 2; }
svg .series .dot { fill: var(--hue); } svg .series .whisker { stroke: var(--hue); }
svg .dashed .curve { stroke-dasharray: 5 4; stroke-width: 1.5; }
svg .dashed .dot { fill: var(--paper); stroke: var(--hue); stroke-width: 1.5; }
svg .label.series { fill: var(--hue); } svg .label.tick { fill: var(--soft); }
svg .leader { stroke: var(--unsure); stroke-width: 1; }
svg.meter { display: inline-block; width: 72px; margin-right: 9px; vertical-align: middle; }
svg.meter .bar { fill: var(--reference); } svg.meter .whisker { stroke: var(--soft); stroke-width: 1.2; }
table { border-collapse: collapse; width: 100%; margin-top: 12px; font-size: 13px; font-variant-numeric: tabular-nums; }
table.narrow { width: auto; }
th, td { text-align: right; padding: 6px 9px; border-bottom: 1px solid var(--rule); white-space: nowrap; }
thead th { font-weight: 500; color: var(--soft); vertical-align: bottom; }
tbody th { font-weight: 400; }
th:first-child { text-align: left; padding-left: 0; }
td.verdict.faster { color: var(--faster); font-weight: 600; }
td.verdict.slower { color: var(--slower); font-weight: 600; }
.worded td:last-child, .worded th:last-child, .worded-2 td:nth-child(2), .worded-2 th:nth-child(2) {
  text-align: left; white-space: normal; min-width: 240px;
}
.heat td { padding: 4px 8px; border-left: 2px solid var(--paper); }
.heat small { display: block; font-size: 11px; color: var(--soft); font-weight: 400; }
.heat td small { color: inherit; }
.beside { width: auto; min-width: 60%; } .beside td small { display: inline; margin-left: 8px; }
.heat .heat-1 { --shade: .1; } .heat .heat-2 { --shade: .2; }
.heat .heat-3 { --shade: .3; } .heat .heat-4 { --shade: .42; }
.heat .faster { background: rgb(var(--faster-rgb) / var(--shade)); }
.heat .slower { background: rgb(var(--slower-rgb) / var(--shade)); }
.heat .cell:not(.faster):not(.slower) { color: var(--soft); }
dl {
  display: grid; grid-template-columns: minmax(120px, max-content) 1fr; gap: 5px 22px; margin: 12px 0 0;
  font-size: 14px;
}
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
details { margin-top: 16px; } summary { cursor: pointer; font-weight: 500; }
@media screen and (max-width: 680px) {
  .chart.wide { display: none; } .chart.slim { display: block; }
  tbody th { white-space: normal; min-width: 116px; position: sticky; left: 0; background: var(--paper); }
  main { padding: 28px 16px 48px; }
  h1 { font-size: 21px; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: 8px; }
  .tiles { grid-template-columns: 1fr 1fr; gap: 8px; } .tile { padding: 10px 12px; }
  .tile strong { font-size: 17px; white-space: normal; }
}
@page { size: A4; margin: 14mm 13mm; }
@media print {
  :root {
"""
    + _LIGHT
    + """    --ink: #111111; --soft: #505860;
  }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  body { font-size: 11.5px; }
  main { max-width: none; padding: 0; }
  nav { display: none; }
  h1 { font-size: 19px; } h2 { font-size: 15px; } h3 { font-size: 12.5px; margin-top: 14px; }
  h2, h3, .lead, summary { break-after: avoid; } .lead { break-inside: avoid; } .scroll + .lead { break-after: auto; }
  section { margin-top: 20px; padding-top: 12px; }
  aside, .banner, .tiles, .tile, .chart, tr { break-inside: avoid; }
  thead { display: table-header-group; }
  .tile strong { font-size: 15px; } .tile span { font-size: 10.5px; }
  .tiles { grid-template-columns: repeat(auto-fit, minmax(120px, 1fr)); gap: 8px; }
  .scroll { overflow: visible; background: none; }
  table { font-size: 9.5px; } th, td { padding: 3px 5px; } .heat small { font-size: 8.5px; }
  svg.meter { width: 44px; margin-right: 5px; }
  dl { font-size: 10.5px; gap: 2px 16px; }
  details > summary { list-style: none; }
}
"""
)
