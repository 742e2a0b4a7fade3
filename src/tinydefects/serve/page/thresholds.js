// The two thresholds: as calibrated, or moved by hand with what the good parts at hand say of it.

import { $, countAbove, counted, make, makeSvg, percent, score } from "./dom.js";

const STEPS = 1000;

/** One slider with its number, its strip of good parts and its line of what it would mean. */
class Slider {
  constructor(name, onMove) {
    Object.assign(this, { range: $(`${name}-range`), number: $(`${name}-number`), strip: $(`${name}-strip`) });
    Object.assign(this, { line: $(`${name}-line`), byHand: null, low: 0, high: 1 });
    this.range.addEventListener("input", () => this.moved(Number(this.range.value), onMove));
    this.number.addEventListener("change", () => {
      if (this.number.value !== "" && Number.isFinite(this.number.valueAsNumber)) this.moved(this.number.valueAsNumber, onMove);
      else onMove();
    });
  }

  moved(value, onMove) {
    this.byHand = Number(value.toPrecision(4));
    onMove();
  }

  /** Put in place: the values that it spans, and the threshold in force. */
  place(good, others, value, least = -Infinity) {
    const [lowest, highest] = good.length ? [good[0], good.at(-1)] : [value, value];
    const room = Math.max(highest - lowest, 1e-3 * Math.abs(highest), 1e-9);
    const most = Math.min(highest + 2 * room, Math.max(highest, ...others) + 0.15 * room); // the number goes further
    [this.low, this.high] = [Math.max(least, lowest - 0.1 * room), Math.max(most, value + 0.05 * room)];
    const step = (this.high - this.low) / STEPS;
    Object.assign(this.range, { min: this.low, max: this.high, step, value });
    this.range.setAttribute("aria-valuetext", score(value));
    if (document.activeElement !== this.number) this.number.value = score(value);
    this.drawStrip(good, others, value);
  }

  drawStrip(good, others, value) {
    const x = (one) => Math.min(100, Math.max(0, ((one - this.low) / (this.high - this.low)) * 100));
    const tick = (one, kind) => makeSvg("line", { x1: x(one), x2: x(one), y1: kind === "other" ? 0 : 8, y2: kind === "good" ? 14 : 8, class: kind });
    const drawn = [...thinned(good, x).map((one) => tick(one, "good")), ...thinned(others, x).map((one) => tick(one, "other"))];
    drawn.push(makeSvg("line", { x1: x(value), x2: x(value), y1: 0, y2: 14, class: "limit" }));
    this.strip.replaceChildren(...drawn);
  }
}

/** Of values that would lie on one another a single one, so that ten thousand are drawn as quickly as a hundred. */
function thinned(values, x) {
  return [...new Map(values.map((one) => [Math.round(4 * x(one)), one])).values()];
}

export class Thresholds {
  constructor(onChange) {
    const changed = () => onChange();
    this.card = null;
    this.score = new Slider("score", changed);
    this.peak = new Slider("peak", changed);
    $("as-calibrated").addEventListener("click", () => {
      this.reset();
      changed();
    });
  }

  reset() {
    this.score.byHand = this.peak.byHand = null;
  }

  get isByHand() {
    return this.score.byHand !== null || this.peak.byHand !== null;
  }

  /** The score above which a photograph is not good, and the peak above which a region is shown. */
  get alarm() {
    return this.score.byHand ?? this.card.good_up_to;
  }

  get seed() {
    return Math.max(this.peak.byHand ?? this.card.peak_above, this.card.extent.level);
  }

  verdict(value) {
    if (value <= this.alarm) return "good";
    if (this.score.byHand !== null) return "defect";
    return this.card.defect_above !== null && value > this.card.defect_above ? "defect" : "unsure";
  }

  /** Draw it all anew for the scores and peaks of the photographs at hand. */
  redraw(model, scores, peaks) {
    const { card } = this;
    this.score.place(card.scores, scores, this.alarm);
    this.peak.place(card.peaks, peaks, this.seed, card.extent.level);
    this.score.line.textContent = this.told(card.scores, this.alarm, "would alarm");
    this.peak.line.textContent = this.told(card.peaks, this.seed, "would show a region");
    const certain = card.defect_above === null ? "nothing is called a defect, as the good parts are too few" : `defect above ${score(card.defect_above)}`;
    $("in-force").textContent = this.score.byHand !== null
      ? "Set by hand: above it is a defect, nothing is unsure, nothing is promised beyond the line below."
      : `As calibrated: good up to ${score(card.good_up_to)}; ${certain}; unsure between.`;
    $("as-calibrated").disabled = !this.isByHand;
    $("to-keep").hidden = !this.isByHand;
    const given = [["image", this.score.byHand], ["region", this.peak.byHand]].filter(([, value]) => value !== null);
    $("command").textContent = `tinydefects calibrate ${model} ${given.map(([name, value]) => `--${name}-threshold ${score(value)}`).join(" ")}`;
  }

