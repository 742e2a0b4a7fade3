// The inspection page: photographs go to the service one after the other, and a person says what they think of it.

import { $, SIGNS, counted, make, score } from "./dom.js";
import { askKey, listenForGood, listenForKeys, takeFiles } from "./asking.js";
import { Drawer } from "./drawing.js";
import { exportMarks } from "./exporting.js";
import { Mark, keyOf } from "./marks.js";
import { imageOf } from "./pictures.js";
import { drawRegions } from "./regionlist.js";
import { findRegions, regionAt, shownRegions } from "./regions.js";
import { Service } from "./service.js";
import { Thresholds, drawScores, tellCalibration } from "./thresholds.js";
import { Viewer } from "./viewer.js";

const AT_ONCE = 2; // so that one is sent while another is decided
const KEPT_BYTES = 1e9; // of maps; those of the photographs shown longest ago are asked for again
const OUTLINED_REGIONS = 1000;

const photographs = [];
let current = null;
let model = "";
let regions = []; // of the current photograph, all of them; those shown are a part
let shown = [];
let asked = 0;
let turn = 0; // of showing: who comes late shows nothing

const service = new Service(askKey, (seconds) => tellBusy(seconds ? `The service is busy; asking again in ${seconds} s.` : ""));
const thresholds = new Thresholds(() => refresh());
const viewer = new Viewer($("picture"), {
  onPoint: (place) => tellPoint(place),
  onPick: (place, slack) => choose(regionAt(shown, place, slack)),
  onStroke: (...stroke) => drawer.stroke(...stroke),
  onZoom: (scale) => ($("zoom").value = `${Number((100 * scale).toPrecision(3))} %`),
});
const drawer = new Drawer(viewer, () => markChanged(), () => current);

async function begin() {
  try {
    const models = await service.models();
    for (const { name } of models) $("model").append(make("option", { value: name }, name));
    $("model").disabled = models.length < 2;
    await useModel(models[0].name);
    for (const id of ["pick-files", "pick-folder", "empty-files", "empty-folder"]) $(id).disabled = false;
  } catch (error) {
    tellTrouble(`The page cannot be used: ${error.message}. Reload it to try again.`);
  }
}

async function useModel(name) {
  model = name;
  thresholds.reset();
  await useCalibration(await service.calibration(name));
  for (const one of photographs) forget(one);
  refresh();
  pump();
  if (current) show(current);
}

function useCalibration(card) {
  thresholds.card = card;
  $("pitch").value = card.pixel_pitch_mm ?? "";
  for (const id of ["threshold", "good-panel"]) $(id).hidden = false;
  $("good-open").hidden = !card.may_add;
  $("good-off").hidden = card.may_add;
  $("good-summary").textContent = `${counted(card.scores.length, "good part")} behind the thresholds: what is promised`;
  tellCalibration(card);
}

/** As if it had not been asked for; what a person has said of it stays. */
function forget(one) {
  Object.assign(one, { status: "waiting", problem: "", score: null, decision: null, map: null, size: null, shownPng: null });
}

function add(files) {
  const first = photographs.length;
  for (const { file, name } of files) {
    const one = { file, name, number: photographs.length, mark: new Mark(), lastShown: 0 };
    forget(one);
    one.button = make("button", { type: "button", onclick: () => show(one) });
    one.item = make("li", {}, one.button);
    photographs.push(one);
    $("list").append(one.item);
  }
  if (!files.length) return tellTrouble("No photograph among those: PNG, JPEG, TIFF, BMP or WebP.");
  tellTrouble("");
  for (const id of ["list-panel", "tools"]) $(id).hidden = false;
  $("empty").hidden = true;
  refresh();
  pump();
  if (!current) show(photographs[first]);
}

/** Keep the service busy: the photograph that is shown comes first. */
function pump() {
  const waiting = () => (current?.status === "waiting" ? current : photographs.find((one) => one.status === "waiting"));
  for (let one = waiting(); asked < AT_ONCE && one; one = waiting()) decide(one);
  const left = photographs.filter((one) => one.status === "waiting" || one.status === "asked").length;
  const done = photographs.length - left;
  tellProgress(left ? `Deciding: ${done} of ${photographs.length} done.` : photographs.length ? `${counted(done, "photograph")}.` : "");
}

