// The panels: each gets its section and the page, builds itself once and returns what draws it at step t, or null where
// there is nothing to show. page: {data, t, view, head, seek(t)}.
function plot(section, seekable) {
  return section.appendChild(element("canvas", {className: seekable ? "plot seek" : "plot"}));
}

// Dragging over something that spans all steps seeks
function seeksOn(target, stepAt, page) {
  const seek = event => page.seek(stepAt(event.offsetX / (target.clientWidth || 1)));
  target.addEventListener("pointerdown", seek);
  target.addEventListener("pointermove", event => { if (event.buttons) seek(event); });
}

// A heat map over all steps, drawn once, with a cursor
function strip(section, page, height, rows, valueAt, low, high, kind) {
  const n = page.data.steps, holder = section.appendChild(element("div", {className: "strip"}));
  const canvas = holder.appendChild(heatPixels(n, rows, valueAt, low, high, kind));
  canvas.style.height = `${height}px`;
  const cursor = holder.appendChild(element("div", {className: "cursor"}));
  seeksOn(holder, share => Math.floor(share * n), page);
  return t => { cursor.style.left = `calc(${100 * (t + 0.5) / n}% - 1px)`; };
}

function stagePanel(section, page) {
  const {data} = page, pictures = section.appendChild(element("div", {className: "pictures"}));
  const figures = data.pictures.map((picture, i) => {
    const image = element("img", {alt: picture.title, width: picture.width, height: picture.height});
    image.style.height = "auto";
    const overlay = element("canvas", {width: 2 * picture.width, height: 2 * picture.height});
    pictures.append(element("figure", {}, element("div", {className: "picture"}, image, overlay), element("figcaption", {}, picture.title)));
    return t => {
      image.src = picture.urls[picture.index[t]];
      const context = overlay.getContext("2d"), view = page.view;
      context.clearRect(0, 0, overlay.width, overlay.height);
      if (view && view.picture === i) paintAttention(context, overlay, view, t, page.head);
    };
  });
  const table = data.table && observationPlot(section, page);
  if (!figures.length && !table) return null;
  return t => { figures.forEach(show => show(t)); if (table) table(t); };
}

// Light where a head looks, the rest dimmed
function paintAttention(context, overlay, view, t, head) {
  const [, tiles, height, width] = view.weights.shape, weights = view.weights.row(t), top = view.weights.high || 1;
  const small = element("canvas", {width, height}), pixels = small.getContext("2d").createImageData(width, height);
  for (let place = 0; place < width * height; place++) {
    let weight = 0;
    for (let tile = 0; tile < tiles; tile++) if (head === null || head === tile) weight = Math.max(weight, weights[tile * width * height + place]);
    const share = Math.min(1, weight / top);
    pixels.data.set([255 * share, 190 * share, 40 * share, 255 * (0.5 - 0.05 * share + 0.15 * share * share)], 4 * place);
  }
  small.getContext("2d").putImageData(pixels, 0, 0);
  const grid = view.grid, sx = overlay.width / grid.width, sy = overlay.height / grid.height;
  const from = grid.start + grid.field / 2 - grid.stride / 2;
  context.imageSmoothingEnabled = grid.field > grid.stride;
  context.drawImage(small, from * sx, from * sy, width * grid.stride * sx, height * grid.stride * sy);
}

// An observation of numbers: lines over the last steps, or a table
function observationPlot(section, page) {
  const table = unpack(page.data.table.values), [n, rows, columns] = table.shape, canvas = plot(section);
  const finite = table.values.filter(Number.isFinite), low = finite.reduce((a, b) => Math.min(a, b), Infinity), high = finite.reduce((a, b) => Math.max(a, b), -Infinity);
  if (!page.data.table.lines) {
    const names = size => Array.from({length: size}, (_, i) => String(i));
    section.appendChild(element("p", {className: "note"}, rows > 1 ? "observation: a row an entity, a column a feature" : "observation"));
    return t => heatTable(canvas, rows > 1 ? names(rows) : [""], names(columns), (x, y) => table.row(t)[y * columns + x], low, high, low < 0 ? "signed" : "share");
  }
  const spans = Array.from({length: columns}, (_, i) => {
    const all = Array.from({length: n}, (_, t) => table.row(t)[i]), least = Math.min(...all), most = Math.max(...all);
    return [least, most > least ? most : least + 1];
  });
  section.appendChild(element("p", {className: "note"}, "observation: each number between its least and its largest of the episodes, the last 60 steps"));
  const span = Math.max(1, Math.min(60, n - 1));
  return t => {
    const line = 46, {context, width} = pen(canvas, line * columns + 4), left = 84, from = Math.max(0, t - span);
    spans.forEach(([least, most], i) => {
      const bottom = line * (i + 1) - 4, place = value => bottom - (value - least) / (most - least) * (line - 12);
      context.fillStyle = INK; context.fillText(`${i}:  ${number(table.row(t)[i])}`, 2, bottom - line / 2 + 6);
      context.strokeStyle = GRID; context.strokeRect(left, bottom - line + 10, width - left - 2, line - 8);
      context.strokeStyle = context.fillStyle = COLOURS[i % COLOURS.length]; context.lineWidth = 2; context.beginPath();
      for (let s = from; s <= t; s++) context.lineTo(left + (s - from) / span * (width - left - 8), place(table.row(s)[i]));
      context.stroke(); context.lineWidth = 1;
      context.beginPath(); context.arc(left + (t - from) / span * (width - left - 8), place(table.row(t)[i]), 4, 0, 7); context.fill();
    });
  };
}

