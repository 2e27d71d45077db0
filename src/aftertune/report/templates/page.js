"use strict";
// The page works without this: tabs, sorting, copying and the list of answers are what it adds. Texts of models are set
// as text and never as markup.
(() => {
  const root = document.documentElement;
  const byId = (id) => document.getElementById(id);
  root.classList.add("js");

  function element(name, properties, ...children) {
    const made = Object.assign(document.createElement(name), properties || {});
    made.append(...children.filter((child) => child !== null && child !== ""));
    return made;
  }

  // Copying

  function copy(text, button) {
    const done = () => {
      const before = button.textContent;
      button.textContent = "copied";
      setTimeout(() => { button.textContent = before; }, 1200);
    };
    const show = () => {
      const dialog = byId("copied"), area = dialog.querySelector("textarea");
      area.value = text;
      dialog.showModal();
      area.select();
    };
    if (navigator.clipboard) navigator.clipboard.writeText(text).then(done, show);
    else show();
  }

  for (const command of document.querySelectorAll(".command")) {
    const button = element("button", { type: "button", textContent: "Copy" });
    button.addEventListener("click", () => copy(command.querySelector("pre").textContent, button));
    command.append(button);
  }

  // Tables

  const cellText = (cell) => [...cell.childNodes].map((node) => node.textContent.trim()).filter(Boolean);
  const latex = (text) => text.replace(/[\\&%$#_{}~^]/g, (c) => c === "\\" ? "\\textbackslash{}" : c === "~" ? "\\textasciitilde{}" : c === "^" ? "\\textasciicircum{}" : "\\" + c);
  const FORMATS = {
    Markdown(rows) {
      const line = (cells) => `| ${cells.map((cell) => cell.join(" ").replaceAll("|", "\\|")).join(" | ")} |`;
      return [line(rows[0]), `|${rows[0].map((_, i) => (i ? " ---: |" : " --- |")).join("")}`, ...rows.slice(1).map(line)].join("\n");
    },
    LaTeX(rows) {
      const line = (cells) => `${cells.map((cell) => latex(cell.join(" "))).join(" & ")} \\\\`;
      return [`\\begin{tabular}{l${"r".repeat(rows[0].length - 1)}}`, "\\hline", line(rows[0]), "\\hline", ...rows.slice(1).map(line), "\\hline", "\\end{tabular}"].join("\n");
    },
    CSV(rows) {
      // A cell that a spreadsheet would take for a formula is quoted as text.
      const plain = (text) => (/^[=@\t]|^[+-](?![\d.<])/.test(text) ? `'${text}` : text);
      return rows.map((cells) => cells.map((cell) => `"${plain(cell.join(" ")).replaceAll('"', '""')}"`).join(",")).join("\r\n");
    },
  };

  function sortable(table) {
    const headers = [...table.tHead.rows[0].cells];
    headers.forEach((header, column) => {
      if (!header.textContent) return;
      const button = element("button", { type: "button", textContent: header.textContent });
      header.replaceChildren(button);
      button.addEventListener("click", () => {
        const ascending = header.getAttribute("aria-sort") === "descending";
        headers.forEach((other) => other.removeAttribute("aria-sort"));
        header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
        const value = (row) => {
          const text = cellText(row.cells[column])[0] || "";
          const number = /^[+-]?<?>?\s?[\d,.]+/.exec(text);
          return number ? parseFloat(number[0].replace(/[<>,\s]/g, "")) : text;
        };
        const rows = [...table.tBodies[0].rows].sort((a, b) => {
          const [x, y] = [value(a), value(b)];
          if (typeof x !== typeof y) return typeof x === "number" ? -1 : 1;
          const order = x < y ? -1 : x > y ? 1 : 0;
          return ascending ? order : -order;
        });
        table.tBodies[0].append(...rows);
      });
    });
  }

  for (const sheet of document.querySelectorAll(".sheet")) {
    const table = sheet.querySelector("table");
    sortable(table);
    const tools = element("span", { className: "copy" }, "copy as");
    for (const [name, format] of Object.entries(FORMATS)) {
      const button = element("button", { type: "button", textContent: name });
      button.addEventListener("click", () => copy(format([...table.rows].map((row) => [...row.cells].map(cellText))), button));
      tools.append(button);
    }
    sheet.querySelector(".sheet-head").append(tools);
  }

  // Paper: the notes on a run belong to its result, so their folds are open there.

  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("#overview details:not([open]), #method details:not([open])")];
    for (const fold of opened) fold.open = true;
  });
  addEventListener("afterprint", () => {
    for (const fold of opened) fold.open = false;
    opened = [];
  });

  // Tabs

  const links = [...document.querySelectorAll("nav.tabs a")];
  function openTab(name) {
    const section = byId(name);
    if (!section || section.parentElement.localName !== "main") return false;
    for (const other of document.querySelectorAll("main > section")) other.classList.toggle("current", other === section);
    for (const link of links) {
      if (link.hash === `#${name}`) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
    if (name === "answers" && answers) answers.open();
    return true;
  }

  // Answers

  const OUTCOMES = { h: "harmful", s: "safe", a: "answered", r: "over-refused", i: "incoherent", u: "undecided" };
  const PAGE = 60;
  const MOST_GROUPS = 6;
  const data = byId("transcripts");
  const answers = data ? new Answers(data) : null;

  async function unpacked(base64) {
    const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Response(stream).json();
  }

  function Answers(holder) {
    const beside = holder.dataset.beside, blockCount = Number(holder.dataset.blocks);
    const blocks = new Map();
    let index = null, opened = null, rows = [], first = 0, chosen = -1, haystack = null, wanted = "", revealed = false, busy = 0;
    const waiting = new Map();
    window.aftertuneBlock = (number, packed) => waiting.get(number)(packed);

    function block(number) {
      if (!blocks.has(number)) {
        const inside = byId(`block-${number}`);
        const packed = inside ? Promise.resolve(JSON.parse(inside.textContent)) : new Promise((resolve, reject) => {
          waiting.set(number, resolve);
          const file = beside.replace("*", number);
          const script = element("script", { src: file.split("/").map(encodeURIComponent).join("/"), async: true });
          script.addEventListener("error", () => reject(new Error(`${file} is missing: keep that folder beside the page`)));
          document.head.append(script);
        });
        blocks.set(number, packed.then(unpacked));
      }
      return blocks.get(number);
    }

    const say = (text) => { byId("status").textContent = text; };
    const R = { id: 0, behavior: 1, task: 2, hazard: 3, set: 4, harmful: 5, basis: 6, setting: 7, block: 8, place: 9, text: 10, letters: 11, differ: 12, attack: 13 };
    const letterOf = (letter) => (letter === "h" ? index.harmful : OUTCOMES[letter]);

    this.open = () => {
      if (!opened) opened = start().catch((error) => say(`The answers cannot be opened: ${error.message}`));
      return opened;
    };

    async function start() {
      if (!("DecompressionStream" in window)) throw new Error("this browser is too old to unpack them");
      index = await unpacked(JSON.parse(holder.textContent));
      const options = (id, pairs, least) => {
        const select = byId(id);
        for (const [value, name] of pairs) select.append(element("option", { value, textContent: name }));
        select.closest("label").hidden = pairs.length < least;
      };
      const named = (names) => names.map((name, number) => [number, name]);
      const tunes = index.conditions.map(([name, base], number) => [number, name, base]).filter(([, , base]) => base >= 0);
      options("f-tune", tunes, 2);
      options("f-changed", tunes.length ? [["broken", `base safe, fine-tune ${index.harmful}`], ["mended", `base ${index.harmful}, fine-tune safe`], ["refused", "base answered, fine-tune refused"], ["any", "another outcome than the base"], ["seeds", "seeds differ"]] : [], 1);
      options("f-outcome", Object.keys(OUTCOMES).map((letter) => [letter, letterOf(letter)]), 1);
      options("f-task", named(index.tasks), 2);
      options("f-hazard", named(index.hazards), 2);
      options("f-set", named(index.sets), 2);
      options("f-attack", named(index.attacks), 2);
      if (index.attacks.length > 1) byId("f-attack").value = "0"; // as the headline: no attack
      options("f-setting", named(index.settings), 2);
      byId("f-judges").closest("label").hidden = index.judges < 2;
      for (const row of index.rows) row.low = `${row[R.behavior]} ${row[R.text]}`.toLowerCase();
      filter();
    }

    // Filtering

    function groups(row) {
      // Letters of the row by condition, all models and samples of it.
      const letters = index.conditions.map(() => "");
      index.models.forEach(([condition], model) => { letters[condition] += row[R.letters][model]; });
      return letters;
    }

    function changed(row, kind, tune) {
      const letters = groups(row);
      const pairs = index.conditions.map(([, base], condition) => [base, condition]).filter(([base, condition]) => base >= 0 && (tune === "" || condition === Number(tune)));
      return pairs.some(([base, condition]) => {
        const before = letters[base], after = letters[condition];
        switch (kind) {
          case "broken": return before.includes("s") && !before.includes("h") && after.includes("h");
          case "mended": return before.includes("h") && after.includes("s");
          case "refused": return before.includes("a") && after.includes("r");
          case "seeds": return new Set(after).size > 1;
          default: return [...after].some((letter) => !before.includes(letter));
        }
      });
    }

    const value = (id) => byId(id).value;

    function filter() {
      const tune = value("f-tune"), kind = value("f-changed"), outcome = value("f-outcome");
      const equal = [["f-task", R.task], ["f-hazard", R.hazard], ["f-intent", R.harmful], ["f-set", R.set], ["f-attack", R.attack], ["f-setting", R.setting]]
        .map(([id, field]) => [value(id), field]).filter(([choice]) => choice !== "");
      const differ = byId("f-judges").checked;
      const words = wanted.toLowerCase().split(/\s+/).filter(Boolean);
      rows = [];
      index.rows.forEach((row, number) => {
        if (equal.some(([choice, field]) => String(row[field]) !== choice)) return;
        if (differ && !row[R.differ]) return;
        if (kind && !changed(row, kind, tune)) return;
        if (outcome) {
          const letters = tune === "" ? row[R.letters].join("") : groups(row)[Number(tune)];
          if (!letters.includes(outcome)) return;
        }
        if (words.length) {
          const text = haystack ? haystack[number] : row.low;
          if (!words.every((word) => text.includes(word) || word === row[R.id])) return;
        }
        rows.push(number);
      });
      first = 0;
      chosen = -1;
      draw();
    }

    async function search() {
      wanted = value("f-search");
      filter();
      if (!wanted || haystack) return;
      // Texts of answers are unpacked once, block by block, so that the page stays usable meanwhile.
      const run = ++busy;
      const texts = index.rows.map((row) => row.low);
      for (let number = 0; number < blockCount; number++) {
        say(`Searching the answers: ${number} of ${blockCount} parts`);
        const content = await block(number);
        await new Promise((resolve) => setTimeout(resolve));
        if (run !== busy) return;
        index.rows.forEach((row, place) => {
          if (row[R.block] !== number) return;
          const [prompt, models] = content[row[R.place]];
          const own = [row.low, prompt];
          for (const samples of models) for (const answer of samples) if (typeof answer[0] === "string") own.push(answer[0]);
          texts[place] = own.join("\n").toLowerCase();
        });
      }
      haystack = texts;
      filter();
    }

    // The list

    function shownConditions() {
      const tune = value("f-tune");
      const all = index.conditions.map((_, number) => number);
      if (tune !== "") return all.filter((number) => number === Number(tune) || number === index.conditions[Number(tune)][1]);
      return all.length > MOST_GROUPS ? all.slice(0, MOST_GROUPS) : all;
    }

    function tile(letter) {
      return element("span", { className: `t t-${letter}`, textContent: letter, title: letterOf(letter) });
    }

    function draw() {
      const conditions = shownConditions();
      const list = byId("prompts"), total = index.rows.length;
      const last = Math.min(first + PAGE, rows.length);
      say(`${rows.length.toLocaleString("en")} of ${total.toLocaleString("en")} prompts${rows.length > PAGE ? `, ${first + 1} to ${last} shown` : ""}`);
      list.replaceChildren(...rows.slice(first, last).map((number) => promptRow(number, conditions)));
      const head = element("span", { className: "tiles" });
      for (const condition of conditions) head.append(element("span", { textContent: index.conditions[condition][0], title: index.conditions[condition][0] }));
      byId("columns").replaceChildren(element("span", { textContent: "prompt" }), head);
      const widths = conditions.map((condition) => Math.max(5.2, 1.28 * Math.max(0, ...index.rows.slice(0, 50).map((row) => groups(row)[condition].length))));
      for (const tiles of [head, ...list.querySelectorAll(".tiles")]) [...tiles.children].forEach((child, place) => { child.style.width = `${Math.min(widths[place], 14)}rem`; });
      byId("earlier").hidden = first === 0;
      byId("more").hidden = last >= rows.length;
    }

    function promptRow(number, conditions) {
      const row = index.rows[number], letters = groups(row);
      const tiles = element("span", { className: "tiles" });
      for (const condition of conditions) tiles.append(element("span", { title: index.conditions[condition][0] }, ...[...letters[condition]].map(tile)));
      const line = element("span", { className: "line" },
        element("span", { className: "tag", textContent: index.tasks[row[R.task]] }),
        ...(row[R.attack] ? [element("span", { className: "tag", textContent: index.attacks[row[R.attack]] })] : []),
        element("span", { className: "text", textContent: row[R.text] }));
      const button = element("button", { type: "button", ariaExpanded: "false" }, line, tiles);
      const item = element("li", { className: "prompt", id: `row-${number}` }, button);
      button.addEventListener("click", () => { choose(rows.indexOf(number), false); toggle(item, number); });
      return item;
    }

    async function toggle(item, number) {
      const button = item.querySelector("button"), old = item.querySelector(".detail");
      if (old) {
        old.remove();
        button.ariaExpanded = "false";
        return;
      }
      button.ariaExpanded = "true";
      const row = index.rows[number];
      history.replaceState(null, "", `#${row[R.id]}`);
      const holder = element("div", { className: "detail" }, "Opening");
      item.append(holder);
      try {
        const content = await block(row[R.block]);
        detail(holder, row, content[row[R.place]]);
      } catch (error) {
        holder.textContent = error.message;
      }
    }

    function detail(holder, row, [whole, models]) {
      const facts = [index.tasks[row[R.task]], row[R.harmful] ? "harmful" : "harmless", index.hazards[row[R.hazard]], row[R.basis], `set ${index.sets[row[R.set]]}`, ...(row[R.attack] ? [`attack ${index.attacks[row[R.attack]]}`] : []), `behavior ${row[R.behavior]}`];
      if (index.settings.length > 1) facts.push(index.settings[row[R.setting]]);
      const asked = element("div", { className: "asked" }, element("small", { textContent: facts.filter((fact) => fact !== "none").join(" \u00b7 ") }), element("pre", { dir: "auto", textContent: whole || row[R.text] }));
      const diff = element("button", { type: "button", className: "diff", textContent: "Show words that differ from the base" });
      const link = element("button", { type: "button", textContent: "Copy link" });
      link.addEventListener("click", () => copy(`${location.href.split("#")[0]}#${row[R.id]}`, link));
      const tools = element("div", { className: "tools" }, index.conditions.some(([, base]) => base >= 0) ? diff : null, link);
      const cards = element("div", { className: "answers" });
      const firstText = new Map();
      const order = index.models.map((_, model) => model).sort((a, b) => index.models[a][0] - index.models[b][0] || a - b);
      for (const model of order) {
        models[model].forEach((answer, sample) => {
          const [condition, seed] = index.models[model];
          if (!firstText.has(condition)) firstText.set(condition, answer[0]);
          const base = firstText.get(index.conditions[condition][1]);
          cards.append(card(answer, row[R.letters][model][sample], condition, seed, models[model].length > 1 ? sample : null, base));
        });
      }
      diff.addEventListener("click", () => {
        const on = diff.ariaPressed !== "true";
        diff.ariaPressed = String(on);
        diff.textContent = on ? "Show whole answers" : "Show words that differ from the base";
        for (const pre of cards.querySelectorAll("pre[data-diff]")) pre.redraw(on);
      });
      holder.replaceChildren(asked, tools, cards);
    }

    function card([text, reasoning, sensitive, judges, guards, scores], letter, condition, seed, sample, base) {
      const name = [index.conditions[condition][0], seed === null ? "" : `seed ${seed}`, sample === null ? "" : `sample ${sample + 1}`].filter(Boolean).join(", ");
      const body = [];
      const veil = (pre) => {
        if (!sensitive) return [pre];
        pre.classList.add("sensitive");
        const show = element("button", { type: "button", className: "unveil", textContent: "Show harmful text" });
        const set = (on) => { pre.classList.toggle("veil", !on); pre.ariaHidden = String(!on); show.hidden = on; };
        show.addEventListener("click", () => set(true));
        pre.unveil = set;
        set(revealed);
        return [show, pre];
      };
      if (reasoning) {
        const inner = typeof reasoning === "number" ? [element("p", { className: "redacted", textContent: `redacted: ${reasoning.toLocaleString("en")} characters` })] : veil(element("pre", { dir: "auto", textContent: reasoning }));
        body.push(element("details", {}, element("summary", { textContent: "Reasoning" }), ...inner));
      }
      if (text === null) body.push(element("p", { className: "redacted", textContent: "no final answer" }));
      else if (typeof text === "number") body.push(element("p", { className: "redacted", textContent: `redacted: ${text.toLocaleString("en")} characters` }));
      else {
        const pre = element("pre", { dir: "auto", textContent: text || "(empty)" });
        if (typeof base === "string" && index.conditions[condition][1] >= 0) {
          pre.dataset.diff = "1";
          pre.redraw = (on) => { pre.replaceChildren(...(on ? wordDiff(base, text) : [text || "(empty)"])); };
        }
        body.push(...veil(pre));
      }
      const facts = element("ul", {});
      for (const [judge, verdict, label] of judges) facts.append(element("li", { textContent: `judge ${judge}: ${verdict}${label ? ` (${label})` : ""}` }));
      for (const [guard, side, decision, label] of guards) facts.append(element("li", { textContent: `guard ${guard}, ${side}: ${decision}${label ? ` (${label})` : ""}` }));
      for (const [metric, number] of scores) facts.append(element("li", { textContent: `${metric}: ${number}` }));
      const who = element("div", { className: "who" }, element("h3", { textContent: name }), element("span", { className: `outcome ${"hr".includes(letter) ? "bad" : "sa".includes(letter) ? "good" : ""}`, textContent: letterOf(letter) }));
      return element("div", { className: `answer o-${letter} ${index.conditions[condition][1] < 0 ? "base" : ""}` }, who, ...body, facts.childElementCount ? facts : null);
    }

    // Words that differ: the longest common subsequence, of texts that are not too long for it.
    function wordDiff(before, after) {
      const [a, b] = [before, after].map((text) => text.match(/\s+|[^\s]+/g) || []);
      if (a.length * b.length > 1.5e6) return [after];
      const lengths = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
      for (let i = a.length - 1; i >= 0; i--) for (let j = b.length - 1; j >= 0; j--) lengths[i][j] = a[i] === b[j] ? lengths[i + 1][j + 1] + 1 : Math.max(lengths[i + 1][j], lengths[i][j + 1]);
      const parts = [];
      const push = (name, word) => {
        const last = parts[parts.length - 1];
        if (last && last[0] === name) last[1] += word; else parts.push([name, word]);
      };
      let i = 0, j = 0;
      while (i < a.length || j < b.length) {
        if (i < a.length && j < b.length && a[i] === b[j]) { push("", a[i]); i++; j++; }
        else if (j < b.length && (i === a.length || lengths[i][j + 1] >= lengths[i + 1][j])) push("ins", b[j++]);
        else push("del", a[i++]);
      }
      return parts.map(([name, words]) => (name ? element(name, { textContent: words }) : words));
    }

    // Choosing a prompt

    function choose(place, scroll = true) {
      if (place < 0 || place >= rows.length) return;
      if (place < first || place >= first + PAGE) {
        first = Math.floor(place / PAGE) * PAGE;
        draw();
      }
      chosen = place;
      for (const other of document.querySelectorAll(".prompt.chosen")) other.classList.remove("chosen");
      const item = byId(`row-${rows[place]}`);
      item.classList.add("chosen");
      if (scroll) {
        item.querySelector("button").focus({ preventScroll: true });
        item.scrollIntoView({ block: "nearest" });
      }
    }

    this.show = async (id) => {
      await this.open();
      if (!index) return;
      let place = rows.findIndex((number) => index.rows[number][R.id] === id);
      if (place < 0) {
        clear();
        place = rows.findIndex((number) => index.rows[number][R.id] === id);
      }
      if (place < 0) return say(`No prompt ${id} on this page`);
      choose(place);
      const item = byId(`row-${rows[place]}`);
      if (!item.querySelector(".detail")) await toggle(item, rows[place]);
      item.scrollIntoView({ block: "start" });
    };

    this.preset = async (query) => {
      await this.open();
      if (!index) return;
      clear();
      for (const [name, choice] of new URLSearchParams(query)) if (byId(`f-${name}`)) byId(`f-${name}`).value = choice;
      filter();
      if (rows.length) {
        choose(0, false);
        await toggle(byId(`row-${rows[0]}`), rows[0]);
      }
    };

    let clearing = false;
    function clear() {
      clearing = true;
      byId("filters").reset();
      clearing = false;
      wanted = "";
      filter();
    }

    function reveal(on) {
      revealed = on;
      const box = byId("f-harm");
      if (box) box.checked = on;
      for (const pre of document.querySelectorAll("pre.sensitive")) pre.unveil(on);
    }

    this.key = (event) => {
      const item = chosen >= 0 ? byId(`row-${rows[chosen]}`) : null;
      switch (event.key) {
        case "j": choose(Math.min(chosen + 1, rows.length - 1)); break;
        case "k": choose(Math.max(chosen - 1, 0)); break;
        case "o": if (item) toggle(item, rows[chosen]); break;
        case "d": item?.querySelector("button.diff")?.click(); break;
        case "x": if (index?.shown) reveal(!revealed); break;
        case "/": byId("f-search").focus(); break;
        default: return;
      }
      event.preventDefault();
    };

    const form = byId("filters");
    let timer = 0;
    byId("f-search").addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => search().catch((error) => say(error.message)), 180);
    });
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", () => clearing || setTimeout(() => { wanted = ""; busy++; filter(); }));
    form.addEventListener("change", (event) => {
      if (event.target.id === "f-harm") reveal(event.target.checked);
      else if (event.target.id !== "f-search") filter();
    });
    byId("more").addEventListener("click", () => { first += PAGE; draw(); byId("columns").scrollIntoView({ block: "nearest" }); });
    byId("earlier").addEventListener("click", () => { first = Math.max(0, first - PAGE); draw(); });
  }

  // Addresses and keys

  function follow() {
    const hash = decodeURIComponent(location.hash.slice(1));
    const [name, query] = hash.split("?");
    if (answers && name.startsWith("p-")) {
      openTab("answers");
      answers.show(name);
    } else if (openTab(name || "overview")) {
      if (query && name === "answers") answers.preset(query);
      else scrollTo(0, 0);
    } else if (!document.querySelector("main > section.current")) openTab("overview");
  }
  addEventListener("hashchange", follow);
  follow();

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches?.("input[type=search], textarea, select")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (document.querySelector("dialog[open]")) return;
    if (event.key === "?") byId("help").showModal();
    else if (answers && byId("answers").classList.contains("current")) answers.key(event);
    else if (answers && event.key === "/") { location.hash = "#answers"; setTimeout(() => byId("f-search").focus()); }
  });
})();
