// Files that are made in the browser: masks as PNG, labels as CSV, and a ZIP of both in the layout of a folder dataset.

const CRC = Uint32Array.from({ length: 256 }, (_, number) => {
  for (let bit = 0; bit < 8; bit += 1) number = number & 1 ? (number >>> 1) ^ 0xedb88320 : number >>> 1;
  return number;
});
const MOST_BYTES = 2 ** 32 - 1; // what a plain ZIP can hold
const MOST_ENTRIES = 65_535;
const TEXT = new TextEncoder();

function crc(bytes, before = 0) {
  let value = ~before;
  for (const byte of bytes) value = CRC[(value ^ byte) & 255] ^ (value >>> 8);
  return ~value >>> 0;
}

async function crcOf(blob) {
  let value = 0;
  for (const reader = blob.stream().getReader(); ; ) {
    const { done, value: part } = await reader.read();
    if (done) return value;
    value = crc(part, value);
  }
}

function bigEndian(...numbers) {
  const bytes = new Uint8Array(4 * numbers.length);
  const view = new DataView(bytes.buffer);
  numbers.forEach((number, place) => view.setUint32(4 * place, number));
  return bytes;
}

function chunk(name, content) {
  const named = new Uint8Array(4 + content.length);
  named.set(TEXT.encode(name));
  named.set(content, 4);
  return [bigEndian(content.length), named, bigEndian(crc(named))];
}

/** A gray PNG of 8 bits, 255 in the runs [row, start, end) and 0 elsewhere. */
export async function maskPng(width, height, runs) {
  const rows = new Uint8Array(height * (width + 1)); // each begins with its filter: none
  for (const [row, start, end] of runs) rows.fill(255, row * (width + 1) + 1 + start, row * (width + 1) + 1 + end);
  const packed = new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate"));
  const content = new Uint8Array(await new Response(packed).arrayBuffer());
  const head = new Uint8Array([...bigEndian(width, height), 8, 0, 0, 0, 0]);
  const signature = new Uint8Array([137, 80, 78, 71, 13, 10, 26, 10]);
  const parts = [signature, ...chunk("IHDR", head), ...chunk("IDAT", content), ...chunk("IEND", new Uint8Array(0))];
  return new Blob(parts, { type: "image/png" });
}

function record(signature, fields) {
  const bytes = new Uint8Array(4 + fields.reduce((sum, [, n]) => sum + n, 0));
  const view = new DataView(bytes.buffer);
  view.setUint32(0, signature, true);
  let place = 4;
  for (const [value, n] of fields) {
    if (n === 2) view.setUint16(place, value, true);
    else view.setUint32(place, value, true);
    place += n;
  }
  return bytes;
}

/**
 * A ZIP of files that are not packed any further.
 *
 * @param {[string, Blob][]} files by their paths
 */
export async function zip(files) {
  const total = files.reduce((sum, [, blob]) => sum + blob.size + 512, 0);
  if (total > MOST_BYTES || files.length > MOST_ENTRIES) {
    throw new RangeError("more than 4 GB, or more than 65,535 files: export without the photographs, or in parts");
  }
  const parts = [];
  const directory = [];
  let place = 0;
  for (const [path, blob] of files) {
    const name = TEXT.encode(path);
    const told = [[0x0800, 2], [0, 2], [0, 2], [0x21, 2], [await crcOf(blob), 4], [blob.size, 4], [blob.size, 4]];
    const head = record(0x04034b50, [[20, 2], ...told, [name.length, 2], [0, 2]]);
    parts.push(head, name, blob);
    const more = [[name.length, 2], [0, 2], [0, 2], [0, 2], [0, 2], [0, 4], [place, 4]];
    directory.push(record(0x02014b50, [[20, 2], [20, 2], ...told, ...more]), name);
    place += head.length + name.length + blob.size;
  }
  const length = directory.reduce((sum, one) => sum + one.length, 0);
  const n = files.length;
  const end = record(0x06054b50, [[0, 2], [0, 2], [n, 2], [n, 2], [length, 4], [place, 4], [0, 2]]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

/** Rows as CSV; a text that a spreadsheet would take for a formula begins with an apostrophe. */
export function csv(rows) {
  const cell = (value) => {
    let text = value === null || value === undefined ? "" : String(value);
    if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return new Blob([rows.map((row) => `${row.map(cell).join(",")}\r\n`).join("")], { type: "text/csv" });
}

/** Hand a file to the person. */
export function save(name, blob) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
