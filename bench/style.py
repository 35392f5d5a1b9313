"""The page's style sheet: two palettes, one column, and what changes on paper."""

from __future__ import annotations

STYLE = """\
:root {
  --paper: #ffffff; --panel: #f6f7f9; --ink: #1b1f24; --soft: #59636e; --rule: #e2e6ea;
  --faster: #0b7a6b; --slower: #b4490f; --unsure: #8b949e; --reference: #c3cad2; --whisker: #1b1f24;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171b; --panel: #1c2026; --ink: #e7eaee; --soft: #9aa5b1; --rule: #2c323a;
    --faster: #3fb8a5; --slower: #e58a4f; --unsure: #77818c; --reference: #48515c; --whisker: #e7eaee;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  -webkit-text-size-adjust: 100%;
}
main { max-width: 960px; margin: 0 auto; padding: 48px 24px 72px; }
h1 { font-size: 25px; line-height: 1.35; font-weight: 600; margin: 6px 0 14px; text-wrap: pretty; }
h2 { font-size: 18px; font-weight: 600; margin: 0 0 6px; }
h3 { font-size: 15px; font-weight: 600; margin: 24px 0 4px; }
section { margin-top: 44px; padding-top: 22px; border-top: 1px solid var(--rule); }
.unbroken { white-space: nowrap; }
.beside { font-size: 16px; margin: 0 0 12px; max-width: 72ch; }
.eyebrow { margin: 0; font-size: 13px; color: var(--soft); }
.facts, .lead { color: var(--soft); margin: 0 0 14px; max-width: 74ch; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(165px, 1fr)); gap: 12px; margin-top: 22px; }
.tile { background: var(--panel); border-radius: 6px; padding: 14px 16px; border-left: 3px solid var(--rule); }
.tile strong { display: block; font-size: 21px; font-weight: 600; font-variant-numeric: tabular-nums; }
.tile span { font-size: 13px; color: var(--soft); }
.tile.faster { border-color: var(--faster); } .tile.slower { border-color: var(--slower); }
.tile.unsure { border-color: var(--unsure); }
aside { margin-top: 26px; padding: 14px 18px; background: var(--panel); border-radius: 6px; }
aside h2 { font-size: 15px; }
ul { margin: 8px 0 0; padding-left: 20px; } li { margin: 3px 0; max-width: 78ch; }
.scroll { overflow-x: auto; }
.chart { margin: 10px 0 6px; }
svg { display: block; width: 100%; min-width: 340px; height: auto; }
#speedup-chart, #category-chart, #ladder-chart, #gamma-chart { min-width: 600px; }
svg text { font-family: inherit; font-size: 12px; fill: var(--ink); font-variant-numeric: tabular-nums; }
svg .tick { fill: var(--soft); font-size: 11.5px; }
svg .grid { stroke: var(--rule); stroke-width: 1; }
svg .one { stroke: var(--ink); stroke-width: 1.2; stroke-dasharray: 4 3; }
svg .whisker { stroke: var(--whisker); stroke-width: 1.4; }
svg .faster .bar { fill: var(--faster); } svg .slower .bar, svg .loss .bar { fill: var(--slower); }
svg .unsure .bar { fill: var(--unsure); } svg .reference .bar { fill: var(--reference); }
svg .curve { fill: none; stroke-width: 2; }
svg .measured .curve { stroke: var(--faster); } svg .measured .dot { fill: var(--faster); }
svg .predicted .curve { stroke: var(--unsure); stroke-dasharray: 5 4; }
svg .predicted .dot { fill: var(--paper); stroke: var(--unsure); stroke-width: 1.8; }
svg .label.measured { fill: var(--faster); } svg .label.predicted, svg .label.tick { fill: var(--soft); }
table { border-collapse: collapse; width: 100%; margin-top: 12px; font-size: 13px; font-variant-numeric: tabular-nums; }
table.narrow { width: auto; }
th, td { text-align: right; padding: 6px 9px; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th { font-weight: 500; color: var(--soft); }
#sameness td:last-child, #sameness th:last-child, #settings td:nth-child(2), #settings th:nth-child(2) {
  text-align: left; white-space: normal;
}
.scroll + .lead { margin-top: 10px; }
dl {
  display: grid; grid-template-columns: minmax(120px, max-content) 1fr; gap: 5px 22px; margin: 12px 0 0;
  font-size: 14px;
}
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
details { margin-top: 16px; } summary { cursor: pointer; font-weight: 500; }
@media print {
  :root {
    --paper: #fff; --panel: #f6f7f9; --ink: #111; --soft: #555; --rule: #ddd; --whisker: #111;
    --faster: #0b7a6b; --slower: #b4490f; --unsure: #8b949e; --reference: #c3cad2;
  }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  main { max-width: none; padding: 0; }
  section { break-inside: avoid-page; margin-top: 26px; }
  svg, table, aside, .tiles { break-inside: avoid; }
  .scroll { overflow: visible; }
  table { font-size: 9.5px; } th, td { padding: 4px 5px; }
}
"""
