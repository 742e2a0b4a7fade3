// Regions of a map in the browser: the same as `decisions/regions.py` finds, so that thresholds can be moved at once.

const BLOCK = 64; // pixels, at least; side of the squares in which the highest values around are looked for

/** 1 where a region can be: above the level, and at least halfway from `good` to the highest value within a patch. */
function extentOf(map, width, height, { level, good, patch_px: reach }) {
  const lowest = Math.fround(level);
  const usual = Math.fround(good);
  const inside = new Uint8Array(map.length);
  for (let place = 0; place < map.length; place += 1) inside[place] = map[place] > lowest ? 1 : 0;
  if (!reach) return inside;
  const side = Math.max(BLOCK, 4 * reach);
  for (let top = 0; top < height; top += side) {
    for (let left = 0; left < width; left += side) {
      const bottom = Math.min(top + side, height);
      const right = Math.min(left + side, width);
      if (!anyIn(inside, width, top, left, bottom, right)) continue; // of most of a map the highest need not be known
      const highest = highestAround(map, width, height, { top, left, bottom, right }, reach);
      for (let row = top, number = 0; row < bottom; row += 1) {
        for (let column = left; column < right; column += 1, number += 1) {
          const half = Math.fround(Math.fround(highest[number] + usual) / 2);
          if (map[row * width + column] < half) inside[row * width + column] = 0;
        }
      }
    }
  }
  return inside;
}

function anyIn(inside, width, top, left, bottom, right) {
  for (let row = top; row < bottom; row += 1) {
    if (inside.subarray(row * width + left, row * width + right).includes(1)) return true;
  }
  return false;
}

/** For each pixel of a block the highest value at most so many rows and columns away: along rows, then columns. */
function highestAround(map, width, height, { top, left, bottom, right }, reach) {
  const above = Math.max(0, top - reach);
  const below = Math.min(height, bottom + reach);
  const n = right - left;
  const along = new Float32Array((below - above) * n);
  for (let row = above; row < below; row += 1) {
    for (let column = left; column < right; column += 1) {
      let most = -Infinity;
      const end = Math.min(width, column + reach + 1);
      for (let near = Math.max(0, column - reach); near < end; near += 1) most = Math.max(most, map[row * width + near]);
      along[(row - above) * n + column - left] = most;
    }
  }
  const highest = new Float32Array((bottom - top) * n);
  for (let row = top; row < bottom; row += 1) {
    const end = Math.min(below, row + reach + 1);
    for (let column = 0; column < n; column += 1) {
      let most = -Infinity;
      for (let near = Math.max(above, row - reach); near < end; near += 1) most = Math.max(most, along[(near - above) * n + column]);
      highest[(row - top) * n + column] = most;
    }
  }
  return highest;
}

/**
 * All 8-connected regions of a map, as far as they can reach, highest peak first.
 *
 * @param {Float32Array} map height times width values, row by row
 * @param {{level: number, good: number, patch_px: number}} extent how far, see `Extent` of the package
 * @returns {{runs: number[][], area: number, peak: number, row: number, column: number, box: number[]}[]} runs are
 *   [row, start, end) in reading order; row and column those of the peak; the box is left, top, right, bottom
 */
export function findRegions(map, width, height, extent) {
  const inside = extentOf(map, width, height, extent);
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
      if (!inside[begin + column]) continue;
      const start = column;
      while (column < width && inside[begin + column]) column += 1;
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
