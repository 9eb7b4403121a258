// The models, the columns of the table, and the filters and the order of its rows.

const content = JSON.parse(byId("content").textContent);
const { models } = content;
const byVersion = new Map(models.map((model) => [model.version, model]));
const NUMBER = /^-?\d+(\.\d+)?([eE][-+]?\d+)?$/; // a number in JSON
const MAX_COLUMNS = 8; // of metrics, and of settings
const MISSING = "-";

for (const [index, model] of models.entries()) {
  model.index = index;
  model.settings = new Map(rowsOf(model, "config"));
  model.metrics = new Map(rowsOf(model, "metrics").filter(([, text]) => isNumber(text)));
  const parts = [model.version, model.base_model, model.dataset, model.verdict];
  model.searched = [...parts, ...rowsOf(model, "trainer").flat()].join(" ").toLowerCase();
  model.time = isTime(model.started_on ?? "") ? Date.parse(model.started_on) : NaN;
}

function isNumber(text) {
  return NUMBER.test(text) && Number.isFinite(Number(text));
}

// The values of a model in a section, as pairs of name and text.
function rowsOf(model, section) {
  const number = content.sections.indexOf(section);
  return content.values[number][model.values[number]] ?? [];
}

function metric(model, name) {
  const text = model.metrics.get(name);
  return text === undefined ? null : Number(text);
}

const columns = [
  { title: "model", isVersion: true, value: (model) => model.version },
  { title: "base model", value: (model) => model.base_model },
  { title: "dataset", value: (model) => model.dataset },
  ...(content.audited_on ? [{ title: "verdict", isVerdict: true, value: (model) => model.verdict }] : []),
  ...content.metrics.slice(0, MAX_COLUMNS).map((name) => ({
    title: name, isNumber: true, value: (model) => model.metrics.get(name) ?? null,
  })),
  ...content.settings.slice(0, MAX_COLUMNS).map((name) => ({
    title: name, isNumber: true, value: (model) => model.settings.get(name) ?? null,
  })),
  { title: "started", isTime: true, value: (model) => model.started_on },
];

const state = {
  words: [], base_model: "", dataset: "", verdict: "", // filters
  column: null, isDescending: false, page: 0, // order; null is that of the records
  selected: null, picked: [], // models
  isComparing: false, // whether the panel shows what differs
};

function filteredModels() {
  const found = models.filter((model) =>
    ["base_model", "dataset", "verdict"].every((name) => !state[name] || model[name] === state[name])
    && state.words.every((word) => model.searched.includes(word)));
  if (state.column === null) return found;
  const { value } = state.column;
  const keyed = found.map((model) => [orderKey(value(model)), model]);
  keyed.sort(([one], [other]) => compareKeys(one, other));
  return keyed.map(([, model]) => model);
}

// Numbers come first, by value, then texts; a missing value is last in either order.
function orderKey(text) {
  if (text === null) return [2, 0];
  return NUMBER.test(text) ? [0, Number(text)] : [1, text];
}

function compareKeys([kind, value], [otherKind, otherValue]) {
  if (kind === 2 || otherKind === 2) return kind - otherKind;
  const order = kind - otherKind || (value < otherValue ? -1 : Number(value > otherValue));
  return state.isDescending ? -order : order;
}

// A number of a cell with six digits; its title has all of them.
function cellText(text) {
  if (text === null) return MISSING;
  return text.length > 9 && NUMBER.test(text) ? String(Number(Number(text).toPrecision(6))) : text;
}
