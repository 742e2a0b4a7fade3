// What the page is told: files and folders, keys of the keyboard, the key of the service, good parts to be added.

import { $, counted } from "./dom.js";

const SUFFIXES = /\.(png|jpe?g|tiff?|bmp|webp)$/i;

/** Files that are chosen or dropped, folders looked into, as [{file, name}] in the order of their names. */
export function takeFiles(add) {
  const listed = (files) => sorted([...files].map((file) => ({ file, name: file.webkitRelativePath || file.name })));
  for (const [button, input] of [["pick-files", "files"], ["empty-files", "files"], ["pick-folder", "folder"], ["empty-folder", "folder"]]) {
    $(button).addEventListener("click", () => $(input).click());
  }
  for (const id of ["files", "folder"]) {
    $(id).addEventListener("change", () => {
      add(listed($(id).files));
      $(id).value = "";
    });
  }
  const isReady = () => !$("pick-files").disabled;
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", isReady());
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget || $("drop").classList.remove("over"));
  document.addEventListener("drop", async (event) => {
    event.preventDefault();
    $("drop").classList.remove("over");
    if (!isReady()) return;
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    const files = entries.length ? (await Promise.all(entries.map(filesIn))).flat() : [...event.dataTransfer.files].map((file) => ({ file, name: file.name }));
    add(sorted(files));
  });
}

function sorted(files) {
  const inOrder = new Intl.Collator("en", { numeric: true }).compare;
  return files.filter(({ name }) => SUFFIXES.test(name)).sort((one, other) => inOrder(one.name, other.name));
}

async function filesIn(entry) {
  if (entry.isFile) {
    const file = await new Promise((done, failed) => entry.file(done, failed));
    return [{ file, name: entry.fullPath.replace(/^\//, "") }];
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((done, failed) => reader.readEntries(done, failed)); // a hundred at a time
    if (!some.length) return (await Promise.all(found.map(filesIn))).flat();
    found.push(...some);
  }
}

const KEYS = {
  ArrowLeft: "previous",
  ArrowRight: "next",
  ArrowUp: "previous",
  ArrowDown: "next",
  "+": "zoom-in",
  "=": "zoom-in",
  "-": "zoom-out",
  0: "fit",
  1: "native",
  h: "heat",
  o: "outlines",
  n: "next-region",
  r: "mark-right",
  w: "mark-wrong",
  m: "mark-missed",
};
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const PAN = 80;

/** Keys do what buttons do, unless somebody types, or has turned single keys off. */
export function listenForKeys(viewer, drawer, act) {
  document.addEventListener("keydown", (event) => {
    const isTyping = event.target.closest("input:not([type=checkbox], [type=range]), select, dialog");
    if (isTyping || event.ctrlKey || event.metaKey || event.altKey || !$("keys-on").checked) return;
    const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (event.target.type === "range" && (MOVES[name] || name === "+" || name === "-")) return; // the slider's own
    if (viewer.isDrawing && drawer.key(name, event.shiftKey, event.target)) return event.preventDefault();
    if (name === "?") return $("help").showModal();
    if (event.shiftKey && MOVES[name]) {
      viewer.pan(...MOVES[name].map((way) => -PAN * way));
      return event.preventDefault();
    }
    if (!KEYS[name]) return;
    event.preventDefault();
    act(KEYS[name]);
  });
  $("help-open").addEventListener("click", () => $("help").showModal());
}

/** The key of the service, once somebody has given one. */
export function askKey(wasWrong) {
  $("key-told").textContent = wasWrong ? "That is not the key." : "";
  $("key").value = "";
  $("key-dialog").showModal();
  return new Promise((done) => {
    $("key-dialog").oncancel = (event) => event.preventDefault(); // nothing works without
    $("key-form").onsubmit = (event) => {
      event.preventDefault();
      $("key-dialog").close();
      done($("key").value.trim());
    };
  });
}

/** The dialog by which good parts are added; `of` gives the thresholds in force and the photographs marked good. */
export function listenForGood(of) {
  const chosen = () => ($("good-marked").checked ? of.marked() : [...$("good-files").files]);
  const look = () => {
    $("good-add").disabled = !chosen().length;
    $("good-add").textContent = chosen().length ? `Add ${counted(chosen().length, "photograph")}` : "Add";
  };
  $("good-open").addEventListener("click", () => {
    const n = of.marked().length;
    $("good-marked-told").textContent = `the ${counted(n, "photograph")} marked good here`;
    $("good-marked").disabled = !n;
    $(n ? "good-marked" : "good-chosen").checked = true;
    $("good-files").value = "";
    look();
    $("good-dialog").showModal();
  });
  for (const id of ["good-marked", "good-chosen"]) $(id).addEventListener("change", look);
  $("good-files").addEventListener("change", () => {
    $("good-chosen").checked = true;
    look();
  });
  $("good-add").addEventListener("click", async () => {
    const files = chosen();
    $("good-dialog").close();
    $("good-open").disabled = true;
    await addInParts(files, of);
    $("good-open").disabled = false;
  });
}

async function addInParts(files, of) {
  const told = $("good-told");
  let [added, left] = [0, 0];
  try {
    for (const part of partsOf(files, of.card())) {
      told.textContent = `Adding: ${added + left} of ${counted(files.length, "photograph")} done.`;
      const answer = await of.send(part);
      added += answer.n_added;
      left += answer.left_out.length;
      of.done(answer.calibration);
    }
    const twice = left ? ` ${left} were there already.` : "";
    told.textContent = `${counted(added, "good part")} added; the thresholds follow from ${of.card().scores.length}.${twice}`;
  } catch (error) {
    told.textContent = `${added ? `${added} added, then stopped` : "Nothing was added"}: ${error.message}`;
    if (error.status === 409) await of.refused();
  }
}

/** As many files at once as the service takes. */
function* partsOf(files, { most_photographs: most, most_megabytes: megabytes }) {
  let part = [];
  let bytes = 0;
  for (const file of files) {
    const size = file.size + 1000; // and what a form adds
    if (part.length && (part.length === most || bytes + size > megabytes * 1e6)) {
      yield part;
      [part, bytes] = [[], 0];
    }
    part.push(file);
    bytes += size;
  }
  if (part.length) yield part;
}
