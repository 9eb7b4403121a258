// Charts by Vega-Lite. Data and titles are added to the charts here, as values of fixed fields.

const specs = JSON.parse(byId("chart-specs").textContent);
const views = new Map(); // by chart
const drawings = new Map(); // the number of times that each chart was drawn
const domains = new Map(); // by chart: what `narrowDomains` returned when it was drawn
const MAX_SERIES = 7;
const MAX_CURVES = 8;
const HOUR = 3600 * 1000; // milliseconds
const MAX_SVG = 1000; // with more points, a canvas is faster
const OTHERS = "other base models";
const PALETTE = ["#3b7dd8", "#e0752d", "#2a9d75", "#c2519c", "#8a6fd1", "#b8941f", "#4fa3b5", "#8c8c8c"];

const baseModels = frequent(models.map((model) => model.base_model));
const series = baseModels.slice(0, MAX_SERIES);
if (baseModels.length > series.length) series.push(OTHERS);

// Distinct values, the most frequent first.
function frequent(values) {
  const counts = new Map();
  for (const value of values) if (value !== null) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts.keys()].sort((one, other) => counts.get(other) - counts.get(one));
}

function seriesOf(model) {
  return series.includes(model.base_model) ? model.base_model : OTHERS;
}

// The colour that a variable of the style sheet has in the present theme.
function colour(name) {
  const probe = byId("hint");
  probe.style.color = `var(${name})`;
  const found = getComputedStyle(probe).color;
  probe.style.color = "";
  return found;
}

function chartTheme() {
  const [ink, soft, line] = [colour("--ink"), colour("--soft"), colour("--line")];
  const font = getComputedStyle(document.body).fontFamily;
  return {
    font,
    background: "transparent",
    view: { stroke: null },
    range: { category: PALETTE },
    axis: {
      gridColor: line, domainColor: line, tickColor: line, labelColor: soft, titleColor: ink,
      titleFontWeight: 500, labelFontSize: 11, titleFontSize: 12, titlePadding: 8, tickCount: 6,
      labelOverlap: true, labelSeparation: 8,
    },
    legend: {
      orient: "bottom", labelColor: ink, labelFontSize: 12, labelLimit: 220, columns: 2,
      symbolStrokeWidth: 2,
    },
  };
}

// By axis, the domain around the value that all points have; `null` if they have several values.
function narrowDomains(name, rows) {
  const { x, y } = specs[name].encoding;
  return Object.fromEntries([["x", x.field], ["y", y.field]].map(([axis, field]) => {
    const value = rows[0]?.[field];
    if (!rows.length || rows.some((row) => row[field] !== value)) return [axis, null];
    const margin = field === "time" ? HOUR : Math.abs(value) / 10 || 1;
    const domain = [value - margin, value + margin];
    return [axis, domain.every(Number.isFinite) ? domain : null];
  }));
}

async function draw(name, rows, { titles = {}, domain = series } = {}) {
  const number = (drawings.get(name) ?? 0) + 1;
  drawings.set(name, number);
  views.get(name)?.finalize();
  views.delete(name);
  const spec = structuredClone(specs[name]);
  spec.datasets = { points: rows };
  spec.config = chartTheme();
  spec.encoding.color.scale = { domain };
  if (spec.encoding.strokeWidth) { // points: one of a selected model has a ring
    spec.encoding.stroke = { value: colour("--ink") };
    spec.config.legend.symbolStrokeWidth = 0;
  }
  for (const [axis, title] of Object.entries(titles)) spec.encoding[axis].title = title;
  const narrow = narrowDomains(name, rows);
  domains.set(name, JSON.stringify(narrow));
  for (const axis of ["x", "y"]) { // an expression, as Vega-Lite makes dates of bare numbers
    if (narrow[axis]) spec.encoding[axis].scale.domain = { expr: JSON.stringify(narrow[axis]) };
  }
  const host = byId(name);
  host.hidden = rows.length === 0;
  if (host.hidden) return;
  const frame = element("div");
  host.replaceChildren(frame);
  const options = {
    actions: false, ast: true, defaultStyle: false, mode: "vega-lite", tooltip: showHint,
    renderer: models.length > MAX_SVG ? "canvas" : "svg",
  };
  let embedded;
  try {
    embedded = await vegaEmbed(frame, spec, options);
  } catch (error) { // e.g. numbers whose difference is not finite
    frame.textContent = `This chart cannot be drawn: ${error.message}`;
    return;
  }
  if (drawings.get(name) !== number) { // drawn again in the meantime
    embedded.finalize();
    return;
  }
  views.set(name, embedded);
  embedded.view.addEventListener("click", (_, item) => {
    if (item?.datum?.row !== undefined) openModel(models[item.datum.row]);
  });
}

