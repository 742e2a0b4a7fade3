
/* The gallery: thousands of defects, of which only those in sight are in the document. */
(() => {
if (!one("#defects")) return;
const content = JSON.parse(one("#defects").textContent), methods = content.methods;
const defects = content.defects.map(row => Object.fromEntries(content.fields.map((field, number) => [field, row[number]])));
defects.forEach(defect => {
  defect.verdict = new Map(defect.looks.map(([number, found, first, half]) => [number, { found, first, half }]));
  defect.n_missed = defect.looks.filter(look => look[1] === false).length;
});
const byKey = new Map(defects.map(defect => [defect.key, defect]));
const holder = one("#crops"), count = one("#gallery output"), controls = all("#gallery [data-state]"), dialog = one("dialog");
const THUMBNAIL = 96, GAP = 8, PADDING = 12, HEAD = 32, CAPTION = 32, APART = 16, MOST_SHOWN = innerWidth < 640 ? 4 : 9;
const SIDES = [384, 288, 192];
/* Who has results in each category: nobody else has a place in its crops. */
const present = new Map();
defects.forEach(defect => {
  if (!present.has(defect.category)) present.set(defect.category, new Set());
  defect.verdict.forEach((_, number) => present.get(defect.category).add(number));
});
const panelsOf = category => shown.filter(number => present.get(category).has(number));
/* At first each method there at its best resolution, then the others, as many as one row holds. */
function opening(there) {
  const numbers = [...there].sort((a, b) => a - b), names = numbers.map(number => content.names[number]);
  const again = number => numbers[names.indexOf(content.names[number])] === number ? 0 : 1;
  return numbers.toSorted((a, b) => again(a) - again(b) || a - b).slice(0, MOST_SHOWN);
}
const first = [...present.values()].flatMap(opening).reduce((chosen, number) => {
  const more = [...new Set([...chosen, number])], fits = there => more.filter(one => there.has(one)).length <= MOST_SHOWN;
  return [...present.values()].every(fits) ? more : chosen;
}, []).sort((a, b) => a - b);
let shown = first, list = [], open = null, layout = {};
const drawn = new Map();

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}
const percent = rate => rate === null ? "undefined" : `${Number((100 * rate).toPrecision(2))}\u00a0%`;
const mark = found => found === true ? "●" : found === false ? "✕" : "–";
const word = found => found === true ? "found" : found === false ? "missed" : "not known";
const nameOf = defect => `${defect.type}, ${defect.diameter.toFixed(1)} px`;

/* Pictures: every panel is a part of the same file. */
function pixels(defect, place, side) {
  const longest = Math.max(defect.height, defect.width), exact = side / longest, zoom = exact >= 1 ? Math.floor(exact) : exact;
  const box = element("div", { className: exact < 1 ? "pixels shrunk" : "pixels" });
  const n = defect.pictured.length + 1;
  Object.assign(box.style, {
    backgroundImage: `url("${defect.crops}")`,
    backgroundSize: `${defect.width * n * zoom}px ${defect.height * zoom}px`,
    backgroundPosition: `${-place * defect.width * zoom}px 0`,
    width: `${defect.width * zoom}px`, height: `${defect.height * zoom}px`,
  });
  return [box, zoom];
}
function outlined(defect, place, side) {
  const [box, zoom] = pixels(defect, place, side), svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${defect.width} ${defect.height}`);
  svg.setAttribute("width", defect.width * zoom);
  svg.setAttribute("height", defect.height * zoom);
  ["outline under", "outline"].forEach(style => {
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("class", style);
    path.setAttribute("d", defect.outline);
    svg.append(path);
  });
  box.append(svg);
  return box;
}
function picture(box, name) {
  box.setAttribute("role", "img");
  box.setAttribute("aria-label", name);
  return box;
}
function mapOf(defect, number, side, draw = (...how) => pixels(...how)[0]) {
  const place = defect.pictured.indexOf(number), verdict = defect.verdict.get(number);
  const name = `anomaly map of ${methods[number]}: ${word(verdict?.found)}`;
  if (place >= 0) return picture(draw(defect, place + 1, side), name);
  const none = element("div", { className: "pixels none", textContent: verdict ? "no picture kept" : "no result" });
  none.style.width = none.style.height = `${side}px`;
  return none;
}
function verdictMark(verdict) {
  const found = verdict?.found;
  return element("b", { className: found === true ? "found" : found === false ? "missed" : "", textContent: `${mark(found)}\u00a0`, title: word(found) });
}

function cropOf(defect) {
  const button = element("button", { type: "button" },
    element("b", { textContent: `${defect.diameter.toFixed(1)} px` }),
    element("span", { textContent: [defect.type, defect.contrast === null ? "" : `contrast ${defect.contrast.toFixed(1)}`, `${defect.category} ${defect.sample}`].filter(Boolean).join(" · ") }));
  button.setAttribute("aria-label", `Enlarge ${nameOf(defect)}, ${defect.category} ${defect.sample}, ${methods.length > 1 ? `missed by ${defect.n_missed} of ${defect.looks.length}` : word(defect.verdict.get(0)?.found)}`);
  const panels = element("div", { className: "panels" },
    element("figure", { className: "panel" }, picture(pixels(defect, 0, THUMBNAIL)[0], "photograph"), element("figcaption", { textContent: `photo ${zoomName(defect, THUMBNAIL)}` })),
    element("figure", { className: "panel" }, picture(outlined(defect, 0, THUMBNAIL), "photograph with the true outline"), element("figcaption", { textContent: "truth" })),
    ...panelsOf(defect.category).map(number => element("figure", { className: "panel", title: methods[number] }, mapOf(defect, number, THUMBNAIL),
      element("figcaption", {}, verdictMark(defect.verdict.get(number)), methods[number]))));
  const made = element("div", { className: "crop" }, button, panels);
  made.setAttribute("role", "listitem");
  [button, panels].forEach(part => part.addEventListener("click", () => show(defect)));
  return made;
}
function zoomName(defect, side) {
  const exact = side / Math.max(defect.height, defect.width);
  return exact >= 1 ? `${Math.floor(exact)} ×` : `${exact.toFixed(1)} ×`;
}

/* Which crops are in sight follows from their equal height. */
function measure() {
  const width = holder.clientWidth, panels = 2 + Math.max(0, ...[...present.keys()].map(category => panelsOf(category).length)), step = THUMBNAIL + GAP;
  const across = Math.max(1, Math.min(panels, Math.floor((width - 2 * PADDING - 2 + GAP) / step)));
  const least = across * step - GAP + 2 * PADDING + 2, columns = Math.max(1, Math.floor((width + APART) / (least + APART)));
  const height = 2 * PADDING + 2 + HEAD + Math.ceil(panels / across) * (THUMBNAIL + CAPTION + GAP) - GAP;
  layout = { columns, height, width: (width - (columns - 1) * APART) / columns };
  holder.style.height = `${Math.max(0, Math.ceil(list.length / columns) * (height + APART) - APART)}px`;
}
function draw() {
  const top = -holder.getBoundingClientRect().top, row = layout.height + APART;
  const first = Math.max(0, Math.floor((top - innerHeight / 2) / row)) * layout.columns;
  const last = Math.min(list.length, Math.ceil((top + 1.5 * innerHeight) / row) * layout.columns);
  for (const [place, made] of drawn) {
    if ((place < first || place >= last) && !made.contains(document.activeElement)) { made.remove(); drawn.delete(place); }
  }
  for (let place = first; place < last; place++) if (!drawn.has(place)) drawAt(place);
}
function drawAt(place) {
  const made = cropOf(list[place]);
  Object.assign(made.style, {
    left: `${(place % layout.columns) * (layout.width + APART)}px`, top: `${Math.floor(place / layout.columns) * (layout.height + APART)}px`,
    width: `${layout.width}px`, height: `${layout.height}px`,
  });
  made.dataset.place = place;
  made.setAttribute("aria-posinset", place + 1);
  made.setAttribute("aria-setsize", list.length);
  const next = [...drawn.keys()].filter(other => other > place).sort((a, b) => a - b)[0];
  holder.insertBefore(made, drawn.get(next) ?? null);
  drawn.set(place, made);
}
function redraw() {
  drawn.forEach(made => made.remove());
  drawn.clear();
  measure();
  draw();
}
let waiting = false;
const soon = action => () => { if (!waiting) { waiting = true; requestAnimationFrame(() => { waiting = false; action(); }); } };
addEventListener("scroll", soon(draw), { passive: true });
let widthDrawn = 0;
new ResizeObserver(() => { if (holder.clientWidth !== widthDrawn) { widthDrawn = holder.clientWidth; redraw(); } }).observe(holder);

/* Filters and order; the address keeps them. */
const orders = {
  "": (a, b) => a.diameter - b.diameter,
  largest: (a, b) => b.diameter - a.diameter,
  contrast: (a, b) => (a.contrast ?? Infinity) - (b.contrast ?? Infinity),
  missed: (a, b) => b.n_missed - a.n_missed || a.diameter - b.diameter,
};
const state = () => Object.fromEntries(controls.map(control => [control.dataset.state, control.value]));
function wanted(defect, { category, type, min, max, missed, found, verdict }) {
  return (!category || defect.category === category) && (!type || defect.type === type)
    && (!min || defect.diameter >= Number(min)) && (!max || defect.diameter <= Number(max))
    && (!verdict || defect.verdict.get(0)?.found === (verdict === "found"))
    && (!missed || defect.verdict.get(methods.indexOf(missed))?.found === false)
    && (!found || defect.verdict.get(methods.indexOf(found))?.found === true);
}
function update() {
  const chosen = state();
  list = defects.filter(defect => wanted(defect, chosen)).sort(orders[chosen.sort] ?? orders[""]);
  count.textContent = `${list.length.toLocaleString("en")} of ${defects.length.toLocaleString("en")}`;
  redraw();
}
function remember() {
  const parts = new URLSearchParams(Object.entries(state()).filter(([, value]) => value));
  if (String(shown) !== String(first)) parts.set("shown", shown.map(number => methods[number]).join("|"));
  if (open) parts.set("defect", open.key);
  history.replaceState(null, "", String(parts) ? `#${parts}` : location.pathname + location.search);
}
function recall() {
  if (!location.hash.includes("=")) return;
  const parts = new URLSearchParams(location.hash.slice(1));
  controls.forEach(control => { control.value = parts.get(control.dataset.state) ?? ""; if (control.selectedIndex === -1) control.value = ""; });
  if (parts.has("shown")) shown = parts.get("shown").split("|").map(name => methods.indexOf(name)).filter(number => number >= 0);
  pressShown();
  update();
  one("#gallery").scrollIntoView();
  if (byKey.has(parts.get("defect"))) show(byKey.get(parts.get("defect")));
}
function fill(name, every, values) {
  const select = controls.find(control => control.dataset.state === name);
  if (!select) return;
  select.append(element("option", { value: "", textContent: every }), ...values.map(value => element("option", { value, textContent: value })));
}
fill("category", "every category", [...new Set(defects.map(defect => defect.category))].sort());
fill("type", "every type", [...new Set(defects.map(defect => defect.type))].sort());
fill("missed", "–", methods);
fill("found", "–", methods);
controls.forEach(control => control.addEventListener(control.tagName === "INPUT" ? "input" : "change", () => { update(); remember(); }));
one("#reset").addEventListener("click", () => { controls.forEach(control => { control.value = ""; }); update(); remember(); });
const chips = methods.map((name, number) => {
  const chip = element("button", { type: "button", textContent: name });
  chip.addEventListener("click", () => {
    shown = shown.includes(number) ? shown.filter(other => other !== number) : [...shown, number].sort((a, b) => a - b);
    pressShown();
    redraw();
    remember();
  });
  one("#shown")?.append(element("li", {}, chip));
  return chip;
});
function pressShown() { chips.forEach((chip, number) => { chip.ariaPressed = String(shown.includes(number)); }); }

/* One defect, large. */
function sideFor(n) {
  const width = Math.min(1530, 0.96 * innerWidth) - 34, height = 0.94 * innerHeight - 90;
  const fits = side => Math.ceil(n / Math.floor((width + 6) / (side + 6))) * (side + 65) <= height;
  return innerWidth < 640 ? Math.floor(width / 96) * 96 : SIDES.find(fits) ?? SIDES.at(-1);
}
function show(defect) {
  open = defect;
  one("#zoom-title").textContent = nameOf(defect);
  one(".zoom-head p").textContent = `${defect.category} ${defect.sample}, row ${defect.row}, column ${defect.column}, area ${defect.area.toLocaleString("en")} px`
    + (defect.contrast === null ? "" : `, contrast ${defect.contrast.toFixed(1)}`) + `; ${list.indexOf(defect) + 1} of ${list.length}`;
  const side = sideFor(panelsOf(defect.category).length + 2), panel = (box, ...caption) => {
    const figure = element("figure", {}, box, element("figcaption", {}, ...caption));
    figure.style.setProperty("--side", `${side}px`);
    return figure;
  };
  one(".zoom-panels").replaceChildren(
    panel(picture(pixels(defect, 0, side)[0], "photograph"), `photograph ${zoomName(defect, side)}`),
    panel(picture(outlined(defect, 0, side), "photograph with the true outline"), "truth"),
    ...(shown.length ? panelsOf(defect.category) : [...present.get(defect.category)]).map(number => {
      const verdict = defect.verdict.get(number);
      return panel(mapOf(defect, number, side, outlined), verdictMark(verdict), methods[number],
        element("small", { textContent: verdict ? `first pixel at ${percent(verdict.first)} FPR, half at ${percent(verdict.half)}` : "no result" }));
    }));
  if (!dialog.open) dialog.showModal();
  remember();
}
function step(by) { const place = list.indexOf(open) + by; if (list[place]) show(list[place]); }
one("#outlines").addEventListener("click", event => {
  const on = !dialog.classList.toggle("bare");
  event.target.ariaPressed = String(on);
});
all("[data-step]", dialog).forEach(button => button.addEventListener("click", () => step(Number(button.dataset.step))));
one("[data-close]", dialog).addEventListener("click", () => dialog.close());
dialog.addEventListener("click", event => { if (event.target === dialog) dialog.close(); });
dialog.addEventListener("keydown", event => {
  const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (by) { event.preventDefault(); step(by); }
});
dialog.addEventListener("close", () => {
  const place = list.indexOf(open);
  open = null;
  remember();
  if (opener) opener.focus(); else focusAt(place);
  opener = null;
});
/* What opens the page is shown large where the reader is, and leads back there. */
let opener = null;
all(".telling a").forEach(link => link.addEventListener("click", event => {
  event.preventDefault();
  opener = link;
  show(byKey.get(link.hash.slice("#defect=".length)));
}));

/* Arrow keys walk from crop to crop. */
function focusAt(place) {
  if (!list[place]) return;
  const row = Math.floor(place / layout.columns) * (layout.height + APART), top = holder.getBoundingClientRect().top + row;
  if (top < 60 || top + layout.height > innerHeight) scrollBy(0, top - Math.max(60, (innerHeight - layout.height) / 2));
  draw();
  one("button", drawn.get(place)).focus({ preventScroll: true });
}
holder.addEventListener("keydown", event => {
  const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: layout.columns, ArrowUp: -layout.columns }[event.key];
  const made = event.target.closest(".crop");
  if (by && made) { event.preventDefault(); focusAt(Number(made.dataset.place) + by); }
});

pressShown();
update();
recall();
addEventListener("hashchange", recall);
})();
