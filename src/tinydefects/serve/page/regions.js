// Regions of a map in the browser: the same as `decisions/regions.py` finds, so that thresholds can be moved at once.

/**
 * All 8-connected regions of a map above a level, highest peak first.
 *
 * @param {Float32Array} map height times width values, row by row
 * @returns {{runs: number[][], area: number, peak: number, row: number, column: number, box: number[]}[]} runs are
 *   [row, start, end) in reading order; row and column those of the peak; the box is left, top, right, bottom
 */
export function findRegions(map, width, height, extent) {
  const level = Math.fround(extent);
  const runs = [];
  const parents = [];
  const rootOf = (one) => {
    while (parents[one] !== one) one = parents[one] = parents[parents[one]];
    return one;
  };
  let above = 0; // the first run of the row above
  let aboveEnd = 0;
  for (let row = 0; row < height; row += 1) {
    const first = runs.length;
    const begin = row * width;
    for (let column = 0; column < width; column += 1) {
      if (!(map[begin + column] > level)) continue;
      const start = column;
      while (column < width && map[begin + column] > level) column += 1;
      parents.push(runs.length);
      runs.push([row, start, column]);
    }
    for (let here = first, there = above; here < runs.length && there < aboveEnd; ) {
      const [, start, end] = runs[here];
      const [, otherStart, otherEnd] = runs[there];
      if (otherStart <= end && start <= otherEnd) parents[rootOf(here)] = rootOf(there); // corners touch as well
      if (otherEnd < end) there += 1;
      else here += 1;
    }
    above = first;
    aboveEnd = runs.length;
  }
  return gathered(map, width, runs, rootOf);
}

function gathered(map, width, runs, rootOf) {
  const found = new Map();
  runs.forEach((run, number) => {
    const [row, start, end] = run;
    const root = rootOf(number);
    let one = found.get(root);
    if (!one) {
      one = { runs: [], area: 0, peak: -Infinity, row: 0, column: 0, box: [start, row, end, row + 1] };
      found.set(root, one);
    }
    one.runs.push(run);
    one.area += end - start;
    one.box = [Math.min(one.box[0], start), one.box[1], Math.max(one.box[2], end), row + 1];
    for (let column = start; column < end; column += 1) {
      const value = map[row * width + column];
      if (value > one.peak) Object.assign(one, { peak: value, row, column });
    }
  });
  return [...found.values()].sort((one, other) => other.peak - one.peak);
}

/** Those that are shown: their peak lies above the seed, and they are large enough. */
export function shownRegions(regions, seed, minArea) {
  const level = Math.fround(seed);
  return regions.filter((one) => one.peak > level && one.area >= minArea);
}

/** The one whose box lies nearest to a place, at most so far away; null without any. */
export function regionAt(regions, [x, y], slack) {
  const away = ({ box: [left, top, right, bottom] }) => Math.max(left - x, x - right, top - y, y - bottom, 0);
  const near = regions.filter((one) => away(one) <= slack);
  return near.sort((one, other) => away(one) - away(other) || one.area - other.area)[0] ?? null;
}

/** Diameter of the disc of the same area, in pixels. */
export const diameter = (region) => 2 * Math.sqrt(region.area / Math.PI);

/** The longest way across between outer corners of pixels, in pixels. */
export function longest({ runs }) {
  const corners = runs.flatMap(([row, start, end]) => [[start, row], [start, row + 1], [end, row], [end, row + 1]]);
  const hull = hullOf(corners);
  let most = 0;
  for (const [x, y] of hull) for (const [u, v] of hull) most = Math.max(most, (x - u) ** 2 + (y - v) ** 2);
  return Math.sqrt(most);
}

function hullOf(points) {
  points.sort((one, other) => one[0] - other[0] || one[1] - other[1]);
  const half = (ordered) => {
    const kept = [];
    for (const point of ordered) {
      while (kept.length > 1 && turn(kept.at(-2), kept.at(-1), point) <= 0) kept.pop();
      kept.push(point);
    }
    return kept;
  };
  return [...half(points), ...half([...points].reverse())];
}

const turn = ([ax, ay], [bx, by], [cx, cy]) => (bx - ax) * (cy - ay) - (by - ay) * (cx - ax);

/** The border of runs along the edges of pixels: [x, y, x, y] of each piece, in pixels of the photograph. */
export function borderOf(runs) {
  const rows = new Map();
  for (const [row, start, end] of runs) {
    if (!rows.has(row)) rows.set(row, []);
    rows.get(row).push(start, end);
  }
  const pieces = [];
  for (const [row, ends] of rows) {
    for (const x of ends) pieces.push([x, row, x, row + 1]);
    for (const [x, end] of differing(ends, rows.get(row - 1) ?? [])) pieces.push([x, row, end, row]);
    if (!rows.has(row + 1)) for (const [x, end] of differing(ends, [])) pieces.push([x, row + 1, end, row + 1]);
  }
  return pieces;
}

/** Where of two rows only one is marked; each is given by where its runs begin and end. */
function differing(ends, others) {
  const all = [...ends, ...others].sort((one, other) => one - other);
  const spans = [];
  for (let place = 0; place < all.length; place += 2) {
    if (all[place] < all[place + 1]) spans.push([all[place], all[place + 1]]);
  }
  return spans;
}

export function pathOf(runs) {
  const path = new Path2D();
  for (const [x, y, u, v] of borderOf(runs)) {
    path.moveTo(x, y);
    path.lineTo(u, v);
  }
  return path;
}
