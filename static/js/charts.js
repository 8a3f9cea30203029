// How a batch runs: three charts of the numbers at data-address, asked for seldom while it moves, and once at its end.

const charts = document.getElementById("charts");
const EVERY = 10_000; // milliseconds
const HEIGHT = 170; // pixels
const plots = {};
let shown;

// what each chart shows: of a stretch of time with these columns, for each series its name, colour and value
const SERIES = {
  lines: [
    ["done", "--good", (row, before) => before + row.completed],
    ["failed", "--bad", (row, before) => before + row.failed],
  ],
  latency: [
    ["median", "--busy", (row) => row.median === null ? null : row.median / 1000],
    ["95%", "--waiting", (row) => row.slow === null ? null : row.slow / 1000],
  ],
  tokens: [
    ["in", "--busy", (row, before, width) => row.input / width],
    ["of it cached", "--still", (row, before, width) => row.cached / width],
    ["out", "--good", (row, before, width) => row.output / width],
  ],
};

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function short(number) {
  if (number === null || number === undefined) return "–";
  return new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 }).format(number);
}

// Every stretch from the beginning on, also those in which nothing ended.
function stretches(found) {
  const none = { completed: 0, failed: 0, input: 0, cached: 0, output: 0, median: null, slow: null };
  const count = Math.max(1, Math.min(60, Math.ceil((found.until - found.start) / found.width)), ...found.rows.map((row) => row[0] + 1));
  const all = Array.from({ length: count }, () => ({ ...none }));
  for (const row of found.rows) found.columns.forEach((name, at) => { all[row[0]][name] = row[at]; });
  return all;
}

function values(found, series) {
  const all = stretches(found);
  const times = [found.start, ...all.map((row, at) => found.start + (at + 1) * found.width)];
  const data = series.map(([, , value]) => {
    let before = 0;
    return [null, ...all.map((row) => { before = value(row, before, found.width); return before; })];
  });
  if (series === SERIES.lines) for (const one of data) one[0] = 0;
  return [times, ...data];
}

function options(name, width) {
  const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
  const brief = shown.until - shown.start < 10;
  const clock = (seconds, long) => new Date(seconds * 1000).toISOString().slice(11, brief ? 21 : long ? 19 : 16);
  return {
    width,
    height: HEIGHT,
    cursor: { drag: { x: false, y: false }, points: { size: 6 } },
    legend: { live: false },
    scales: { y: { range: (plot, low, high) => [0, high > 0 ? high * 1.08 : 1] } },
    axes: [
      { ...axis, space: 80, values: (plot, ticks) => ticks.map((tick) => clock(tick, ticks.length > 1 && ticks[1] - ticks[0] < 60)) },
      { ...axis, size: 46, values: (plot, ticks) => ticks.map(short) },
    ],
    series: [
      { label: "UTC", value: (plot, at) => at === null ? "–" : clock(at, true) },
      ...SERIES[name].map(([label, stroke], at) => ({
        label, stroke: colour(stroke), width: 2, dash: at ? [6, 3 + at] : undefined, spanGaps: true,
        fill: name === "lines" && at === 0 ? `color-mix(in srgb, ${colour(stroke)} 15%, transparent)` : undefined,
        value: (plot, number) => short(number), points: { show: shown.rows.length < 3 },
      })),
    ],
  };
}

function words(name, data) {
  const last = data.slice(1).map((one) => one.at(-1));
  const highest = data.slice(1).map((one) => Math.max(0, ...one.filter((value) => value !== null)));
  const says = SERIES[name].map(([label], at) => `${label} ${short(name === "lines" ? last[at] : highest[at])}`).join(", ");
  return name === "lines" ? `Lines over time, by now: ${says}.` : `${name === "latency" ? "Latency in seconds" : "Tokens a second"} over time, at most: ${says}.`;
}

function draw(anew) {
  charts.hidden = !shown.rows.length;
  if (charts.hidden) return;
  for (const place of charts.querySelectorAll("[data-plot]")) {
    const name = place.dataset.plot;
    const data = values(shown, SERIES[name]);
    place.setAttribute("aria-label", words(name, data));
    if (anew && plots[name]) {
      plots[name].destroy();
      delete plots[name];
    }
    if (plots[name]) plots[name].setData(data);
    else plots[name] = new uPlot(options(name, place.clientWidth), data, place);
  }
  tabulate();
}

function tabulate() {
  const names = ["Until, UTC", "Delivered", "Failed", "Input tokens", "Cached", "Output tokens", "Median, s", "95%, s"];
  const line = (cells, tag) => {
    const row = document.createElement("tr");
    cells.forEach((text, at) => {
      const cell = document.createElement(at ? tag : "th");
      if (tag === "th" || !at) cell.scope = tag === "th" ? "col" : "row";
      cell.textContent = text;
      row.append(cell);
    });
    return row;
  };
  const body = stretches(shown).map((row, at) => [
    new Date((shown.start + (at + 1) * shown.width) * 1000).toISOString().slice(11, 19),
    row.completed, row.failed, row.input, row.cached, row.output,
    row.median === null ? "–" : row.median / 1000, row.slow === null ? "–" : row.slow / 1000,
  ].map((value, at) => at && value !== "–" ? value.toLocaleString("en") : value));
  charts.querySelector("[data-table]").replaceChildren(line(names, "th"), ...body.map((cells) => line(cells, "td")));
}

async function load() {
  const answer = await fetch(charts.dataset.address, { credentials: "same-origin" }).catch(() => null);
  if (!answer?.ok || answer.redirected) return; // the page's own poll says what is wrong
  shown = await answer.json();
  draw(false);
}

if (charts) {
  load();
  const moving = () => document.querySelector("#head[data-moving]");
  let was = moving();
  setInterval(() => { if (moving() && !document.hidden) load(); }, EVERY);
  document.addEventListener("htmx:afterSettle", () => {
    const now = moving();
    if (was && !now) load();
    was = now;
  });
  document.addEventListener("theme", () => { if (shown) draw(true); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (shown) draw(true); });
  let wide = charts.clientWidth;
  new ResizeObserver(() => {
    if (charts.hidden || charts.clientWidth === wide) return;
    wide = charts.clientWidth;
    for (const [name, plot] of Object.entries(plots)) {
      plot.setSize({ width: charts.querySelector(`[data-plot="${name}"]`).clientWidth, height: HEIGHT });
    }
  }).observe(charts);
}
