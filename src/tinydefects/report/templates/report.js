"use strict";
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const one = (selector, within = document) => within.querySelector(selector);
const reveal = (...elements) => elements.forEach(element => { element.hidden = false; });

const theme = one("#theme");
let dark = matchMedia("(prefers-color-scheme: dark)").matches;
const nameTheme = () => { theme.textContent = dark ? "Light" : "Dark"; theme.setAttribute("aria-label", `${theme.textContent} colours`); };
theme.addEventListener("click", () => { dark = !dark; document.documentElement.style.colorScheme = dark ? "dark" : "light"; nameTheme(); });
nameTheme();
reveal(theme, ...all(".choice, .legend, .controls, .controls label"));

/* One false-positive limit for the whole page. */
let limit = one("[data-choose][aria-pressed=true]")?.dataset.choose;
function chooseLimit(chosen) {
  limit = chosen;
  all("[data-choose]").forEach(button => { button.ariaPressed = String(button.dataset.choose === limit); });
  all("[data-limit]").forEach(element => { element.hidden = element.dataset.limit !== limit; });
  all("table.sortable").forEach(table => {
    const hidden = one("th[aria-sort][hidden]", table);
    if (!hidden) return;
    const shown = all("th[data-limit]:not([hidden])", table), before = all(`th[data-limit="${hidden.dataset.limit}"]`, table);
    sortTable(table, shown[before.indexOf(hidden)], hidden.ariaSort);
  });
  fillHeat();
}
all("[data-choose]").forEach(button => button.addEventListener("click", () => chooseLimit(button.dataset.choose)));

/* Tables sort by the number behind a cell; undefined always comes last. */
function sortTable(table, heading, order) {
  const place = [...heading.parentElement.children].indexOf(heading), sign = order === "descending" ? -1 : 1;
  const valueOf = row => row.children[place].dataset.value ?? row.children[place].textContent.trim();
  const rows = all("tbody tr", table).map(row => ({ row, text: valueOf(row), number: Number.parseFloat(valueOf(row)) }));
  const isNumber = heading.classList.contains("number");
  rows.sort((a, b) => isNumber
    ? Number.isNaN(a.number) - Number.isNaN(b.number) || sign * (a.number - b.number) || 0
    : sign * a.text.localeCompare(b.text));
  one("tbody", table).append(...rows.map(({ row }) => row));
  all("[aria-sort]", table).forEach(other => other.removeAttribute("aria-sort"));
  heading.ariaSort = order;
}
all("table.sortable [data-sort]").forEach(button => button.addEventListener("click", () => {
  const heading = button.closest("th"), opposite = { ascending: "descending", descending: "ascending" };
  sortTable(button.closest("table"), heading, heading.ariaSort ? opposite[heading.ariaSort] : button.dataset.sort);
}));

/* The table of categories shows one metric at a time. */
const heatMetric = one("#heat-metric");
function fillHeat() {
  const metric = heatMetric.value.endsWith("@") ? heatMetric.value + limit : heatMetric.value;
  const percent = `${Number.parseFloat((100 * limit).toPrecision(6))}\u00a0%`;
  const title = heatMetric.selectedOptions[0].text.split(",")[0] + (heatMetric.value.endsWith("@") ? `@${percent}` : "");
  all("table.heat").forEach((table, number) => {
    const values = JSON.parse(all(".heat-values")[number].textContent)[metric];
    const highest = values[0].map((_, column) => Math.max(...values.map(row => row[column] ?? -1)));
    one("thead th", table).textContent = title;
    all("tbody tr", table).forEach((row, at) => all("td", row).forEach((cell, column) => {
      const value = values[at][column];
      cell.textContent = value === null ? "–" : value.toFixed(3);
      cell.style.setProperty("--share", value ?? 0);
      cell.classList.toggle("most", value !== null && value === highest[column]);
    }));
  });
}
heatMetric?.addEventListener("change", fillHeat);

/* Lighting up: hovering shows a method for a moment, a click keeps it. */
const kept = new Set();
function light(passing) {
  const on = new Set(kept);
  if (passing !== undefined) on.add(passing);
  document.body.classList.toggle("lit", on.size > 0);
  all("[data-method], [data-band]").forEach(part => part.classList.toggle("on", on.has(part.dataset.method ?? part.dataset.band)));
  all("[data-row]").forEach(row => row.classList.toggle("on", kept.has(row.dataset.row)));
  all("[data-light]").forEach(button => { button.ariaPressed = String(kept.has(button.dataset.light)); });
}
function keep(number) { if (!kept.delete(number)) kept.add(number); light(); }
all("[data-light]").forEach(button => {
  button.addEventListener("click", () => keep(button.dataset.light));
  button.addEventListener("mouseenter", () => light(button.dataset.light));
  button.addEventListener("mouseleave", () => light());
});
all("[data-row]").forEach(row => row.addEventListener("click", () => { if (!String(getSelection())) keep(row.dataset.row); }));
all(".plot [data-method]").forEach(part => {
  part.addEventListener("mouseenter", () => light(part.dataset.method));
  part.addEventListener("mouseleave", () => light());
});

/* One of several blocks at a time; a link to another shows that one. */
all("[data-pick]").forEach(select => {
  const blocks = all(`[data-pick-of="${select.dataset.pick}"]`);
  const show = () => blocks.forEach((block, number) => { block.hidden = number !== Number(select.value); });
  const follow = () => {
    const number = blocks.findIndex(block => block.id && `#${block.id}` === location.hash);
    if (number >= 0) { select.value = number; show(); blocks[number].scrollIntoView(); }
  };
  select.addEventListener("change", show);
  addEventListener("hashchange", follow);
  show();
  follow();
});

const links = all("nav a"), parts = links.map(link => one(link.hash));
const nameCurrent = () => {
  const current = parts.findLastIndex(part => part.getBoundingClientRect().top < innerHeight / 3);
  links.forEach((link, number) => link.setAttribute("aria-current", String(number === current)));
};
const crossing = new IntersectionObserver(nameCurrent, { rootMargin: "0px 0px -67% 0px" });
parts.forEach(part => crossing.observe(part));
if (limit) chooseLimit(limit);
