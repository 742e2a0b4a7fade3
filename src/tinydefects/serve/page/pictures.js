// Photographs as pictures that a browser draws, pixel by pixel as the model sees them.

/** The pixels of a photograph; what the browser does not read just so, the service turns into a PNG: `askPng`. */
export async function imageOf(one, askPng) {
  if (!one.shownPng && (await isPlain(one.file))) {
    try {
      return await createImageBitmap(one.file, { colorSpaceConversion: "none" });
    } catch {
      // then the service reads it
    }
  }
  one.shownPng ??= await askPng(one.file);
  return createImageBitmap(one.shownPng, { colorSpaceConversion: "none" });
}

/** Whether a browser shows this file as the model sees it: JPEG, BMP, and PNG of 8 bits that is not turned. */
async function isPlain(file) {
  const head = new Uint8Array(await file.slice(0, 65_536).arrayBuffer());
  const text = new TextDecoder("latin1").decode(head);
  if (head[0] === 0x89 && text.startsWith("PNG", 1)) return head[24] <= 8 && !text.includes("eXIf");
  return (head[0] === 0xff && head[1] === 0xd8) || text.startsWith("BM");
}
