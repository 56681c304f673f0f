/* The command builder and the ledger's filter. Both pages say all they have to say without it. */
"use strict";

(() => {
  const SAFE = /^[\w@%+=:,./-]+$/;
  // What papermill's -p would read as something else than text.
  const NOT_TEXT =
    /^\s*[+-]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(e[+-]?\d+)?\s*$|^\s*[+-]?(nan|inf|infinity)\s*$|^(true|false|none|null)$/i;

  const quote = (word) => (SAFE.test(word) ? word : "'" + word.replace(/'/g, "'\"'\"'") + "'");

  function option(field) {
    const { type, default: initial } = field.dataset;
    const name = field.name;
    if (type === "secret") {
      return field.checked ? `-r ${name} "$${name.toUpperCase()}"` : "";
    }
    const value = type === "bool" ? String(field.checked) : field.value;
    if (!("always" in field.dataset) && value === initial) {
      return "";
    }
    if (type === "bool") {
      return `-p ${name} ${field.checked ? "True" : "False"}`;
    }
    const flag = type === "str" && NOT_TEXT.test(value) ? "-r" : "-p";
    return `${flag} ${name} ${quote(value)}`;
  }

  function builder(form) {
    const shown = form.querySelector("code[aria-live]");
    const update = () => {
      const fields = [...form.elements].filter((field) => field.dataset.type);
      const wrong = fields.find((field) => !field.validity.valid);
      const record = form.elements.mode ? form.elements.mode.value : "out"; // one for each mode
      const words = ["papermill", quote(form.dataset.path), `${record}.ipynb`];
      shown.textContent = wrong
        ? `# ${wrong.name}: ${wrong.validationMessage}`
        : [...words, ...fields.map(option).filter(Boolean)].join(" ");
    };
    form.addEventListener("input", update);
    form.addEventListener("submit", (event) => event.preventDefault());
    update();
  }

  function ledger(form, list) {
    const count = form.querySelector(".kb-count");
    const chapters = document.getElementById("chapters");
    const fields = ["q", "verdict", "area", "source"];
    const most = 100; // rows; who looks for one of more is not helped by more
    let rows = [];

    const read = async () => {
      rows = await (await fetch(form.dataset.rows)).json();
      for (const row of rows) row.text = `${row.says} ${row.truth} ${row.instead} ${row.source}`.toLowerCase();
    };

    const element = (name, made, ...inside) => {
      made.className = name;
      made.append(...inside);
      return made;
    };

    const shown = ({ id, verdict, says, truth }) => {
      const link = document.createElement("a");
      link.href = new URL(`${id}/`, location.href.split(/[?#]/)[0]);
      link.append(says);
      const badge = element(`kb-verdict kb-verdict--${verdict}`, document.createElement("span"), verdict);
      const row = element("kb-row", document.createElement("li"), badge, " ", link);
      if (truth) row.append(document.createElement("br"), truth);
      return row;
    };

    const apply = () => {
      const [text, verdict, area, source] = fields.map((name) => form.elements[name].value);
      const words = text.toLowerCase().split(/\s+/).filter(Boolean);
      const fits = rows.filter(
        (row) =>
          (!verdict || row.verdict === verdict) &&
          (!area || row.areas.includes(area)) &&
          (!source || row.source.split(" ")[0] === source) &&
          words.every((word) => row.text.includes(word)),
      );
      const any = words.length || verdict || area || source;
      chapters.hidden = any;
      list.hidden = !any;
      list.replaceChildren(...(any ? fits.slice(0, most).map(shown) : []));
      const some = any && fits.length > most ? `, the first ${most} of them here` : "";
      count.textContent = `${fits.length} of ${rows.length} claims${some}`;
    };

    const remember = () => {
      const query = new URLSearchParams();
      for (const name of fields) {
        if (form.elements[name].value) query.set(name, form.elements[name].value);
      }
      const search = query.toString();
      history.replaceState(null, "", location.pathname + (search && "?" + search));
    };

    const restore = () => {
      const query = new URLSearchParams(location.search);
      for (const name of fields) form.elements[name].value = query.get(name) || "";
    };

    // Where a claim was to be found on this page: now it has one of its own.
    const open = () => {
      const row = rows.find(({ id }) => "#" + id === location.hash);
      if (row) location.replace(`${row.id}/`);
    };

    const start = () => read().then(() => (apply(), open()));

    form.hidden = false;
    restore();
    start();
    form.addEventListener("input", () => (apply(), remember()));
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", () => setTimeout(() => (apply(), remember())));
    addEventListener("hashchange", open);
    // Said where a page is kept up to date while the notebooks run.
    document.addEventListener("kb:changed", start);
  }

  function openAround(hash) {
    const target = hash.length > 1 && document.getElementById(decodeURIComponent(hash.slice(1)));
    for (let box = target && target.closest("details"); box; box = box.parentElement.closest("details")) {
      box.open = true;
    }
    const proof = target && target.querySelector(":scope > details.kb-proof");
    if (proof) proof.open = true;
  }

  // Whoever comes from a symptom is told so where it is cured.
  function here(words, hash) {
    const target = hash.length > 1 && document.getElementById(decodeURIComponent(hash.slice(1)));
    if (!words || !target) return;
    const note = document.createElement("p");
    const said = document.createElement("q");
    said.textContent = words;
    note.className = "kb-saw";
    note.append("You are here because you saw ", said);
    target.before(note);
    // The browser goes to the target itself when the page has loaded; the note is above it.
    addEventListener("load", () => requestAnimationFrame(() => note.scrollIntoView()));
  }

  document.querySelectorAll("form.kb-command").forEach(builder);
  const form = document.getElementById("filter");
  if (form) ledger(form, document.getElementById("ledger"));
  openAround(location.hash);
  addEventListener("hashchange", () => openAround(location.hash));
  here(new URLSearchParams(location.search).get("saw"), location.hash);
  // Paper has no clicks.
  addEventListener("beforeprint", () => {
    document.querySelectorAll("details").forEach((box) => (box.open = true));
  });
})();
