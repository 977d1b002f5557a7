"""How the page looks and what it does when one clicks. Colours follow the reader's light or dark mode."""

CSS = """
:root { color-scheme: light dark; --back: #f6f7f9; --card: #fff; --text: #17202c; --soft: #5d6b7e; --line: #e1e5eb;
  --good: #2563eb; --bad: #dc2626; --track: #edf0f4; }
@media (prefers-color-scheme: dark) { :root { --back: #0e1217; --card: #171d25; --text: #e6ebf2; --soft: #93a1b5;
  --line: #2a333f; --good: #5b9bff; --bad: #f2706b; --track: #242c37; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--text); font: 15px/1.5 system-ui, -apple-system, "Segoe UI",
  Roboto, "Noto Sans", "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 26px; line-height: 1.25; letter-spacing: -0.015em; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 0 0 4px; letter-spacing: -0.01em; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 20px 22px 22px;
  margin-top: 18px; }
p { margin: 0; }
.soft { color: var(--soft); }
.note { color: var(--soft); font-size: 13.5px; margin: 0 0 14px; max-width: 80ch; }
.num { font-variant-numeric: tabular-nums; }
.path { font: 12.5px/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin-top: 18px; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 14px 16px 12px; }
.tile b { display: block; font-size: 27px; line-height: 1.2; letter-spacing: -0.02em;
  font-variant-numeric: tabular-nums; }
.tile span { display: block; font-size: 13px; color: var(--soft); }
.tile.first b { color: var(--good); }
.tile.alarm { border-color: var(--bad); }
.tile.alarm b { color: var(--bad); }
.pair { display: grid; grid-template-columns: 1fr; gap: 0 18px; }
.pair > section { min-width: 0; }
@media (min-width: 900px) { .pair { grid-template-columns: 3fr 2fr; align-items: stretch; } }
dl.facts { display: grid; grid-template-columns: minmax(84px, max-content) 1fr; gap: 5px 16px; margin: 10px 0 0;
  font-size: 14px; }
dl.facts dt { color: var(--soft); }
dl.facts dd { margin: 0; overflow-wrap: anywhere; }
details { margin-top: 14px; font-size: 14px; }
summary { cursor: pointer; color: var(--soft); }
pre { overflow: auto; max-height: 420px; margin: 8px 0 0; padding: 12px; border-radius: 8px; background: var(--back);
  font: 12px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.scroll { overflow-x: auto; margin: 0 -22px; padding: 0 22px; }
table { border-collapse: collapse; font-size: 14px; }
table.classes { width: 100%; }
.classes th { text-align: left; font-weight: 600; font-size: 12.5px; color: var(--soft); white-space: nowrap;
  border-bottom: 1px solid var(--line); padding: 0; }
.classes th button { all: unset; cursor: pointer; padding: 6px 14px 6px 0; }
.classes th button:focus-visible { outline: 2px solid var(--good); border-radius: 4px; }
.classes th[aria-sort=ascending] button::after { content: " \\2191"; }
.classes th[aria-sort=descending] button::after { content: " \\2193"; }
.classes td { padding: 5px 14px 5px 0; border-bottom: 1px solid var(--line); vertical-align: middle; }
.classes tr:last-child td { border-bottom: none; }
.classes td.num { white-space: nowrap; }
.classes td.name { overflow-wrap: anywhere; min-width: 92px; }
.long { max-height: 560px; overflow: auto; }
.long th { position: sticky; top: 0; background: var(--card); z-index: 1; }
.bar { display: grid; grid-template-columns: minmax(50px, 1fr) 62px; gap: 10px; align-items: center; }
.bar i { display: block; height: 12px; border-radius: 4px; overflow: hidden; background: linear-gradient(var(--good),
  var(--good)) no-repeat 0 0 / calc(var(--p) * 100%) 100% var(--track); }
.bar.bad i { background-image: linear-gradient(var(--bad), var(--bad)); }
input[type=search] { font: inherit; font-size: 14px; color: inherit; background: var(--back); width: 100%;
  max-width: 300px; border: 1px solid var(--line); border-radius: 8px; padding: 7px 10px; margin: 0 0 10px; }
ol.pairs { list-style: none; padding: 0; margin: 0; font-size: 14px; columns: 2 330px; column-gap: 34px; }
ol.pairs li { break-inside: avoid; padding: 6px 0; border-bottom: 1px solid var(--line); }
.pair ol.pairs { columns: auto; }
ol.pairs li:last-child { border-bottom: none; }
ol.pairs .bar { grid-template-columns: 1fr 104px; }
.cells th { font-weight: 500; font-size: 12.5px; }
.cells thead th { vertical-align: bottom; padding: 0 0 6px; }
.cells thead th span { writing-mode: vertical-rl; transform: rotate(180deg); display: inline-block; max-height: 150px;
  overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.cells tbody th { text-align: right; padding: 0 10px 0 0; white-space: nowrap; position: sticky; left: 0;
  background: var(--card); max-width: 170px; overflow: hidden; text-overflow: ellipsis; }
.cells td { min-width: 44px; height: 38px; text-align: center; border: 2px solid var(--card); border-radius: 6px;
  font-variant-numeric: tabular-nums; font-size: 13px; background: var(--track); }
.cells.many td { min-width: 34px; height: 32px; font-size: 12px; border-width: 1px; border-radius: 4px; }
.cells td.b { background: color-mix(in srgb, var(--bad) calc(12% + var(--p) * 88%), var(--track)); }
.cells td.g { background: color-mix(in srgb, var(--good) calc(12% + var(--p) * 88%), var(--track)); }
.cells td.deep { color: #fff; }
@media (prefers-color-scheme: dark) { .cells td.deep { color: #0b1016; } }
.axis { font-size: 12.5px; color: var(--soft); }
.heat { display: block; }
.heat text { fill: currentColor; font-size: 9.5px; }
.heat image { image-rendering: pixelated; }
.heat .wall { fill: none; stroke: var(--line); }
.heat.whole { width: 100%; max-width: 860px; }
.read { min-height: 3em; font-size: 14px; margin-top: 8px; }
.reliability { width: 100%; max-width: 290px; display: block; margin: 0 auto; }
.reliability text { fill: var(--soft); font-size: 10px; }
.reliability .grid { stroke: var(--line); }
.reliability .ideal { stroke: var(--soft); stroke-dasharray: 4 3; }
.reliability .acc { fill: var(--good); opacity: .85; }
.reliability .gap { fill: var(--bad); opacity: .22; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 320px), 1fr)); gap: 18px; }
.mistake { min-width: 0; }
.frames { display: grid; grid-template-columns: repeat(4, 1fr); gap: 3px; border-radius: 8px; overflow: hidden;
  background: var(--track); min-height: 60px; }
.frames img { display: block; width: 100%; height: auto; }
.frames p { grid-column: 1 / -1; padding: 12px; font-size: 13px; color: var(--soft); overflow-wrap: anywhere; }
.said { display: grid; grid-template-columns: max-content minmax(0, 1fr) max-content; gap: 1px 10px; font-size: 14px;
  margin: 8px 0 3px; }
.said dt { color: var(--soft); }
.said dd { margin: 0; overflow-wrap: anywhere; }
.said .wrong { color: var(--bad); font-weight: 600; }
.said .right { color: var(--good); font-weight: 600; }
ul.failed { list-style: none; margin: 0; padding: 0; }
ul.failed .soft { font-size: 13.5px; overflow-wrap: anywhere; }
ul.failed li { padding: 6px 0; border-bottom: 1px solid var(--line); }
footer { margin-top: 22px; font-size: 13px; color: var(--soft); }
@media (max-width: 560px) { main { padding: 18px 12px 40px; } section { padding: 16px 14px 18px; border-radius: 10px; }
  .scroll { margin: 0 -14px; padding: 0 14px; } .tiles { grid-template-columns: 1fr 1fr; gap: 8px; }
  .tile { padding: 11px 12px 10px; } .tile b { font-size: 23px; } .tile span { font-size: 12px; }
  .classes td, .classes th button { padding-right: 8px; } .wide { display: none; }
  .bar { grid-template-columns: minmax(36px, 1fr) 54px; gap: 6px; } h1 { font-size: 22px; }
  dl.facts { grid-template-columns: 84px 1fr; } .cells td, .cells.many td { min-width: 30px; height: 30px;
  font-size: 12px; } .cells tbody th { max-width: 104px; font-size: 12px; } .cells thead th { font-size: 12px; }
  .cells th.axis { white-space: normal; font-size: 11px; } }
@media print { body { background: none; } .long { max-height: none; } section { break-inside: avoid-page; } }
"""