  told(values, threshold, what) {
    const { card } = this;
    const n = card.scores.length;
    const above = countAbove(values, threshold);
    const most = percent(card.most_share[above]);
    return `${above} of ${counted(n, "good part")} ${what}; with ${percent(card.confidence)} confidence at most ${most} of those to come.`;
  }
}

/** The scores of this sitting, in the order they came, beside the thresholds. */
export function drawScores(svg, photographs, thresholds, current, onPick) {
  const [width, height, left, right, top, bottom] = [Math.max(260, svg.clientWidth), 118, 48, 8, 10, 20];
  const { card } = thresholds;
  const lines = [["good up to", thresholds.alarm, "limit"]];
  if (thresholds.score.byHand !== null) lines[0][0] = "alarm above";
  else if (card.defect_above !== null && card.defect_above > thresholds.alarm) lines.push(["defect above", card.defect_above, "limit certain"]);
  const values = [...photographs.map((one) => one.score), ...lines.map(([, value]) => value)];
  const least = Math.min(0, ...values);
  const most = Math.max(...values) * 1.08 || 1;
  const y = (value) => height - bottom - ((value - least) / (most - least)) * (height - top - bottom);
  const x = (place) => left + 8 + (photographs.length > 1 ? place / (photographs.length - 1) : 0.5) * (width - left - right - 16);
  const drawn = [
    makeSvg("line", { x1: left, x2: left, y1: top, y2: height - bottom, class: "axis" }),
    makeSvg("line", { x1: left, x2: width - right, y1: height - bottom, y2: height - bottom, class: "axis" }),
    ...[least, most / 1.08].map((value) => makeSvg("text", { x: left - 5, y: y(value) + 4, "text-anchor": "end" }, score(value))),
    makeSvg("text", { x: (left + width - right) / 2, y: height - 5, "text-anchor": "middle" }, `${counted(photographs.length, "photograph")}, in the order they came`),
  ];
  for (const [, value, kind] of lines) drawn.push(makeSvg("line", { x1: left, x2: width - right, y1: y(value), y2: y(value), class: kind }));
  photographs.forEach((one, place) => drawn.push(dot(one, x(place), y(one.score), one === current, thresholds, onPick)));
  if (lines.length && Math.abs(y(lines[0][1]) - y(most / 1.08)) > 14) drawn.push(makeSvg("text", { x: left - 5, y: y(lines[0][1]) + 4, "text-anchor": "end" }, score(lines[0][1])));
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const above = photographs.filter((one) => one.score > thresholds.alarm).length;
  svg.setAttribute("aria-label", `Scores of ${counted(photographs.length, "photograph")}; ${above} above ${score(thresholds.alarm)}`);
  svg.replaceChildren(...drawn);
}

function dot(one, x, y, isCurrent, thresholds, onPick) {
  const verdict = thresholds.verdict(one.score);
  const shape = { good: `M${x - 3.5},${y}a3.5,3.5 0 1 0 7,0a3.5,3.5 0 1 0 -7,0`, unsure: `M${x},${y - 4.5}l4.5,8h-9z`, defect: `M${x},${y - 5}l5,5l-5,5l-5,-5z` }[verdict];
  const marks = [makeSvg("path", { d: shape, class: `dot ${verdict}` }), makeSvg("title", {}, `${one.name}: ${verdict}, ${score(one.score)}`)];
  if (isCurrent) marks.push(makeSvg("circle", { cx: x, cy: y, r: 8, class: "current" }));
  return makeSvg("g", { onclick: () => onPick(one) }, ...marks, makeSvg("circle", { cx: x, cy: y, r: 9, class: "reach" }));
}

/** What the calibration says of itself. */
export function tellCalibration(card) {
  $("words").replaceChildren(...card.words.map((line) => make("li", {}, line.trim())));
}
