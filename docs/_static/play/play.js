// The passive T-Maze and an exported agent that walks it: tmaze.onnx, by onnxruntime's web build. Nothing else is loaded.
const LENGTH = 10, ACTIONS = ["right ▶", "up ▲", "left ◀", "down ▼"], MOVES = [[1, 0], [0, 1], [-1, 0], [0, -1]];
const byId = id => document.getElementById(id);

// As sb3_attnmem.envs.PassiveTMaze
class Maze {
  constructor(cue) { Object.assign(this, {cue, t: 0, x: 0, y: 0, total: 0, over: false}); }
  observe() { return this.t === 0 ? [0, this.cue] : this.x === LENGTH ? [1, this.y] : [0, 0]; }
  step(action) {
    const x = this.x + MOVES[action][0], y = this.y + MOVES[action][1];
    if ((y === 0 && x >= 0 && x <= LENGTH) || (Math.abs(y) <= 1 && x === LENGTH)) { this.x = x; this.y = y; }
    this.t += 1;
    this.over = this.t > LENGTH;
    const reward = this.over ? Number(this.y === this.cue) : this.x < this.t ? -1 / LENGTH : 0;
    this.total += reward;
    return reward;
  }
}

// What OnnxPolicy does: one step, the state handed on; where an episode starts, nothing before counts
class Agent {
  constructor(ort, session) { Object.assign(this, {ort, session}); this.reset(); }
  reset() {
    this.state = {};
    for (const name of this.session.inputNames.filter(name => name.startsWith("state."))) {
      this.state[name] = new this.ort.Tensor("float32", new Float32Array(32), [1, 1, 32]);
    }
  }
  async act(observation, starts) {
    const outputs = await this.session.run({
      observation: new this.ort.Tensor("float32", Float32Array.from(observation), [1, 2]),
      episode_start: new this.ort.Tensor("bool", [starts], [1]),
      ...this.state,
    });
    for (const name of Object.keys(this.state)) this.state[name] = outputs[`next_${name}`];
    const q = Array.from(outputs.q_values.data);
    return {q, action: q.indexOf(Math.max(...q))};
  }
  numbers() { return Object.values(this.state).flatMap(tensor => Array.from(tensor.data)); }
}

function drawMaze(maze) {
  const context = byId("maze").getContext("2d"), size = 32;
  context.fillStyle = "#333"; context.fillRect(0, 0, 352, 96);
  context.fillStyle = "#fff";
  for (let x = 0; x <= LENGTH; x++) context.fillRect(x * size, size, size - 1, size);
  context.fillRect(LENGTH * size, 0, size, 96);
  context.font = "22px sans-serif"; context.textAlign = "center"; context.textBaseline = "middle";
  context.fillStyle = "#009E73";
  context.fillRect(LENGTH * size, maze.cue > 0 ? 0 : 64, size, size);
  context.fillStyle = "#fff"; context.fillText("★", (LENGTH + 0.5) * size, maze.cue > 0 ? 16 : 80);
  if (maze.t === 0) { context.fillStyle = "#D55E00"; context.fillText(maze.cue > 0 ? "▲" : "▼", 1.6 * size, 48); }
  context.fillStyle = "#0072B2"; context.beginPath();
  context.arc((maze.x + 0.5) * size, (1.5 - maze.y) * size, 11, 0, 7); context.fill();
}

function drawMemory(columns) {
  const canvas = byId("memory"), context = canvas.getContext("2d"), pixels = context.createImageData(LENGTH + 1, canvas.height);
  pixels.data.fill(255);
  columns.forEach(({numbers, forgot}, x) => numbers.forEach((value, y) => {
    const share = Math.max(-1, Math.min(1, value)), far = share < 0 ? [179, 78, 0] : [0, 84, 140];
    const colour = forgot && y % 4 === 0 ? [0, 0, 0] : far.map(one => 255 + (one - 255) * Math.abs(share));
    pixels.data.set([...colour, 255], 4 * (y * (LENGTH + 1) + x));
  }));
  context.putImageData(pixels, 0, 0);
}

function drawBars(q, taken) {
  const least = Math.min(0, ...q), most = Math.max(...q, least + 1e-9);
  byId("bars").replaceChildren(...q.flatMap((value, a) => {
    const [name, bar, number] = ["b", "div", "span"].map(kind => document.createElement(kind));
    name.textContent = ACTIONS[a]; number.textContent = value.toFixed(3);
    if (a === taken) name.className = bar.className = "taken";
    bar.style.width = `${100 * (value - least) / (most - least)}%`;
    return [name, bar, number];
  }));
}

async function main() {
  let ort;
  try {
    ort = await import("./ort/ort.wasm.min.mjs");
  } catch (error) {
    byId("said").textContent = "onnxruntime-web does not lie beside this page. `make play` fetches it; serve the pages over HTTP, " +
      "for example by: python -m http.server -d docs/_build/html";
    return;
  }
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;
  const session = await ort.InferenceSession.create(new URL("tmaze.onnx", import.meta.url).href);
  const agent = new Agent(ort, session);
  let maze, columns, forget, timer = null, busy = false;

  function begin(cue) {
    maze = new Maze(cue); columns = []; forget = false;
    agent.reset();
    drawMaze(maze); drawMemory(columns); drawBars([0, 0, 0, 0], null);
    byId("said").textContent = `The cue says ${cue > 0 ? "up" : "down"}. It is seen at this step only; the turn comes ${LENGTH} steps later.`;
    byId("forget").disabled = byId("step").disabled = false;
  }
  async function step() {
    if (busy || maze.over) return null;
    busy = true;
    const observation = maze.observe(), starts = maze.t === 0 || forget, forgot = forget;
    forget = false;
    byId("forget").textContent = "Forget everything now";
    const {q, action} = await agent.act(observation, starts), t = maze.t;
    maze.step(action);
    columns.push({numbers: agent.numbers(), forgot});
    drawMaze(maze); drawMemory(columns); drawBars(q, action);
    byId("said").textContent = `Step ${t}: it saw (${observation.join(", ")})${forgot ? ", with an empty memory," : ""} and went ${ACTIONS[action]}.` +
      (maze.over ? ` ${maze.y === maze.cue ? "Right" : "Wrong"}: return ${maze.total.toFixed(2)}.` : "");
    if (maze.over) { byId("forget").disabled = byId("step").disabled = true; pause(); }
    busy = false;
    return {q, action};
  }
  function pause() { clearInterval(timer); timer = null; byId("play").textContent = "▶ Play"; }
  function play() {
    if (timer !== null) return pause();
    if (maze.over) begin(-maze.cue);
    byId("play").textContent = "❚❚ Pause";
    timer = setInterval(step, 350);
  }
  byId("play").onclick = play;
  byId("step").onclick = step;
  byId("up").onclick = () => { pause(); begin(1); };
  byId("down").onclick = () => { pause(); begin(-1); };
  byId("forget").onclick = () => { forget = true; byId("forget").textContent = "…at the next step"; };
  ["play", "up", "down"].forEach(id => { byId(id).disabled = false; });
  begin(1);
  window.played = {begin, step, forget: () => { forget = true; }, state: () => ({t: maze.t, total: maze.total, over: maze.over})};
}
main();
