// The viewer's filters, its list, which holds only the rows in sight, and its keys. The address keeps the state: #condition=...&at=12.
const form = document.getElementById("filters"), list = document.getElementById("list"), room = document.getElementById("room");
const detail = document.getElementById("detail"), count = document.getElementById("count");
const ROW = 62; // pixels; as in view.css
let shown = [], at = 0; // numbers of the rows that pass the filters; place of the chosen one among them

// ---- filters: value -> [label, test]. In a comparison a row passes where one of its two entries does

const failed = (entry) => calls(entry).some((t) => t.seen.status !== "ok");
const VALUES = {
  positive: ["above 0", (v) => v > 0], zero: ["0", (v) => v === 0], partial: ["between 0 and 1", (v) => v > 0 && v < 1],
  full: ["1", (v) => v >= 1], unknown: ["not scored", (v) => v === null],
};
const CALLS = {
  none: ["none", (e) => !calls(e).length], some: ["one or more", (e) => calls(e).length > 0],
  many: ["three or more", (e) => calls(e).length > 2], failed: ["one failed", failed],
  recovered: ["failed, then right", (e) => e.correct && failed(e)],
  flaw: ["reply not in the format", (e) => e.turns.some((t) => t.flaw)],
};
const OUTCOMES = names ? {
  fixed: ["fixed: wrong, then right", (a, b) => a === false && b === true],
  broken: ["broken: right, then wrong", (a, b) => a === true && b === false],
  same: ["same", (a, b) => a === b], right: ["both right", (a, b) => a === true && b === true],
  wrong: ["both wrong", (a, b) => a === false && b === false],
} : {
  right: ["right", (a) => a === true], wrong: ["wrong", (a) => a === false], unknown: ["not scored", (a) => a == null],
};
const reward_ = (row) => row.at(-1).total;
const ORDERS = { // label, and the number that rises
  file: ["as in the file", null], low: ["lowest reward first", (row) => reward_(row) ?? Infinity],
  high: ["highest reward first", (row) => -(reward_(row) ?? -Infinity)],
  long: ["most turns first", (row) => -Math.max(...row.map((entry) => entry.turns.length))],
  change: ["largest change of reward", (row) => -Math.abs((reward_(row) ?? 0) - (row[0].total ?? 0))],
};

const any = (of) => (value) => (row) => row.some((entry) => of(entry) === value);
const TESTS = { // name of a field of the form -> its value -> does a row pass?
  outcome: (value) => (row) => OUTCOMES[value][1](...row.map((entry) => entry.correct)),
  stage: any((entry) => entry.stage), end: any((entry) => entry.end), condition: any((entry) => samples[entry.sample].condition),
  call: (value) => (row) => row.some(CALLS[value][1]),
  term: (name) => {
    const test = VALUES[form.value.value][1];
    return (row) => row.some((entry) => entry.terms.some((term) => term[0] === name && test(term[1])));
  },
  text: (value) => {
    const parts = value.toLowerCase().split(/\s+/).filter(Boolean);
    return (row) => parts.every((part) => haystack(row).includes(part));
  },
};

const haystacks = new Map(); // row -> all its text in lower case, made when it is first searched
const scratch = document.createElement("template"); // its content is inert: nothing in it is loaded or run
function plain(html) {
  scratch.innerHTML = html;
  return scratch.content.textContent;
}
function haystack(row) {
  let text = haystacks.get(row);
  if (text === undefined) {
    const { id, question, answers, condition, needs } = samples[row[0].sample];
    const words = (t) => [t.think, t.raw, t.code == null ? "" : plain(codes[t.code]), t.seen?.message, ...(t.seen?.ops ?? [])];
    const said = row.flatMap((entry) => [entry.answer, ...entry.turns.flatMap(words)]);
    haystacks.set(row, (text = [id, question, ...answers, condition, ...needs, ...said].join("\n").toLowerCase()));
  }
  return text;
}

const distinct = (of) => [...new Set(rows.flat().flatMap(of))].filter((value) => value != null && value !== "");
const options = (table, keep = () => true) =>
  Object.entries(table).filter(([, [, test]]) => keep(test)).map(([value, [text]]) => [value, text]);
function fill(name, choices, first = "any") {
  form.querySelector(`[data-name=${name}]`).hidden = choices.length < (name === "term" ? 1 : 2);
  form[name].append(...(first ? [["", first]] : []).concat(choices).map(([value, text]) => el("option", { value }, text)));
}
const terms = distinct((entry) => entry.terms.map((term) => term[0]));
fill("outcome", options(OUTCOMES, (test) => names || rows.some((row) => test(row[0].correct))));
fill("stage", names ? [] : distinct((entry) => entry.stage).map((stage) => [stage, stage]));
fill("condition", distinct((entry) => samples[entry.sample].condition).map((condition) => [condition, condition]));
fill("end", distinct((entry) => entry.end).map((end) => [end, END[end] ?? end]));
fill("call", options(CALLS, (test) => rows.some((row) => row.some(test))));
fill("term", terms.map((term) => [term, term.replaceAll("_", " ")]));
fill("value", options(VALUES), "");
fill("order", options(ORDERS).filter(([key]) => key === "file" || key === "long" || (terms.length && (names || key !== "change"))), "");

