"use strict";
// Details where the pointer or the focus is; zoom by wheel, keys and buttons; a drag moves along.
const svg = document.querySelector("svg");
const { begin, end, left, right } = Object.fromEntries(
  Object.entries(svg.dataset).map(([name, value]) => [name, Number(value)]));
const span = end - begin, fade = 26, narrowest = 3;
const tip = document.getElementById("tip");
const axis = document.getElementById("axis");
const bars = [...document.querySelectorAll(".bar")];
let from = 0, to = span;

const x = (t) => left + (t - from) / (to - from) * (right - left);
const set = (node, values) => {
  for (const [name, value] of Object.entries(values)) node?.setAttribute(name, value);
};

function place(bar) {
  const { a, b, n } = bar.dataset;
  if (b === undefined) {
    set(bar.querySelector("path"), { transform: `translate(${x(+a)} 0)` });
    return;
  }
  const x1 = Math.max(x(+a), left - 2 * fade), x2 = Math.min(x(+b), right + 2 * fade);
  const width = Math.max(x2 - x1, x(+b) < left ? 0 : narrowest);
  const [fadesIn, fadesOut] = [bar.querySelector(".l"), bar.querySelector(".r")];
  set(bar.querySelector(".b"), { x: x1, width });
  set(fadesIn, { x: x(+a) - fade });
  set(fadesOut, { x: Math.max(x(+b), x1 + width) });
  const text = bar.querySelector("text");
  const wide = text.textContent.length * 6.2 + 12;
  const seen = Math.max(x1, left - fade);
  const inside = wide < Math.min(x1 + width, right) - seen;
  const after = x1 + width + (fadesOut ? fade : 0);
  const room = x(+b) >= left && after + wide < Math.min(x(+n), right + fade);
  set(text, {
    x: (inside ? seen : after) + 6,
    class: inside ? "in" : `out ${bar.dataset.kind}`,
    display: inside || room ? "inline" : "none",
  });
}

const steps = [1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7].flatMap((s) => s < 1e6 ? [s, 2 * s, 5 * s] : [s])
  .concat([2e6, 5e6, 15e6, 30e6, 60e6, 120e6, 300e6, 900e6, 18e8, 36e8, 108e8, 216e8, 864e8, 6048e8])
  .sort((one, other) => one - other);
function label(t, step) {
  const text = new Date(Math.floor(t / 1000)).toISOString();
  if (step >= 864e8) return text.slice(0, 10);
  if (step >= 60e6) return text.slice(11, 16);
  if (step >= 1e6) return text.slice(11, 19);
  const micros = String(t % 1e6).padStart(6, "0");
  return `${text.slice(11, 19)}.${micros.slice(0, step >= 1e5 ? 1 : step >= 1e3 ? 3 : 6)}`;
}
function ticks() {
  const step = steps.find((step) => (to - from) / step < 8) ?? span;
  const { top, bottom } = axis.dataset;
  const make = (name, values) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    set(node, values);
    axis.append(node);
    return node;
  };
  axis.replaceChildren();
  for (let t = Math.ceil((begin + from) / step) * step; t <= begin + to; t += step) {
    const at = x(t - begin);
    make("line", { class: "line", x1: at, x2: at, y1: top, y2: bottom });
    const words = make("text", { class: "p mute", "text-anchor": "middle", x: at, y: top - 7 });
    words.textContent = label(t, step);
  }
}
function show(a, b) {
  const width = Math.min(Math.max(b - a, Math.min(100, span)), span);
  from = Math.min(Math.max(a, 0), span - width);
  to = from + width;
  bars.forEach(place);
  ticks();
}
function zoom(factor, around = (from + to) / 2) {
  show(around - (around - from) * factor, around + (to - around) * factor);
}
const at = (event) => {
  const box = svg.getBoundingClientRect();
  const px = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
  return from + (px - left) / (right - left) * (to - from);
};

svg.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoom(event.deltaY > 0 ? 1.25 : 0.8, at(event));
}, { passive: false });
let drag = null;
svg.addEventListener("pointerdown", (event) => { drag = at(event); });
addEventListener("pointerup", () => { drag = null; });
svg.addEventListener("pointermove", (event) => {
  if (drag === null) return;
  const moved = drag - at(event);
  show(from + moved, to + moved);
});
svg.addEventListener("dblclick", () => show(0, span));
document.getElementById("in").onclick = () => zoom(0.5);
document.getElementById("out").onclick = () => zoom(2);
document.getElementById("all").onclick = () => show(0, span);
addEventListener("keydown", (event) => {
  const part = (to - from) / 5;
  const keys = {
    "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2), 0: () => show(0, span),
    ArrowLeft: () => show(from - part, to - part), ArrowRight: () => show(from + part, to + part),
    Escape: () => { tip.style.display = "none"; },
  };
  keys[event.key]?.();
});

function tell(words, px, py) {
  tip.textContent = words;
  tip.style.display = "block";
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(px + 14, innerWidth - width - 8))}px`;
  tip.style.top = `${py + 18 + height > innerHeight ? py - height - 10 : py + 18}px`;
}
// The browser's own tooltip would come besides.
for (const bar of bars) {
  const title = bar.querySelector("title");
  const words = title.textContent;
  title.remove();
  set(bar, { tabindex: 0, role: "img", "aria-label": words });
  bar.addEventListener("pointermove", (event) => tell(words, event.clientX, event.clientY));
  bar.addEventListener("pointerleave", () => { tip.style.display = "none"; });
  bar.addEventListener("focus", () => {
    const box = bar.getBoundingClientRect();
    tell(words, Math.max(box.left, 0), box.bottom - 12);
  });
  bar.addEventListener("blur", () => { tip.style.display = "none"; });
}
