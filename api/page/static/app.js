// Shows the page that the address names; all of them need a key.

import { h, explained } from "./dom.js";
import { key } from "./http.js";
import { signin } from "./signin.js";
import { jobs } from "./jobs.js";
import { fresh } from "./new.js";
import { job } from "./job.js";
import { compare } from "./compare.js";

const ROUTES = [
  [/^\/$/, jobs],
  [/^\/new$/, fresh],
  [/^\/job\/([\w-]+)$/, job],
  [/^\/compare\/([\w-]+)\/([\w-]+)$/, compare],
];
const main = document.getElementById("main");
let leaving = new AbortController();
let reason = null;
let shown = false;

/** A key behind `#key=` (as `modeconn serve` prints it) signs in; the address forgets it at once. */
function takeKey() {
  const given = location.hash.match(/^#key=(mcr_\w+_[\w-]+)$/);
  if (!given) return;
  key.set(given[1]);
  history.replaceState(null, "", "#/");
}

async function show() {
  if (location.hash === "#main") return;
  takeKey();
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const path = location.hash.slice(1) || "/";
  navigation(path);
  let children;
  try {
    children = await page(path, signal);
  } catch (error) {
    children = key.get()
      ? [h("h1", {}, "This cannot be shown"), h("p", { class: "wrong", role: "alert" }, explained(error))]
      : signin(reason);
  }
  if (signal.aborted) return;
  main.replaceChildren(...[children].flat().filter(Boolean));
  const heading = main.querySelector("h1");
  document.title = heading ? `${heading.textContent} · ModeConn` : "ModeConn";
  if (shown) main.focus({ preventScroll: true });  // the first page is where the reader is already
  shown = true;
  scrollTo(0, 0);
}

function page(path, signal) {
  if (!key.get()) return signin(reason);
  reason = null;
  for (const [pattern, build] of ROUTES) {
    const match = path.match(pattern);
    if (match) return build(signal, ...match.slice(1));
  }
  return [h("h1", {}, "There is no such page"), h("p", {}, h("a", { href: "#/" }, "All repairs"))];
}

function navigation(path) {
  const link = (to, text) => h("a", { href: `#${to}`, "aria-current": path === to ? "page" : null }, text);
  const leave = h("button", { type: "button", class: "plain", onclick: () => { key.forget(); show(); } }, "Sign out");
  document.getElementById("pages").replaceChildren(...(key.get() ? [link("/", "Repairs"), link("/new", "New repair"), leave] : []));
}

addEventListener("hashchange", show);
addEventListener("signed-in", show);
addEventListener("signed-out", ({ detail }) => { reason = detail; show(); });
show();