function apply(place = 0) {
  const tests = Object.entries(TESTS).filter(([name]) => form[name].value.trim()).map(([name, make]) => make(form[name].value));
  shown = rows.map((_, i) => i).filter((i) => tests.every((test) => test(rows[i])));
  const key = ORDERS[form.order.value]?.[1];
  if (key) shown.sort((a, b) => key(rows[a]) - key(rows[b]) || a - b);
  form.querySelector("[data-name=value]").hidden = !form.term.value;
  count.textContent = summary();
  room.style.height = `${shown.length * ROW}px`;
  choose(Math.max(0, Math.min(place, shown.length - 1)));
}

function summary() {
  const n = (value) => value.toLocaleString("en"), one = rows.length === 1;
  const what = names ? (one ? "item" : "items") : one ? "trajectory" : "trajectories";
  const parts = [`${shown.length === rows.length ? "" : `${n(shown.length)} of `}${n(rows.length)} ${what}`];
  for (const side of names ? [0, 1] : [0]) {
    const scored = shown.map((i) => rows[i][side].correct).filter((correct) => correct != null);
    const share = 100 * scored.filter(Boolean).length / scored.length;
    if (scored.length) parts.push(`${names ? `${names[side]} ` : ""}${share.toFixed(1)} % right`);
  }
  if (names) {
    const many = (kind) => n(shown.filter((i) => TESTS.outcome(kind)(rows[i])).length);
    parts.push(`${many("fixed")} fixed, ${many("broken")} broken`);
    if (data.alone.some(Boolean)) parts.push(`not paired: ${n(data.alone[0])} of the first, ${n(data.alone[1])} of the second`);
  }
  return parts.join(" · ");
}

// ---- the list and the choice

function mark(correct) {
  if (correct == null) return el("span.mark", {}, "·");
  const word = correct ? "right" : "wrong";
  return el(`span.mark.${word}`, { role: "img", "aria-label": word }, correct ? "✓" : "✗");
}

function listed(place) {
  const row = rows[shown[place]], end = row.at(-1), sample = samples[end.sample], file = pictures[sample.picture];
  const step = row[0].step != null && `step ${row[0].step}`;
  const facts = [step, sample.condition, !names && end.stage, plural(calls(end).length, "call")].filter(Boolean).join(" · ");
  const marks = row.map((entry, side) => [side > 0 && el("span.arrow", {}, "→"), mark(entry.correct)]);
  const node = el("div.row", {
    role: "option", id: `row-${shown[place]}`, style: `top:${place * ROW}px`, "aria-selected": String(place === at),
    "aria-setsize": shown.length, "aria-posinset": place + 1,
  },
    file ? el("img", { src: file[0], alt: "", decoding: "async" }) : el("span.blank"),
    el("div.what", {}, el("p", {}, marks, sample.question), el("p.facts", {}, facts)),
    el("div.result", {},
      el("p", {}, end.answer == null ? "–" : el("b", {}, end.answer)),
      el("p", {}, end.total != null && row.map((entry) => number(entry.total)).join(" → "))));
  node.addEventListener("click", () => choose(place));
  return node;
}

function drawList() {
  const first = Math.max(0, Math.floor(list.scrollTop / ROW) - 4);
  const last = Math.min(shown.length, first + Math.ceil(list.clientHeight / ROW) + 9);
  room.replaceChildren(...Array.from({ length: Math.max(0, last - first) }, (_, i) => listed(first + i)));
  if (shown.length) list.setAttribute("aria-activedescendant", `row-${shown[at]}`);
  else list.removeAttribute("aria-activedescendant");
}

function choose(place) {
  at = place;
  const top = at * ROW;
  if (top < list.scrollTop) list.scrollTop = top;
  else if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
  drawList();
  detail.scrollTop = 0;
  detail.replaceChildren(...(shown.length ? whole(rows[shown[at]]) : [el("p.missing", {}, "Nothing passes these filters.")]));
  const isSet = ([name, value]) => value && !(name === "value" && !form.term.value) && !(name === "order" && value === "file");
  const state = new URLSearchParams([...new FormData(form)].filter(isSet));
  if (at) state.set("at", at);
  try { history.replaceState(null, "", `#${state}`); } catch { /* some browsers refuse it for files */ }
}

// ---- events

form.addEventListener("input", () => apply());
form.addEventListener("reset", () => setTimeout(apply)); // the fields are empty after the event
form.addEventListener("submit", (event) => event.preventDefault());
list.addEventListener("scroll", drawList, { passive: true });
addEventListener("resize", drawList);
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape" && form.contains(document.activeElement)) return list.focus();
  if (event.target.closest("input, select, summary, button")) return;
  const page = Math.max(1, Math.floor(list.clientHeight / ROW) - 1), inList = document.activeElement === list;
  const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
  const step = { j: 1, k: -1, ...(inList ? moves : {}) }[event.key];
  if (step !== undefined && shown.length) choose(Math.max(0, Math.min(shown.length - 1, at + step)));
  else if (event.key === "/") form.text.focus();
  else if (event.key === "Enter" && inList) detail.focus();
  else return;
  event.preventDefault();
});

function restore() {
  const state = new URLSearchParams(location.hash.slice(1));
  for (const [name, value] of state) if (form[name]?.tagName) form[name].value = value;
  apply(Number(state.get("at")) || 0);
}
addEventListener("hashchange", () => { form.reset(); setTimeout(restore); });
restore();
// ms from opening to the first trajectory on the screen
requestAnimationFrame(() => setTimeout(() => { document.body.dataset.ready = Math.round(performance.now()); }));