function valuesPanel(section, page) {
  const {data} = page, bars = unpack(data.bars), quantiles = unpack(data.quantiles), valid = unpack(data.valid);
  if (!bars) return null;
  const n = bars.shape[1], canvas = plot(section), all = [...bars.values, ...(quantiles ? quantiles.values : [])];
  const low = all.reduce((a, b) => Math.min(a, b), 0), high = all.reduce((a, b) => Math.max(a, b), low + 1e-9);
  section.appendChild(element("p", {className: "note"}, `${data.unit} of each action; ▶ and stripes: the one taken` + (quantiles ? "; ticks: quantiles of its return" : "")));
  return t => {
    const line = n > 8 ? 20 : 30, {context, width} = pen(canvas, line * n + 8), left = Math.min(130, width * 0.32), right = 58;
    const px = value => left + (value - low) / (high - low) * (width - left - right);
    for (let a = 0; a < n; a++) {
      const y = line * a + 4, value = bars.row(t)[a], taken = data.taken[t].includes(a), off = valid && !valid.row(t)[a];
      context.fillStyle = off ? "#9aa3ad" : INK; context.font = `${taken ? "bold " : ""}12px system-ui, sans-serif`;
      context.fillText(shortened(`${taken ? "▶ " : "   "}${data.actions[a] ?? a}${off ? " (not valid)" : ""}`, context, left - 6), 2, y + line / 2);
      const x = Math.min(px(0), px(value)), long = Math.abs(px(value) - px(0));
      context.fillStyle = off ? "#d4d8dd" : taken ? COLOURS[1] : COLOURS[0]; context.fillRect(x, y + 3, long, line - 8);
      if (taken) { // not by colour alone
        context.save(); context.beginPath(); context.rect(x, y + 3, long, line - 8); context.clip();
        context.strokeStyle = "rgb(255 255 255 / 70%)"; context.lineWidth = 2;
        for (let s = x - line; s < x + long; s += 8) { context.beginPath(); context.moveTo(s, y + line); context.lineTo(s + line, y); context.stroke(); }
        context.restore();
      }
      if (quantiles) {
        context.fillStyle = "rgb(0 0 0 / 45%)";
        for (let q = 0; q < quantiles.shape[1]; q++) context.fillRect(px(quantiles.row(t)[q * n + a]) - 0.75, y + 1, 1.5, line - 4);
      }
      context.fillStyle = INK; context.fillText(number(value), width - right + 6, y + line / 2);
    }
    context.strokeStyle = INK; context.beginPath(); context.moveTo(px(0), 2); context.lineTo(px(0), line * n + 4); context.stroke();
  };
}

