
/* Every table as CSV, LaTeX and Markdown, every figure as SVG and PNG: as shown, made in the browser. */
(() => {
const plain = text => text.replaceAll("\u00a0", " ").replaceAll(/\s+/g, " ").trim();
const slug = text => plain(text).toLowerCase().replaceAll(/[^a-z0-9]+/g, "-").replaceAll(/^-|-$/g, "") || "table";

function readCell(cell) {
  const copy = cell.cloneNode(true), note = plain(one(".interval", copy)?.textContent ?? "");
  const isClose = one(".close", copy) !== null;
  all(".interval, .whisker, .close, .few, .stack, .swatch", copy).forEach(part => part.remove());
  const [, low, high] = note.match(/^([\d.]+)–([\d.]+)$/) ?? [];
  return { text: plain(copy.textContent), low, high, note: low ? "" : note, isBest: cell.classList.contains("best"), isClose };
}
/* Headings and rows, without what is hidden or drawn; the heading of a group of rows becomes a first column. */
function readTable(table) {
  const own = row => [...row.cells].filter(cell => !cell.hidden);
  const spread = row => own(row).flatMap(cell => [readCell(cell), ...Array(cell.colSpan - 1).fill({ text: "" })]);
  let group = "";
  const rows = [], groups = [];
  all("tbody tr", table).forEach(row => {
    if (row.classList.contains("group")) { group = plain(row.textContent).split(":")[0]; return; }
    rows.push(spread(row));
    groups.push(group);
  });
  let columns = own(table.tHead.rows[0]).map((cell, place) => ({ name: plain(cell.textContent), isNumber: cell.classList.contains("number"), cells: rows.map(row => row[place]) }));
  columns = columns.filter(column => column.isNumber || column.cells.some(cell => cell.text));
  if (group) columns.unshift({ name: "group", isNumber: false, cells: groups.map(text => ({ text })) });
  return columns;
}
const lines = (columns, write) => (columns[0]?.cells ?? []).map((_, row) => columns.map(column => write(column.cells[row], column)));

function asCsv(columns) {
  const quoted = text => /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  const bare = (text, column) => !column.isNumber ? text : text === "–" ? "" : /^[\d,]+(\.\d+)?$/.test(text) ? text.replaceAll(",", "") : text;
  const parts = columns.flatMap(column => [
    { ...column, of: cell => bare(cell.text, column) },
    ...[["low", "95 % low"], ["high", "95 % high"], ["note", "note"]].filter(([key]) => column.cells.some(cell => cell[key]))
      .map(([key, name]) => ({ ...column, name: `${column.name} ${name}`, of: cell => cell[key] ?? "" })),
  ]);
  return [parts.map(part => part.name), ...lines(parts, (cell, part) => part.of(cell))].map(row => row.map(quoted).join(",")).join("\n") + "\n";
}
const TEX = { "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "\\textless{}", ">": "\\textgreater{}", "|": "\\textbar{}", "ρ": "$\\rho$", "–": "--", "…": "\\ldots{}", "≤": "$\\leq$", "≥": "$\\geq$", "²": "$^2$", "\"": "\\textquotedbl{}", "'": "\\textquotesingle{}" };
const tex = text => text.replaceAll(/[\\~^<>|ρ–…≤≥²"'&%$#_{}]/g, sign => TEX[sign] ?? `\\${sign}`);
function asLatex(columns) {
  const row = cells => `${cells.join(" & ")} \\\\`, cell = one => (one.isBest ? `\\textbf{${tex(one.text)}}` : tex(one.text))
    + (one.isClose ? "$^{=}$" : "") + (one.low ? ` {\\scriptsize [${one.low}, ${one.high}]}` : one.note ? ` {\\scriptsize (${tex(one.note)})}` : "");
  return ["% \\usepackage{booktabs,textcomp}", `\\begin{tabular}{${columns.map(column => column.isNumber ? "r" : "l").join("")}}`, "\\toprule",
    row(columns.map(column => tex(column.name))), "\\midrule", ...lines(columns, cell).map(row), "\\bottomrule", "\\end{tabular}", ""].join("\n");
}
function asMarkdown(columns) {
  const safe = text => text.replaceAll(/[\\|<>*_`[\]~#&]/g, "\\$&"), row = cells => `| ${cells.join(" | ")} |`;
  const cell = one => (one.isBest ? `**${safe(one.text)}**` : safe(one.text)) + (one.isClose ? " =" : "")
    + (one.low ? ` (${one.low}–${one.high})` : one.note ? ` (${safe(one.note)})` : "");
  return [row(columns.map(column => safe(column.name))), row(columns.map(column => column.isNumber ? "---:" : "---")), ...lines(columns, cell).map(row), ""].join("\n");
}

/* A figure that stands alone: the colours of the page as they are now, on its background. */
function asSvg(svg) {
  const copy = svg.cloneNode(true), [, , width, height] = svg.getAttribute("viewBox").split(/\s+/);
  const probe = document.body.appendChild(document.createElement("span"));
  const colour = name => { probe.style.color = `var(${name})`; return getComputedStyle(probe).color; };
  const lit = document.body.classList.contains("lit") ? "[data-method]:not(.on){opacity:.1}" : "";
  copy.setAttribute("width", width);
  copy.setAttribute("height", height);
  copy.insertAdjacentHTML("afterbegin", `<style>text{font-family:sans-serif!important;paint-order:stroke;stroke:${colour("--page")};stroke-width:3px}*{stroke-linejoin:round}[data-band]:not(.on){opacity:0}${lit}</style><rect width="100%" height="100%" fill="${colour("--page")}"/>`);
  const text = new XMLSerializer().serializeToString(copy).replaceAll(/var\((--[\w-]+)\)/g, (_, name) => colour(name));
  probe.remove();
  return { text, width: Number(width), height: Number(height) };
}
async function asPng(svg) {
  const { text, width, height } = asSvg(svg), picture = new Image(), canvas = document.createElement("canvas"), scale = 2.5;
  picture.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  await picture.decode();
  Object.assign(canvas, { width: scale * width, height: scale * height });
  canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
  return new Promise(done => canvas.toBlob(done, "image/png"));
}

function save(name, content, type) {
  const link = document.createElement("a"), address = URL.createObjectURL(new Blob([content], { type }));
  Object.assign(link, { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
function offer(after, name, choices) {
  const bar = document.createElement("div");
  bar.className = "downloads";
  bar.setAttribute("role", "group");
  bar.setAttribute("aria-label", `Download ${name}`);
  choices.forEach(([label, ending, type, make]) => {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", textContent: label });
    button.setAttribute("aria-label", `${label} of ${name}`);
    button.addEventListener("click", async () => save(`${slug(name)}.${ending}`, await make(), type));
    bar.append(button);
  });
  after.after(bar);
}
all("main table").forEach(table => {
  const frame = table.closest(".scroll"), of = write => () => write(readTable(table));
  offer(frame, frame.getAttribute("aria-label"), [
    ["CSV", "csv", "text/csv", of(asCsv)], ["LaTeX", "tex", "application/x-tex", of(asLatex)], ["Markdown", "md", "text/markdown", of(asMarkdown)],
  ]);
});
all(".plot").forEach(svg => offer(svg, svg.getAttribute("aria-label"), [
  ["SVG", "svg", "image/svg+xml", () => asSvg(svg).text], ["PNG", "png", "image/png", () => asPng(svg)],
]));
})();
