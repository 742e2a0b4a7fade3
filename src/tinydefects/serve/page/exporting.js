// Marks as files: labels.csv, and a folder of good and defective photographs with masks that every command reads.

import { csv, maskPng, save, zip } from "./files.js";

const COLUMNS = ["photograph", "label", "mark", "verdict", "score", "threshold", "regions_right", "regions_wrong", "missed_px", "file", "mask", "model", "fingerprint"];

/** Hand over a ZIP of all that is marked; with photographs it can be learnt from, without it holds labels and masks. */
export async function exportMarks(photographs, thresholds, withPhotographs) {
  const files = [];
  const rows = [COLUMNS];
  const taken = new Set();
  for (const one of photographs.filter(({ mark }) => !mark.isEmpty)) {
    const { mark } = one;
    const runs = mark.label === "defect" ? mark.defective : [];
    const isPlaced = mark.label === "good" || runs.length > 0; // a folder of defects needs their outlines
    const [stem, suffix] = placeOf(one.name, taken);
    const file = isPlaced && withPhotographs ? `${mark.label}/${stem}${suffix}` : "";
    const mask = runs.length ? `mask/${stem}.png` : "";
    if (file) files.push([file, one.file]);
    if (mask) files.push([mask, await maskPng(one.size[1], one.size[0], runs)]);
    rows.push([one.name, mark.label, mark.word, thresholds.verdict(one.score), one.score, thresholds.alarm, mark.outlined.length, mark.wrong.size, mark.nDrawn, file, mask, one.model, one.fingerprint]);
  }
  files.unshift(["labels.csv", csv(rows)]);
  save("marks.zip", await zip(files));
}

/** A name that no other has: plain letters, folders kept, the suffix apart. */
function placeOf(name, taken) {
  const plain = name.split("/").map((part) => part.replace(/[^\p{L}\p{N} ._()+-]/gu, "_").replace(/^\.+/, "_") || "_");
  const whole = plain.join("/").normalize("NFC");
  const dot = whole.lastIndexOf(".");
  let stem = whole.slice(0, dot);
  for (let number = 2; taken.has(stem.toLowerCase()); number += 1) stem = `${whole.slice(0, dot)}-${number}`;
  taken.add(stem.toLowerCase());
  return [stem, whole.slice(dot)];
}
