// Positions as people write them, and the sky on a plane: all of it (Mollweide) or the half about a point, in equal areas.
"use strict";
(() => {
  const RAD = Math.PI / 180, ROOT = Math.SQRT2;

  // Rounded before it is cut in parts: no 60 seconds.
  const parts = (value, digits) => {
    const scale = 10 ** digits, total = Math.round(value * 3600 * scale), s = (total % (60 * scale)) / scale;
    const two = (n) => String(n).padStart(2, "0"), minutes = Math.floor(total / (60 * scale));
    return `${two(Math.floor(minutes / 60))}:${two(minutes % 60)}:${s.toFixed(digits).padStart(digits ? 3 + digits : 2, "0")}`;
  };
  window.positionText = (ra, dec) => {
    const hours = parts(((ra % 360) + 360) % 360 / 15, 1);
    const plain = `${ra.toFixed(4)} ${dec < 0 ? "" : "+"}${dec.toFixed(4)}`;
    return `${hours === "24:00:00.0" ? "00:00:00.0" : hours} ${dec < 0 ? "−" : "+"}${parts(Math.abs(dec), 0)} (${plain})`;
  };

  // Each gives the half width and half height of its plane, and goes there and back; null where there is nothing.
  const mollweide = ([ra0]) => ({
    width: 2 * ROOT, height: ROOT,
    to(ra, dec, out, k) {
      const lon = ((ra0 - ra + 540) % 360 + 360) % 360 - 180, s = Math.PI * Math.sin(dec * RAD);
      let t = dec * RAD;
      if (Math.abs(dec) < 89.99) {
        let a = 2 * Math.asin(2 * dec / 180);
        for (let i = 0; i < 12; i++) {
          const step = (a + Math.sin(a) - s) / (1 + Math.cos(a) || 1e-9);
          a -= step;
          if (Math.abs(step) < 1e-6) break;
        }
        t = a / 2;
      }
      out[k] = 2 * ROOT / Math.PI * lon * RAD * Math.cos(t);
      out[k + 1] = ROOT * Math.sin(t);
    },
    from(x, y) {
      if (Math.abs(y) > ROOT) return null;
      const t = Math.asin(y / ROOT), lon = Math.PI * x / (2 * ROOT * (Math.cos(t) || 1e-9)) / RAD;
      if (Math.abs(lon) > 180) return null;
      return [((ra0 - lon) % 360 + 360) % 360, Math.asin((2 * t + Math.sin(2 * t)) / Math.PI) / RAD];
    },
  });
  const zenith = ([ra0, dec0]) => {
    const s0 = Math.sin(dec0 * RAD), c0 = Math.cos(dec0 * RAD);
    return {
      width: 1.03, height: 1.03,
      to(ra, dec, out, k) {
        const d = (ra - ra0) * RAD, sd = Math.sin(dec * RAD), cd = Math.cos(dec * RAD);
        const above = s0 * sd + c0 * cd * Math.cos(d), by = above < 0 ? NaN : Math.sqrt(1 / (1 + above));
        out[k] = -by * cd * Math.sin(d);
        out[k + 1] = by * (c0 * sd - s0 * cd * Math.cos(d));
      },
      from(x, y) {
        const rho = Math.hypot(x, y);
        if (rho > 1) return null;
        const c = 2 * Math.asin(rho / ROOT), sc = Math.sin(c), cc = Math.cos(c);
        const dec = Math.asin(cc * s0 + (rho ? y * sc * c0 / rho : 0)) / RAD;
        const ra = ra0 + Math.atan2(-x * sc, rho * c0 * cc - y * s0 * sc) / RAD;
        return [(ra % 360 + 360) % 360, dec];
      },
    };
  };
  window.projections = { mollweide, zenith };
})();
