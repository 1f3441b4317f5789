// Numbers unpacked, and how they are drawn: colours of Okabe & Ito (2008) and ramps that the colour-blind can read.
const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8a7f00"];
const INK = "#1a1a1a", QUIET = "#555", GRID = "#d4d8dd";

// What packing.py packed: {shape, at(i, j, ...)}, NaN where there is nothing
function unpack(packed) {
  if (!packed) return null;
  const text = atob(packed.data), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const shape = packed.shape, size = shape.slice(1).reduce((a, b) => a * b, 1);
  let values;
  if (packed.type === "f4") {
    values = new Float32Array(bytes.buffer);
  } else {
    const step = (packed.high - packed.low) / 254;
    values = Float32Array.from(bytes, level => level === 255 ? NaN : packed.low + step * level);
  }
  return {shape, values, high: packed.high, low: packed.low, row: i => values.subarray(i * size, (i + 1) * size)};
}

function element(kind, attributes, ...children) {
  const made = document.createElement(kind);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name in made && name !== "list") made[name] = value; else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

function number(value) {
  if (value === null || !Number.isFinite(value)) return "–";
  if (value !== 0 && (Math.abs(value) < 0.001 || Math.abs(value) >= 1e6)) return value.toExponential(1);
  return String(Number(value.toPrecision(3)));
}

// A canvas as wide as its place on the page, sharp on every screen
function pen(canvas, height) {
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth || 300;
  canvas.style.height = `${height}px`;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  context.font = "12px system-ui, sans-serif";
  context.textBaseline = "middle";
  return {context, width, height};
}

function mix(a, b, share) { return a.map((value, i) => Math.round(value + (b[i] - value) * share)); }

// "share" of one: white to dark blue; "signed": orange, white, blue; light is always little
function colourOf(value, low, high, kind) {
  if (Number.isNaN(value)) return [225, 228, 232];
  if (kind === "signed") {
    const share = Math.max(-1, Math.min(1, value / (high || 1)));
    return share < 0 ? mix([255, 255, 255], [179, 78, 0], -share) : mix([255, 255, 255], [0, 84, 140], share);
  }
  const share = Math.max(0, Math.min(1, (value - low) / ((high - low) || 1)));
  return share < 0.5 ? mix([255, 255, 255], [86, 180, 233], 2 * share) : mix([86, 180, 233], [0, 42, 80], 2 * share - 1);
}

// A small canvas with one pixel a number
function heatPixels(width, height, valueAt, low, high, kind) {
  const canvas = element("canvas", {width, height}), context = canvas.getContext("2d");
  const pixels = context.createImageData(width, height);
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
    pixels.data.set([...colourOf(valueAt(x, y), low, high, kind), 255], 4 * (y * width + x));
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}

function shortened(text, context, width) {
  if (context.measureText(text).width <= width) return text;
  let length = text.length;
  while (length > 1 && context.measureText(`${text.slice(0, length)}…`).width > width) length--;
  return `${text.slice(0, length)}…`;
}

// Rows and columns with their names, as many as there is room for
function heatTable(canvas, rows, columns, valueAt, low, high, kind) {
  const left = rows.some(name => name) ? 86 : 8, line = Math.max(9, Math.min(22, 320 / rows.length));
  const {context, width} = pen(canvas, line * rows.length + 24);
  const cell = (width - left - 4) / columns.length;
  context.imageSmoothingEnabled = false;
  context.drawImage(heatPixels(columns.length, rows.length, valueAt, low, high, kind), left, 2,
    cell * columns.length, line * rows.length);
  context.fillStyle = QUIET;
  const everyRow = Math.ceil(11 / line);
  rows.forEach((name, i) => { if (i % everyRow === 0) context.fillText(shortened(name, context, left - 6), 2, 2 + line * (i + 0.5)); });
  const everyColumn = Math.max(1, Math.ceil(44 / cell));
  columns.forEach((name, i) => {
    if (i % everyColumn === 0) context.fillText(shortened(name, context, cell * everyColumn - 3), left + cell * i, line * rows.length + 14);
  });
}