async function decide(one) {
  const askedOf = model;
  one.status = "asked";
  asked += 1;
  try {
    const answer = await service.inspect(askedOf, one.file);
    if (askedOf !== model) return;
    Object.assign(one, { status: "done", decision: answer.decision, score: answer.decision.score, map: answer.map });
    Object.assign(one, { size: [answer.height, answer.width], revision: answer.revision, model: askedOf, fingerprint: answer.fingerprint });
    one.highest = Math.max(-Infinity, ...answer.decision.regions.map((region) => region.peak));
    if (answer.revision !== thresholds.card.revision) useCalibration(await service.calibration(askedOf));
    dropOldMaps();
  } catch (error) {
    if (askedOf === model) Object.assign(one, { status: "problem", problem: error.message });
  } finally {
    asked -= 1;
    refresh();
    pump();
    if (one === current && askedOf === model) showMap(one, turn);
  }
}

function dropOldMaps() {
  const kept = photographs.filter((one) => one.map && one !== current).sort((one, other) => other.lastShown - one.lastShown || one.number - other.number);
  let bytes = current?.map?.size ?? 0;
  for (const one of kept) {
    bytes += one.map.size;
    if (bytes > KEPT_BYTES) one.map = null;
  }
}

async function show(one) {
  drawer.end();
  const mine = (turn += 1);
  current = one;
  one.lastShown = mine;
  regions = [];
  viewer.show(null, 0, 0);
  tellPoint(null);
  refresh();
  listed(one);
  pump();
  try {
    const image = await imageOf(one, (file) => service.photograph(model, file));
    if (mine !== turn) return;
    viewer.show(image, image.width, image.height);
    viewer.set({ drawing: one.mark.drawing });
    tellPoint(null);
    showMap(one, mine);
  } catch (error) {
    if (mine !== turn) return;
    tellTrouble(`${one.name}: cannot be shown (${error.message})`);
  }
}

/** Bring it into view in the list, without moving the page. */
function listed({ item }) {
  const list = $("list");
  const top = item.offsetTop - list.offsetTop;
  if (top < list.scrollTop) list.scrollTop = top;
  else if (top + item.offsetHeight > list.scrollTop + list.clientHeight) list.scrollTop = top + item.offsetHeight - list.clientHeight;
}

async function showMap(one, mine) {
  if (one !== current || one.status !== "done" || !viewer.image) return;
  if (!one.map) {
    one.status = "waiting"; // it was dropped
    return pump();
  }
  const [height, width] = one.size;
  const map = new Float32Array(await one.map.arrayBuffer());
  if (mine !== turn) return;
  if (viewer.width !== width || viewer.height !== height) {
    if (one.shownPng) return tellTrouble(`${one.name}: the photograph and its map differ in size; add it again`);
    one.shownPng = await service.photograph(model, one.file);
    return mine === turn ? show(one) : undefined;
  }
  regions = findRegions(map, width, height, thresholds.card.extent);
  viewer.showMap(map, thresholds.card.colours);
  refresh();
}

/** Everything that follows from photographs, thresholds and marks, anew. */
function refresh() {
  if (!thresholds.card) return;
  shown = current ? shownRegions(regions, thresholds.seed, thresholds.card.min_area_px) : [];
  if (viewer.chosen && !shown.includes(viewer.chosen)) viewer.set({ chosen: null });
  viewer.outline(shown.slice(0, OUTLINED_REGIONS).map((region) => ({ region, isWrong: current.mark.wrong.has(keyOf(region)) })));
  const decided = photographs.filter((one) => one.score !== null);
  thresholds.redraw(model, decided.map((one) => one.score), decided.map((one) => one.highest).filter(Number.isFinite));
  $("scores-panel").hidden = !decided.length;
  if (decided.length) drawScores($("scores"), decided, thresholds, current, show);
  refreshList();
  refreshVerdict();
  refreshRegions();
  refreshExport();
}

const verdictOf = (one) => (one.status === "problem" ? "problem" : one.score === null ? "waiting" : thresholds.verdict(one.score));

