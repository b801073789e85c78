"""How a report looks: light and dark, on a desk and on a phone, without any other file."""

CLASSES = """
svg { display: block; width: 100%; height: auto; overflow: visible;
  font: 13px ui-sans-serif, system-ui, sans-serif; font-variant-numeric: tabular-nums; }
svg text { fill: var(--soft); }
svg .strong { fill: var(--second); font-weight: 620; }
svg .mid { text-anchor: middle; } svg .end { text-anchor: end; } svg .start { text-anchor: start; }
svg .grid { stroke: var(--rule); }
svg .rule { stroke: var(--soft); stroke-dasharray: 2 4; }
svg .mark { stroke: var(--second); stroke-width: 1.6; stroke-dasharray: 5 4; }
svg .area { fill: var(--area); stroke: var(--accent); stroke-width: 1.4; }
svg .line { fill: none; stroke-width: 1.9; stroke-linejoin: round; stroke-linecap: round; }
svg path.training { stroke: var(--accent); } svg circle.training { fill: var(--accent); }
svg path.held-out { stroke: var(--second); } svg circle.held-out { fill: var(--second); }
"""

PAGE = """
:root { color-scheme: light dark;
  --paper: #fcfbf9; --card: #ffffff; --ink: #1d1c1a; --soft: #6b6761; --rule: #e7e3dc;
  --accent: #2f5fd0; --area: #2f5fd033; --second: #c2571a; --well: #f3f0ea; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #141517; --card: #1b1d20; --ink: #e9e6e1; --soft: #9b9790; --rule: #2e3034;
  --accent: #86a8ff; --area: #86a8ff38; --second: #f0985f; --well: #22252a; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 17px/1.55 ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
main { max-width: 1080px; margin: 0 auto; padding: 56px 28px 40px; }
h1, h2, h3 { line-height: 1.2; letter-spacing: -0.015em; margin: 0; text-wrap: balance; }
h1 { font-size: clamp(30px, 5vw, 44px); font-weight: 680; letter-spacing: -0.025em; }
h2 { font-size: 25px; font-weight: 650; }
h3 { font-size: 17px; font-weight: 620; margin-bottom: 10px; }
p { margin: 8px 0 0; max-width: 68ch; text-wrap: pretty; }
.lead { font-size: 19px; color: var(--soft); margin-top: 12px; }
.soft { color: var(--soft); }
.eyebrow { font-size: 13px; font-weight: 600; letter-spacing: 0.08em; text-transform: uppercase;
  color: var(--accent); margin: 0 0 10px; }
section { margin-top: 64px; }
.body { margin-top: 24px; }
.body > .body { margin-top: 16px; }
.tiles { display: flex; flex-wrap: wrap; gap: 1px;
  margin: 36px 0 0; background: var(--card); border: 1px solid var(--rule); border-radius: 14px;
  overflow: hidden; }
.tiles > div { flex: 1 1 215px; box-shadow: 0 0 0 1px var(--rule); padding: 20px 22px 18px; }
.tiles dt { font-size: 14px; color: var(--soft); }
.tiles dd { margin: 0; }
.tiles .value { font-size: 34px; font-weight: 640; letter-spacing: -0.03em; line-height: 1.25; }
.tiles .unit { font-size: 17px; font-weight: 500; letter-spacing: 0; color: var(--soft); }
.tiles .note { font-size: 14px; line-height: 1.4; color: var(--soft); margin-top: 2px; }
.triples { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr));
  gap: 22px 26px; }
.triples.large { grid-template-columns: repeat(auto-fill, minmax(min(480px, 100%), 1fr)); }
.triples figure { margin: 0; }
.triples .row { display: grid; grid-auto-flow: column; grid-auto-columns: 1fr; gap: 6px; }
.triples .row .soft { font-size: 13px; line-height: 1.3; margin-top: 3px; }
.triples figcaption { font-size: 14px; color: var(--soft); margin-top: 5px; }
img { display: block; width: 100%; height: auto; border-radius: 5px; background: var(--well); }
img.px { image-rendering: crisp-edges; image-rendering: pixelated; }
.two { display: grid; grid-template-columns: minmax(0, 1.15fr) minmax(0, 1fr); gap: 36px;
  align-items: center; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(300px, 100%), 1fr));
  gap: 28px; }
figure { margin: 0; }
.atlas { display: grid; grid-template-columns: repeat(auto-fill, minmax(38px, 1fr)); gap: 4px; }
.atlas img { border-radius: 3px; }
.samples { display: grid; grid-template-columns: repeat(auto-fit, minmax(270px, 1fr)); gap: 32px; }
.classes { display: grid; grid-template-columns: fit-content(7.5em) 1fr; gap: 4px 12px;
  align-items: center; font-size: 13px; color: var(--soft); line-height: 1.2; }
.strip { display: grid; grid-template-columns: repeat(var(--columns), 1fr); gap: 3px; }
.strip img { border-radius: 3px; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(108px, 1fr)); gap: 14px; }
.bars { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(440px, 100%), 1fr));
  gap: 10px 44px; font-size: 15px; }
.bars > div { display: grid; grid-template-columns: 8em 1fr 6.6em; gap: 12px; align-items: center; }
.bars > div > :last-child { text-align: right; white-space: nowrap; }
.track { position: relative; height: 12px; border-radius: 3px; background: var(--well); }
.track b { position: absolute; inset: 0 auto 0 0; border-radius: 3px; background: var(--accent); }
.track i { position: absolute; top: -3px; bottom: -3px; border-left: 2px solid var(--second); }
.cards figcaption { font-size: 13px; line-height: 1.35; color: var(--soft); margin-top: 5px; }
pre.text { margin: 0; padding: 9px 12px; border-radius: 5px; background: var(--well);
  font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; white-space: pre-wrap;
  overflow-wrap: anywhere; unicode-bidi: isolate; overflow: hidden; }
pre.text mark { background: var(--second); color: var(--paper); border-radius: 2px; }
pre.text i { font-style: normal; font-size: 10px; border: 1px solid currentColor;
  border-radius: 3px; padding: 0 2px; }
.texts { display: grid; gap: 14px; }
.texts .row { display: grid; gap: 8px; grid-template-columns: 1fr 1fr; }
.facts { border-collapse: collapse; width: 100%; font-size: 15px; }
.facts th { text-align: left; font-weight: 500; color: var(--soft); }
.facts th, .facts td { padding: 9px 14px 9px 0; border-bottom: 1px solid var(--rule);
  vertical-align: top; }
.facts th { overflow-wrap: break-word; }
.facts td { text-align: right; padding-right: 0; overflow-wrap: normal; }
.facts tr.sum > * { font-weight: 640; color: var(--ink); }
.scroll { overflow-x: auto; }
.facts td + td { padding-left: 28px; }
.facts tr:last-child > * { border-bottom: 0; }
.health { margin: 0; padding: 0; list-style: none; }
.health li { border-left: 3px solid var(--second); padding: 2px 0 2px 16px; margin-top: 14px; }
code { font: 0.88em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
@CLASSES@
.key { display: inline-block; width: 18px; height: 0; border-top: 3px solid; border-radius: 2px;
  vertical-align: 4px; margin-right: 6px; }
.key.training { color: var(--accent); } .key.held-out { color: var(--second); }
footer { margin-top: 72px; padding-top: 18px; border-top: 1px solid var(--rule); font-size: 14px;
  color: var(--soft); }
@media (max-width: 760px) {
  body { font-size: 16px; }
  main { padding: 32px 16px 28px; }
  section { margin-top: 48px; }
  .two, .texts .row { grid-template-columns: 1fr; gap: 20px; }
  .texts .row { gap: 4px; }
  .tiles > div { flex-basis: 40%; padding: 14px 14px 13px; }
  .tiles .value { font-size: 27px; }
  .triples, .triples.large { grid-template-columns: 1fr; }
  .atlas { grid-template-columns: repeat(auto-fill, minmax(32px, 1fr)); gap: 3px; }
  .facts td + td { padding-left: 14px; }
  .strip.wide { grid-template-columns: repeat(5, 1fr); }
  .strip.wide img:nth-child(n + 6) { display: none; }
}
@media print { body { background: #fff; } section { break-inside: avoid; } }
"""

STYLE = PAGE.replace("@CLASSES@", CLASSES)
