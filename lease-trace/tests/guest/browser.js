// Uses the page as a person does, and notes what is there to see.
const press = (key) => dispatchEvent(new KeyboardEvent("keydown", { key }));
const labels = () => [...document.querySelectorAll("#axis text")].map((node) => node.textContent);
const box = (node) => {
  const { x, y, width, height } = node.getBoundingClientRect();
  return { x, y, width, height };
};
const zombie = document.querySelector('.bar[data-kind="zombie"]');
const rect = () => box(zombie.querySelector(".b"));
const shown = (text) => text.getAttribute("display") !== "none";
told.page = box(document.querySelector("svg"));
told.fill = getComputedStyle(zombie.querySelector(".b")).fill;
told.paper = getComputedStyle(document.querySelector(".paper")).fill;
told.body = getComputedStyle(document.body).backgroundColor;
told.before = { axis: labels(), zombie: rect() };
// A label inside of its bar is no longer than the bar.
told.spilt = [...document.querySelectorAll(".bar")].filter((bar) => {
  const [text, rect] = [bar.querySelector("text.in"), bar.querySelector("rect.b")];
  return text && rect && shown(text) && box(text).width > box(rect).width;
}).length;
press("+"); press("+");
told.zoomed = { axis: labels(), zombie: rect() };
press("0");
told.after = { axis: labels(), zombie: rect() };
zombie.focus();
told.tip = { text: tip.textContent, box: box(tip) };
press("Escape");
told.hidden = getComputedStyle(tip).display;
document.body.replaceChildren(JSON.stringify(told));
