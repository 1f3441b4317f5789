// What is shown and what is pressed.
const data = JSON.parse(document.getElementById("data").textContent);
const byId = id => document.getElementById(id);
const SPEEDS = [1, 2, 4, 8, 16, 32, 64];

const page = {
  data, t: 0, head: null, trail: [],
  views: data.views.map(view => ({...view, weights: unpack(view.weights)})),
  seek(t) { page.t = Math.max(0, Math.min(data.steps - 1, t)); show(); },
  follow(t) { if (t < 0 || t === page.t) return; pause(); page.trail.push(page.t); page.seek(t); },
  goBack() { if (page.trail.length) page.seek(page.trail.pop()); },
};
const maps = page.views.filter(view => view.picture !== undefined);
page.view = maps[0] || null;

// Before the panels are drawn: what they show of attention
if (page.views.length) {
  const choices = element("div", {className: "choices"});
  if (maps.length) {
    const layers = element("select", {id: "layer"}, ...maps.map((view, i) => element("option", {value: i}, view.layer)), element("option", {value: ""}, "no attention"));
    layers.onchange = () => { page.view = layers.value === "" ? null : maps[layers.value]; fillHeads(); show(); };
    choices.append(element("label", {}, "Layer ", layers));
  }
  const heads = element("select", {id: "head"});
  heads.onchange = () => { page.head = heads.value === "" ? null : Number(heads.value); show(); };
  const holder = element("label", {}, "Head ", heads);
  choices.append(holder);
  byId("stage").querySelector("h2").after(choices);
  const fillHeads = () => {
    const n = page.view ? page.view.weights.shape[1] : 1;
    page.head = null;
    heads.replaceChildren(element("option", {value: ""}, "all, the largest"), ...Array.from({length: n}, (_, i) => element("option", {value: i}, String(i))));
    holder.hidden = n < 2;
  };
  fillHeads();
}

const PANELS = {
  stage: stagePanel, values: valuesPanel, timeline: timelinePanel, sources: sourcesPanel, cut: cutPanel,
  attention: attentionPanel, past: pastPanel, memory: memoryPanel, charts: chartsPanel,
};
const always = [], once = [];
for (const [id, make] of Object.entries(PANELS)) {
  const draw = make(byId(id), page);
  byId(id).hidden = !draw;
  if (draw) (id === "charts" ? once : always).push(draw);
}
// A panel whose neighbour is missing takes the whole width
for (const [one, other] of [["stage", "values"], ["cut", "attention"]]) {
  if (byId(one).hidden !== byId(other).hidden) byId(byId(one).hidden ? other : one).classList.add("wide");
}

const slider = byId("slider"), play = byId("play"), speed = byId("speed"), episode = byId("episode");
slider.max = data.steps - 1;
speed.append(...SPEEDS.map(one => element("option", {value: one, selected: one === 8}, `${one} / s`)));
episode.append(...data.episodes.map((one, i) => element("option", {value: i}, `${i}: return ${number(one.return)}${one.over ? "" : " (cut)"}`)));
byId("episode-choice").hidden = data.episodes.length < 2;
const episodeOf = t => data.episodes.findIndex(one => t < one.end);

function show() {
  const t = page.t, number_ = episodeOf(t), here = data.episodes[number_];
  slider.value = t;
  episode.value = number_;
  byId("headline").textContent = `step ${t - here.begin} of ${here.end - here.begin}   ·   action ${data.action_text[t]}   ·   ` +
    `reward ${number(data.rewards[t])}   ·   return so far ${number(data.totals[t])}`;
  always.forEach(draw => draw(t));
}

let timer = null;
function pause() {
  clearTimeout(timer);
  timer = null;
  play.textContent = "▶ Play";
  play.setAttribute("aria-pressed", "false");
}
function start() {
  if (page.t === data.steps - 1) page.seek(0);
  play.textContent = "❚❚ Pause";
  play.setAttribute("aria-pressed", "true");
  const next = () => {
    if (page.t === data.steps - 1) return pause();
    page.seek(page.t + 1);
    timer = setTimeout(next, 1000 / speed.value);
  };
  timer = setTimeout(next, 1000 / speed.value);
}
const toggle = () => timer === null ? start() : pause();
const choose = (select, by) => {
  if (!select || !select.options.length) return;
  select.selectedIndex = (select.selectedIndex + by + select.options.length) % select.options.length;
  select.dispatchEvent(new Event("change"));
};

play.onclick = toggle;
byId("back").onclick = () => { pause(); page.seek(page.t - 1); };
byId("forth").onclick = () => { pause(); page.seek(page.t + 1); };
slider.oninput = () => page.seek(Number(slider.value));
episode.onchange = () => page.seek(data.episodes[episode.value].begin);

const KEYS = {
  " ": toggle,
  ArrowLeft: event => { pause(); page.seek(page.t - (event.shiftKey ? 10 : 1)); },
  ArrowRight: event => { pause(); page.seek(page.t + (event.shiftKey ? 10 : 1)); },
  Home: () => page.seek(data.episodes[episodeOf(page.t)].begin),
  End: () => page.seek(data.episodes[episodeOf(page.t)].end - 1),
  ",": () => { speed.selectedIndex = Math.max(0, speed.selectedIndex - 1); },
  ".": () => { speed.selectedIndex = Math.min(SPEEDS.length - 1, speed.selectedIndex + 1); },
  l: () => choose(byId("layer"), 1),
  h: () => choose(byId("head"), 1),
  g: () => { if (page.largestBefore) page.follow(page.largestBefore(page.t)); },
};
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(SELECT|SUMMARY)$/.test(event.target.tagName)) return;
  const act = KEYS[event.key] || KEYS[event.key.toLowerCase()];
  if (!act || (event.key === " " && event.target.tagName === "BUTTON")) return;
  event.preventDefault();
  act(event);
});
function drawAll() { once.forEach(draw => draw()); show(); }
let waiting = null;
window.addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(drawAll, 100); });
page.t = Math.max(0, Math.min(data.steps - 1, Number((location.hash.match(/^#step=(\d+)$/) || [0, 0])[1]))); // a link to a step
drawAll();
