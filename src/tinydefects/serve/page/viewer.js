// The photograph with its map and outlines, at native pixels and any zoom. Only what is in view is ever drawn.

import { make } from "./dom.js";
import { pathOf } from "./regions.js";

const STEPS = [1 / 32, 1 / 24, 1 / 16, 1 / 12, 1 / 8, 1 / 6, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48];
const HEAT = [255, 40, 0]; // as overlays of the command line
const STRONGEST = 0.7;
const COLOURS = { shown: "#21e6ff", wrong: "#c9ced6", missed: "#ff7ad9", chosen: "#ffe14d", halo: "#001216" };
const SMALL = 12; // on the screen; what is smaller gets a ring
const STILL = 4; // a pointer that moves less has clicked

export class Viewer {
  /** @param {{onPoint, onPick, onStroke, onZoom}} told called with pixels of the photograph */
  constructor(canvas, told) {
    Object.assign(this, { canvas, told, context: canvas.getContext("2d"), image: null, map: null, regions: [] });
    Object.assign(this, { width: 0, height: 0, colours: [0, 1], heat: true, outlines: true, chosen: null });
    Object.assign(this, { scale: 1, x: 0, y: 0, isFitted: true, drawing: null, isDrawing: false, radius: 4 });
    Object.assign(this, { cursor: null, isWaiting: false, pointers: new Map(), tinted: make("canvas"), tintedFor: "" });
    new ResizeObserver(() => this.resize()).observe(canvas);
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => this.up(event));
    canvas.addEventListener("pointerleave", () => this.told.onPoint(null));
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
  }

  /** Show another photograph, fitted, or nothing. */
  show(image, width, height) {
    this.image?.close();
    Object.assign(this, { image, width, height, map: null, regions: [], chosen: null, drawing: null, cursor: null });
    this.tintedFor = "";
    this.fit();
  }

  /** The map that belongs to it. */
  showMap(map, colours) {
    Object.assign(this, { map, colours, tintedFor: "" });
    this.redraw();
  }

  /** Regions to be outlined: [{region, isWrong}]. */
  outline(regions) {
    this.regions = regions;
    for (const { region } of regions) region.path ??= pathOf(region.runs);
    this.redraw();
  }

  set(changes) {
    Object.assign(this, changes);
    this.redraw();
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth, clientHeight } = this.canvas;
    this.canvas.width = Math.max(1, Math.round(clientWidth * ratio));
    this.canvas.height = Math.max(1, Math.round(clientHeight * ratio));
    if (this.isFitted) this.fit();
    else this.redraw();
  }

  fit() {
    if (this.width) {
      const fitting = Math.min(this.canvas.width / this.width, this.canvas.height / this.height);
      this.scale = fitting > 1 ? Math.max(1, Math.floor(fitting)) : fitting;
    }
    this.centre(this.width / 2, this.height / 2);
    this.isFitted = true;
  }

  /** One pixel of the photograph on one pixel of the screen. */
  native() {
    this.zoomTo(1, this.canvas.width / 2, this.canvas.height / 2);
  }

  zoom(direction, x = this.canvas.width / 2, y = this.canvas.height / 2) {
    const slack = 1 + 1e-6 * direction;
    const next = direction > 0 ? STEPS.find((one) => one > this.scale * slack) : STEPS.findLast((one) => one < this.scale * slack);
    if (next) this.zoomTo(next, x, y);
  }

  /** Another scale; the pixel below (x, y) on the screen stays there. */
  zoomTo(scale, x, y) {
    const [column, row] = this.pixelAt(x, y);
    this.scale = Math.min(64, Math.max(1 / 64, scale));
    this.isFitted = false;
    this.x = x - column * this.scale;
    this.y = y - row * this.scale;
    this.keepInView();
  }

  centre(column, row, scale = this.scale) {
    this.scale = scale;
    this.isFitted = false;
    this.x = this.canvas.width / 2 - column * this.scale;
    this.y = this.canvas.height / 2 - row * this.scale;
    this.keepInView();
  }

  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.isFitted = false;
    this.keepInView();
  }

  keepInView() {
    const kept = (place, length, room) => {
      const [least, most] = length <= room ? [(room - length) / 2, (room - length) / 2] : [room - length, 0];
      const slack = length <= room ? 0 : room / 2;
      return Math.min(most + slack, Math.max(least - slack, place));
    };
    this.x = kept(this.x, this.width * this.scale, this.canvas.width);
    this.y = kept(this.y, this.height * this.scale, this.canvas.height);
    if (this.scale >= 1) [this.x, this.y] = [Math.round(this.x), Math.round(this.y)];
    this.told.onZoom(this.scale);
    this.redraw();
  }

  /** Where a place on the screen lies in the photograph: [column, row], with fractions. */
  pixelAt(x, y) {
    return [(x - this.x) / this.scale, (y - this.y) / this.scale];
  }

  placeOf(event) {
    const box = this.canvas.getBoundingClientRect();
    const ratio = this.canvas.width / box.width;
    return [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio];
  }

  down(event) {
    if (!this.image || event.button > 1) return;
    this.canvas.setPointerCapture(event.pointerId);
    const place = this.placeOf(event);
    this.pointers.set(event.pointerId, { place, begun: place, isStroke: this.isDrawing && event.button === 0 });
    if (this.pointers.size > 1) return;
    if (this.isDrawing && event.button === 0) this.told.onStroke("begin", this.pixelAt(...place), this.pixelAt(...place));
  }

  move(event) {
    if (!this.image) return;
    const place = this.placeOf(event);
    this.told.onPoint(this.pixelAt(...place));
    const pointer = this.pointers.get(event.pointerId);
    if (!pointer) return;
    const before = pointer.place;
    pointer.place = place;
    if (this.pointers.size === 2) this.pinch(event.pointerId, before);
    else if (pointer.isStroke) this.told.onStroke("go on", this.pixelAt(...before), this.pixelAt(...place));
    else this.pan(place[0] - before[0], place[1] - before[1]);
  }

  pinch(moved, before) {
    const other = [...this.pointers].find(([id]) => id !== moved)[1].place;
    const now = this.pointers.get(moved).place;
    const apart = (one) => Math.hypot(one[0] - other[0], one[1] - other[1]) || 1;
    this.zoomTo(this.scale * (apart(now) / apart(before)), other[0], other[1]);
  }

  up(event) {
    const pointer = this.pointers.get(event.pointerId);
    this.pointers.delete(event.pointerId);
    if (!pointer || event.type === "pointercancel") return;
    const [x, y] = pointer.place;
    if (pointer.isStroke) this.told.onStroke("end", this.pixelAt(x, y), this.pixelAt(x, y));
    else if (Math.hypot(x - pointer.begun[0], y - pointer.begun[1]) < STILL) {
      this.told.onPick(this.pixelAt(x, y), SMALL / this.scale);
    }
  }

  wheel(event) {
    if (!this.image) return;
    event.preventDefault();
    this.zoom(event.deltaY < 0 ? 1 : -1, ...this.placeOf(event));
  }

  redraw() {
    if (this.isWaiting) return;
    this.isWaiting = true;
    requestAnimationFrame(() => {
      this.isWaiting = false;
      this.draw();
    });
  }

  draw() {
    const { context, canvas } = this;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (!this.image) return;
    context.imageSmoothingEnabled = this.scale < 1;
    context.imageSmoothingQuality = "high";
    context.setTransform(this.scale, 0, 0, this.scale, this.x, this.y);
    context.drawImage(this.image, 0, 0, this.width, this.height);
    if (this.heat && this.map) this.drawHeat();
    if (this.outlines) for (const one of this.regions) this.drawRegion(one);
    if (this.drawing) this.drawDrawn();
    if (this.isDrawing && this.cursor) this.drawCursor();
  }

  /** The map tints what is in view; where pixels are shrunk the highest of them counts, so that none is lost. */
  drawHeat() {
    const { canvas, context, tinted } = this;
    const wanted = [this.scale, this.x, this.y, canvas.width, canvas.height].join();
    if (this.tintedFor !== wanted) {
      this.tintedFor = wanted;
      [tinted.width, tinted.height] = [canvas.width, canvas.height];
      const picture = new ImageData(canvas.width, canvas.height);
      this.tint(picture.data);
      tinted.getContext("2d").putImageData(picture, 0, 0);
    }
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.drawImage(tinted, 0, 0);
    context.setTransform(this.scale, 0, 0, this.scale, this.x, this.y);
  }

  tint(pixels) {
    const { map, width, height, scale, canvas } = this;
    const [low, high] = this.colours;
    const spans = (origin, screen, length) =>
      Array.from({ length: screen }, (_, place) => {
        const first = Math.max(0, Math.floor((place - origin) / scale + 1e-9));
        return [first, Math.min(length, Math.max(first + 1, Math.ceil((place + 1 - origin) / scale - 1e-9)))];
      });
    const columns = spans(this.x, canvas.width, width).map(([first, end], place) => (place < this.x ? [0, 0] : [first, end]));
    const rows = spans(this.y, canvas.height, height);
    for (let y = Math.max(0, Math.ceil(this.y)); y < canvas.height && rows[y][0] < height; y += 1) {
      const [top, bottom] = rows[y];
      for (let x = 0; x < canvas.width; x += 1) {
        const [left, right] = columns[x];
        let most = low;
        for (let row = top; row < bottom; row += 1) {
          for (let place = row * width + left; place < row * width + right; place += 1) {
            if (map[place] > most) most = map[place];
          }
        }
        if (most <= low) continue;
        const at = 4 * (y * canvas.width + x);
        [pixels[at], pixels[at + 1], pixels[at + 2]] = HEAT;
        pixels[at + 3] = 255 * STRONGEST * Math.min(1, (most - low) / Math.max(high - low, 1e-12));
      }
    }
  }

  drawRegion({ region, isWrong }) {
    const ratio = window.devicePixelRatio || 1;
    const isChosen = region === this.chosen;
    const colour = isChosen ? COLOURS.chosen : isWrong ? COLOURS.wrong : COLOURS.shown;
    const [left, top, right, bottom] = region.box;
    this.stroke(region.path, colour, isWrong ? [4, 3] : []);
    if (Math.max(right - left, bottom - top) * this.scale < SMALL * ratio) {
      const ring = new Path2D();
      ring.arc((left + right) / 2, (top + bottom) / 2, (SMALL * ratio) / this.scale, 0, 7);
      this.stroke(ring, colour, isWrong ? [4, 3] : []);
    }
  }

  stroke(path, colour, dashes = []) {
    const { context } = this;
    const unit = (window.devicePixelRatio || 1) / this.scale;
    context.lineCap = "square";
    for (const [style, width] of [[COLOURS.halo, 3.4], [colour, 1.6]]) {
      context.setLineDash(style === colour ? dashes.map((one) => one * unit) : []);
      Object.assign(context, { strokeStyle: style, lineWidth: width * unit });
      context.stroke(path);
    }
    context.setLineDash([]);
  }

  drawDrawn() {
    const runs = this.drawing.runs();
    this.context.fillStyle = `${COLOURS.missed}59`;
    for (const [row, start, end] of runs) this.context.fillRect(start, row, end - start, 1);
    if (runs.length) this.stroke(pathOf(runs), COLOURS.missed);
  }

  drawCursor() {
    const [x, y] = this.cursor;
    const arm = 14 / this.scale + this.radius;
    const path = new Path2D();
    path.arc(x, y, this.radius, 0, 7);
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      path.moveTo(x + dx * this.radius, y + dy * this.radius);
      path.lineTo(x + dx * arm, y + dy * arm);
    }
    this.stroke(path, COLOURS.chosen);
  }
}