function refreshList() {
  const fits = {
    all: () => true,
    alarm: (one) => ["unsure", "defect"].includes(verdictOf(one)),
    unmarked: (one) => one.mark.isEmpty,
    marked: (one) => !one.mark.isEmpty,
    problem: (one) => one.status === "problem",
  }[$("filter").value];
  let count = 0;
  for (const one of photographs) {
    const verdict = verdictOf(one);
    one.item.hidden = !(fits(one) || one === current);
    count += !one.item.hidden;
    const told = [verdict, one.name, one.score, one.mark.word].join();
    if (one === current) one.button.setAttribute("aria-current", "true");
    else one.button.removeAttribute("aria-current");
    if (one.told === told) continue;
    one.told = told;
    const sign = make("span", { class: verdict, role: "img", "aria-label": verdict }, SIGNS[verdict]);
    const name = make("span", { class: "name", title: one.name }, make("bdi", {}, one.name));
    const mark = one.mark.word ? [make("span", { class: "mark" }, `marked ${one.mark.word}`)] : [];
    one.button.replaceChildren(sign, name, make("span", {}, one.score === null ? "" : score(one.score)), ...mark);
  }
  $("list-count").textContent = `${count} of ${photographs.length}`;
}

function refreshVerdict() {
  const one = current;
  if (!one) return;
  const verdict = verdictOf(one);
  const place = `${one.number + 1} of ${photographs.length}`;
  const lines = [make("p", { class: "name" }, `${place} · ${one.name}`), make("p", { class: `word ${verdict}` }, `${SIGNS[verdict]} ${verdict === "waiting" ? "deciding" : verdict}`)];
  if (one.status === "problem") {
    lines.push(make("p", { class: "facts" }, one.problem), make("button", { type: "button", onclick: () => again(one) }, "Ask again"));
  } else if (one.score !== null) {
    const p = thresholds.card.revision === one.revision ? ` (p ${Number(one.decision.p_value.toPrecision(2))})` : "";
    const found = regions.length || viewer.map ? `, ${counted(shown.length, "region")}` : "";
    lines.push(make("p", { class: "facts" }, `score ${score(one.score)}${p}${found}`));
  }
  const told = lines.map((line) => line.textContent).join();
  if ($("verdict").dataset.told !== told) $("verdict").replaceChildren(...lines);
  $("verdict").dataset.told = told;
  $("picture").setAttribute("aria-label", `Photograph ${place}, ${one.name}: ${verdict}`);
  for (const [id, isSaid] of [["right", one.mark.said === "right"], ["wrong", one.mark.said === "wrong"], ["missed", one.mark.nDrawn > 0]]) {
    $(`mark-${id}`).disabled = !viewer.map; // what is outlined belongs to what is said
    $(`mark-${id}`).setAttribute("aria-pressed", String(isSaid));
  }
  $("mark-none").disabled = one.mark.isEmpty;
}

function again(one) {
  forget(one);
  refresh();
  pump();
}

function refreshRegions() {
  const { wrong } = current?.mark ?? new Mark();
  const pitch = $("pitch").valueAsNumber || null;
  drawRegions({ number: current?.number, shown, chosen: viewer.chosen, wrong, pitch, onGo: goTo, onWrong: markRegion });
}

function refreshExport() {
  const marked = photographs.filter((one) => !one.mark.isEmpty);
  $("export-panel").hidden = !photographs.length;
  const labels = (label) => marked.filter((one) => one.mark.label === label).length;
  $("export-told").textContent = marked.length
    ? `${counted(marked.length, "photograph")} marked: ${labels("good")} good, ${labels("defect")} defective.`
    : "Nothing is marked yet: say right (r), wrong (w) or missed (m).";
  $("export").disabled = !marked.length;
}

function choose(region) {
  viewer.set({ chosen: region });
  refreshRegions();
  tellMark(region ? `Region ${shown.indexOf(region) + 1} is chosen; w: it is a false alarm.` : "");
}

function goTo(region) {
  const [left, top, right, bottom] = region.box;
  const extent = Math.max(right - left, bottom - top);
  viewer.centre((left + right) / 2, (top + bottom) / 2, Math.max(viewer.scale, Math.min(16, Math.max(1, Math.floor(160 / extent)))));
  choose(region);
}

function markRegion(region) {
  const { wrong } = current.mark;
  if (!wrong.delete(keyOf(region))) wrong.add(keyOf(region));
  markChanged();
  tellMark(`Region ${shown.indexOf(region) + 1} ${wrong.has(keyOf(region)) ? "is marked as a false alarm" : "counts again"}.`);
}

