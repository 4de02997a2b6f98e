"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const runs = data.runs;
const axes = {step: "steps", tokens: "tokens", hours: "hours"};
let axis = "step";

// ---- elements and numbers ----

function element(name, attributes = {}, ...children) {
  const svg = ["svg", "path", "line", "circle", "text", "g", "rect"].includes(name);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children.filter((child) => child !== null));
  return node;
}

function short(value, digits = 3) {
  if (value === null || value === undefined || !isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size < 1e-3) return value.toExponential(digits - 2).replace("e-", "e−");
  for (const [unit, suffix] of [[1e12, " T"], [1e9, " G"], [1e6, " M"], [1e4, " k"]])
    if (size >= unit) return String(+(value / (unit === 1e4 ? 1e3 : unit)).toPrecision(digits)) + suffix;
  return String(+value.toPrecision(Math.max(digits, Math.ceil(Math.log10(size)))));
}

/// All ticks of an axis in the unit of the greatest, so that 9 k stands beside 10 k.
function tickLabel(value, greatest) {
  const [unit, suffix] = [[1e12, " T"], [1e9, " G"], [1e6, " M"], [1e3, " k"]].find(([size]) => greatest >= 10 * size) ?? [1, ""];
  return value === 0 ? "0" : unit > 1 ? String(+(value / unit).toPrecision(4)) + suffix : short(value, 4);
}