function timelinePanel(section, page) {
  const {data} = page, n = data.steps, values = unpack(data.values), canvas = plot(section, true), left = 46;
  const least = values ? Math.min(...values.values) : 0, most = values ? Math.max(...values.values, least + 1e-9) : 1;
  const loud = Math.max(1e-9, ...data.rewards.map(Math.abs));
  canvas.addEventListener("pointerdown", seek);
  canvas.addEventListener("pointermove", event => { if (event.buttons) seek(event); });
  function seek(event) { page.seek(Math.round((event.offsetX - left) / (canvas.clientWidth - left - 14) * Math.max(1, n - 1))); }
  section.appendChild(element("p", {className: "note"}, "blue: value (the largest Q-value, or the critic's); triangles: rewards; dotted: an episode begins; click to go there"));
  return t => {
    const {context, width, height} = pen(canvas, values ? 150 : 70), floor = height - 34;
    const px = s => left + s / Math.max(1, n - 1) * (width - left - 14), py = value => floor - (value - least) / (most - least) * (floor - 12);
    context.setLineDash([2, 3]); context.strokeStyle = "#777";
    for (const s of data.starts) { context.beginPath(); context.moveTo(px(s), 2); context.lineTo(px(s), height - 14); context.stroke(); }
    context.setLineDash([]); context.fillStyle = QUIET;
    if (values) {
      context.fillText(number(most), 2, 12); context.fillText(number(least), 2, floor - 6);
      context.strokeStyle = COLOURS[0]; context.lineWidth = 1.5; context.beginPath();
      for (let s = 0; s < n; s++) { if (data.starts.includes(s)) context.moveTo(px(s), py(values.values[s])); else context.lineTo(px(s), py(values.values[s])); }
      context.stroke(); context.lineWidth = 1;
    }
    data.rewards.forEach((reward, s) => {
      if (!reward) return;
      const size = 3 + 4 * Math.abs(reward) / loud, up = reward > 0 ? -1 : 1;
      context.fillStyle = reward > 0 ? COLOURS[2] : COLOURS[1]; context.beginPath();
      context.moveTo(px(s), height - 23 + up * size); context.lineTo(px(s) - size / 1.5, height - 23); context.lineTo(px(s) + size / 1.5, height - 23); context.fill();
    });
    context.fillStyle = QUIET; context.fillText("reward", 2, height - 23);
    for (const s of ticksOf(0, n - 1, 6)) context.fillText(String(s), px(s), height - 7);
    context.fillStyle = INK; context.fillRect(px(t) - 1, 0, 2, height - 14);
  };
}

function cutPanel(section, page) {
  const {memory, steps, actions, taken} = page.data;
  if (!memory || !memory.ks.length) return null;
  const {ks, cut} = memory, agrees = (t, i) => String(cut[t][i]) === String(taken[t]), list = section.appendChild(element("ul", {className: "chips"}));
  const chips = ks.map(k => {
    const action = element("span");
    return {action, chip: list.appendChild(element("li", {}, element("b", {}, k === 1 ? "present alone" : `last ${k}`), action))};
  });
  section.appendChild(element("h3", {}, "orange: steps at which it would have done something else"));
  const move = strip(section, page, 13 * ks.length, ks.length, (t, i) => agrees(t, i) ? 0 : -1, -1, 1, "signed");
  const differing = ks.map((k, i) => `${k}: ${cut.filter((_, t) => !agrees(t, i)).length}`).join(", ");
  section.appendChild(element("p", {className: "note"}, `rows: the last ${ks.join(", ")} observations. Steps of ${steps} that differ, by their number: ${differing}`));
  return t => {
    chips.forEach(({action, chip}, i) => {
      const same = agrees(t, i);
      chip.className = same ? "" : "other";
      action.textContent = (same ? "" : "≠ ") + cut[t][i].map(bar => actions[bar] ?? bar).join(", ");
    });
    move(t);
  };
}

function sourcesPanel(section, page) {
  const {data} = page, memory = data.memory, gradients = memory && unpack(memory.gradients);
  if (!gradients || !memory.largest_gradient) return null;
  const window_ = gradients.shape[1], canvas = plot(section, true), origins = section.appendChild(element("div", {className: "origins"}));
  section.appendChild(element("p", {className: "note"}, "How much the Q-values of this step move with what the memory read at each step before (|∂Q/∂x|, share of this step's largest). Click a bar or a step to go there."));
  canvas.addEventListener("click", event => page.follow(page.t - window_ + 1 + Math.floor(event.offsetX / canvas.clientWidth * window_)));
  page.largestBefore = t => { // not the present itself
    const row = gradients.row(t);
    let best = 0;
    for (let age = 1; age < window_; age++) if (row[age] > (best ? row[best] : 0)) best = age;
    return t - best;
  };
  return t => {
    const row = gradients.row(t), most = row.reduce((a, b) => b > a ? b : a, 1e-12), {context, width, height} = pen(canvas, 92);
    const missing = row.findIndex(Number.isNaN); // steps before the episode began
    if (missing >= 0) { context.fillStyle = "#eceff2"; context.fillRect(0, 0, (window_ - missing) / window_ * width, height - 18); }
    for (let age = 0; age < window_; age++) {
      const x = (window_ - 1 - age) / window_ * width, share = row[age] / most;
      if (Number.isNaN(row[age])) break;
      context.fillStyle = age ? COLOURS[0] : INK;
      context.fillRect(x + 0.5, (height - 18) * (1 - share), Math.max(1, width / window_ - 1), (height - 18) * share);
    }
    context.fillStyle = QUIET; context.fillText(`step ${Math.max(0, t - window_ + 1)}`, 2, height - 8);
    context.textAlign = "right"; context.fillText(`now (${t})`, width - 2, height - 8);
    const ages = [...row.keys()].filter(age => row[age] > 0).sort((a, b) => row[b] - row[a]).slice(0, 4);
    const trail = page.trail.length ? [element("button", {type: "button", onclick: page.goBack}, `↩ back to step ${page.trail.at(-1)}`)] : [];
    origins.replaceChildren(...trail, ...ages.map(age => {
      const s = t - age, picture = data.pictures[0], button = element("button", {type: "button", onclick: () => page.follow(s)});
      if (picture) button.append(element("img", {alt: "", src: picture.urls[picture.index[s]]}));
      button.append(element("span", {}, `${age ? `step ${s}, ${age} back` : "now"}: ${Math.round(100 * row[age] / most)} %`));
      return button;
    }));
  };
}