JS = """
for (const table of document.querySelectorAll("table.classes")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = row => row.cells[column].dataset.v ?? row.cells[column].textContent;
    const known = text => text !== "" && !isNaN(text);
    const compare = (a, b) => known(a) && known(b) ? a - b : known(a) - known(b) || a.localeCompare(b);
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      return (x === "") - (y === "") || (down ? compare(y, x) : compare(x, y));
    });
    body.append(...rows);
  }));
}
for (const field of document.querySelectorAll("input[data-filters]")) {
  field.addEventListener("input", () => {
    const wanted = field.value.trim().toLowerCase();
    for (const row of document.getElementById(field.dataset.filters).tBodies[0].rows)
      row.hidden = !`${row.cells[0].textContent} ${row.cells[1].textContent}`.toLowerCase().includes(wanted);
  });
}
const heat = document.querySelector(".heat");
if (heat) {
  const { names, totals, cells } = JSON.parse(document.getElementById("cells").textContent);
  const counts = new Map(cells.map(([label, predicted, count]) => [label * names.length + predicted, count]));
  const picture = heat.querySelector("image"), line = document.getElementById("read");
  const show = event => {
    const box = picture.getBoundingClientRect();
    const place = (offset, size) => Math.floor(offset / size * names.length);
    const label = place(event.clientY - box.top, box.height), predicted = place(event.clientX - box.left, box.width);
    if (!(label in names) || !(predicted in names)) return;
    const count = counts.get(label * names.length + predicted) ?? 0;
    line.textContent = label === predicted ? `${names[label]}: ${count} of ${totals[label]} right`
      : `${names[label]} taken for ${names[predicted]}: ${count} of ${totals[label]}`;
  };
  heat.addEventListener("pointermove", show);
  heat.addEventListener("pointerdown", show);
}
"""
