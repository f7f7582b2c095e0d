// Makes elements. Text goes in as text, never as markup: names and messages come from strangers.

const SVG = "http://www.w3.org/2000/svg";

/** An element: `on*` attributes are listeners, true and false are presence, children may be nested lists. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for pictures. */
export function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "disabled" || name === "hidden") element[name] = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat(9).filter((child) => child != null && child !== false));
  return element;
}

/** Says something to screen readers. */
export function say(text) {
  document.getElementById("said").textContent = text;
}

/** A download of bytes that are here already, under a name. */
export function save(blob, name) {
  const link = h("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** A button that is busy while its work lasts, and shows what went wrong beside it. */
export function action(label, work, attributes = {}) {
  const wrong = h("p", { class: "wrong", role: "alert", hidden: true });
  const button = h("button", {
    type: "button", ...attributes, onclick: async () => {
      button.disabled = true;
      button.setAttribute("aria-busy", "true");
      wrong.hidden = true;
      try {
        await work();
      } catch (error) {
        wrong.replaceChildren(...explained(error));
        wrong.hidden = false;
      }
      button.disabled = false;
      button.removeAttribute("aria-busy");
    },
  }, label);
  return h("div", { class: "action" }, button, wrong);
}

/** What went wrong and the way out, as children. */
export function explained(error) {
  const problem = error.problem ?? {};
  return [
    h("strong", {}, problem.title ?? "That did not work"), h("br"), problem.detail ?? error.message,
    problem.remedy && !problem.remedy.startsWith("See `detail`") && [h("br"), problem.remedy],
  ].flat().filter(Boolean);
}