function attentionPanel(section, page) {
  const drawn = page.views.filter(view => view.picture === undefined).map(view => {
    section.appendChild(element("h3", {}, view.layer + (view.note ? ` (${view.note})` : "")));
    const canvas = plot(section), top = view.weights.high;
    if (view.seen) section.appendChild(element("p", {className: "note"}, `columns: ${view.seen}${view.asks ? `, rows: ${view.asks}` : ""}`));
    return t => {
      const all = view.weights.row(t);
      if (view.kind === "strip") return heatTable(canvas, [""], Array.from(all.keys(), String), x => all[x], 0, 1, "share");
      const shape = view.weights.shape, columns = shape.at(-1), rows = all.length / columns, first = shape.length > 3 && page.head !== null ? page.head * shape[2] : 0;
      const names = view.rows.length === rows ? view.rows : Array.from({length: rows}, (_, i) => String(i));
      heatTable(canvas, names, view.columns.length === columns ? view.columns : Array.from({length: columns}, (_, i) => String(i)), (x, y) => all[((y + first) % rows) * columns + x], 0, top, "share");
    };
  });
  return drawn.length ? t => drawn.forEach(show => show(t)) : null;
}

function pastPanel(section, page) {
  const memory = page.data.memory, layers = memory ? memory.past : [];
  const drawn = layers.map(({layer, weights: packed}) => {
    const weights = unpack(packed), [heads, n, ages] = weights.shape;
    section.appendChild(element("h3", {}, layer));
    const canvas = plot(section);
    return t => heatTable(canvas, Array.from({length: heads}, (_, i) => `head ${i}`), Array.from({length: ages}, (_, i) => i === ages - 1 ? "now" : String(i + 1 - ages)),
      (x, y) => weights.values[(y * n + t) * ages + ages - 1 - x], 0, weights.high, "share");
  });
  return drawn.length ? t => drawn.forEach(show => show(t)) : null;
}

function memoryPanel(section, page) {
  const memory = page.data.memory;
  if (!memory || !memory.rows.length) return null;
  const moves = memory.rows.map(one => {
    const values = unpack(one.values), means = unpack(one.means), rows = values.shape[1], now = element("span");
    section.appendChild(element("h3", {}, `${one.name} (${rows < one.units ? `${rows} of ` : ""}${one.units})`, " ", now));
    const move = strip(section, page, Math.max(24, Math.min(90, 3 * rows)), rows, (t, i) => values.row(t)[i], values.low, values.high, one.kind);
    return t => { move(t); now.textContent = ` ${one.kind === "signed" ? "mean size" : "mean"} ${number(means.values[t])}`; };
  });
  section.appendChild(element("p", {className: "note"}, "over the steps, a row a unit: states orange below 0, white 0, blue above; gates and α white 0 to dark blue 1; click to go to a step"));
  return t => moves.forEach(move => move(t));
}

function chartsPanel(section, page) {
  const drawn = (page.data.charts || []).map(chart => {
    section.appendChild(element("h3", {}, chart.title));
    const canvas = plot(section);
    section.appendChild(element("p", {className: "note"}, chart.note));
    return () => lineChart(canvas, chart);
  });
  return drawn.length ? () => drawn.forEach(show => show()) : null;
}
