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
      const words = ["papermill", quote(form.dataset.path), "out.ipynb"];
      shown.textContent = wrong
        ? `# ${wrong.name}: ${wrong.validationMessage}`
        : [...words, ...fields.map(option).filter(Boolean)].join(" ");
    };
    form.addEventListener("input", update);
    form.addEventListener("submit", (event) => event.preventDefault());
    update();
  }

  function ledger(form, list) {
    let rows, texts;
    const count = form.querySelector(".kb-count");
    const fields = ["q", "verdict", "area", "source"];

    const read = () => {
      rows = [...list.querySelectorAll(".kb-row")];
      texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
    };

    const apply = () => {
      const [text, verdict, area, source] = fields.map((name) => form.elements[name].value);
      const words = text.toLowerCase().split(/\s+/).filter(Boolean);
      let left = 0;
      for (const row of rows) {
        const { dataset } = row;
        const fits =
          (!verdict || dataset.verdict === verdict) &&
          (!area || dataset.area.split(" ").includes(area)) &&
          (!source || dataset.source === source) &&
          words.every((word) => texts.get(row).includes(word));
        row.hidden = !fits;
        left += fits;
      }
      count.textContent = `${left} of ${rows.length} claims`;
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

    const open = () => {
      const row = rows.find((one) => "#" + one.id === location.hash);
      if (!row) return;
      if (row.hidden) form.reset();
      row.open = true;
      row.scrollIntoView();
    };

    form.hidden = false;
    read();
    restore();
    apply();
    open();
    form.addEventListener("input", () => (apply(), remember()));
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", () => setTimeout(() => (apply(), remember())));
    addEventListener("hashchange", open);
    // Said where a page is kept up to date while the notebooks run.
    document.addEventListener("kb:changed", () => (read(), apply()));
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
    note.scrollIntoView();
  }

  document.querySelectorAll("form.kb-command").forEach(builder);
  const form = document.getElementById("filter");
  if (form) ledger(form, document.getElementById("ledger"));
  openAround(location.hash);
  addEventListener("hashchange", () => openAround(location.hash));
  here(new URLSearchParams(location.search).get("saw"), location.hash);
  // Paper has no clicks.
  addEventListener("beforeprint", () => {
    document.querySelectorAll("details:not(.kb-row)").forEach((box) => (box.open = true));
  });
})();
