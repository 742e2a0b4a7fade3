// The regions of the photograph in words: sizes, places, and a button for each that is a false alarm.

import { $, make, score, size } from "./dom.js";
import { keyOf } from "./marks.js";
import { diameter, longest } from "./regions.js";

const MOST_TOLD = 100;

/** Draw the list anew where something of it has changed; whoever is in it with the keyboard stays where they are. */
export function drawRegions({ number, shown, chosen, wrong, pitch, onGo, onWrong }) {
  const list = $("regions");
  const all = shown.map((one) => `${keyOf(one)}${wrong.has(keyOf(one))}`);
  const told = [pitch, number, chosen && keyOf(chosen), ...all].join();
  if (list.dataset.told === told) return;
  list.dataset.told = told;
  const place = [...list.querySelectorAll("button")].indexOf(document.activeElement);
  const rows = shown.slice(0, MOST_TOLD).map((region, at) => {
    const isWrong = wrong.has(keyOf(region));
    const to = { type: "button", class: isWrong ? "to is-wrong" : "to", "aria-current": region === chosen && "true" };
    const off = { type: "button", class: "false", "aria-pressed": String(isWrong), "aria-label": `Region ${at + 1} is a false alarm` };
    return make(
      "li",
      {},
      make("button", { ...to, onclick: () => onGo(region) }, `${at + 1} · ${size(diameter(region), pitch)} across`, make("small", {}, more(region, pitch))),
      make("button", { ...off, onclick: () => onWrong(region) }, "wrong"),
    );
  });
  if (shown.length > MOST_TOLD) rows.push(make("li", {}, `and ${shown.length - MOST_TOLD} more`));
  list.replaceChildren(...rows);
  if (place >= 0) list.querySelectorAll("button")[place]?.focus();
}

function more(region, pitch) {
  const area = `${region.area} px²${pitch ? ` (${Number((region.area * pitch ** 2).toPrecision(3))} mm²)` : ""}`;
  return `length ${size(longest(region), pitch)}, ${area}, peak ${score(region.peak)}, row ${region.row}, column ${region.column}`;
}
