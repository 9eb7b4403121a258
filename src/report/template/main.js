// The page: filters, table, charts and panel, each drawn again when the state changes.

const ROWS = 100; // of a page of the table
const DELAY = 150; // milliseconds from the last key to the charts
let found = [];
let timer = 0;

function update({ isFiltered = true } = {}) {
  found = filteredModels();
  if (isFiltered) state.page = 0;
  byId("count").textContent = found.length === models.length
    ? counted(models.length, "model")
    : `${found.length.toLocaleString("en-US")} of ${counted(models.length, "model")}`;
  showTable();
  showPicked();
  clearTimeout(timer);
  timer = setTimeout(() => drawCharts(found), DELAY);
}

function showTable() {
  const start = state.page * ROWS;
  const shown = found.slice(start, start + ROWS);
  if (!shown.length) {
    const text = models.length ? "No model matches the filters." : "There are no models yet.";
    byId("table").replaceChildren(element("p", { class: "empty" }, text));
  } else {
    byId("table").replaceChildren(element(
      "table", { class: "models" },
      element("thead", {}, element("tr", {}, element("th", {}), columns.map(head))),
      element("tbody", {}, shown.map(row)),
    ));
  }
  const last = Math.ceil(found.length / ROWS) - 1;
  const turn = (by) => () => { state.page += by; showTable(); };
  byId("pages").replaceChildren(...(last < 1 ? [] : [
    element("button", { type: "button", disabled: state.page === 0, click: turn(-1), "aria-label": "Previous page" }, "‹"),
    element("span", {}, `${start + 1}–${start + shown.length} of ${found.length.toLocaleString("en-US")}`),
    element("button", { type: "button", disabled: state.page === last, click: turn(1), "aria-label": "Next page" }, "›"),
  ]));
}

function head(column) {
  const isSorted = state.column === column;
  const order = state.isDescending ? "descending" : "ascending";
  const sort = () => {
    state.isDescending = isSorted && !state.isDescending;
    state.column = column;
    update();
  };
  return element(
    "th", { scope: "col", class: column.isNumber ? "number" : null, "aria-sort": isSorted ? order : null },
    element("button", { type: "button", title: column.title, click: sort }, shorten(column.title, 24)),
  );
}

function row(model) {
  const isPicked = state.picked.includes(model);
  const pick = element("input", {
    type: "checkbox", "aria-label": `Compare ${model.version}`,
    change: () => { togglePick(model); update({ isFiltered: false }); },
  });
  pick.checked = isPicked;
  const isChosen = isPicked || model === state.selected;
  return element(
    "tr", { class: isChosen ? "chosen" : null, click: (event) => {
      if (!event.target.closest("input, a, .pick")) openModel(model);
    } },
    element("td", { class: "pick" }, pick),
    columns.map((column) => cell(model, column)),
  );
}

function cell(model, column) {
  const text = column.value(model);
  if (column.isVersion) {
    const link = element("a", { href: `#model=${encodeURIComponent(text)}` }, shorten(text, 44));
    const fault = model.faults[0] ?? (model.is_registered ? null : "Not registered: its run has not ended.");
    return element("td", { title: text }, link, fault && element("span", { class: "fault" }, fault));
  }
  if (column.isVerdict) return element("td", {}, badge(model));
  const kind = text === null ? "missing" : column.isNumber ? "number" : null;
  const shown = column.isTime && text !== null ? timeText(text) : cellText(text);
  return element("td", { class: kind, title: text }, shorten(shown, 44));
}

// At most two models are picked: a third one replaces the first.
function togglePick(model) {
  state.picked = state.picked.includes(model)
    ? state.picked.filter((each) => each !== model)
    : [...state.picked, model].slice(-2);
}