// Replace the points of a chart; its zoom stays, unless a domain has to be another one.
function redraw(name, rows, options) {
  const shown = views.get(name);
  const isSame = domains.get(name) === JSON.stringify(narrowDomains(name, rows));
  if (shown && rows.length && isSame) shown.view.data("points", rows).runAsync();
  else draw(name, rows, options);
}

function showHint(_, event, item, value) {
  const hint = byId("hint");
  hint.hidden = value === null || value === undefined || item?.datum?.row === undefined;
  if (hint.hidden) return;
  const model = models[item.datum.row];
  const { lines = [] } = item.datum;
  hint.replaceChildren(
    element("strong", {}, model.version),
    element("span", {}, model.base_model ?? MISSING),
    ...lines.map(([name, text]) => element("span", {}, `${name} `, element("b", {}, text))),
  );
  const { width, height } = hint.getBoundingClientRect();
  hint.style.left = `${Math.max(8, Math.min(event.clientX + 14, innerWidth - width - 8))}px`;
  hint.style.top = `${Math.max(8, Math.min(event.clientY + 14, innerHeight - height - 8))}px`;
}

function point(model, names) {
  return {
    row: model.index,
    version: model.version,
    series: seriesOf(model),
    chosen: model === state.selected || state.picked.includes(model),
    lines: names.map((name) => [name, model.metrics.get(name)]),
  };
}

function leftOut(count, reason) {
  return count ? `Not shown: ${counted(count, "model")} without ${reason}.` : "";
}

// Models in the order of the table are in the charts, too: the first of them are drawn on top.
function drawScatter(found, show = redraw) {
  const [x, y] = [byId("scatter-x").value, byId("scatter-y").value];
  const rows = found
    .filter((model) => metric(model, x) !== null && metric(model, y) !== null)
    .map((model) => ({ ...point(model, [...new Set([y, x])]), x: metric(model, x), y: metric(model, y) }));
  show("scatter", rows, { titles: { x, y } });
  byId("scatter-note").textContent = content.metrics.length
    ? leftOut(found.length - rows.length, "these metrics")
    : "No model was evaluated yet.";
}

function drawTimes(found, show = redraw) {
  const y = byId("times-y").value;
  const dated = found.filter((model) => !Number.isNaN(model.time));
  const rows = dated
    .filter((model) => metric(model, y) !== null)
    .map((model) => ({ ...point(model, [y]), time: model.time, y: metric(model, y) }));
  show("times", rows, { titles: { y } });
  byId("times-note").textContent = content.metrics.length
    ? [
      leftOut(found.length - dated.length, "a recorded time"),
      leftOut(dated.length - rows.length, "this metric"),
    ].filter(Boolean).join(" ")
    : "No model was evaluated yet.";
}

function drawLosses(found) {
  const trained = found.filter((model) => model.losses.length);
  const first = [...state.picked, state.selected].filter((model) => model?.losses.length);
  const drawn = [...new Set([...first, ...trained])].slice(0, MAX_CURVES)
    .sort((one, other) => one.index - other.index); // so that a curve keeps its colour
  const rows = drawn.flatMap((model) => model.losses.map(([x, y]) => ({
    row: model.index, version: model.version, series: model.version, x, y,
    lines: [["last loss", String(model.losses.at(-1)[1])], ["last step", String(model.losses.at(-1)[0])]],
  })));
  byId("losses-card").hidden = !models.some((model) => model.losses.length);
  draw("losses", rows, { domain: drawn.map((model) => model.version) });
  byId("losses-note").textContent = trained.length > drawn.length
    ? `${drawn.length} of ${counted(trained.length, "trained model")}: those selected, and the first of the table.`
    : trained.length ? "" : "None of these models has a training history.";
}

function drawCharts(found, show = redraw) {
  drawScatter(found, show);
  drawTimes(found, show);
  drawLosses(found);
}
