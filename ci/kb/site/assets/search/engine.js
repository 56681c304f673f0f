// Finds pages: asks MiniSearch for each word of a query, and puts what it says together by page.
import MiniSearch from "./minisearch-7.2.0/index.js";

const FIELDS = ["title", "found", "heading", "text"];
const BOOST = { title: 3, found: 3, heading: 2, text: 1 };
const ENGINE = { fields: FIELDS, tokenize: (term) => [term], processTerm: (term) => term };
// As in search.py, which says what they are.
const WORD =
  /[\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+|[A-Za-z0-9_\u00c0-\u024f]+(?:[-./:=+@~][A-Za-z0-9_\u00c0-\u024f]+)*/g;
const JOINED = /[-./:=+@~]/;
const HUMPS = /_+|(?<=[a-z0-9])(?=[A-Z])/;
const WHOLE = 40;
// Words that say nothing of what is looked for; alone they are words like others.
const EMPTY = new Set(
  ("a an and are as at be by can do does for from get got has have how i in into is it its me my no not of on" +
    " or so that the their there this to was we what when where which why will with you 怎么 如何 什么 为何").split(" "),
);
const ENDING = /(?:ing|ed|es|s)$/;
const LONGEST = 600; // characters of a query, and words of it: what is pasted beyond that is a log, not a message.
const MOST = 48; // Its end says what is wrong, as a traceback's does, so a third is taken from the beginning, the rest there.
const CANDIDATES = 12; // pages whose text is looked at for whole phrases
// Of two pages that fit alike, readers want the one that cures.
const KIND = { runbook: 1.25, notebook: 1, guide: 0.9, claim: 1 };

export function words(text) {
  const found = [];
  for (const [whole] of text.matchAll(WORD)) {
    if (whole[0] >= "\u3005") {
      for (let at = 0; at < Math.max(1, whole.length - 1); at++) found.push(whole.slice(at, at + 2));
      continue;
    }
    const parts = whole.split(JOINED);
    const one = new Set(whole.length <= WHOLE ? [whole, ...parts] : parts);
    for (const part of parts) for (const hump of part.split(HUMPS)) one.add(hump);
    for (const word of new Set([...one].map((word) => word.toLowerCase()))) if (word.length > 1) found.push(word);
  }
  return found;
}

function piece(word) {
  const first = word[0];
  if (first >= "a" && first <= "z") return first;
  return first >= "0" && first <= "9" ? "0" : "x";
}

// A text as its words with one space between them: so phrases are compared.
const plain = (text) => ` ${(text.toLowerCase().match(/[a-z0-9_\u00c0-\u024f]+|[\u3005-\u9fff]/g) || []).join(" ")} `;

const numbered = (list) => Object.fromEntries(list.entries());

export class Index {
  constructor(base, load = (url) => fetch(url).then((answer) => answer.json())) {
    this.load = (name) => load(new URL(`${name}.json`, base));
    this.loaded = new Map();
    this.plains = new Map();
  }

  // What is loaded once; what could not be loaded is asked for again.
  once(name, make) {
    if (!this.loaded.has(name)) {
      this.loaded.set(name, make());
      this.loaded.get(name).catch(() => this.loaded.delete(name));
    }
    return this.loaded.get(name);
  }

  ready() {
    return this.once("docs", () => this.load("docs"));
  }

  // The engine with the words of one piece; every one knows all documents, so that they agree.
  engine(name) {
    return this.once(`engine ${name}`, () => this.open(name));
  }

  async open(name) {
    const about = await this.ready();
    if (!about.pieces.includes(name)) return new MiniSearch(ENGINE);
    const found = await this.load(`words-${name}`);
    const index = found.map(([word, ...fields]) => {
      const data = {};
      for (const [field, ...pairs] of fields) {
        const counts = (data[field] = {});
        for (let at = 0; at < pairs.length; at += 2) counts[pairs[at]] = pairs[at + 1];
      }
      return [word, data];
    });
    const count = about.docs.length;
    return MiniSearch.loadJS(
      {
        serializationVersion: 2,
        documentCount: count,
        nextId: count,
        documentIds: numbered([...about.docs.keys()]),
        fieldIds: Object.fromEntries(FIELDS.map((field, number) => [field, number])),
        fieldLength: numbered(about.lengths),
        averageFieldLength: about.average,
        storedFields: {},
        dirtCount: 0,
        index,
      },
      ENGINE,
    );
  }

  // As `plain`, remembered: the same texts are compared with each key.
  plain(text) {
    if (!this.plains.has(text)) this.plains.set(text, plain(text));
    return this.plains.get(text);
  }

  text(name) {
    return this.once(name, () => this.load(name));
  }

  // Pages, best first, each with the documents that say why.
  async search(query) {
    const about = await this.ready();
    query = ends([...query], LONGEST).join("");
    const all = ends([...new Set(words(query))], MOST);
    const telling = all.filter((word) => !EMPTY.has(word));
    const terms = telling.length ? telling : all;
    const open = /[\p{L}\p{N}_]$/u.test(query) ? terms.at(-1) : undefined; // still being typed
    const engines = await Promise.all(terms.map((term) => this.engine(piece(term))));
    const hits = terms.map((term, at) => asked(engines[at], term, term === open));
    const total = hits.reduce((sum, { weight }) => sum + weight, 0);
    const docs = new Map();
    hits.forEach(({ found, weight }, at) => {
      for (const { id, score } of found) {
        const doc = docs.get(id) || { id, score: 0, mass: 0, terms: new Set() };
        doc.score += score;
        doc.mass += weight;
        doc.terms.add(at);
        docs.set(id, doc);
      }
    });
    const phrase = plain(query);
    const pages = new Map();
    for (const doc of docs.values()) {
      const [number, anchor, shown, typed] = about.docs[doc.id];
      Object.assign(doc, { anchor, shown, typed, place: doc.id - about.pages[number].first });
      doc.score *= doc.mass / total;
      if (shown) doc.score *= (typed ? likeness : within)(phrase, this.plain(shown));
      const page = pages.get(number) || { ...about.pages[number], docs: [], terms: new Set() };
      page.docs.push(doc);
      doc.terms.forEach((term) => page.terms.add(term));
      pages.set(number, page);
    }
    for (const page of pages.values()) {
      page.docs.sort((one, other) => other.score - one.score);
      const best = (typed) => page.docs.find((doc) => doc.typed === typed)?.score || 0;
      const covered = [...page.terms].reduce((sum, at) => sum + hits[at].weight, 0) / total;
      page.score = (best(1) + best(0)) * (0.3 + 0.7 * covered) * KIND[page.kind] * within(phrase, this.plain(page.title));
    }
    const ranked = [...pages.values()].sort((one, other) => other.score - one.score);
    return { ranked, phrase, terms: [...new Set(terms.flatMap((term, at) => [term, ...hits[at].said]))] };
  }

  // Looks for the whole phrase in the text of the pages, and puts those that have it first.
  async refine({ ranked, phrase, ...rest }) {
    const first = ranked.slice(0, CANDIDATES);
    const texts = await Promise.all(first.map((page) => this.text(page.text)));
    first.forEach((page, at) => {
      page.texts = texts[at];
      const score = texts[at].map((text) => within(phrase, this.plain(text)));
      // The section that has the most of the phrase is the one to land on.
      for (const doc of page.docs) if (!doc.typed) doc.score *= score[doc.place];
      page.docs.sort((one, other) => other.score - one.score);
      page.score *= Math.max(...score);
    });
    first.sort((one, other) => other.score - one.score);
    return { ranked: [...first, ...ranked.slice(CANDIDATES)], phrase, ...rest };
  }
}

// What the engine has on one word: as it stands, by its beginning while it is typed, by its stem, or misspelt.
function asked(engine, term, open) {
  const weights = { fuzzy: 0.3, prefix: 0.4 };
  const ask = (word, options) => engine.search(word, { ...ENGINE, boost: BOOST, weights, ...options });
  let found = ask(term, { prefix: open });
  const stem = term.replace(ENDING, "");
  if (/^[a-z]+$/.test(term) && stem.length > 2) {
    const known = new Set(found.map(({ id }) => id));
    const more = ask(stem, { prefix: stem.length > 3 }).filter(({ id }) => !known.has(id));
    found = [...found, ...more.map(({ score, ...rest }) => ({ ...rest, score: score * 0.6 }))];
  }
  if (!found.length && term.length > 3) found = swapped(term).flatMap((word) => ask(word, {}));
  if (!found.length && term.length > 4) found = ask(term, { fuzzy: 0.2 });
  const said = new Set(found.slice(0, 50).flatMap(({ terms }) => terms));
  const all = engine.documentCount || 1;
  return { found, said: [...said], weight: found.length ? Math.log(1 + all / found.length) : 0 };
}

// Two letters in each other's place, but for the first: the commonest slip, and two errors to the engine.
function swapped(term) {
  const all = [...term.slice(2)].map((next, at) => term.slice(0, at + 1) + next + term[at + 1] + term.slice(at + 3));
  return [...new Set(all)].filter((word) => word !== term);
}

// What is longer loses its middle.
const ends = (list, most) =>
  list.length > most ? [...list.slice(0, most / 3), ...list.slice((-most * 2) / 3)] : list;

// More than 1 where a text has the whole phrase, or much of it in one piece.
function within(phrase, text) {
  if (phrase.trim().includes(" ")) {
    if (text.includes(phrase)) return 2;
    const parts = phrase.trim().split(" ");
    let longest = 0;
    for (let from = 0; from < parts.length; from++) {
      let to = from + Math.max(2, longest + 1);
      while (to <= parts.length && text.includes(` ${parts.slice(from, to).join(" ")} `)) longest = to++ - from;
    }
    return 1 + longest / parts.length * 0.8;
  }
  return 1;
}

// The same for the words that people type, which may also be a part of what was pasted.
function likeness(phrase, shown) {
  if (phrase === shown) return 4;
  if (shown.trim().split(" ").length > 2 && phrase.includes(shown)) return 3;
  return within(phrase, shown);
}
