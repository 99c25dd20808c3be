"use strict";

const find = (id) => document.getElementById(id);
const SHAPES = "http://www.w3.org/2000/svg";
const WIDTH = 360, HEIGHT = 190, LEFT = 26, BOTTOM = 22, TOP = 10;
const SHOWN_TICKS = 4;
let about, content, recorder, stopped;

const make = (tag, attributes = {}, text = "") => {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  return element;
};

const draw = (parent, tag, attributes, title = "") => {
  const element = document.createElementNS(SHAPES, tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (title) {
    const label = document.createElementNS(SHAPES, "title");
    label.textContent = title;
    element.append(label);
  }
  parent.append(element);
  return element;
};

const write = (parent, x, y, text, anchor = "middle") => {
  draw(parent, "text", { x, y, "text-anchor": anchor }).textContent = text;
};

const say = (text, error = false) => {
  find("status").textContent = text;
  find("status").className = error ? "error" : "";
};

const ask = async (what, body) => {
  const speaker = find("speaker").value.trim();
  const query = speaker ? `?speaker=${encodeURIComponent(speaker)}` : "";
  const answer = await fetch(what + (body === undefined ? "" : query), body === undefined ? {} : { method: "POST", body });
  const value = await answer.json();
  if (!answer.ok) throw new Error(value.error);
  return value;
};

const list = (id, lines) => find(id).replaceChildren(...lines.map((line) => make("li", {}, line)));

const tabulate = (header, rows) => {
  const table = make("table"), head = make("tr");
  head.append(...header.map((cell) => make("th", { scope: "col" }, cell)));
  table.append(head);
  for (const row of rows) {
    const line = make("tr");
    line.append(...row.map((cell) => make("td", {}, cell)));
    table.append(line);
  }
  return table;
};

// ---- the bundle

const introduce = () => {
  document.title = `${about.name} - ser-score`;
  find("name").textContent = about.name;
  const share = Math.round(about.coverage * 100);
  find("summary").textContent =
    `${about.targets.join(", ")} from ${about.range[0]} to ${about.range[1]}; ablation ${about.ablation}, calibration ` +
    `${about.calibration}. An interval holds ${share} % of the labels of new speakers who are like the study's.`;
  const own = about.training;
  find("labels").textContent =
    (about.labels || "The labels of the training corpus, as its listeners gave them.") +
    ` ${own.utterances} labelled utterances of ${own.speakers} speakers.`;
  const rows = Object.entries(own.targets).map(([target, part]) => [
    target, part.mean.toFixed(2), part.sd.toFixed(2), part.low.toFixed(2), part.high.toFixed(2),
  ]);
  find("training").replaceChildren(tabulate(["", "mean", "deviation", "lowest", "highest"], rows));
  find("licence").textContent = about.licence;
  find("known").hidden = about.enrolment.length === 0;
};

// ---- a recording

const take = async (blob) => {
  content = blob;
  if (find("audio").src) URL.revokeObjectURL(find("audio").src);
  find("audio").src = URL.createObjectURL(blob);
  find("audio").hidden = false;
  find("enrol").disabled = false;
  await score();
};

const score = async () => {
  say("Listening…");
  document.documentElement.dataset.ready = "no";
  try {
    show(await ask("score", content));
    say("");
  } catch (error) {
    find("result").hidden = true;
    say(`Not scored: ${error.message}`, true);
  }
  document.documentElement.dataset.ready = "yes";
};

const record = async () => {
  if (recorder) return recorder.stop();
  let stream;
  try { // as it is: what the browser would do to the level is not what training audio had
    const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    stream = await navigator.mediaDevices.getUserMedia({ audio });
  } catch (error) {
    return say(`No microphone: ${error.message}`, true);
  }
  const parts = [], start = Date.now();
  recorder = new MediaRecorder(stream);
  recorder.ondataavailable = (event) => parts.push(event.data);
  const clock = setInterval(() => say(`Recording: ${Math.round((Date.now() - start) / 1000)} s`), 500);
  stopped = new Promise((done) => {
    recorder.onstop = async () => {
      clearInterval(clock);
      stream.getTracks().forEach((track) => track.stop());
      const kind = recorder.mimeType;
      recorder = undefined;
      find("record").textContent = "Record";
      find("record").setAttribute("aria-pressed", "false");
      await take(new Blob(parts, { type: kind }));
      done();
    };
  });
  recorder.start();
  find("record").textContent = "Stop";
  find("record").setAttribute("aria-pressed", "true");
};

const enrol = async (what) => {
  try {
    const { enrolled } = await ask(what, what === "enrol" ? content : "");
    const needed = Math.min(...about.enrolment);
    find("enrolled").textContent = `${enrolled} enrolled, ${needed} or more are used`;
    find("forget").disabled = enrolled === 0;
  } catch (error) {
    find("enrolled").textContent = error.message;
  }
};

// ---- what it shows

const show = (found) => {
  find("result").hidden = false;
  find("heading").textContent = `${found.seconds.toFixed(1)} s, calibration ${found.calibration}`;
  list("flags", found.flags.map((flag) => `${flag[0].toUpperCase()}${flag.slice(1)}.`));
  const silent = found.windows.filter((part) => part.reason).map((part) =>
    `${part.start.toFixed(1)} to ${part.end.toFixed(1)} s: ${part.reason}`);
  list("notes", [...found.notes, ...silent]);
  find("charts").replaceChildren(...about.targets.map((target) => chart(target, found)));
  place(found.place);
  const rows = found.windows.filter((part) => part.scores).flatMap((part) => about.targets.map((target) => {
    const { before, after } = part.scores[target];
    const digits = (value) => value.toFixed(2);
    const when = `${part.start.toFixed(1)} to ${part.end.toFixed(1)}`;
    return [when, target, digits(after[0]), `${digits(after[1])} to ${digits(after[2])}`, digits(before[0])];
  }));
  find("table").replaceChildren(tabulate(["s", "", "score", "interval", "before"], rows));
};

const chart = (target, found) => {
  const [low, high] = about.range;
  const x = (time) => LEFT + (time / found.seconds) * (WIDTH - LEFT - 8);
  const y = (value) => TOP + ((high - Math.min(high, Math.max(low, value))) / (high - low)) * (HEIGHT - TOP - BOTTOM);
  const box = make("div", { class: "chart", "data-target": target });
  box.append(make("h3", {}, target));
  const parts = found.windows.filter((part) => part.scores);
  const mean = (when) => parts.reduce((sum, part) => sum + part.scores[target][when][0], 0) / (parts.length || 1);
  if (parts.length) box.append(make("p", {}, `mean ${mean("after").toFixed(2)}, before calibration ${mean("before").toFixed(2)}`));
  const svg = draw(box, "svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${target} over time` });
  for (let tick = 0; tick <= SHOWN_TICKS; tick++) {
    const value = low + ((high - low) * tick) / SHOWN_TICKS, time = (found.seconds * tick) / SHOWN_TICKS;
    draw(svg, "line", { class: "grid", x1: LEFT, x2: WIDTH - 8, y1: y(value), y2: y(value) });
    write(svg, LEFT - 5, y(value) + 4, +value.toFixed(2), "end");
    write(svg, Math.min(x(time), WIDTH - 18), HEIGHT - 6, `${time.toFixed(0)} s`);
  }
  for (const part of parts) {
    const [value, from, to] = part.scores[target].after;
    const title = `${part.start.toFixed(1)} to ${part.end.toFixed(1)} s: ${value.toFixed(2)}, ${from.toFixed(2)} to ${to.toFixed(2)}`;
    const width = Math.max(1, x(part.end) - x(part.start));
    draw(svg, "rect", { class: "band", x: x(part.start), width, y: y(to), height: y(from) - y(to) }, title);
  }
  for (const when of ["before", "after"]) {
    const kind = when === "before" ? " before" : "";
    const points = parts.map((part) => [x((part.start + part.end) / 2), y(part.scores[target][when][0])]);
    draw(svg, "polyline", { class: `line${kind}`, points: points.map((point) => point.join()).join(" ") });
    for (const [cx, cy] of points) draw(svg, "circle", { class: `dot${kind}`, cx, cy, r: kind ? 2.5 : 3.5 });
  }
  const now = draw(svg, "line", { class: "now", x1: -9, x2: -9, y1: TOP, y2: HEIGHT - BOTTOM });
  find("audio").addEventListener("timeupdate", () => {
    const at = x(Math.min(find("audio").currentTime, found.seconds));
    now.setAttribute("x1", at);
    now.setAttribute("x2", at);
  });
  return box;
};

const place = (found) => {
  find("place").hidden = !found || !about.map.length;
  if (find("place").hidden) return;
  const svg = find("map");
  svg.replaceChildren();
  const all = [...about.map, found.point], margin = 18;
  const scale = (axis, size) => {
    const values = all.map((point) => point[axis]), least = Math.min(...values), most = Math.max(...values);
    return (value) => margin + ((value - least) / (most - least || 1)) * (size - 2 * margin);
  };
  const x = scale(0, 400), y = scale(1, 300);
  const [ownX, ownY] = [x(found.point[0]), y(found.point[1])];
  for (const number of found.neighbours) {
    const [a, b] = about.map[number];
    draw(svg, "line", { class: "link", x1: ownX, y1: ownY, x2: x(a), y2: y(b) });
  }
  about.map.forEach(([a, b], number) => {
    const rank = found.neighbours.indexOf(number);
    const title = rank < 0 ? "a training speaker" : `a training speaker, similarity ${found.similarities[rank]}`;
    draw(svg, "circle", { class: rank < 0 ? "reference" : "reference near", cx: x(a), cy: y(b), r: rank < 0 ? 4 : 5 }, title);
  });
  draw(svg, "circle", { class: "own", cx: ownX, cy: ownY, r: 8 }, "this recording");
  find("caption").textContent =
    `The large dot is this recording, the others are ${about.map.length} training speakers, nameless; lines lead to the ` +
    "most similar. Positions keep what two dimensions can of the similarities.";
};

// ---- start

find("record").addEventListener("click", record);
find("file").addEventListener("change", (event) => event.target.files[0] && take(event.target.files[0]));
find("enrol").addEventListener("click", () => enrol("enrol"));
find("forget").addEventListener("click", () => enrol("forget"));
const drop = find("drop");
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  drop.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", kind === "dragenter" || kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
  });
}
ask("about").then((answer) => {
  about = answer;
  introduce();
  document.documentElement.dataset.ready = "yes";
}).catch((error) => say(error.message, true));
