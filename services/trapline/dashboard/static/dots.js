// Very many dots: they are written into pixels, which costs the same for each however many there are.
"use strict";
(() => {
  // 0xAABBGGRR of #rrggbb, as pixels lie in memory.
  const packed = (colour, alpha) => {
    const n = parseInt(colour.slice(1, 7), 16);
    return ((Math.round(255 * alpha) << 24) | ((n & 255) << 16) | (n & 0xff00) | (n >> 16)) >>> 0;
  };
  // A layer of w x h device pixels; `put` takes device pixels and the side of a square.
  window.dots = (w, h) => {
    const canvas = new OffscreenCanvas(Math.max(1, w), Math.max(1, h)), ctx = canvas.getContext("2d");
    const image = ctx.createImageData(canvas.width, canvas.height), pixels = new Uint32Array(image.data.buffer);
    const [nx, ny] = [canvas.width, canvas.height];
    return {
      put(x, y, side, colour) {
        const wide = Math.max(1, Math.round(side)), left = Math.round(x - side / 2), low = Math.round(y - side / 2);
        this.box(left, low, left + wide, low + wide, colour);
      },
      box(left, low, right, high, colour) {
        const x0 = Math.max(0, Math.round(left)), y0 = Math.max(0, Math.round(low)), x1 = Math.min(nx, Math.round(right)), y1 = Math.min(ny, Math.round(high));
        for (let j = y0; j < y1; j++) for (let k = j * nx + x0; k < j * nx + x1; k++) pixels[k] = colour;
      },
      canvas() { ctx.putImageData(image, 0, 0); return canvas; },
    };
  };
  window.dots.colour = packed;

  // The indices of the largest values, largest first, without sorting all of them.
  window.largest = (indices, value, most) => {
    const best = [];
    for (const i of indices) {
      const v = value(i);
      if (best.length === most && !(v > best[most - 1][0])) continue;
      let at = best.length;
      while (at && best[at - 1][0] < v) at--;
      best.splice(at, 0, [v, i]);
      if (best.length > most) best.pop();
    }
    return best.map(([, i]) => i);
  };
})();
