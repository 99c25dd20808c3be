"use strict";
(() => {
  const content = JSON.parse(document.getElementById("content").textContent);
  const state = Object.fromEntries(Object.entries(content.choice).map(([name, each]) => [name, each.start]));
  const views = new Map();
  const NS = "http://www.w3.org/2000/svg";
  const MINUS = "\u2212";

  // ---- data: rows of a dataset for the present choices
  const find = (name, fixed = {}) => {
    const { keys, fields, texts, groups } = content.datasets[name];
    const columns = groups[keys.map((key) => fixed[key] ?? state[key]).join("|")];
    if (!columns) return [];
    return columns[0].map((_, row) => Object.fromEntries(fields.map((field, f) => [field, texts[field]?.[columns[f][row]] ?? columns[f][row]])));
  };
  const keysOf = (spec) => {
    const names = [...JSON.stringify(spec).matchAll(/"data":\{"name":"(\w+)"\}/g)].map((match) => match[1]);
    return [...new Set(names)];
  };

  // ---- colours: custom properties, resolved for the present theme
  const probe = document.body.appendChild(document.createElement("span"));
  const colour = (name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  const paint = (value) => {
    if (typeof value === "string") return value.startsWith("@") ? colour(value.slice(1)) : value;
    if (Array.isArray(value)) return value.map(paint);
    if (value && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, paint(item)]));
    return value;
  };
  const theme = () => {
    const font = getComputedStyle(document.body).fontFamily;
    const text = { labelFont: font, titleFont: font, labelColor: colour("soft"), titleColor: colour("soft") };
    return {
      background: "transparent",
      font,
      view: { stroke: null },
      axis: {
        ...text, labelFontSize: 11, titleFontSize: 12, titleFontWeight: 400, titlePadding: 8, gridColor: colour("grid"),
        domainColor: colour("line"), tickColor: colour("line"), labelOverlap: true,
      },
      legend: { ...text, labelFontSize: 12, titleFontSize: 12, titleFontWeight: 400, labelLimit: 220, columns: 4, titleOrient: "left" },
      circle: { fill: colour("accent") },
      line: { color: colour("accent") },
    };
  };

  // ---- plots
  const isDark = () => getComputedStyle(document.documentElement).colorScheme === "dark" ||
    (document.documentElement.dataset.theme === undefined && matchMedia("(prefers-color-scheme: dark)").matches);
  const reasons = {
    k: "There is no k to choose for this calibration.",
    "shift-1": "Shift is measured for test splits only.",
    "shift-2": "Shift is measured for test splits whose labels are known.",
    "shift-3": "Gain is measured for test splits whose labels are known.",
    "enrolment-1": "No method that enrols speakers has scores for these choices.",
    "enrolment-2": "There is no such method with all audio in this config, or no scores for these choices.",
    speakers: "There is nothing to compare: the baseline, uncalibrated, is what others are held against; or this calibration has no row.",
    shares: "There is no calibration to compare.",
    "density-calibrated": "There are no calibrated predictions for these choices.",
  };
  // A plot that many choices have no use for is not there without rows; its neighbour takes its place.
  const hideUnused = () => {
    const figure = document.getElementById("plot-alpha");
    figure.hidden = find("alpha_curve").length === 0;
  };
  const draw = async (element) => {
    const id = element.dataset.plot, plot = content.plots[id];
    const names = keysOf(plot.spec);
    const isPoint = (row) => plot.needs.every((field) => row[field] !== null);
    const datasets = Object.fromEntries(names.map((name) => [name, find(name, plot.fixed).filter(isPoint)]));
    views.get(id)?.finalize();
    views.delete(id);
    element.replaceChildren();
    element.classList.remove("vega-embed");
    const main = plot.step || names.find((name) => name !== "uncalibrated");
    const shown = datasets[main].length > 0;
    if (!shown) {
      const note = element.appendChild(document.createElement("p"));
      note.className = "empty";
      note.textContent = reasons[id] ?? "There is nothing to show for these choices.";
      return;
    }
    const spec = paint(plot.spec);
    spec.datasets = { ...spec.datasets, ...datasets };
    // Vega warns of layers without data, and of lines through fewer than three points.
    const isEmpty = (layer) => datasets[layer.data?.name]?.length === 0;
    const isUnfit = (layer) => datasets[main].length < 3 && layer.transform?.some((step) => "regression" in step);
    spec.layer = spec.layer?.filter((layer) => !isEmpty(layer) && !isUnfit(layer));
    if (!spec.layer) delete spec.layer;
    if (plot.step) {
      const count = new Set(datasets[plot.step].map((row) => row.speaker ?? row.calibration ?? row.value)).size;
      const step = Math.max(5, Math.min(22, 900 / count));
      spec.height = step * count;
      if (step < 9) hideLabels(spec);
    }
    if (element.clientWidth < 480) narrow(spec);
    const options = {
      renderer: "svg", config: theme(), tooltip: { theme: isDark() ? "dark" : "light" },
      actions: { export: true, source: false, compiled: false, editor: false },
    };
    views.set(id, await vegaEmbed(element, spec, options));
    title(id, element.parentElement);
  };
  const hideLabels = (spec) => {
    for (const layer of spec.layer ?? [])
      if (layer.encoding?.y?.axis) layer.encoding.y.axis = { ...layer.encoding.y.axis, labels: false };
  };
  const narrow = (spec) => {
    if (spec.height > 320) spec.height = 320;
    for (const layer of spec.layer ?? []) if (layer.height > 320) layer.height = 320;
  };
  const pairs = { premise: [], "shift-1": ["feature_shift", "ccc"], "shift-2": ["label_shift", "ccc"], "shift-3": ["label_shift", "gain"] };
  const title = (id, figure) => {
    if (!pairs[id]) return;
    const [x, y] = pairs[id];
    const row = id === "premise" ? find("premise")[0] : find("correlations").find((each) => each.x === x && each.y === y);
    const head = figure.querySelector("h4") ?? figure.insertBefore(document.createElement("h4"), figure.firstChild);
    const withInterval = (name) => `${show(row[name], 2)} ${bracket(row[`${name}_low`], row[`${name}_high`], 2)}`.trim();
    head.textContent = row?.r == null ? `r: too few speakers` :
      `r = ${withInterval("r")}, ${row.r_given_n == null ? "" : `given n ${withInterval("r_given_n")}, `}${row.n_speakers} speakers`;
  };

  // ---- the table
  const table = document.getElementById("table");
  const { columns, rows: cells } = content.cells;
  const at = Object.fromEntries(columns.map((name, number) => [name, number]));
  const rowsChoice = document.getElementById("rows"), metricChoice = document.getElementById("metric");
  const filter = document.getElementById("filter"), MOST_ROWS = 500; // more make a browser slow
  const textOf = (row) => ["ablation", "calibration", "target", "split", "encoder", "protocol"]
    .map((name) => row[at[name]]).join(" ").toLowerCase();
  let sorted = { name: null, down: true };
  const show = (value, digits = 3, sign = false) => {
    if (value === null || value === undefined || value === "") return "\u2013";
    const text = Math.abs(value).toFixed(digits);
    const zero = Number(text) === 0;
    return (value < 0 && !zero ? MINUS : sign && !zero ? "+" : "") + text;
  };
  const bracket = (low, high, digits = 3) => low == null || high == null ? "" : `[${show(low, digits)}, ${show(high, digits)}]`;
  const kinds = {
    ablations: (row) => row[at.calibration] === "none" && here(row),
    calibrated: (row) => row[at.calibration] === state.calibration && here(row),
    calibrations: (row) => row[at.ablation] === state.ablation && here(row),
    all: () => true,
  };
  const here = (row) => row[at.split] === state.split && row[at.target] === state.target;
  const tableColumns = (kind, metric) => {
    const other = metric === "a_ccc" ? "o_ccc" : "a_ccc";
    const label = { a_ccc: "A-CCC", o_ccc: "O-CCC" };
    const first = kind === "calibrations" ? "calibration" : "ablation";
    const names = [{ name: first, head: true }];
    if (kind === "all") names.push({ name: "calibration", text: true }, { name: "target", text: true }, { name: "split", text: true });
    return [
      ...names,
      { name: metric, label: label[metric], range: true }, { name: metric, forest: true },
      { name: `delta_${metric}`, label: `Δ ${label[metric]}`, range: true, sign: true },
      { name: `delta_${metric}`, forest: true, delta: true },
      { name: other, label: label[other] }, { name: `delta_${other}`, label: `Δ ${label[other]}`, sign: true },
      { name: `delta_${metric}_p_adjusted`, label: "p, adjusted" }, { name: `${metric}_seed_sd`, label: "SD of seeds" },
      { name: "pearson", label: "r" }, { name: "rmse", label: "RMSE" },
      { name: "n_speakers", label: "speakers", digits: 0 }, { name: "n_utterances", label: "utterances", digits: 0 },
      { name: "protocol", text: true }, { name: "k", raw: true }, { name: "alpha", raw: true },
      ...["encoder", "speaker", "fusion", "head", "note"].map((name) => ({ name, text: true })),
    ];
  };
  // Beside calibrations, the uncalibrated row is what they are held against; its difference from the baseline is no news.
  const valueOf = (row, name) =>
    name.startsWith("delta") && rowsChoice.value === "calibrations" && row[at.calibration] === "none" ? null : row[at[name]];
  const svg = (name, attributes, parent) => {
    const node = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    return parent ? parent.appendChild(node) : node;
  };
  const domain = (rows, column) => {
    const names = [column.name, `${column.name}_low`, `${column.name}_high`];
    // Constant predictors are far off: beyond the ends of the scale an arrow stands for them.
    const systems = rows.filter((row) => content.choice.ablation.values.includes(row[at.ablation]));
    const bounds = (systems.length ? systems : rows).flatMap((row) => names.map((name) => valueOf(row, name)));
    const known = bounds.filter((value) => value !== null);
    return [Math.min(0, ...known), Math.max(column.delta ? 0 : 0.05, ...known)];
  };
  const ticks = ([low, high]) => {
    const step = [0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 1].find((each) => (high - low) / each <= 4) ?? 1;
    const found = [];
    for (let value = Math.ceil(low / step) * step; value <= high + 1e-9; value += step) found.push(Number(value.toFixed(4)));
    return found;
  };
  const WIDTH = 170, PAD = 14;
  const reference = content.choice.ablation.start; // the baseline
  const forest = (row, column, [low, high], height, head, marked) => {
    const place = (value) => PAD + Math.max(0, Math.min(1, (value - low) / (high - low || 1))) * (WIDTH - 2 * PAD);
    const picture = svg("svg", { width: WIDTH, height, "aria-hidden": "true" });
    for (const value of ticks([low, high])) {
      const x = place(value);
      const tone = value === 0 ? "muted" : "grid";
      if (!head) svg("line", { x1: x, x2: x, y1: 0, y2: height, style: `stroke: var(--${tone})` }, picture);
      else svg("text", { x, y: height - 3, "text-anchor": "middle", "font-size": 10, style: "fill: var(--soft)" }, picture)
        .textContent = value < 0 ? MINUS + Math.abs(value) : value;
    }
    if (head || valueOf(row, column.name) === null) return picture;
    if (marked != null)
      svg("line", { x1: place(marked), x2: place(marked), y1: 0, y2: height, "stroke-dasharray": "3 3", style: "stroke: var(--muted)" }, picture);
    const [from, to] = [row[at[`${column.name}_low`]], row[at[`${column.name}_high`]]];
    const value = row[at[column.name]], p = column.delta ? row[at[`${column.name}_p_adjusted`]] : null;
    const told = p !== null && p !== undefined && p < 0.05; // after the correction of its family
    const tone = !column.delta ? "ink" : !told ? "muted" : value > 0 ? "helped" : "harmed";
    if (value < low || value > high) {
      svg("text", { x: value < low ? 0 : WIDTH - 11, y: height / 2 + 5, "font-size": 15, style: `fill: var(--${tone})` }, picture)
        .textContent = value < low ? "◂" : "▸";
      return picture;
    }
    if (from !== null) svg("line", { x1: place(from), x2: place(to), y1: height / 2, y2: height / 2, "stroke-width": 2, style: `stroke: var(--${tone})` }, picture);
    svg("circle", { cx: place(value), cy: height / 2, r: 4, style: `fill: var(--${tone})` }, picture);
    return picture;
  };
  const order = (rows) => {
    if (!sorted.name) return rows;
    const sign = sorted.down ? -1 : 1;
    const isKnown = (row) => !["", null].includes(valueOf(row, sorted.name));
    const compare = (a, b) => typeof a === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
    const known = rows.filter(isKnown).sort((a, b) => sign * compare(valueOf(a, sorted.name), valueOf(b, sorted.name)));
    return [...known, ...rows.filter((row) => !isKnown(row))];
  };
  const fillTable = () => {
    const kind = rowsChoice.value, metric = metricChoice.value;
    const wanted = filter.value.toLowerCase();
    const found = order(cells.filter((row) => kinds[kind](row) && textOf(row).includes(wanted)));
    const shown = found.slice(0, MOST_ROWS);
    const parts = tableColumns(kind, metric);
    const base = cells.find((row) => here(row) && row[at.ablation] === reference && row[at.calibration] === "none");
    const marked = base ? { a_ccc: base[at.a_ccc], o_ccc: base[at.o_ccc] } : {};
    const scales = parts.map((column) => column.forest ? domain(shown, column) : null);
    const head = document.createElement("thead").appendChild(document.createElement("tr"));
    parts.forEach((column, number) => {
      const cell = head.appendChild(document.createElement("th"));
      if (column.forest) {
        cell.className = "forest";
        cell.dataset.of = column.delta ? "difference" : "figure";
        cell.append(forest(null, column, scales[number], 18, true));
        return;
      }
      if (column.text) cell.className = "text";
      const button = cell.appendChild(document.createElement("button"));
      button.type = "button";
      button.textContent = column.label ?? column.name;
      if (sorted.name === column.name) cell.setAttribute("aria-sort", sorted.down ? "descending" : "ascending");
      button.onclick = () => {
        if (sorted.name !== column.name) sorted = { name: column.name, down: !column.text && !column.head };
        else sorted = sorted.down === (!column.text && !column.head) ? { name: column.name, down: !sorted.down } : { name: null, down: true };
        fillTable();
      };
    });
    const body = document.createElement("tbody");
    for (const row of shown) {
      const line = body.appendChild(document.createElement("tr"));
      if (`${row[at.ablation]} ${row[at.calibration]}`.includes("(test labels)")) line.className = "reference";
      parts.forEach((column, number) => {
        const cell = line.appendChild(document.createElement(column.head ? "th" : "td"));
        const value = valueOf(row, column.name);
        if (column.head) cell.scope = "row";
        if (column.forest) {
          cell.className = "forest";
          cell.dataset.of = column.delta ? "difference" : "figure";
          cell.append(forest(row, column, scales[number], 30, false, column.delta || kind === "all" ? null : marked[column.name]));
        } else if (column.text || column.head || column.raw) {
          if (column.text) cell.className = "text";
          cell.textContent = value === "" || value === null ? "\u2013" : String(value).replaceAll(";", " ");
        } else {
          cell.textContent = show(value, column.digits ?? 3, column.sign);
          if (column.range) cell.append(" ", Object.assign(document.createElement("small"), {
            textContent: bracket(valueOf(row, `${column.name}_low`), valueOf(row, `${column.name}_high`)) }));
        }
      });
    }
    table.replaceChildren(head.parentElement, body);
    const follow = { ablations: ["split", "target"], calibrated: ["split", "target", "calibration"], calibrations: ["split", "target", "ablation"], all: [] };
    describe(document.getElementById("table-shown"), follow[kind]);
    const count = document.getElementById("table-count");
    count.textContent = !found.length ? "No row is like that." : found.length === shown.length ? "" :
      `The first ${shown.length} of ${found.length} rows in this order; all are in ablation_table.csv.`;
  };

  // ---- what a section shows, in words
  const describe = (element, names) => {
    element.replaceChildren();
    names.forEach((name, number) => {
      element.append(number ? " · " : "", `${name} `, Object.assign(document.createElement("b"), { textContent: state[name] }));
    });
  };
  const describeAll = () => {
    document.querySelectorAll("[data-follows]").forEach((element) => describe(element, element.dataset.follows.split(" ")));
    const people = find("speakers");
    const count = (effect) => people.filter((row) => row.effect === effect).length;
    const worst = people.at(-1), line = document.getElementById("speaker-count");
    line.textContent = !people.length ? "" :
      `${count("helped")} of ${people.length} helped, ${count("harmed")} harmed` +
      (worst.delta_ccc < 0 ? `; the most harmed loses ${show(Math.abs(worst.delta_ccc))}` : "") +
      (people[0].delta_ccc > 0 ? `, the most helped gains ${show(people[0].delta_ccc)}.` : ".");
  };

  // ---- drawing only what a change concerns, one plot after the other
  const concerns = (id, changed) => {
    const { spec, fixed } = content.plots[id];
    return keysOf(spec).some((name) => content.datasets[name].keys.some((key) => changed.includes(key) && !(key in fixed)));
  };
  let turn = 0;
  const refresh = async (changed) => {
    const mine = ++turn;
    delete document.documentElement.dataset.ready;
    describeAll();
    fillTable();
    hideUnused();
    for (const element of pending(changed)) {
      if (mine !== turn) return;
      stale.delete(element);
      await draw(element);
    }
    dispatchEvent(new Event("resize")); // for plots whose neighbour came or went
    if (mine === turn) document.documentElement.dataset.ready = "yes";
  };
  const stale = new Set();
  const pending = (changed) => {
    for (const element of document.querySelectorAll("[data-plot]"))
      if (!changed || concerns(element.dataset.plot, changed)) stale.add(element);
    return [...stale];
  };

  const bar = document.getElementById("choices-bar");
  for (const select of bar.elements) select.value = state[select.name];
  bar.addEventListener("change", (event) => {
    state[event.target.name] = event.target.value;
    refresh([event.target.name]);
  });
  bar.addEventListener("submit", (event) => event.preventDefault());
  rowsChoice.addEventListener("change", fillTable);
  metricChoice.addEventListener("change", fillTable);
  filter.addEventListener("input", fillTable);
  document.getElementById("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    refresh();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => refresh());
  refresh();
})();
