// The table of all radiographs: filtered, sorted, a page at a time.

const ROWS_PER_PAGE = 25;
const NEAR = 0.05;

const OUTCOMES = {
  tp: { right: true, words: "flagged" },
  tn: { right: true, words: "not flagged" },
  fn: { right: false, words: "missed" },
  fp: { right: false, words: "false alarm" },
};

/** Whether each choice of the outcome filter lets a radiograph through. */
const SHOWN = {
  all: () => true,
  wrong: (outcome) => !OUTCOMES[outcome].right,
  fn: (outcome) => outcome === "fn",
  fp: (outcome) => outcome === "fp",
  right: (outcome) => OUTCOMES[outcome].right,
  near: (outcome, distance) => distance <= NEAR,
};

/** Indices of the radiographs that all filters let through. */
function filtered(data, threshold, { text, shown, columns }) {
  const words = text.trim().toLowerCase();
  const found = [];
  for (let i = 0; i < data.names.length; i++) {
    const probability = data.probabilities[i];
    const outcome = outcomeOf(data.labels[i], probability >= threshold);
    if (!SHOWN[shown](outcome, Math.abs(probability - threshold))) continue;
    if (columns.some(([column, wanted]) => data.columns[column].of[i] !== wanted)) continue;
    if (words && !data.names[i].toLowerCase().includes(words) && !patientOf(data, i).toLowerCase().includes(words)) continue;
    found.push(i);
  }
  return found;
}

/** Indices in the order of one column; ties keep their order. */
function sorted(indices, valueOf, descending) {
  const sign = descending ? -1 : 1;
  return [...indices].sort((a, b) => {
    const [first, second] = [valueOf(a), valueOf(b)];
    if (first === second) return a - b;
    return (typeof first === "string" ? COLLATOR.compare(first, second) : first - second) * sign;
  });
}

const COLLATOR = new Intl.Collator("en", { numeric: true });

function patientOf(data, i) {
  return data.patientNames.length ? data.patientNames[data.patients[i]] : "";
}

/** How far the probability is from the truth, in [0, 1]. */
function errorOf(data, i) {
  return Math.abs(data.labels[i] - data.probabilities[i]);
}

/** Return the function that gives a column's value for each radiograph. */
function sortValue(data, key, threshold) {
  const byColumn = /^column-(\d+)$/.exec(key);
  if (byColumn) {
    const column = data.columns[byColumn[1]];
    return (i) => column.values[column.of[i]];
  }
  return {
    name: (i) => data.names[i],
    patient: (i) => patientOf(data, i),
    label: (i) => data.classes[data.labels[i]],
    probability: (i) => data.probabilities[i],
    error: (i) => errorOf(data, i),
    outcome: (i) => OUTCOMES[outcomeOf(data.labels[i], data.probabilities[i] >= threshold)].words,
  }[key];
}

/** Make the table; the function returned, `update(threshold)`, shows it at a threshold. */
function makeTable(data, show) {
  const section = document.getElementById("radiographs");
  const part = (name) => section.querySelector(`[data-part=${name}]`);
  const headers = [...section.querySelectorAll("th[data-key]")];
  const state = { key: "error", descending: true, page: 0, threshold: 0, order: [] };

  function update(threshold = state.threshold) {
    state.threshold = threshold;
    const filters = {
      text: part("text").value,
      shown: part("shown").value,
      columns: [...section.querySelectorAll("[data-column]")]
        .filter((choice) => choice.value !== "")
        .map((choice) => [Number(choice.dataset.column), Number(choice.value)]),
    };
    const value = sortValue(data, state.key, threshold);
    state.order = sorted(filtered(data, threshold, filters), value, state.descending);
    const last = Math.max(0, Math.ceil(state.order.length / ROWS_PER_PAGE) - 1);
    state.page = Math.min(state.page, last);
    const start = state.page * ROWS_PER_PAGE;
    const rows = state.order.slice(start, start + ROWS_PER_PAGE);
    part("rows").replaceChildren(...rows.map(rowOf));
    part("count").textContent = rows.length
      ? `${start + 1} to ${start + rows.length} of ${state.order.length.toLocaleString("en")} radiographs`
      : "No radiograph matches.";
    part("back").disabled = state.page === 0;
    part("on").disabled = state.page === last;
    for (const header of headers) {
      const active = header.dataset.key === state.key;
      header.setAttribute("aria-sort", active ? (state.descending ? "descending" : "ascending") : "none");
    }
  }

  function rowOf(i) {
    const row = document.createElement("tr");
    for (const header of section.querySelectorAll("thead th")) row.append(cellOf(header, i));
    return row;
  }

  function cellOf(header, i) {
    const key = header.dataset.key ?? "picture";
    const cell = document.createElement(key === "name" ? "th" : "td");
    cell.className = header.className;
    if (key === "name") cell.scope = "row";
    if (key === "picture") {
      if (data.pictures.images[i]) cell.append(pictureButton(i));
    } else if (key === "outcome") {
      const { right, words } = OUTCOMES[outcomeOf(data.labels[i], data.probabilities[i] >= state.threshold)];
      const verdict = document.createElement("span");
      verdict.className = right ? "verdict right" : "verdict wrong";
      verdict.textContent = `${right ? "✓" : "✗"} ${words}`;
      cell.append(verdict);
    } else {
      const value = sortValue(data, key, state.threshold)(i);
      cell.textContent = typeof value === "number" ? value.toFixed(4) : value;
    }
    return cell;
  }

  function pictureButton(i) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "thumbnail";
    button.setAttribute("aria-label", `Show ${data.names[i]} with its heatmap`);
    const image = document.createElement("img");
    image.src = data.pictures.images[i];
    image.alt = "";
    button.append(image);
    button.addEventListener("click", () => {
      const pictured = state.order.filter((index) => data.pictures.images[index]);
      show(pictured, pictured.indexOf(i));
    });
    return button;
  }

  function turn(by) {
    state.page += by;
    update();
  }

  for (const header of headers) {
    header.querySelector("button").addEventListener("click", () => {
      const { key } = header.dataset;
      state.descending = key === state.key ? !state.descending : key === "probability" || key === "error";
      state.key = key;
      state.page = 0;
      update();
    });
  }
  for (const filter of section.querySelectorAll("input, select")) {
    filter.addEventListener("input", () => {
      state.page = 0;
      update();
    });
  }
  part("back").addEventListener("click", () => turn(-1));
  part("on").addEventListener("click", () => turn(1));
  return update;
}
