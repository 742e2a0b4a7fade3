// What a person says of a photograph: right, wrong, or missed and drawn by hand; and what follows for its label.

const MOST_UNDONE = 30;

/** Pixels that are drawn by hand: a box that grows as it has to, in pixels of a photograph of this size. */
export class Drawing {
  constructor(width, height) {
    Object.assign(this, { width, height, box: [0, 0, 0, 0], pixels: new Uint8Array(0), before: [] });
  }

  get area() {
    return this.pixels.reduce((sum, one) => sum + one, 0);
  }

  /** Call before each stroke, so that it can be taken back. */
  begin() {
    this.before.push([this.box, this.pixels.slice()]);
    if (this.before.length > MOST_UNDONE) this.before.shift();
  }

  undo() {
    const last = this.before.pop();
    if (last) [this.box, this.pixels] = last;
    return Boolean(last);
  }

  /** Mark or clear the pixels whose centre lies within the radius of a line from (x, y) to (u, v). */
  stroke(x, y, u, v, radius, value) {
    const reach = [Math.min(x, u) - radius, Math.min(y, v) - radius, Math.max(x, u) + radius, Math.max(y, v) + radius];
    const left = Math.max(0, Math.floor(reach[0]));
    const top = Math.max(0, Math.floor(reach[1]));
    const right = Math.min(this.width, Math.ceil(reach[2]) + 1);
    const bottom = Math.min(this.height, Math.ceil(reach[3]) + 1);
    if (left >= right || top >= bottom) return;
    if (value) this.growTo(left, top, right, bottom);
    const [boxLeft, boxTop, boxRight, boxBottom] = this.box;
    const [dx, dy] = [u - x, v - y];
    const length = dx * dx + dy * dy;
    for (let row = Math.max(top, boxTop); row < Math.min(bottom, boxBottom); row += 1) {
      for (let column = Math.max(left, boxLeft); column < Math.min(right, boxRight); column += 1) {
        const [px, py] = [column + 0.5 - x, row + 0.5 - y];
        const along = length ? Math.min(1, Math.max(0, (px * dx + py * dy) / length)) : 0;
        if ((px - along * dx) ** 2 + (py - along * dy) ** 2 <= radius * radius) {
          this.pixels[(row - boxTop) * (boxRight - boxLeft) + column - boxLeft] = value;
        }
      }
    }
  }

  growTo(left, top, right, bottom) {
    const [oldLeft, oldTop, oldRight, oldBottom] = this.box;
    const isEmpty = oldRight === oldLeft;
    const box = isEmpty
      ? [left, top, right, bottom]
      : [Math.min(left, oldLeft), Math.min(top, oldTop), Math.max(right, oldRight), Math.max(bottom, oldBottom)];
    if (String(box) === String(this.box)) return;
    const width = box[2] - box[0];
    const pixels = new Uint8Array(width * (box[3] - box[1]));
    for (let row = oldTop; row < oldBottom; row += 1) {
      const old = this.pixels.subarray((row - oldTop) * (oldRight - oldLeft), (row - oldTop + 1) * (oldRight - oldLeft));
      pixels.set(old, (row - box[1]) * width + oldLeft - box[0]);
    }
    [this.box, this.pixels] = [box, pixels];
  }

  /** Its pixels as runs [row, start, end), in reading order. */
  runs() {
    const [left, top, right, bottom] = this.box;
    const width = right - left;
    const runs = [];
    for (let row = 0; row < bottom - top; row += 1) {
      for (let column = 0; column < width; column += 1) {
        if (!this.pixels[row * width + column]) continue;
        const start = column;
        while (column < width && this.pixels[row * width + column]) column += 1;
        runs.push([top + row, left + start, left + column]);
      }
    }
    return runs;
  }
}

export const keyOf = (region) => `${region.row},${region.column}`;

/**
 * What was said of one photograph.
 *
 * `said` is "right", "wrong" or null. `wrong` holds the regions that are false alarms, `outlined` the runs of those
 * that are not, both as they were when the last word was said, so that a threshold moved later changes no label.
 */
export class Mark {
  constructor() {
    Object.assign(this, { said: null, wrong: new Set(), outlined: [], isAlarm: false, drawing: null });
  }

  get isEmpty() {
    return !this.said && !this.wrong.size && !this.nDrawn;
  }

  get nDrawn() {
    return this.drawing ? this.drawing.area : 0;
  }

  /** Keep what is shown now: the regions, and whether the photograph alarms. */
  keep(shown, isAlarm) {
    this.isAlarm = isAlarm;
    this.outlined = shown.filter((one) => !this.wrong.has(keyOf(one))).map((one) => one.runs);
  }

  /** Runs of all that is defective here. */
  get defective() {
    const isRight = this.isAlarm && this.said !== "wrong";
    return [...(isRight ? this.outlined.flat() : []), ...(this.nDrawn ? this.drawing.runs() : [])];
  }

  /** "good", "defect", or "" where nothing was said. */
  get label() {
    if (this.isEmpty) return "";
    if (this.nDrawn || (this.isAlarm && this.said === "right")) return "defect";
    return this.isAlarm && this.said !== "wrong" && this.outlined.length ? "defect" : "good";
  }

  /** The word for the list. */
  get word() {
    if (this.isEmpty) return "";
    if (this.nDrawn) return "missed";
    return this.said ?? "wrong in part";
  }
}
