// How one trajectory looks: its pictures with their outlines, its turns and its reward. view.js comes after it and chooses which.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
document.getElementById("data").remove();
const { rows, samples, pictures, codes, names } = data;

const SVG = new Set(["svg", "polygon", "polyline", "image"]);
const END = {
  answer: "an answer", max_turns: "too many turns", length: "length", no_action: "no action", too_many_images: "too many pictures",
};

// el("p.note", {title: "..."}, child, [child, ...]): children that are not there (null, false, "") are left out.
function el(tag, attributes, ...children) {
  const [name, ...classes] = tag.split(".");
  const node = SVG.has(name) ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  if (classes.length) node.setAttribute("class", classes.join(" "));
  for (const [key, value] of Object.entries(attributes ?? {})) if (value != null && value !== false) node.setAttribute(key, value);
  node.append(...children.flat(4).filter((child) => child != null && child !== false && child !== ""));
  return node;
}
const number = (value) => (value == null ? "–" : value.toFixed(2));
const plural = (n, what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;
const calls = (entry) => entry.turns.filter((turn) => turn.seen);
const points = (polygon) => polygon.map((p) => p.join(",")).join(" ");
const outline = (polygon, kind) => [el("polygon.halo", { points: points(polygon) }), el(`polygon.${kind}`, { points: points(polygon) })];

// A picture of the table. target: orange; regions: blue, with a bar along `top`. Pixels of the picture itself, whatever the file's size.
function picture(index, { alt, caption, target, regions = [], top, long = 300 }) {
  const [src, width, height] = pictures[index];
  let scale = long / Math.max(width, height);
  if (scale >= 1) scale = Math.floor(scale); // whole factors keep the pixels square
  const outlines = [...regions.map((region) => outline(region, "seen-part")), target ? outline(target, "target") : []].flat();
  if (top) outlines.push(el("polyline.top", { points: points(top) }));
  const box = `0 0 ${width} ${height}`;
  return el("figure.picture", {},
    el("div.frame", { style: `width:${Math.round(width * scale)}px` },
      el(scale >= 2 ? "img.pixels" : "img", { src, width, height, alt, loading: "lazy", decoding: "async" }),
      outlines.length > 0 && el("svg", { viewBox: box, "aria-hidden": "true" }, outlines)),
    el("figcaption", {}, `${caption} · ${width}×${height} px`));
}

// What came back, drawn from the user's picture by the recorded geometry, where the picture itself was not kept.
function redrawn(seen, [href, sourceWidth, sourceHeight], alt) {
  const [a, b, c, d, e, f, width, height] = seen.map;
  const det = a * e - b * d, long = 200 / Math.max(width, height);
  const inverse = [e, -d, -b, a, b * f - c * e, c * d - a * f].map((v) => v / det + 0); // + 0: no minus zero
  const shape = { viewBox: `0 0 ${width} ${height}`, width: width * long, height: height * long, role: "img", "aria-label": alt };
  const size = { width: sourceWidth, height: sourceHeight, preserveAspectRatio: "none" };
  return el("figure.picture", {},
    el("svg.redrawn", shape,
      el("image", { href, ...size, transform: `matrix(${inverse})` }), seen.target && outline(seen.target, "target")),
    el("figcaption", {}, `picture ${seen.index} · not kept: drawn again from its geometry, colours apart`));
}

function returned(seen, sample) {
  const source = pictures[sample.picture], { index, target, regions, top } = seen;
  const alt = `Picture ${index}, returned by the code: ${seen.ops.join(", ") || "no operation seen"}`;
  let back = el("p.note", {}, `Picture ${index} was not kept.`);
  if (pictures[seen.picture]) back = picture(seen.picture, { alt, caption: `picture ${index}`, target, long: 200 });
  else if (source && seen.map) back = redrawn(seen, source, alt);
  let where = regions ? "" : el("p.note", {}, "Where its pixels come from is not known.");
  if (source && regions?.length) {
    const words = `The user's picture, with the outline of what picture ${index} shows`;
    where = picture(sample.picture, { alt: words, caption: "what it shows of the user's picture", regions, top, long: 200 });
  }
  return el("div.pair", {}, back, where);
}

function observation(seen, sample) {
  const ops = seen.ops.map((op, i) => [i ? ", " : "", el("code", {}, op)]);
  return el("div.seen", {},
    el("p", {}, seen.status !== "ok" && el("span.flaw", {}, `${seen.status} `), ops.length > 0 && ["ran: ", ops]),
    seen.index != null && returned(seen, sample),
    el("p.message", {}, seen.message));
}

function turn(t, n, sample) {
  const code = t.code != null && el("code");
  if (code) code.innerHTML = codes[t.code]; // escaped and coloured by highlight.py
  const size = t.tokens > 0 && el("span.note", {}, plural(t.tokens, "token"));
  return el("li", {},
    el("h4", {}, `Turn ${n} `, size, t.flaw && el("span.flaw", {}, "not in the agreed format")),
    t.think && el("p.think", {}, t.think),
    code && el("pre", { tabindex: "0" }, code),
    t.raw != null && el("pre.raw", { tabindex: "0" }, t.raw || "(nothing)"),
    t.answer != null && el("p", {}, "Answer: ", el("b", {}, t.answer || "(empty)")),
    t.seen && observation(t.seen, sample));
}

function reward(entry) {
  if (!entry.terms.length) return null;
  const weighted = entry.terms.some((term) => term[2] != null), reasoned = entry.terms.some((term) => term[3]);
  const adds = (value, weight) => number(value == null || weight == null ? null : value * weight);
  const cells = ([, value, weight, reason]) =>
    [number(value), ...(weighted ? [number(weight), adds(value, weight)] : []), ...(reasoned ? [reason] : [])];
  const line = (term) => el(term[1] === 0 || term[2] === 0 ? "tr.idle" : "tr", {},
    el("th", { scope: "row" }, term[0].replaceAll("_", " ")), cells(term).map((cell) => el("td", {}, cell)));
  const heads = ["term", "value", ...(weighted ? ["weight", "adds"] : []), ...(reasoned ? ["why"] : [])];
  const head = el("thead", {}, el("tr", {}, heads.map((text) => el("th", { scope: "col" }, text))));
  return el("details", { open: "" },
    el("summary", {}, "Reward ", el("b", {}, number(entry.total))),
    el("div.scroll", { tabindex: "0", role: "region", "aria-label": "Reward terms" },
      el("table", {}, head, el("tbody", {}, entry.terms.map(line)))));
}

function attempt(entry, name, sample) {
  const verdict = entry.correct != null && el(entry.correct ? "span.right" : "span.wrong", {}, entry.correct ? "✓ right" : "✗ wrong");
  const end = entry.answer == null
    ? `No answer: ended by ${END[entry.end] ?? entry.end}` : ["Answer: ", el("b", {}, entry.answer || "(empty)")];
  const title = [name || entry.stage, entry.step != null && `step ${entry.step}`].filter(Boolean).join(", ");
  return el("section.attempt", {},
    el("h3", {}, title || "Trajectory", " ", verdict),
    el("p.answer", {}, end, entry.why && el("span.note", {}, ` · ${entry.why}`)),
    el("ol", {}, entry.turns.map((t, i) => turn(t, i + 1, sample))),
    reward(entry));
}

// A row in full: the sample, and its trajectory or the two that are compared.
function whole(row) {
  const sample = samples[row[0].sample], gold = sample.answers.join(" or ");
  const alt = `The picture that the model is shown, ${sample.condition}; the answer is ${gold}`;
  const framed = row.some((entry) => calls(entry).some((t) => t.seen.regions?.length));
  const facts = {
    "Gold answer": gold, Picture: sample.condition, Needs: sample.needs.join(" → ") || "nothing", Sample: sample.id,
    "Orange outline": sample.box && "the target; the model never sees it",
    "Blue outline": framed && "what a returned picture shows; the bar is its top edge",
  };
  const about = { alt, caption: `shown: ${sample.condition}`, target: sample.box };
  const shown = sample.picture == null ? el("p.note", {}, "The picture was not kept.") : picture(sample.picture, about);
  const fact = ([name, text]) => text && el("div", {}, el("dt", {}, name), el("dd", {}, text));
  const list = Object.entries(facts).map(fact);
  return [
    el("h2", {}, sample.question), el("div.given", {}, shown, el("dl", {}, list)),
    el("div.attempts", {}, row.map((entry, side) => attempt(entry, names?.[side], sample))),
  ];
}