function say(word) {
  const { mark } = current;
  if (!viewer.map) return;
  const isAlarm = verdictOf(current) !== "good";
  if (word === "wrong" && viewer.chosen) return markRegion(viewer.chosen);
  if (word === "wrong" && !isAlarm && !shown.length) {
    return tellMark("Nothing is shown that could be wrong; if a defect was missed, press m and draw it.");
  }
  mark.said = mark.said === word ? null : word;
  if (mark.said === "right") mark.wrong.clear();
  markChanged();
  const isBare = mark.label === "defect" && !mark.defective.length;
  const told = { good: "Marked: a good part.", defect: "Marked: a defective part.", "": "No longer marked." }[mark.label];
  tellMark(isBare ? `${told} Nothing is outlined: draw it (m), or it is in labels.csv alone.` : told);
}

function markChanged() {
  current.mark.keep(shown, verdictOf(current) !== "good");
  refresh();
}

function clearMark() {
  current.mark = new Mark();
  drawer.end();
  viewer.set({ drawing: null });
  refresh();
  tellMark("No longer marked.");
}

function step(by) {
  const listed = photographs.filter((one) => !one.item.hidden);
  const next = listed[listed.indexOf(current) + by];
  if (next) show(next);
}

function tellPoint(place) {
  const [column, row] = place ? place.map(Math.floor) : [-1, -1];
  const isInside = row >= 0 && column >= 0 && row < viewer.height && column < viewer.width;
  const value = isInside && viewer.map ? ` · map ${score(viewer.map[row * viewer.width + column])}` : "";
  $("point").textContent = isInside ? `row ${row}, column ${column}${value}` : viewer.width ? `${viewer.width} × ${viewer.height} pixels` : "\u00a0";
}

let progress = "";
let busy = "";
const tellProgress = (line) => ($("busy").textContent = busy || (progress = line));
const tellBusy = (line) => ($("busy").textContent = (busy = line) || progress);
const tellMark = (line) => ($("mark-told").textContent = line);

function tellTrouble(line) {
  $("trouble").textContent = line;
  $("trouble").hidden = !line;
}

function toggle(name) {
  viewer.set({ [name]: !viewer[name] });
  $(name).setAttribute("aria-pressed", String(viewer[name]));
}

const ACTIONS = {
  previous: () => step(-1),
  next: () => step(1),
  "zoom-in": () => viewer.zoom(1),
  "zoom-out": () => viewer.zoom(-1),
  fit: () => viewer.fit(),
  native: () => viewer.native(),
  heat: () => toggle("heat"),
  outlines: () => toggle("outlines"),
  "mark-right": () => say("right"),
  "mark-wrong": () => say("wrong"),
  "mark-missed": () => drawer.begin(),
  "mark-none": clearMark,
  "next-region": () => shown.length && goTo(shown[(shown.indexOf(viewer.chosen) + 1) % shown.length]),
};
for (const [id, act] of Object.entries(ACTIONS)) $(id)?.addEventListener("click", () => current && act());
listenForKeys(viewer, drawer, (name) => current && ACTIONS[name]());
takeFiles(add);
listenForGood({
  card: () => thresholds.card,
  marked: () => photographs.filter((one) => one.mark.label === "good").map((one) => one.file),
  send: (files) => service.addGood(model, thresholds.card.revision, files),
  done: (card) => {
    useCalibration(card);
    refresh();
  },
  refused: async () => {
    useCalibration(await service.calibration(model));
    refresh();
  },
});
$("model").addEventListener("change", () => useModel($("model").value).catch((error) => tellTrouble(error.message)));
$("filter").addEventListener("change", refreshList);
$("pitch").addEventListener("input", refreshRegions);
$("export").addEventListener("click", async () => {
  $("export").disabled = true;
  try {
    await exportMarks(photographs, thresholds, $("with-photographs").checked);
    for (const one of photographs) one.exported = one.mark.word;
  } catch (error) {
    tellTrouble(`Nothing was exported: ${error.message}`);
  }
  refreshExport();
});
window.addEventListener("resize", () => refresh());
window.addEventListener("beforeunload", (event) => {
  if (photographs.some((one) => one.mark.word && one.exported !== one.mark.word)) event.preventDefault();
});
begin();
