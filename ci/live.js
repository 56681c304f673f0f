/* In a page that `make site` serves: shows what comes out of each run as it comes. A published site
   has none of this. Where there is no JavaScript, a reload shows the same. */
"use strict";

(() => {
  const PAUSE = 1000; // milliseconds between two questions
  const { edition: loaded } = document.currentScript.dataset;
  // What scripts have added to the page is not to be taken for a difference: the page as it was
  // served is kept beside the one that is shown, and compared with the newer one.
  let served = null;
  let edition = loaded;

  /* What the server answers; null where it has ended. */
  async function read(path) {
    try {
      const answer = await fetch(path, { cache: "no-store" });
      return { found: answer.ok, text: await answer.text() };
    } catch {
      return null;
    }
  }

  const parsed = (text) => new DOMParser().parseFromString(text, "text/html");
  const article = (page) => page.querySelector("article");
  const editionOf = (page) => page.querySelector("script[data-edition]").dataset.edition;

  /* What no run changes: the theme has made more of it than was served, so a change is loaded anew. */
  function frame(page) {
    const parts = page.querySelectorAll("title, link[rel=stylesheet], :is(.kb-cell, .kb-proof) > .highlight");
    return [...parts].map((part) => part.outerHTML).join("\n");
  }

  /* Makes `shown` what `now` is, where that differs from `before`. All else is left as it is: open
     boxes, what stands in fields, positions, the focus. */
  function update(shown, before, now) {
    if (before.isEqualNode(now)) return;
    const alike =
      shown.nodeName === before.nodeName &&
      before.nodeName === now.nodeName &&
      shown.childNodes.length === before.childNodes.length;
    if (!alike) {
      shown.replaceWith(document.importNode(now, true));
    } else if (now.nodeType === Node.ELEMENT_NODE) {
      updateAttributes(shown, before, now);
      updateChildren(shown, [...before.childNodes], [...now.childNodes]);
    } else {
      shown.data = now.data;
    }
  }

  function updateAttributes(shown, before, now) {
    for (const { name } of [...before.attributes, ...now.attributes]) {
      const value = now.getAttribute(name);
      // Which boxes are open is the reader's affair by now.
      if (name === "open" || before.getAttribute(name) === value) continue;
      if (value === null) shown.removeAttribute(name);
      else shown.setAttribute(name, value);
    }
  }

  /* What makes a node the same one in two editions of a page. */
  const nameOf = (node) => [node.nodeName, node.id, node.dataset?.host].join(" ");

  function updateChildren(parent, before, now) {
    const shown = [...parent.childNodes];
    // Whatever comes or goes does so between what stays in front and what stays behind.
    const shorter = Math.min(before.length, now.length);
    let front = 0;
    while (front < shorter && before[front].isEqualNode(now[front])) front += 1;
    let back = 0;
    while (back < shorter - front && before.at(-1 - back).isEqualNode(now.at(-1 - back))) back += 1;
    const left = before.slice(front, before.length - back);
    const changed = now.slice(front, now.length - back).map((node) => {
      const at = left.findIndex((one) => one && nameOf(one) === nameOf(node));
      if (at < 0) return { now: node };
      const pair = { now: node, before: left[at], shown: shown[front + at] };
      left[at] = null;
      return pair;
    });
    left.forEach((one, index) => one && shown[front + index].remove());
    let place = front > 0 ? shown[front - 1].nextSibling : parent.firstChild;
    for (const pair of changed) {
      if (!pair.shown) {
        parent.insertBefore(document.importNode(pair.now, true), place);
      } else {
        if (pair.shown === place) place = place.nextSibling;
        else parent.insertBefore(pair.shown, place);
        update(pair.shown, pair.before, pair.now);
      }
    }
  }

  async function take(newer) {
    const answer = await read(location.pathname);
    if (!answer) return;
    edition = newer;
    if (!answer.found) return;
    const page = parsed(answer.text);
    if (!served || frame(served) !== frame(page)) {
      location.reload();
      return;
    }
    update(article(document), article(served), article(page));
    document.dispatchEvent(new Event("kb:changed"));
    served = page;
    edition = editionOf(page);
  }

  /* The page as it was served, if it can still be had. */
  async function start() {
    const answer = await read(location.pathname);
    const page = answer?.found ? parsed(answer.text) : null;
    if (page && editionOf(page) === loaded) served = page;
  }

  const notice = document.createElement("p");
  notice.className = "kb-ended";
  notice.setAttribute("role", "status");
  notice.textContent = "make site has ended: this is what this page showed last.";

  async function watch() {
    const answer = await read("/kb-live/edition");
    if (!answer) document.body.append(notice);
    else notice.remove();
    if (answer && answer.text !== edition && !document.hidden) await take(answer.text);
    setTimeout(watch, PAUSE);
  }

  start().then(watch);
})();
