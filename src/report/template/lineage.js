// The lineage of a model as a graph: what it was made from, the model, what was made from it.

const NODE = { width: 186, height: 56, gap: 12, between: 36 };
const OUTPUTS = ["weights", "evaluation"];
const SIDE_INPUT = "evaluation dataset"; // of the evaluation, not of the model

function lineageGraph(model) {
  const nodes = model.lineage.map((index) => content.inputs[index])
    .map(([kind, name, digest]) => ({ kind, name, digest }));
  const center = nodes.filter(({ kind }) => kind === "model");
  if (!center.length) return element("p", { class: "note" }, "Its inputs are not recorded.");
  const outputs = nodes.filter(({ kind }) => OUTPUTS.includes(kind) || kind === SIDE_INPUT);
  const inputs = nodes.filter((node) => !outputs.includes(node) && !center.includes(node));
  const stacks = [inputs, center, outputs].filter((stack) => stack.length);
  const height = Math.max(...stacks.map(stackHeight));
  stacks.forEach((stack, column) => place(stack, column, height));
  const edges = [
    ...inputs.map((node) => [node, center[0]]),
    ...outputs.filter(({ kind }) => kind !== SIDE_INPUT).map((node) => [center[0], node]),
  ];
  const side = outputs.filter(({ kind }) => kind === SIDE_INPUT);
  const evaluation = outputs.find(({ kind }) => kind === "evaluation");
  const width = stacks.length * (NODE.width + NODE.between) - NODE.between;
  return drawing(
    "svg",
    { class: "lineage", viewBox: `-1 -1 ${width + 2} ${height + 2}`, role: "img",
      "aria-label": `Lineage of ${model.version}` },
    edges.map(edge),
    side.map((node) => downEdge(evaluation, node)),
    nodes.map(nodeDrawing),
  );
}

function stackHeight(stack) {
  return stack.length * (NODE.height + NODE.gap) - NODE.gap;
}

function place(stack, column, height) {
  const top = (height - stackHeight(stack)) / 2;
  stack.forEach((node, row) => {
    node.x = column * (NODE.width + NODE.between);
    node.y = top + row * (NODE.height + NODE.gap);
  });
}

function edge([from, to]) {
  const [x, y] = [from.x + NODE.width, from.y + NODE.height / 2];
  const [endX, endY] = [to.x, to.y + NODE.height / 2];
  const middle = (x + endX) / 2;
  return drawing("path", { d: `M${x} ${y}C${middle} ${y} ${middle} ${endY} ${endX} ${endY}` });
}

function downEdge(upper, lower) {
  const x = upper.x + NODE.width / 2;
  return drawing("path", { d: `M${x} ${upper.y + NODE.height}V${lower.y}` });
}

function nodeDrawing({ kind, name, digest, x, y }) {
  return drawing(
    "g",
    { transform: `translate(${x} ${y})`, class: kind === "model" ? "node model" : "node" },
    drawing("title", {}, [kind, name, digest && `sha256 ${digest}`].filter(Boolean).join("\n")),
    drawing("rect", { width: NODE.width, height: NODE.height, rx: 8 }),
    drawing("text", { x: 11, y: 16, class: "kind" }, kind),
    drawing("text", { x: 11, y: 32 }, kind === "code" ? name.slice(0, 19) : shorten(name, 26)),
    drawing("text", { x: 11, y: 47, class: "digest" }, digest ? digest.slice(0, 12) : "no digest"),
  );
}
