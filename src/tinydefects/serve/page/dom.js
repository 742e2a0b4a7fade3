// Elements, numbers and words that all parts of the page share.

export const $ = (id) => document.getElementById(id);

const SVG = "http://www.w3.org/2000/svg";

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** An element with attributes (`onclick` and the like are listeners) and children, which may be texts. */
export const make = (tag, attributes = {}, ...children) => filled(document.createElement(tag), attributes, children);

export const makeSvg = (tag, attributes = {}, ...children) =>
  filled(document.createElementNS(SVG, tag), attributes, children);

/** Four digits that matter, as the command line tells scores. */
export function score(value) {
  if (value === null || value === undefined) return "–";
  return Number(value.toPrecision(4)).toString();
}

export const percent = (share) => `${Number((100 * share).toPrecision(3))} %`;

export const counted = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

/** `6.4 px (0.32 mm)`; without a pitch in pixels alone. */
export function size(px, pitch) {
  return pitch ? `${px.toFixed(1)} px (${Number((px * pitch).toPrecision(3))} mm)` : `${px.toFixed(1)} px`;
}

/** How many numbers of an ascending list lie above a value. */
export function countAbove(ascending, value) {
  let low = 0;
  let high = ascending.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ascending[middle] > value) high = middle;
    else low = middle + 1;
  }
  return ascending.length - low;
}

export const SIGNS = { good: "●", unsure: "▲", defect: "◆", problem: "✕", waiting: "…" };
