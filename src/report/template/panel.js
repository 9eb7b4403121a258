// The panel at the side: one model, or what differs between two. The fragment of the URL names it.

const OPEN_SECTIONS = ["metrics", "config", "trainer", "training", "data", "code"];

function openModel(model) {
  location.hash = `model=${encodeURIComponent(model.version)}`;
}

function openComparison() {
  location.hash = `compare=${state.picked.map(({ version }) => encodeURIComponent(version)).join(",")}`;
}

function closePanel() {
  history.replaceState(null, "", location.pathname + location.search);
  followAddress();
}

// Show what the URL names: #model=VERSION or #compare=ONE,OTHER.
function followAddress() {
  const [name, value = ""] = location.hash.slice(1).split("=");
  const named = value.split(",").map(decoded).map((version) => byVersion.get(version)).filter(Boolean);
  const panel = byId("panel");
  state.selected = null;
  state.isComparing = false;
  panel.hidden = false;
  if (name === "model" && named.length === 1) {
    [state.selected] = named;
    panel.replaceChildren(...modelDetails(named[0]));
  } else if (name === "compare" && named.length === 2) {
    state.picked = named;
    state.isComparing = true;
    panel.replaceChildren(...comparison(...named));
  } else {
    panel.hidden = true;
  }
  panel.scrollTop = 0;
  update({ isFiltered: false });
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function heading(...children) {
  const close = element("button", { type: "button", class: "close", click: closePanel, "aria-label": "Close" }, "×");
  return element("div", { class: "heading" }, element("h2", {}, ...children), close);
}

function badge(model) {
  if (!content.audited_on) return null;
  const verdict = model.verdict ?? "NOT AUDITED";
  return element("span", { class: `badge ${verdict.toLowerCase().replace(" ", "-")}` }, verdict.toLowerCase());
}

function modelDetails(model) {
  const isPicked = state.picked.includes(model);
  const pick = element(
    "button", { type: "button", click: () => { togglePick(model); followAddress(); } },
    isPicked ? "Do not compare" : "Compare with another model",
  );
  const facts = [model.base_model, model.dataset, model.started_on && timeText(model.started_on)];
  return [
    heading(model.version),
    element("p", { class: "note" }, badge(model), " ", facts.filter(Boolean).join(" · ")),
    model.url && element("p", { class: "note" }, `Run: ${model.url}`), // no link: the URL comes from a record
    model.is_simulated ? element("p", { class: "note" }, "Evaluated by: simulated") : null,
    model.is_registered ? null : element("p", { class: "fault" }, "It is not in the registry: its run has not ended."),
    ...model.faults.map((text) => element("p", { class: "fault" }, text)),
    ...model.details.map((text) => element("p", { class: "fault" }, text)),
    pick,
    element("h3", {}, "Lineage"),
    lineageGraph(model),
    ...content.sections.filter((section) => rowsOf(model, section).length)
      .sort((one, other) => sectionOrder(one) - sectionOrder(other))
      .map((section) => sectionDetails(model, section)),
  ].filter(Boolean);
}

function sectionOrder(section) {
  const place = OPEN_SECTIONS.indexOf(section);
  return place < 0 ? OPEN_SECTIONS.length : place;
}

function sectionDetails(model, section) {
  const rows = rowsOf(model, section);
  return element(
    "details", { open: OPEN_SECTIONS.includes(section) },
    element("summary", {}, section, element("small", {}, ` ${rows.length}`)),
    element("table", { class: "facts" }, element("tbody", {}, rows.map(([name, text]) =>
      element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, text))))),
  );
}

// As `llm-train compare`: rows by section; equal texts are equal values.
function comparedRows(one, other) {
  return content.sections.flatMap((section) => {
    const [left, right] = [new Map(rowsOf(one, section)), new Map(rowsOf(other, section))];
    return [...new Set([...left.keys(), ...right.keys()])].map((name) => ({
      section, name, values: [left.get(name), right.get(name)],
      differs: left.get(name) !== right.get(name),
    }));
  });
}

function comparison(one, other) {
  const rows = comparedRows(one, other);
  const differing = rows.filter(({ differs }) => differs);
  const body = element("tbody", {});
  const everything = element("input", { type: "checkbox", id: "everything", change: fillBody });
  function fillBody() {
    const shown = everything.checked ? rows : differing;
    body.replaceChildren(...shown.map((row, index) => element(
      "tr", { class: row.differs ? "differs" : "equal" },
      element("th", { scope: "row", class: "section" }, row.section === shown[index - 1]?.section ? "" : row.section),
      element("th", { scope: "row" }, row.name),
      row.values.map((text) => element("td", {}, text ?? MISSING)),
    )));
  }
  fillBody();
  const link = (model) => element("a", { href: `#model=${encodeURIComponent(model.version)}` }, model.version);
  return [
    heading("What differs"),
    element("p", { class: "note" }, differing.length
      ? `${counted(differing.length, "value")} of ${rows.length.toLocaleString("en-US")}.`
      : "No value differs."),
    element("label", { class: "check" }, everything, " Show all values"),
    element("table", { class: "facts difference" },
      element("thead", {}, element("tr", {},
        element("th", {}), element("th", {}),
        element("th", { scope: "col" }, link(one)), element("th", { scope: "col" }, link(other)))),
      body),
  ];
}
