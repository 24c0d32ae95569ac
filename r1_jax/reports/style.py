"""The report's style sheet."""

CSS = """
:root { color-scheme: light; --ink: #1f2933; --muted: #66727f; --line: #e1e6eb; --soft: #f6f8fa;
  --accent: #0072b2; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--soft); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans",
  sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 19px; margin: 40px 0 12px; }
h3 { font-size: 15px; margin: 0 0 8px; }
p { margin: 0 0 8px; max-width: 80ch; }
.muted, figcaption { color: var(--muted); }
.notes { border-left: 4px solid #e69f00; background: #fff8e6; padding: 10px 14px; margin: 16px 0;
  border-radius: 0 6px 6px 0; }
.notes ul { margin: 0; padding-left: 18px; }
.chips { display: flex; flex-wrap: wrap; gap: 6px; margin: 14px 0 0; padding: 0; list-style: none; }
.chips li { background: #fff; border: 1px solid var(--line); border-radius: 999px;
  padding: 2px 11px; font-size: 13px; }
.chips b { font-weight: 600; }
.tiles { display: grid; gap: 12px; margin: 22px 0 0;
  grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); }
.tile, .card { background: #fff; border: 1px solid var(--line); border-radius: 10px; }
.tile { padding: 14px 16px; }
.tile .name { color: var(--muted); font-size: 13px; }
.tile .value { font-size: 26px; font-weight: 650; line-height: 1.25; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
.tile .base { color: var(--muted); font-size: 18px; font-weight: 400; }
.tile .remark { color: var(--muted); font-size: 12.5px; line-height: 1.4; }
.figures { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 16px; }
.card { margin: 0; padding: 16px 18px; min-width: 0; }
.card.wide { grid-column: 1 / -1; }
.card img { display: block; width: 100%; height: auto; }
figcaption { font-size: 13px; margin-top: 8px; }
figcaption b { color: var(--ink); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 14px 5px 0; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th { color: var(--muted); font-weight: 600; }
th:first-child, td:first-child, th.text { text-align: left; }
td.text { text-align: left; white-space: normal; overflow-wrap: anywhere; }
.story { margin: 0 0 18px; }
.story .question { background: var(--soft); border-radius: 6px; padding: 8px 12px; margin: 0 0 12px;
  max-width: none; overflow-wrap: anywhere; }
.columns { display: grid; grid-auto-flow: column; grid-auto-columns: minmax(230px, 1fr); gap: 14px;
  overflow-x: auto; }
.cell { min-width: 0; border-top: 3px solid var(--line); padding-top: 8px; }
.cell.right { border-color: #009e73; }
.cell.wrong { border-color: #d55e00; }
.cell header { font-size: 13px; color: var(--muted); margin-bottom: 6px; }
.cell header b { color: var(--ink); font-size: 15px; }
.cell.right .verdict { color: #00795a; font-weight: 600; }
.cell.wrong .verdict { color: #b34a00; font-weight: 600; }
pre { font: 12.5px/1.55 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono",
  monospace;
  white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; max-height: 460px; overflow-y: auto; }
pre mark { background: #fff0b3; color: inherit; border-radius: 3px; padding: 0 2px; }
pre .tag { color: var(--accent); }
details { background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: 10px 16px;
  margin: 0 0 10px; }
summary { cursor: pointer; font-weight: 600; }
details > :last-child { margin-top: 10px; }
@media (max-width: 800px) { .figures { grid-template-columns: minmax(0, 1fr); } }
@media print { body { background: #fff; } pre { max-height: none; } }
"""
