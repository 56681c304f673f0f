// The search box: asks for pages and claims as somebody types, and shows what is found.
import { Index } from "./engine.js";

const ROOT = new URL("../../", import.meta.url);
const SHOWN = 10; // pages
const WORTH = 0.1; // of the first page's score: what has less is no help
const CLAIMS = 3;
const AROUND = 90; // characters before and behind a word that was found
const KINDS = { runbook: "Runbook", notebook: "Notebook", guide: "Guide" };

const pages = new Index(new URL("search/pages/", ROOT));
const claims = new Index(new URL("search/claims/", ROOT));

function element(tag, name, ...inside) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.append(...inside);
  return made;
}

// A text with the words that were found marked.
function marked(text, terms) {
  const parts = terms.filter((term) => /[^\x00-\x7f]/.test(term) || term.length > 1);
  if (!parts.length) return [text];
  parts.sort((one, other) => other.length - one.length);
  const pattern = parts.map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|");
  return text
    .split(new RegExp(`(${pattern})`, "gi"))
    .map((part, at) => (at % 2 ? element("mark", "", part) : part))
    .filter(Boolean);
}

// The line of a text that has most of the words, cut around the first of them.
function excerpt(text, terms) {
  let best = "";
  let most = 0;
  for (const line of text.split("\n")) {
    const low = line.toLowerCase();
    const has = terms.reduce((sum, term) => sum + (low.includes(term) ? term.length : 0), 0);
    if (has > most) [best, most] = [line, has];
  }
  const low = best.toLowerCase();
  const first = Math.min(...terms.map((term) => low.indexOf(term)).filter((at) => at >= 0));
  if (!best) return "";
  const from = Math.max(0, first - AROUND);
  const to = Math.min(best.length, first + 2 * AROUND);
  return `${from ? "…" : ""}${best.slice(from, to)}${to < best.length ? "…" : ""}`;
}

function address(page, doc) {
  const url = new URL(page.url, ROOT);
  if (doc?.typed && doc.anchor) url.searchParams.set("saw", doc.shown);
  if (doc?.anchor) url.hash = doc.anchor;
  return url.href;
}

function result(page, terms) {
  const [best] = page.docs;
  const link = element("a", "md-search-result__link");
  link.href = address(page, best);
  const heading = !best.typed && best.shown ? ` › ${best.shown}` : "";
  link.append(
    element("span", "kb-hit-title", page.title, heading && element("span", "kb-hit-place", heading)),
    element("span", `kb-kind kb-kind--${page.kind}`, KINDS[page.kind]),
  );
  if (page.area) link.append(element("span", "kb-hit-area", page.area));
  const around = best.typed ? best.shown : excerpt(page.texts?.[best.place] || "", terms);
  if (around) link.append(element("span", "kb-hit-text", ...marked(around, terms)));
  return element("li", "md-search-result__item", link);
}

// What is known of a claim comes first, and what is true beside it.
function claimed(page, terms) {
  const link = element("a", "md-search-result__link");
  link.href = new URL(page.url, ROOT).href;
  link.append(
    element("span", `kb-verdict kb-verdict--${page.verdict}`, page.verdict),
    element("span", "kb-hit-says", ...marked(page.title, terms)),
    element("span", "kb-hit-text", page.texts[0].split("\n")[0]),
  );
  return element("li", "md-search-result__item kb-hit-claim", link);
}

class Box {
  constructor(form) {
    this.form = form;
    this.input = form.elements.q;
    this.output = form.parentElement.querySelector(".kb-found");
    this.said = form.parentElement.querySelector(".md-search-result__meta");
    this.toggle = document.getElementById("__search");
    this.asked = 0;
    this.first = this.said.textContent;
    this.input.addEventListener("focus", () => this.open());
    this.input.addEventListener("input", () => this.ask());
    form.addEventListener("reset", () => setTimeout(() => (this.ask(), this.input.focus())));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.links()[0]?.click();
    });
    form.parentElement.addEventListener("keydown", (event) => this.move(event));
    document.addEventListener("keydown", (event) => {
      const typing = event.target.closest?.("input, textarea, select, [contenteditable]");
      if (typing || event.ctrlKey || event.metaKey || event.altKey || !["/", "s", "f"].includes(event.key)) return;
      event.preventDefault();
      this.input.focus();
    });
    for (const other of document.querySelectorAll("form.kb-ask")) this.stands(other.elements.q);
    this.toggle.addEventListener("change", () => this.toggle.checked && this.input.focus());
  }

  // A box elsewhere on the page is this one: what is typed there goes on here.
  stands(elsewhere) {
    const here = () => {
      this.input.value += elsewhere.value;
      elsewhere.value = "";
      this.open();
      this.input.focus();
      this.ask();
    };
    elsewhere.addEventListener("input", here);
    elsewhere.addEventListener("click", here);
    elsewhere.form.addEventListener("submit", (event) => (event.preventDefault(), here()));
  }

  open() {
    this.toggle.checked = true;
    pages.ready().catch(() => {});
    if (this.input.value && !this.output.childElementCount) this.ask();
  }

  close() {
    this.toggle.checked = false;
    this.input.blur();
  }

  links() {
    return [...this.output.querySelectorAll("a")];
  }

  move(event) {
    if (event.key === "Escape") return this.close();
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!by) return undefined;
    event.preventDefault();
    const stops = [this.input, ...this.links()];
    stops[Math.max(0, Math.min(stops.length - 1, stops.indexOf(document.activeElement) + by))].focus();
    return undefined;
  }

  async ask() {
    const query = this.input.value.trim();
    const number = ++this.asked;
    const late = () => number !== this.asked;
    if (!query) return this.show([], this.first);
    try {
      const rough = await pages.search(this.input.value);
      if (late()) return undefined;
      // The pages' text decides between those that are alike; what is not there in time comes later.
      let fine;
      const refined = pages.refine(rough).then((better) => (fine = better));
      await Promise.race([refined, new Promise((done) => setTimeout(done, 60))]);
      if (late()) return undefined;
      this.pages(fine || rough);
      if (!fine) {
        await refined;
        if (late()) return undefined;
        this.pages(fine);
      }
      const put = await claims.search(this.input.value);
      for (const page of put.ranked.slice(0, CLAIMS)) page.texts = await claims.text(page.text);
      if (!late()) this.claims(put, query);
    } catch (error) {
      if (!late()) this.show([], "The search cannot be loaded: check the connection and type again, or look at the symptoms.");
      if (!(error instanceof TypeError)) throw error; // what fetch throws where nothing answers
    }
    return undefined;
  }

  show(rows, said) {
    this.output.replaceChildren(...rows);
    this.said.textContent = said;
  }

  pages({ ranked, terms }) {
    const shown = ranked.slice(0, SHOWN).filter(({ score }, at) => at < 3 || score > WORTH * ranked[0].score);
    const none = terms.length ? "No page has these words." : this.first;
    const count = shown.length === 1 ? "1 page" : `${shown.length} pages`;
    this.show(shown.map((page) => result(page, terms)), shown.length ? count : none);
  }

  claims({ ranked, terms }, query) {
    if (!ranked.length) return;
    const all = new URL("claims/", ROOT);
    all.searchParams.set("q", query);
    const link = element("a", "", `all ${ranked.length}`);
    link.href = all.href;
    this.output.append(
      element("li", "kb-found-group", "Claims that were put to the test: ", link),
      ...ranked.slice(0, CLAIMS).map((page) => claimed(page, terms)),
    );
  }
}

const form = document.querySelector("form.kb-search");
if (form) new Box(form);
