// Drawing what was missed, with a pointer or with the keyboard's own cursor.

import { $, counted } from "./dom.js";
import { Drawing } from "./marks.js";

const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Drawer {
  /** @param current gives the photograph that is drawn on */
  constructor(viewer, changed, current) {
    Object.assign(this, { viewer, changed, current, isErasing: false, isPenDown: false });
    $("radius").addEventListener("input", () => this.setRadius($("radius").valueAsNumber));
    $("erase").addEventListener("click", () => this.erase());
    $("undo").addEventListener("click", () => this.undo());
    $("draw-end").addEventListener("click", () => this.end());
  }

  begin() {
    const { viewer } = this;
    if (viewer.isDrawing) return this.end();
    if (!viewer.map) return;
    const { mark } = this.current();
    mark.drawing ??= new Drawing(viewer.width, viewer.height);
    const middle = viewer.pixelAt(viewer.canvas.width / 2, viewer.canvas.height / 2);
    viewer.set({ isDrawing: true, drawing: mark.drawing, cursor: middle.map((one) => Math.floor(one) + 0.5) });
    this.setRadius(viewer.radius);
    this.isPenDown = false;
    $("draw-tools").hidden = false;
    $("drop").classList.add("drawing");
    $("picture").focus();
    this.tell("Drawing: drag, or move the cursor with the arrows and press Space. Escape ends it.");
  }

  end() {
    if (!this.viewer.isDrawing) return;
    this.viewer.set({ isDrawing: false });
    $("draw-tools").hidden = true;
    $("drop").classList.remove("drawing");
    const n = this.current().mark.nDrawn;
    this.tell(n ? `Marked as missed: ${counted(n, "pixel")}.` : "");
  }

  setRadius(radius) {
    if (!(radius > 0)) return;
    this.viewer.set({ radius: Math.min(200, Math.max(0.5, radius)) });
    if (document.activeElement !== $("radius")) $("radius").value = this.viewer.radius;
  }

  erase() {
    this.isErasing = !this.isErasing;
    $("erase").setAttribute("aria-pressed", String(this.isErasing));
  }

  undo() {
    if (this.viewer.drawing.undo()) this.changed();
  }

  stroke(kind, [x, y], [u, v]) {
    const { viewer } = this;
    if (!viewer.isDrawing) return;
    if (kind === "begin") viewer.drawing.begin();
    if (kind !== "end") viewer.drawing.stroke(x, y, u, v, viewer.radius, this.isErasing ? 0 : 1);
    viewer.set({ cursor: [Math.floor(u) + 0.5, Math.floor(v) + 0.5] });
    if (kind === "end") this.changed();
  }

  /** Whether this key was for drawing. */
  key(name, isFast, target) {
    const { viewer } = this;
    const isOnButton = target.closest("button");
    if (MOVES[name]) this.moveCursor(MOVES[name].map((way) => way * (isFast ? 10 : 1)));
    else if (name === " " && !isOnButton) this.dab();
    else if (name === "Enter" && !isOnButton) this.pen();
    else if (name === "[" || name === "]") this.setRadius(viewer.radius + (name === "[" ? -0.5 : 0.5));
    else if (name === "e") this.erase();
    else if (name === "u") this.undo();
    else if (name === "Escape") this.end();
    else return false;
    return true;
  }

  dab() {
    const at = this.viewer.cursor;
    this.stroke("begin", at, at);
    this.stroke("end", at, at);
    this.tellCursor();
  }

  pen() {
    this.isPenDown = !this.isPenDown;
    if (this.isPenDown) this.stroke("begin", this.viewer.cursor, this.viewer.cursor);
    else this.changed();
    this.tell(this.isPenDown ? "Pen down: arrows draw." : "Pen up.");
  }

  moveCursor([dx, dy]) {
    const { viewer } = this;
    const before = viewer.cursor;
    const x = Math.min(viewer.width - 0.5, Math.max(0.5, before[0] + dx));
    const y = Math.min(viewer.height - 0.5, Math.max(0.5, before[1] + dy));
    if (this.isPenDown) this.stroke("go on", before, [x, y]);
    viewer.set({ cursor: [x, y] });
    const [left, top] = [x * viewer.scale + viewer.x, y * viewer.scale + viewer.y];
    if (left < 0 || top < 0 || left > viewer.canvas.width || top > viewer.canvas.height) viewer.centre(x, y);
    this.tellCursor();
  }

  tellCursor() {
    const [x, y] = this.viewer.cursor;
    this.tell(`Row ${Math.floor(y)}, column ${Math.floor(x)}; ${counted(this.viewer.drawing.area, "pixel")} drawn.`);
  }

  tell(line) {
    $("mark-told").textContent = line;
  }
}