function showPicked() {
  const bar = byId("picked");
  const [one, other] = state.picked.map(({ version }) => element("b", {}, shorten(version, 36)));
  bar.hidden = !one || state.isComparing;
  if (bar.hidden) return;
  const clear = () => { state.picked = []; closePanel(); };
  bar.replaceChildren(
    element("span", {}, one, other ? " and " : ": pick another model to compare.", other ?? ""),
    element("button", { type: "button", class: "main", disabled: !other, click: openComparison }, "Show what differs"),
    element("button", { type: "button", click: clear }, "Clear"),
  );
}

function showOverview() {
  const audited = content.audited_on ? timeText(content.audited_on) : null;
  byId("simulated").textContent = simulatedText();
  byId("about").textContent = `${content.root} · made ${timeText(content.made_on)} UTC`;
  byId("faults").replaceChildren(...content.faults.map((text) => element("li", { class: "fault" }, text)));
  const verdicts = frequent(models.map((model) => model.verdict));
  const count = (verdict) => models.filter((model) => model.verdict === verdict).length;
  const datasets = frequent(models.map((model) => model.dataset));
  const unreadable = models.filter((model) => model.faults.length).length;
  byId("numbers").replaceChildren(
    number(models.length, models.length === 1 ? "model" : "models"),
    number(baseModels.length, baseModels.length === 1 ? "base model" : "base models"),
    number(datasets.length, datasets.length === 1 ? "dataset" : "datasets"),
    ...(unreadable ? [number(unreadable, "with files that cannot be read", "bad")] : []),
    ...(audited
      ? verdicts.map((verdict) => number(count(verdict), verdict.toLowerCase(), badgeKind(verdict)))
      : []),
    element("li", { class: "note" }, audited ? `Last audit: ${audited} UTC` : "No audit has written its verdicts yet."),
  );
}

function simulatedText() {
  const evaluated = models.filter((model) => rowsOf(model, "metrics").length);
  const simulated = evaluated.filter((model) => model.is_simulated);
  if (!simulated.length) return "";
  const which = simulated.length === evaluated.length ? "" : ` of ${counted(simulated.length, "model")}`;
  return `The metrics${which} are simulated: they depend only on the names of model and dataset.`;
}

function badgeKind(verdict) {
  return { MISMATCH: "bad", UNREADABLE: "bad", UNFINISHED: "warn" }[verdict] ?? "good";
}

function number(count, noun, kind = null) {
  return element("li", { class: kind }, element("b", {}, count.toLocaleString("en-US")), ` ${noun}`);
}

function fillSelect(id, values, first) {
  const options = values.map((value) => element("option", { value }, shorten(value, 48)));
  byId(id).replaceChildren(...(first ? [element("option", { value: "" }, first)] : []), ...options);
  byId(id).disabled = !values.length;
}

function prepare() {
  for (const [name, first] of [["base_model", "All base models"], ["dataset", "All datasets"], ["verdict", "All verdicts"]]) {
    fillSelect(name, frequent(models.map((model) => model[name])), first);
    byId(name).addEventListener("change", (event) => { state[name] = event.target.value; update(); });
  }
  byId("verdict").hidden = !content.audited_on;
  byId("text").addEventListener("input", (event) => {
    state.words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    update();
  });
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  for (const [id, place, show] of [["scatter-x", 1, drawScatter], ["scatter-y", 0, drawScatter], ["times-y", 0, drawTimes]]) {
    fillSelect(id, content.metrics);
    byId(id).value = content.metrics[place] ?? content.metrics[0] ?? "";
    byId(id).addEventListener("change", () => show(found, draw));
  }
  byId("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    showTheme();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showTheme);
  addEventListener("hashchange", followAddress);
  addEventListener("keydown", (event) => { if (event.key === "Escape") closePanel(); });
}

function isDark() {
  const { theme } = document.documentElement.dataset;
  return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function showTheme() {
  byId("theme").textContent = isDark() ? "Light" : "Dark";
  clearTimeout(timer);
  timer = setTimeout(() => drawCharts(found, draw)); // the table is shown first
}

prepare();
showOverview();
followAddress();
showTheme();
