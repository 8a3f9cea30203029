// The chart of usage: bars by day or month, stacked by model, of the figures that the page has beside it.

const box = document.getElementById("chart");
const data = box && JSON.parse(document.getElementById("chart-data").textContent);
const HEIGHT = 260;

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// What is drawn are the sums of a model and of all below it: the tallest first, so that each leaves its own part to see.
function stacked(rows, count) {
  const sums = new Array(count).fill(0);
  return rows.map((row) => row.map((figure, place) => (sums[place] += Number(figure))));
}

function short(value) {
  return new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 4 }).format(value);
}

// Digit by digit: a figure of money is exact, and no number of JavaScript's.
function grouped(figure, metric) {
  const [whole, fraction = ""] = figure.split(".");
  const digits = BigInt(whole).toLocaleString("en");
  return metric === "cost" ? `${digits}.${fraction.padEnd(2, "0")}` : digits;
}

function read(metric, place) {
  const readout = document.getElementById("readout");
  if (place == null) return;
  const parts = data.models
    .map((model, row) => [model, data.figures[metric][row][place]])
    .filter(([, figure]) => figure !== "0");
  const said = parts.map(([model, figure]) => `${model} ${grouped(figure, metric)}`).join(" · ");
  readout.textContent = `${data.labels[place]}: ${said || "nothing"}`;
}

function label(text) {
  const [year, month, day] = text.split("-");
  return day ? `${month}-${day}` : `${year}-${month}`;
}

let chart;
function draw() {
  const metric = document.getElementById("metric").value;
  const places = data.labels.map((_, place) => place);
  const sums = stacked(data.figures[metric], places.length);
  const bars = uPlot.paths.bars({ size: [0.72, 48] });
  const order = data.models.map((_, row) => row).reverse();
  const axis = { stroke: colour("--muted"), font: "12px system-ui", grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
  chart?.destroy();
  chart = new uPlot({
    width: box.clientWidth,
    height: HEIGHT,
    padding: [12, 8, 0, 0],
    legend: { show: false },
    cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
    scales: { x: { time: false, range: [-0.6, places.length - 0.4] }, y: { range: (_, low, high) => [0, high > 0 ? high * 1.06 : 1] } },
    axes: [
      { ...axis, size: 32, grid: { show: false }, space: 56, incrs: [1, 2, 5, 7, 10, 14, 20, 30, 50], values: (_, splits) => splits.map((place) => (data.labels[place] ? label(data.labels[place]) : "")) },
      { ...axis, size: (_, texts) => Math.max(52, ...(texts ?? []).map((text) => 16 + 7 * text.length)), values: (_, splits) => splits.map(short) },
    ],
    series: [{}, ...order.map((row) => ({ label: data.models[row], fill: colour(`--model-${row}`), width: 0, points: { show: false }, paths: bars }))],
    hooks: { setCursor: [(plot) => read(metric, plot.cursor.idx)] },
  }, [places, ...order.map((row) => sums[row])], box);
  document.getElementById("readout").textContent = "Point at a bar to read it.";
  box.dataset.drawn = metric;
}

if (box) {
  const legend = document.getElementById("legend");
  data.models.forEach((model, row) => {
    const mark = document.createElement("i");
    mark.className = `m${row}`;
    const item = document.createElement("li");
    item.append(mark, model);
    legend.append(item);
  });
  draw();
  document.getElementById("metric").addEventListener("change", draw);
  document.addEventListener("theme", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  let width = box.clientWidth;
  new ResizeObserver(() => {
    if (box.clientWidth === width) return;
    width = box.clientWidth;
    draw();
  }).observe(box);
}