function duration(hours) {
  const minutes = Math.round(hours * 60);
  return hours < 1 / 60 ? `${Math.round(hours * 3600)} s` : minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

const colour = (run) => `var(--c${run % 6})`;
const layerColour = (index, count) =>
  `hsl(${Math.round(222 + 170 * (count > 1 ? index / (count - 1) : 0)) % 360} var(--hue-strength) var(--hue-light))`;

// ---- scales ----

function niceStep(span, count) {
  const raw = span / count, power = 10 ** Math.floor(Math.log10(raw));
  return [1, 2, 5, 10].find((n) => n * power >= raw) * power;
}

function ticks(low, high, log, count) {
  if (log) {
    const found = [];
    for (let decade = Math.floor(Math.log10(low)); decade <= Math.log10(high); ++decade)
      for (const n of high / low > 300 ? [1] : high / low > 20 ? [1, 3] : [1, 1.5, 2, 3, 4, 5, 7])
        if (n * 10 ** decade >= low && n * 10 ** decade <= high) found.push(n * 10 ** decade);
    if (found.length > 1) return found;
  }
  const step = niceStep(high - low || 1, count), found = [];
  for (let tick = Math.ceil(low / step - 1e-9) * step; tick <= high + step * 1e-9; tick += step) found.push(Math.abs(tick) < step / 1e6 ? 0 : tick);
  return found;
}

/// Least and greatest of all values with some room, so that no curve lies on the frame.
function domain(lines, log, fromZero) {
  let low = Infinity, high = -Infinity;
  for (const line of lines)
    for (const list of [line.y, line.least ?? [], line.greatest ?? []])
      for (const value of list)
        if (value !== null && (!log || value > 0)) low = Math.min(low, value), high = Math.max(high, value);
  if (low > high) return null;
  if (log) return low === high ? [low / 1.2, high * 1.2] : [low * (low / high) ** 0.04, high * (high / low) ** 0.04];
  if (fromZero) return [0, high * 1.08 || 1];
  const room = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
  return [low - room, high + room];
}

// ---- one chart ----

/// lines: {name, colour, x, y, least, greatest, points}; marks: x values of restarts.
function chart({title, unit = "", lines, log = false, fromZero = false, marks = [], wide = false, legend = null}) {
  lines = lines.filter((line) => line.y.some((value) => value !== null));
  const range = domain(lines, log, fromZero);
  if (range === null || lines.every((line) => line.y.every((value) => !value))) return null; // nothing, or nothing but zeros
  const plot = element("div", {class: "plot"});
  const card = element("div", {class: wide ? "card wide" : "card"},
    element("div", {class: "head"}, element("h3", {}, title), element("span", {class: "unit"}, unit), legend), plot);
  card.draw = () => draw(plot, {title, lines, log, range, marks, height: wide ? 320 : 210});
  return card;
}

/// For charts with more than the runs in it; elsewhere their cards show the colours.
function legendOf(lines) {
  const legend = element("div", {class: "legend"});
  for (const line of lines) legend.append(element("span", {}, element("i", {class: line.points ? "point" : "", style: `background:${line.colour};border-color:${line.colour}`}), line.name));
  return legend;
}

function draw(plot, {title, lines, log, range, marks, height}) {
  const width = plot.clientWidth, left = 52, right = 10, top = 8, bottom = 26;
  const xs = lines.flatMap((line) => line.x), first = Math.min(...xs), last = Math.max(...xs);
  const [low, high] = range, turn = log ? Math.log : (value) => value;
  const x = (value) => left + (width - left - right) * (last > first ? (value - first) / (last - first) : 0.5);
  const y = (value) => top + (height - top - bottom) * (1 - (turn(value) - turn(low)) / (turn(high) - turn(low)));
  const svg = element("svg", {viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": title});
  for (const tick of ticks(low, high, log, 5))
    svg.append(element("line", {class: "gridline", x1: left, x2: width - right, y1: y(tick), y2: y(tick)}),
      element("text", {x: left - 8, y: y(tick) + 4, "text-anchor": "end"}, log ? short(tick) : tickLabel(tick, high)));
  for (const tick of ticks(first, last, false, Math.max(2, Math.floor(width / 110))))
    svg.append(element("text", {x: x(tick), y: height - 8, "text-anchor": "middle"}, tickLabel(tick, last)));
  svg.append(element("line", {class: "axis", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom}));
  for (const mark of marks.filter((at) => at > first && at < last))
    svg.append(element("line", {class: "restart", x1: x(mark), x2: x(mark), y1: top, y2: height - bottom}));

  const shown = (value) => value !== null && isFinite(value) && (!log || value > 0);
  const path = (list, xList) => {
    let text = "", pen = "M";
    list.forEach((value, i) => {
      if (!shown(value)) return void (pen = "M");
      text += `${pen}${x(xList[i]).toFixed(1)} ${y(value).toFixed(1)}`;
      pen = "L";
    });
    return text;
  };
  for (const line of lines) {
    if (line.least) {
      const there = line.x.map((_, i) => i).filter((i) => shown(line.least[i]) && shown(line.greatest[i]));
      const edge = (list, order) => order.map((i) => `${x(line.x[i]).toFixed(1)} ${y(list[i]).toFixed(1)}`).join("L");
      if (there.length > 1)
        svg.append(element("path", {d: `M${edge(line.greatest, there)}L${edge(line.least, there.slice().reverse())}Z`, fill: line.colour, opacity: 0.16}));
    }
    if (!line.points)
      svg.append(element("path", {d: path(line.y, line.x), fill: "none", stroke: line.colour, "stroke-width": line.thin ? 1.3 : 1.8, "stroke-linejoin": "round"}));
    if (line.points || line.y.length === 1)
      line.y.forEach((value, i) => shown(value) && svg.append(element("circle",
        {cx: x(line.x[i]), cy: y(value), r: 4, fill: "var(--card)", stroke: line.colour, "stroke-width": 2})));
  }
  plot.replaceChildren(svg);
  follow(plot, svg, {lines, x, first, last, left, width, right, top, bottom, height, shown});
}

/// The values under the pointer.
function follow(plot, svg, {lines, x, first, last, left, width, right, top, bottom, height, shown}) {
  const cursor = element("line", {class: "cursor", y1: top, y2: height - bottom, visibility: "hidden"});
  const tip = element("div", {class: "tip", hidden: ""});
  svg.append(cursor);
  plot.append(tip);
  plot.onpointerleave = () => (cursor.setAttribute("visibility", "hidden"), (tip.hidden = true));
  plot.onpointermove = (event) => {
    const at = event.clientX - plot.getBoundingClientRect().left;
    if (at < left || at > width - right) return plot.onpointerleave();
    const wanted = first + ((at - left) / (width - left - right)) * (last - first);
    const rows = [];
    let where = null;
    for (const line of lines) {
      let best = -1;
      line.x.forEach((value, i) => { if (shown(line.y[i]) && (best < 0 || Math.abs(value - wanted) < Math.abs(line.x[best] - wanted))) best = i; });
      if (best < 0 || (line.points && Math.abs(x(line.x[best]) - at) > 12)) continue;
      if (!line.points) where ??= line.x[best];
      rows.push(element("div", {}, element("i", {style: `display:inline-block;width:9px;height:9px;border-radius:2px;margin-right:6px;background:${line.colour}`}),
        `${line.name}  `, element("b", {}, short(line.y[best], 4))));
    }
    where ??= wanted;
    cursor.setAttribute("x1", x(where));
    cursor.setAttribute("x2", x(where));
    cursor.setAttribute("visibility", "visible");
    tip.replaceChildren(element("div", {}, axis === "hours" ? duration(where) : `${axis === "step" ? "step " : ""}${short(where, 5)}${axis === "tokens" ? " tokens" : ""}`),
      ...rows.slice(0, 16), rows.length > 16 ? `and ${rows.length - 16} more` : "");
    tip.hidden = false;
    tip.style.top = "10px";
    tip.style.left = x(where) > width / 2 ? "" : `${x(where) + 12}px`;
    tip.style.right = x(where) > width / 2 ? `${width - x(where) + 12}px` : "";
  };
}

// ---- what of the runs is drawn ----

/// Where a step lies on the chosen axis, between the spans that the run's curves have.
function place(run, step) {
  const {step: steps, [axis]: values} = run.curves.x;
  if (axis === "step" || steps.length === 0) return step;
  const next = steps.findIndex((at) => at >= step);
  if (next === 0) return (values[0] * step) / steps[0];
  if (next < 0) return values[values.length - 1];
  const share = (step - steps[next - 1]) / (steps[next] - steps[next - 1]);
  return values[next - 1] + share * (values[next] - values[next - 1]);
}

function curve(index, column, factor = 1) {
  const run = runs[index], found = run.curves.columns[column] ?? {mean: []};
  const scaled = (list) => list && list.map((value) => (value === null ? null : value * factor));
  return {name: run.name, colour: colour(index), x: run.curves.x[axis], y: scaled(found.mean), least: scaled(found.least), greatest: scaled(found.greatest)};
}

const restarts = () => runs.length > 1 ? [] : runs.flatMap((run) => run.attempts.slice(1).map((attempt) => place(run, attempt.step)));
const curves = (title, unit, column, more = {}, factor = 1) =>
  chart({title, unit, lines: runs.map((_, i) => curve(i, column, factor)), marks: restarts(), ...more});

function lossChart() {
  const lines = runs.map((_, i) => ({...curve(i, "loss"), name: runs.length > 1 ? runs[i].name : "training"}));
  runs.forEach((run, i) => {
    const held = run.evaluations.filter((evaluation) => isFinite(evaluation.values?.nats_per_token ?? NaN));
    if (held.length) lines.push({name: runs.length > 1 ? `${run.name}, held-out` : "held-out", colour: runs.length > 1 ? colour(i) : "var(--c1)", points: true,
      x: held.map((evaluation) => place(run, evaluation.step)), y: held.map((evaluation) => evaluation.values.nats_per_token)});
  });
  return chart({title: "Loss", unit: "nats a token, logarithmic", lines, log: true, wide: true, marks: restarts(), legend: legendOf(lines)});
}

/// Accuracies over the run, a chart a task.
function taskCharts() {
  const names = [...new Set(runs.flatMap((run) => run.evaluations.flatMap((evaluation) => Object.keys(evaluation.values?.tasks ?? {}))))];
  return names.map((task) => chart({title: task, unit: "% right", lines: runs.map((run, i) => {
    const scored = run.evaluations.filter((evaluation) => evaluation.values?.tasks?.[task]);
    return {name: run.name, colour: colour(i), x: scored.map((evaluation) => place(run, evaluation.step)), y: scored.map((evaluation) => 100 * evaluation.values.tasks[task].acc)};
  })}));
}

function layerCharts(run) {
  const measured = run.difference, count = measured.layers.length;
  if (!count) return [];
  const x = measured.step.map((step) => place(run, step));
  const legend = () => {
    const box = element("div", {class: "legend"});
    if (count > 1) box.append(element("span", {}, `layer ${measured.layers[0]}`, element("span", {class: "ramp",
      style: `background:linear-gradient(90deg,${[0, 0.25, 0.5, 0.75, 1].map((share) => layerColour(share * (count - 1), count)).join(",")})`}), String(measured.layers[count - 1])));
    return box;
  };
  const one = (title, unit, key, more = {}) => chart({title, unit, legend: legend(), ...more,
    lines: measured.layers.map((layer, l) => ({name: `layer ${layer}`, colour: layerColour(l, count), thin: true, x, y: measured[key][l]}))});
  return [one("λ", "mean weight of the second branch", "lambda"), one("cosine of y₁ and y₂", "", "cosine"),
    one("‖y₁‖", "norm of the first branch, a token", "norm_1", {fromZero: true}), one("‖y₂‖", "norm of the second branch, a token", "norm_2", {fromZero: true})];
}

function summary(run, index) {
  const last = run.last ?? {}, attempt = run.attempts[run.attempts.length - 1], rates = run.curves.columns.tokens_per_second?.mean ?? [];
  const settled = rates.slice(Math.floor(rates.length / 10)).filter((value) => value !== null).sort((a, b) => a - b);
  const held = run.evaluations.filter((evaluation) => typeof evaluation.values?.nats_per_token === "number").pop();
  const facts = [
    ["step", short(last.step, 6) + (run.total_steps ? ` of ${short(run.total_steps, 6)}` : "")],
    ["tokens", short(last.tokens_seen)],
    ["training time", last.training_seconds === undefined ? "–" : duration(last.training_seconds / 3600)],
    ["last loss", short(last.loss, 4)],
    ["held-out loss", held ? short(held.values?.nats_per_token, 4) : "–"],
    ["tokens/s", short(settled[Math.floor(settled.length / 2)])],
    ["MFU", last.mfu === null || last.mfu === undefined ? "–" : `${(100 * last.mfu).toFixed(1)} %`],
    ["memory", last.memory_bytes ? `${(last.memory_bytes / 2 ** 30).toFixed(2)} GiB` : "–"],
    ["skipped steps", String(run.skipped.length)],
    ["restarts", String(Math.max(0, run.attempts.length - 1))],
    ["checkpoints", String(run.saves)],
    ["ranks", attempt ? String(attempt.ranks) : "–"],
  ];
  const list = element("dl");
  for (const [name, value] of facts)
    list.append(element("div", {}, element("dt", {}, name), element("dd", {class: name === "skipped steps" && value !== "0" ? "bad" : ""}, value)));
  return element("div", {class: "card run"}, element("h3", {}, element("i", {style: `background:${colour(index)}`}), run.name),
    element("div", {class: "path"}, `${run.directory}${attempt ? ` · ${attempt.device} · ${attempt.host}` : ""}`), list);
}

// ---- tables ----

/// columns: [title, numeric?]
function table(columns, rows) {
  const cell = (kind, [, numeric], content) => element(kind, numeric ? {class: "n"} : {}, content);
  return element("div", {class: "card scroll"}, element("table", {},
    element("thead", {}, element("tr", {}, ...columns.map((column) => cell("th", column, column[0])))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map((content, i) => cell("td", columns[i], content)))))));
}

const code = (value) => element("code", {}, value === null ? "–" : typeof value === "string" ? value || "“”" : JSON.stringify(value));

/// Every number of an evaluation that is no list has a column, if any evaluation has it.
function evaluations() {
  const flat = (values, prefix = "") => Object.entries(values ?? {}).flatMap(([key, value]) =>
    value !== null && typeof value === "object" && !Array.isArray(value) ? flat(value, `${prefix}${key} `) : typeof value === "number" ? [[prefix + key, value]] : []);
  const rows = runs.flatMap((run) => run.evaluations.map((evaluation) => ({run: run.name, step: evaluation.step, values: new Map(flat(evaluation.values))})));
  if (!rows.length) return null;
  const names = [...new Set(rows.flatMap((row) => [...row.values.keys()]))];
  return table([["run"], ["after step", true], ...names.map((name) => [name.replaceAll("_", " "), true])],
    rows.map((row) => [row.run, String(row.step), ...names.map((name) => short(row.values.get(name), 5))]));
}

function attempts() {
  const rows = runs.flatMap((run) => run.attempts.map((attempt) => [run.name, String(attempt.attempt), attempt.began.replace("T", " ").replace("Z", ""), String(attempt.step),
    String(attempt.ranks), `${attempt.device} · ${attempt.host}`, attempt.program, attempt.ended || "no end recorded"]));
  return rows.length ? table([["run"], ["attempt", true], ["begun (UTC)"], ["after step", true], ["ranks", true], ["device and host"], ["program"], ["ended"]], rows) : null;
}

function skipped() {
  const rows = runs.flatMap((run) => run.skipped.slice(-50).map((step) => [run.name, String(step.step), step.verdict, short(step.loss, 5)]));
  return rows.length ? table([["run"], ["step", true], ["why"], ["loss", true]], rows) : null;
}

function differences() {
  if (runs.length < 2) return null;
  return table([["option"], ...runs.map((run) => [run.name])], data.differences.map((row) => [code(row.option), ...row.values.map(code)]));
}

// ---- the page ----

function show() {
  const main = document.getElementById("main");
  const section = (title, parts, kind = "grid") => {
    const there = parts.filter((part) => part);
    if (there.length) main.append(element("h2", {}, title), element("div", {class: kind}, ...there));
  };
  const tables = (title, part) => part && main.append(element("h2", {}, title), part);
  main.replaceChildren(element("h2", {}, runs.length > 1 ? "Runs" : "Run"), element("div", {class: "grid"}, ...runs.map(summary)));
  section("Learning", [lossChart(), curves("Gradient norm", "before clipping, logarithmic", "gradient_norm", {log: true}), curves("Learning rate", "", "lr", {fromZero: true}),
    curves("Clipping", "factor on the gradient", "clip", {fromZero: true})]);
  section("Speed", [curves("Throughput", "tokens a second, all ranks", "tokens_per_second", {fromZero: true}), curves("MFU", "% of the peak arithmetic", "mfu", {fromZero: true}, 100),
    curves("Step", "ms", "step_ms", {fromZero: true}), curves("Waiting for data", "ms a step", "data_wait_ms", {fromZero: true}),
    curves("Exposed communication", "ms a step", "exposed_communication_ms", {fromZero: true}), curves("Memory", "peak of rank 0, GiB", "memory_bytes", {fromZero: true}, 2 ** -30)]);
  section("Tasks", taskCharts());
  for (const run of runs) section(runs.length > 1 ? `Differential layers of ${run.name}` : "Differential layers", layerCharts(run), "grid two");
  tables("Evaluations", evaluations());
  tables("Options that differ", differences());
  tables("Attempts", attempts());
  tables("Skipped steps", skipped());
  main.append(element("footer"));
  for (const card of main.querySelectorAll(".card")) card.draw?.();
}

document.getElementById("made").textContent = `made ${data.made}`;
for (const [key, label] of Object.entries(axes)) {
  const button = element("button", {type: "button", "aria-pressed": key === axis}, label);
  button.onclick = () => {
    axis = key;
    for (const other of button.parentNode.children) other.setAttribute("aria-pressed", other === button);
    show();
  };
  document.getElementById("axes").append(button);
}
show();
let width = innerWidth;
addEventListener("resize", () => { if (innerWidth !== width) width = innerWidth, document.querySelectorAll(".card").forEach((card) => card.draw?.()); });