function ticksOf(low, high, n) {
  const raw = (high - low) / n || 1, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map(one => one * power).find(one => one >= raw);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + 1e-9 * step; value += step) found.push(value);
  return found;
}

// Lines over x: {x, y, log, series: [{name, x, y, error}], marks: [{x or y, name}]}
function lineChart(canvas, chart) {
  const {context, width, height} = pen(canvas, 230), left = 52, right = 12, top = 26 + 16 * chart.series.length, bottom = 38;
  const along = value => chart.log ? Math.log2(value) : value, all = chart.series;
  const xs = all.flatMap(one => one.x).concat((chart.marks || []).filter(mark => "x" in mark).map(mark => mark.x)).map(along);
  const ys = all.flatMap(one => one.y.flatMap((y, i) => one.error ? [y - (one.error[i] || 0), y + (one.error[i] || 0)] : [y]))
    .concat((chart.marks || []).filter(mark => "y" in mark).map(mark => mark.y)).filter(Number.isFinite);
  const x0 = Math.min(...xs), x1 = Math.max(...xs, x0 + 1e-9), y0 = Math.min(0, ...ys), y1 = Math.max(...ys, y0 + 1e-9);
  const px = value => left + (along(value) - x0) / (x1 - x0) * (width - left - right);
  const py = value => height - bottom - (value - y0) / (y1 - y0) * (height - top - bottom);
  context.strokeStyle = GRID; context.fillStyle = QUIET; context.textAlign = "right";
  for (const value of ticksOf(y0, y1, 4)) {
    context.beginPath(); context.moveTo(left, py(value)); context.lineTo(width - right, py(value)); context.stroke();
    context.fillText(number(value), left - 5, py(value));
  }
  context.textAlign = "center";
  const ticks = chart.log ? [...new Set(all.flatMap(one => one.x))] : ticksOf(x0, x1, 6);
  let last = -Infinity;
  for (const value of ticks.sort((a, b) => a - b)) {
    if (px(value) - last < 26) continue;
    context.fillText(number(value), last = px(value), height - bottom + 11);
  }
  context.fillText(shortened(chart.x, context, width - left), left + (width - left - right) / 2, height - 9);
  context.textAlign = "left";
  for (const mark of chart.marks || []) {
    context.setLineDash([4, 4]); context.strokeStyle = QUIET; context.beginPath();
    if ("y" in mark) { context.moveTo(left, py(mark.y)); context.lineTo(width - right, py(mark.y)); }
    else { context.moveTo(px(mark.x), top); context.lineTo(px(mark.x), height - bottom); }
    context.stroke(); context.setLineDash([]);
    context.fillStyle = INK;
    context.fillText(mark.name, "y" in mark ? left + 6 : Math.min(px(mark.x) + 4, width - context.measureText(mark.name).width - 4),
      "y" in mark ? py(mark.y) - 7 : top + 7);
  }
  all.forEach((one, i) => {
    context.strokeStyle = context.fillStyle = COLOURS[i % COLOURS.length];
    context.lineWidth = 2;
    context.setLineDash([[], [7, 3], [2, 3], [9, 3, 2, 3]][i % 4]);
    context.beginPath();
    one.x.forEach((x, j) => { if (Number.isFinite(one.y[j])) context.lineTo(px(x), py(one.y[j])); });
    context.stroke(); context.setLineDash([]);
    if (one.x.length <= 40) one.x.forEach((x, j) => {
      context.beginPath(); context.arc(px(x), py(one.y[j]), 3, 0, 7); context.fill();
      if (one.error && one.error[j]) { context.fillRect(px(x) - 0.75, py(one.y[j] + one.error[j]), 1.5, py(one.y[j] - one.error[j]) - py(one.y[j] + one.error[j])); }
    });
    context.lineWidth = 1;
    context.fillRect(left, 9 + 16 * i, 14, 3);
    context.fillStyle = INK; context.fillText(shortened(one.name, context, width - left - 30), left + 20, 10 + 16 * i);
  });
}
